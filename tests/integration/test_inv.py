"""The wrapper: makes its environment once, from pinned requirements, wherever and however it is called."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from npu_serving import fsutil

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of the same shape, with blanks in its path and one requirement, so that an install takes a second."""
    place = tmp_path / "a project"
    place.mkdir()
    shutil.copy2(ROOT / "inv", place)
    (place / "npu_serving").mkdir()
    for name in ("__init__.py", "__main__.py", "pip_environment.py"):
        shutil.copy2(ROOT / "npu_serving" / name, place / "npu_serving")
    found = re.search(r"^invoke==(?:.*\\\n)+.*\n", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert found
    (place / "requirements.txt").write_text(found.group(0))
    (place / "requirements-dev.txt").write_text(found.group(0))
    (place / "tasks.py").write_text(
        "import os\nfrom invoke import task\n"
        "@task\ndef where(_):\n    print(os.getcwd())\n"
        "@task\ndef test(_):\n    print('tested')\n"
    )
    return place


def _inv(project: Path, *words: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in os.environ if not name.startswith(("NPU_", "VIRTUAL_ENV"))}
    environment["NPU_SERVING_PYTHON"] = sys.executable
    return subprocess.run(
        [project / "inv", *words],
        cwd=cwd,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_environment_whose_path_holds_an_equals_sign_is_used(tmp_path: Path) -> None:
    place = tmp_path / "a=b"
    place.mkdir()
    (place / "venv").symlink_to(sys.prefix)
    done = _inv(ROOT, "--version", NPU_SERVING_VENV=str(place / "venv"))
    assert (done.returncode, done.stdout.split()[0]) == (0, "npu-serving"), done.stderr


def test_the_first_call_makes_the_environment_and_later_ones_find_it_made(project: Path, tmp_path: Path) -> None:
    first = _inv(project, "where", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "installing requirements.txt" in first.stderr
    assert first.stdout.strip() == str(tmp_path), "it works where the caller is"
    later = _inv(project, "where", cwd=tmp_path)
    assert (later.stdout, later.stderr) == (first.stdout, "")


@pytest.mark.parametrize(
    "words",
    [
        "--list",
        "fetch-deps --help",
        "fetch-deps --source sample --offline --dry-run --json",
        "init-ci --system gitlab --dry-run",
        "init-ci --system nothing",
    ],
)
def test_invoke_with_the_requirements_installed_does_what_inv_does(words: str) -> None:
    typed = [
        subprocess.run(
            [*program, *words.split()],
            cwd=ROOT,
            env={**os.environ, "NPU_SERVING_VENV": sys.prefix},
            capture_output=True,
            text=True,
            check=False,
        )
        for program in ([ROOT / "inv"], [sys.executable, "-m", "invoke"])
    ]
    ours, plain = (
        (done.returncode, done.stdout.replace("Usage: inv[oke] ", "Usage: ./inv "), done.stderr) for done in typed
    )
    assert ours == plain
    assert ours[1] or ours[2]


def test_plain_invoke_in_the_activated_environment_is_the_same(project: Path) -> None:
    assert _inv(project, "where").returncode == 0
    done = subprocess.run(
        ["bash", "-c", ". .venv/bin/activate && invoke where"], cwd=project, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(project)


def test_developers_requirements_come_only_with_test_lint_and_bench(project: Path) -> None:
    _inv(project, "where")
    assert not (project / ".venv/installed-requirements-dev.txt").exists()
    _inv(project, "test")
    assert (project / ".venv/installed-requirements-dev.txt").exists()


def test_two_first_calls_at_once_dont_break_each_other(project: Path) -> None:
    environment = {**os.environ, "NPU_SERVING_PYTHON": sys.executable}
    calls = [
        subprocess.Popen(
            [project / "inv", "where"], cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    outcomes = [call.communicate() for call in calls]
    assert [call.returncode for call in calls] == [0, 0], outcomes
    assert sum(b"installing" in stderr for _, stderr in outcomes) == 1


def test_a_changed_requirement_is_installed_with_the_next_call(project: Path) -> None:
    _inv(project, "where")
    text = (project / "requirements.txt").read_text()
    (project / "requirements.txt").write_text(text + "# changed\n")
    assert "installing requirements.txt" in _inv(project, "where").stderr


def test_a_wrong_hash_is_refused_and_the_next_call_tries_again(project: Path) -> None:
    text = (project / "requirements.txt").read_text()
    (project / "requirements.txt").write_text(re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, text))
    wrong = _inv(project, "where")
    assert wrong.returncode == 4
    assert "could not install" in wrong.stderr
    (project / "requirements.txt").write_text(text)
    assert _inv(project, "where").returncode == 0


def test_a_socks_proxy_which_pip_can_not_use_is_named_with_two_ways_on(project: Path) -> None:
    done = _inv(project, "where", ALL_PROXY="socks5h://127.0.0.1:9", PIP_NO_CACHE_DIR="1")
    assert done.returncode == 4
    assert "Next: pip can't use the SOCKS proxy that ALL_PROXY or https_proxy names" in done.stderr
    assert "https_proxy=http://HOST:PORT" in done.stderr
    assert "env -u ALL_PROXY -u all_proxy ./inv where" in done.stderr
    assert _inv(project, "where", ALL_PROXY="").returncode == 0


def test_a_read_only_home_is_no_obstacle(project: Path, tmp_path: Path) -> None:
    done = _inv(project, "where", HOME="/proc/1/no-home")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("version", "accepted"), [("3.8", False), ("2.7", False), ("3.9", True), ("3.13", True)])
def test_a_python_older_than_3_9_is_named_with_what_to_install(
    project: Path, tmp_path: Path, version: str, accepted: bool
) -> None:
    """A stand-in that states a version: the real one stands in for the rest of its answers."""
    python = tmp_path / "python3"
    python.write_text(
        f'#!/bin/sh\ncase "$2" in *version_info*) echo {version};; *) exec {sys.executable} "$@";; esac\n'
    )
    python.chmod(0o755)
    done = _inv(project, "where", NPU_SERVING_PYTHON=str(python))
    if accepted:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 4
    assert f"is Python {version}; this project needs 3.9 or newer" in done.stderr
    assert "Next: " in done.stderr
    assert not (project / ".venv").exists()


def test_a_python_without_venv_is_named_with_what_to_install(project: Path, tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; *) exec {sys.executable} "$@";; esac\n')
    python.chmod(0o755)
    done = _inv(project, "where", NPU_SERVING_PYTHON=str(python))
    assert done.returncode == 4
    assert "no venv module" in done.stderr
    assert "Next: " in done.stderr


def test_it_works_through_a_link_from_another_directory(project: Path, tmp_path: Path) -> None:
    link = tmp_path / "link-to-inv"
    link.symlink_to(project / "inv")
    done = subprocess.run(
        [link, "where"],
        cwd="/",
        env={**os.environ, "NPU_SERVING_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "/", done.stderr


@pytest.mark.parametrize("name", ["json.py", "invoke.py", "npu_serving/__init__.py"])
def test_no_module_of_the_callers_directory_is_run(project: Path, tmp_path: Path, name: str) -> None:
    module = tmp_path / "mine" / name
    module.parent.mkdir(parents=True)
    module.write_text("raise SystemExit('of the caller')\n")
    done = _inv(project, "where", cwd=tmp_path / "mine")  # the first call, which makes the environment too
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'mine'}\n"


def test_a_directory_that_is_no_virtual_environment_is_left_as_it_is(project: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis").write_text("years of work")
    done = _inv(project, "where", NPU_SERVING_VENV=str(mine))
    assert done.returncode == 4
    assert "is not a virtual environment" in done.stderr
    assert [path.name for path in mine.iterdir()] == ["thesis"]


def test_a_bundle_that_can_not_be_used_ends_it_before_an_environment_is_made(project: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "npu_serving", project / "npu_serving", dirs_exist_ok=True)
    shutil.copytree(ROOT / "locks", project / "locks")
    (tmp_path / "bundle").write_bytes(b"x" * 5000)
    done = _inv(project, "unbundle", "--sha256", "0" * 64, str(tmp_path / "bundle"))
    assert done.returncode == 2
    assert "is not a bundle of this project" in done.stderr
    assert _inv(project, "unbundle").returncode == 2
    assert not (project / ".venv").exists()


def test_where_wheels_of_a_bundle_do_not_suffice_the_cure_is_one_that_helps(project: Path) -> None:
    (project / "wheels").mkdir()
    done = _inv(project, "--list")
    assert done.returncode == 4
    assert "bundle --dev" in done.stderr
    assert "remove that directory" in done.stderr
    assert "PIP_INDEX_URL" not in done.stderr  # with these wheels no index is asked


def test_debug_may_stand_before_the_task_and_the_task_is_still_known(project: Path) -> None:
    _inv(project, "where")
    for name in ("debugging.py", "shown_text.py"):
        shutil.copy2(ROOT / "npu_serving" / name, project / "npu_serving")
    done = _inv(project, "--debug", "test")
    assert (done.returncode, done.stdout) == (0, "tested\n"), done.stderr
    assert (project / ".venv/installed-requirements-dev.txt").exists()


def test_debug_before_unbundle_is_no_bundle(project: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "npu_serving", project / "npu_serving", dirs_exist_ok=True)
    shutil.copytree(ROOT / "locks", project / "locks")
    (tmp_path / "bundle").write_bytes(b"x" * 5000)
    done = _inv(project, "--debug", "unbundle", str(tmp_path / "bundle"))
    assert done.returncode == 2
    assert "bundle is not a bundle of this project" in done.stderr
    assert "debug: Traceback" in done.stderr


def test_a_tab_installs_nothing(project: Path) -> None:
    done = _inv(project, "--complete", "--", "./inv", "whe")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (project / ".venv").exists()


# ---- the shell that people have: CANN's set_env.sh, conda and pip's settings


HOSTILE = "raise RuntimeError('a package of the caller's was imported')\n"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A directory of packages as set_env.sh and conda put on PYTHONPATH, with the names of ours."""
    place = tmp_path / "site"
    for name in ("yaml", "jinja2", "invoke", "requests", "packaging", "npu_serving", "runpy"):
        (place / name).mkdir(parents=True)
        (place / name / "__init__.py").write_text(HOSTILE)
    (place / "sitecustomize.py").write_text(HOSTILE)
    return place


def test_what_the_shell_says_of_other_pythons_and_of_pip_is_not_for_us(
    project: Path, hostile: Path, tmp_path: Path
) -> None:
    elsewhere = str(tmp_path / "elsewhere")
    shell = {"PYTHONPATH": str(hostile), "PYTHONHOME": str(tmp_path), "PYTHONUSERBASE": str(tmp_path)}
    shell |= {"PIP_TARGET": elsewhere, "PIP_PREFIX": elsewhere, "PIP_ROOT": elsewhere, "PIP_USER": "1"}
    shell |= {"PIP_NO_DEPS": "1", "PIP_DRY_RUN": "1", "PIP_NO_BINARY": ":all:", "HOME": str(tmp_path)}
    (project / "tasks.py").write_text(
        "import os\nfrom invoke import task\n@task\ndef where(_):\n    print(os.environ['PYTHONPATH'])\n"
    )
    for _ in ("the call that installs", "one that finds it installed"):
        done = _inv(project, "where", cwd=project, **shell)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(hostile), "the server is to have it"
        assert "a package of the caller" not in done.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_pips_configuration_file_puts_our_packages_nowhere_else(project: Path, tmp_path: Path) -> None:
    (tmp_path / ".config/pip").mkdir(parents=True)
    lines = [f"{name} = {tmp_path / 'elsewhere'}" for name in ("target", "prefix", "root")]
    text = "\n".join(["[install]", *lines, "[global]", "user = true", "no-deps = true"])
    (tmp_path / ".config/pip/pip.conf").write_text(text)
    done = _inv(project, "where", cwd=project, HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path / ".config"))
    assert (done.returncode, done.stdout.strip()) == (0, str(project)), done.stderr
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("lost", ["invoke", "invoke/config.py"])
def test_an_environment_that_has_lost_a_package_is_named_and_the_same_command_installs_it_again(
    project: Path, lost: str
) -> None:
    assert _inv(project, "where", cwd=project).returncode == 0
    for path in (project / ".venv").glob(f"lib/python*/site-packages/{lost}"):
        fsutil.remove(path)
    broken = _inv(project, "where", cwd=project)
    assert broken.returncode == 4
    assert f"The Python package {lost[:-3].replace('/', '.') if '/' in lost else lost} is missing" in broken.stderr
    assert "Traceback" not in broken.stderr
    mended = _inv(project, "where", cwd=project)
    assert (mended.returncode, mended.stdout.strip()) == (0, str(project)), mended.stderr

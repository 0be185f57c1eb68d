"""The tasks as a person types them: what comes out, where, with which exit code, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from npu_serving.building.pipeline import BuildResult
from npu_serving.settings import PROJECT_ROOT, Settings

TASKS = [sys.executable, "-m", "npu_serving"]


class Project:
    """A project of its own shape around this package: its tasks.py, and an invoke.yaml for a state directory."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root = root
        root.mkdir()
        (root / "tasks.py").symlink_to(PROJECT_ROOT / "tasks.py")
        self.write(
            source="sample",
            adapter="sample",
            runner="host",
            bazel=settings.bazel,
            build_root=str(settings.build_root),
            dist_root=str(settings.dist_root),
        )

    def write(self, **values: object) -> None:
        (self.root / "invoke.yaml").write_text(yaml.safe_dump({"npu_serving": values}))

    def run(self, *words: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TASKS, "--search-root", str(self.root), *words],
            cwd=self.root,
            env={**self.environment(), **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "NPU_SERVING_SETTINGS": str(self.root / "invoke.yaml")}


@pytest.fixture(scope="module")
def project(built: BuildResult, sample_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("cli") / "project", sample_settings)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["no-such-task"], 2),
        (["build-serving", "--no-such-flag"], 2),
        (["build-serving", "--source", "9.9.9"], 2),
        (["build-serving", "--source", "/nonexistent\n'; rm -rf x"], 2),
        (["build-serving", "--source", "~nosuchuser/x"], 2),
        (["build-serving", "--source", "x" * 5000], 2),
        (["build-serving", "--source", "/" + "x" * 10_000, "--dry-run"], 2),
        (["predict", "m", "--request", "/" + "x" * 10_000], 2),
        (["lock-deps", "--source", "/" + "x" * 10_000], 2),
        (["build-serving", "--adapter", "/nonexistent.so"], 2),
        (["build-serving", "--adapter", "tasks.py", "--dry-run"], 2),
        (["build-serving", "--jobs", "many"], 2),
        (["build-serving", "--jobs", "²"], 2),
        (["build-serving", "--runner", "podman"], 2),
        (["build-serving", "--bazel-arg", "//other:target"], 2),
        (["build-serving", "--bazel-arg=--nobuild"], 2),
        (["build-serving", "--install-link", "/proc/x/y"], 1),
        (["fetch-deps", "--import", "/nonexistent"], 2),
        (["fetch-deps", "--import", ".", "--dry-run"], 2),
        (["fetch-deps", "--import", ""], 2),
        (["fetch-deps", "--import", ".", "--verify"], 2),
        (["fetch-deps", "--listen", "127.0.0.1:0"], 2),
        (["fetch-deps", "--mirror"], 2),
        (["fetch-deps", "--mirror", "--offline"], 2),
        (["fetch-deps", "--mirror", "nonsense"], 2),
        (["bundle"], 2),
        (["bundle", "--output", "."], 2),
        (["bundle", "--output", "b", "--python", "3.8"], 2),
        (["bundle", "--output", "b", "--arch", "sparc"], 2),
        (["bundle", "--output", "/proc/x/b"], 1),
        (["unbundle"], 2),
        (["unbundle", "/nonexistent"], 2),
        (["unbundle", "tasks.py"], 2),
        (["unbundle", "tasks.py", "--sha256", "x"], 2),
        (["fetch-deps", "--import", ".", "--serve"], 2),
        (["fetch-deps", "--serve", "--listen", "nonsense"], 2),
        (["fetch-deps", "--mirror", "nonsense", "--all"], 2),
        (["lock-deps", "--source", "/nonexistent"], 2),
        (["render-overlay", "--diff", "--check"], 2),
        (["verify-serving", "--build", "no-such-build"], 2),
        (["verify-serving", "--server", "/nonexistent"], 2),
        (["verify-serving", "--server", "tasks.py"], 2),
        (["verify-serving", "--server", "/bin/true", "--build", "x"], 2),
        (["verify-serving", "--server", ""], 2),
        (["verify-serving", "--adapter", "/nonexistent.so"], 2),
        (["rollback", "--build", "no-such-build"], 2),
        (["prune", "--keep", "-1"], 2),
        (["smoke"], 2),
        (["smoke", "--tolerance", "0.5"], 2),
        (["smoke", "--record"], 2),
        (["smoke", "--record", "--model-base-path", "/nonexistent", "--request", "[1]"], 2),
        (["serve", "--port", "x"], 2),
        (["serve", "--model-base-path", "/nonexistent"], 2),
        (["status", "m", "--url", "http://127.0.0.1:1"], 1),
        (["status", "m", "--version", "abc"], 2),
        (["status", "m", "--url", "nonsense"], 2),
        (["predict", "m", "--request", "{", "--url", "http://127.0.0.1:1"], 2),
        (["predict", "m", "--request", "/nonexistent"], 2),
        (["predict", "m", "--request", "/dev/zero"], 2),
        (["smoke", "--record", "--model-base-path", ".", "--request", "/dev/zero"], 2),
        (["verify-serving", "--server", "/dev/zero"], 2),
        (["verify-serving", "--adapter", "/dev/zero"], 2),
        (["unbundle", "/dev/zero"], 2),
        (["predict"], 2),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else str(value),
)
def test_a_wrong_request_gets_one_message_its_exit_code_and_changes_nothing(
    project: Project, sample_settings: Settings, words: list[str], code: int
) -> None:
    before = os.readlink(sample_settings.dist_root / "current"), sorted(sample_settings.dist_root.iterdir())
    done = project.run(*words)
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("Next: ") == 1, done.stderr
    assert (os.readlink(sample_settings.dist_root / "current"), sorted(sample_settings.dist_root.iterdir())) == before


@pytest.mark.parametrize(
    "words",
    [
        ["build-serving"],
        ["build-serving", "--dry-run"],
        ["fetch-deps"],
        ["fetch-deps", "--dry-run"],
        ["bundle", "--output", "b", "--dry-run"],
        ["lock-deps", "--check"],
        ["render-overlay", "--check"],
        ["verify-serving"],
        ["list-builds"],
        ["rebuild-after-cann", "--check"],
        ["prune", "--dry-run"],
        ["clean", "--dry-run"],
        ["doctor"],
        ["settings"],
        ["settings", "--reference"],
    ],
    ids=" ".join,
)
def test_json_is_one_document_on_standard_output(project: Project, words: list[str]) -> None:
    done = project.run(*words, "--json")
    assert isinstance(json.loads(done.stdout), dict), done.stderr
    assert done.returncode in ((0, 3) if words == ["doctor"] else (0,)), done.stderr


def test_any_server_is_verified_with_the_samples_adapter_by_its_name(
    project: Project, sample_settings: Settings
) -> None:
    server = sample_settings.dist_root / "current" / "bin" / "tensorflow_model_server"
    done = project.run("verify-serving", "--server", str(server), "--adapter", "sample")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "will start here with its adapter" in done.stdout


def test_an_error_in_json_is_a_document_too(project: Project) -> None:
    done = project.run("build-serving", "--source", "9.9.9", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"]) == (2, 2)
    assert document["what"] and document["cure"]


def test_an_error_of_the_operating_system_in_json_is_a_document_too(project: Project) -> None:
    done = project.run("init-ci", "--system", "gitlab", "--output", "/proc/none/here", "--json")
    assert done.returncode == json.loads(done.stdout)["exit_code"] == 1, done.stderr


def test_help_lists_every_flag_and_a_closed_pipe_is_no_error(project: Project) -> None:
    assert "--analyse" in project.run("build-serving", "--help").stdout
    shell = f"{sys.executable} -m npu_serving --search-root {project.root} --list | head -n 1"
    done = subprocess.run(["sh", "-c", shell], env=project.environment(), capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "text", ["npu_serving: {pyhton_prefix: /x}", "nonsense: 1", "[", "[1, 2]", "npu_serving: [1]", "a: \xff"]
)
def test_an_invoke_yaml_that_is_wrong_is_named_and_nothing_else_happens(project: Project, text: str) -> None:
    path = project.root / "invoke.yaml"
    kept = path.read_bytes()
    try:
        path.write_bytes(text.encode("latin-1"))
        done = project.run("list-builds")
    finally:
        path.write_bytes(kept)
    assert "Traceback" not in done.stderr
    assert done.returncode == 2, done.stderr
    assert "invoke.yaml" in done.stderr


@pytest.mark.parametrize("deep", ["{a: " * 3000 + "1" + "}" * 3000, "\n    " + "- " * 3000 + "1", "[" * 3000])
def test_settings_that_are_nested_without_end_are_named_wherever_they_are(
    project: Project, deep: str, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"npu_serving:\n  offline: {deep}\n")
    done = project.run("list-builds", NPU_SERVING_SETTINGS=str(settings))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert f"{settings}:" in done.stderr
    (tmp_path / ".invoke.yaml").write_text(settings.read_text())  # invoke's own, which says nothing about these tasks
    assert project.run("list-builds", HOME=str(tmp_path)).returncode == 0


def test_settings_from_a_device_that_never_ends_are_refused(project: Project) -> None:
    done = project.run("list-builds", NPU_SERVING_SETTINGS="/dev/zero")
    assert done.returncode == 2
    assert "/dev/zero has more than 268.4 MB" in done.stderr

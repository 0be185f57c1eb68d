"""What the program does and says before a task begins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from npu_serving.settings import PROJECT_ROOT

WITHOUT_INVOKE = """
import os, runpy, sys
sys.path.insert(0, sys.argv.pop(1))
sys.prefix = sys.argv.pop(1)
sys.modules["invoke"] = None
def refuse(*_):
    raise PermissionError(13, "Permission denied")
if sys.argv.pop(1) == "theirs":
    os.replace = refuse
runpy.run_module("npu_serving", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_an_environment_without_a_package_is_installed_again_by_whoever_may(whose: str, tmp_path: Path) -> None:
    (tmp_path / "installed-requirements.txt").touch()
    words = [sys.executable, "-I", "-c", WITHOUT_INVOKE, str(PROJECT_ROOT), str(tmp_path), whose, "settings"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert f"The Python package invoke is missing in {tmp_path}" in done.stderr
    assert ("NPU_SERVING_VENV=" in done.stderr) is (whose == "theirs")
    state = "unfinished" if whose == "ours" else "installed"
    assert [path.name for path in tmp_path.iterdir()] == [f"{state}-requirements.txt"]


STARTED = """
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
from invoke.tasks import Task
asked, of_task = set(), Task.get_arguments
def counting(task, *words, **more):
    asked.add(task.name)
    return of_task(task, *words, **more)
Task.get_arguments = counting
try:
    runpy.run_module("npu_serving", run_name="__main__", alter_sys=True)
finally:
    print("asked:", *sorted(asked), file=sys.stderr)
"""
BARELY_STARTED = """
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
try:
    runpy.run_module("npu_serving", run_name="__main__", alter_sys=True)
except SystemExit:
    print("loaded:", *sorted(name for name in sys.modules if "." not in name), file=sys.stderr)
    import importlib.metadata, unittest.mock
    print("real:", importlib.metadata.version("invoke"), unittest.mock.Mock.__name__, file=sys.stderr)
"""


def _started(code: str, *words: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", *flags, "-c", code, str(PROJECT_ROOT), "--search-root", str(PROJECT_ROOT), *words]
    return subprocess.run(argv, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)


def _line(printed: str, name: str) -> list[str]:
    return next(line for line in printed.splitlines() if line.startswith(f"{name}: ")).split()[1:]


def test_a_command_looks_at_the_flags_of_its_own_task_alone() -> None:
    done = _started(STARTED, "settings")
    assert (done.returncode, _line(done.stderr, "asked")) == (0, ["settings"]), done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("settings", "doctor"), "settings and doctor cannot be combined"),
        (("doctor", "--json=settings"), "doctor and settings cannot be combined"),
        (("settings", "show-model"), "graph-nodes needs MODEL"),
        (("setings",), "./inv settings"),
        (("settings", "--jsn"), "--json"),
    ],
)
def test_a_mistyped_command_is_told_with_all_tasks_in_view(words: tuple[str, ...], told: str) -> None:
    done = _started(STARTED, *words)
    assert done.returncode == 2
    assert told in done.stderr


def test_help_of_one_task_is_shown_though_another_is_named_behind_it() -> None:
    done = _started(STARTED, "--help", "settings", "doctor")
    assert (done.returncode, done.stdout.split()[:4]) == (0, ["Usage:", "./inv", "[--core-opts]", "settings"])


def test_what_invoke_imports_for_the_tests_of_tasks_is_not_loaded_and_can_be_had_all_the_same() -> None:
    done = _started(BARELY_STARTED, "--version")
    assert not {"asyncio", "unittest", "email"} & set(_line(done.stderr, "loaded"))
    assert _line(done.stderr, "real")[1:] == ["Mock"]


def test_what_python_has_compiled_is_kept_for_the_next_command_unless_python_is_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """invoke switches that off for all that comes after it, and -I has Python pass over the variable."""

    def kept(name: str, *further: str) -> set[str]:
        flags = ("-X", f"pycache_prefix={tmp_path / name}", *further)
        assert _started(BARELY_STARTED, "settings", flags=flags).returncode == 0
        return {path.name.partition(".")[0] for path in (tmp_path / name).rglob("*.pyc")}

    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    assert {"settings", "first_steps", "flags"} <= kept("as usual")
    assert kept("with -B", "-B") == set()
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert not {"settings", "first_steps", "flags"} & kept("with the variable")

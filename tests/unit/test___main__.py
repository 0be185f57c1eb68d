"""What the program says before a task begins."""

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
    assert f"The Python package invoke.config is missing in {tmp_path}" in done.stderr
    assert ("NPU_SERVING_VENV=" in done.stderr) is (whose == "theirs")
    state = "unfinished" if whose == "ours" else "installed"
    assert [path.name for path in tmp_path.iterdir()] == [f"{state}-requirements.txt"]

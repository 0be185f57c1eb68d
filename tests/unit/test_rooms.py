"""tests/unit mirrors the package: a module's tests are where its name says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from npu_serving.development import SHELL_SCRIPTS

UNIT = Path(__file__).resolve().parent
ROOT = UNIT.parents[1]
PACKAGE = ROOT / "npu_serving"
ABOUT_THE_PROJECT = {
    "test_docs",
    "test_messages",
    "test_guide_coverage",
    "test_reachability",
    "test_rooms",
    "test_tracked_files",
}
"""Tests of what no module holds: documents, and the order of the house."""


def test_each_unit_test_is_named_after_a_module_of_its_room() -> None:
    """`test_MODULE.py`, or `test_MODULE_ASPECT.py` where one module has several."""
    strays = []
    for path in UNIT.rglob("test_*.py"):
        if path.stem in ABOUT_THE_PROJECT:
            continue
        modules = {module.stem for module in (PACKAGE / path.parent.relative_to(UNIT)).glob("*.py")}
        name = path.stem[len("test_") :]
        if not any(name == module or name.startswith(f"{module}_") for module in modules):
            strays.append(str(path.relative_to(UNIT)))
    assert strays == []


def _tracked(pattern: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", "-z", pattern], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git work tree, so nothing is tracked")
    return {name for name in listed.stdout.split("\0") if name and not name.startswith("examples/")}


def test_lint_sees_every_python_file_but_the_examples() -> None:
    """ruff passes over a directory whose name it takes for an output, such as dist/, without a word."""
    tracked = _tracked("*.py")
    argv = [sys.executable, "-m", "ruff", "check", "--show-files", "."]
    shown = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert tracked - {os.path.relpath(path, ROOT) for path in shown} == set()
    places = re.findall(r'"(.*?)"', re.findall(r"^files = \[(.*)\]", (ROOT / "pyproject.toml").read_text(), re.M)[0])
    assert {path for path in tracked if not any(Path(path).is_relative_to(place) for place in places)} == set()


def test_no_array_that_may_be_empty_ends_a_script_in_an_old_bash() -> None:
    """With `set -u`, bash 4.2 and 4.3 (CentOS 7) call an empty array's "${words[@]}" an unbound variable."""
    bare = []
    for script in [path for pattern in SHELL_SCRIPTS for path in sorted(ROOT.glob(pattern)) if ".ci" not in path.parts]:
        text = script.read_text(encoding="utf-8")
        if re.search(r"^set -\w*u", text, re.MULTILINE):
            unguarded = re.sub(r'\$\{(\w+)\[@\]\+"\$\{\1\[@\]\}"\}', "", text)
            bare += [f"{script.name}: {found}" for found in re.findall(r"\$\{\w+\[[@*]\].*?\}", unguarded)]
    assert bare == []


def test_lint_sees_every_shell_script() -> None:
    scripts = {name for name in _tracked("*") if (ROOT / name).is_file() and _is_shell(ROOT / name)}
    seen = {str(path.relative_to(ROOT)) for pattern in SHELL_SCRIPTS for path in ROOT.glob(pattern)}
    assert {name for name in scripts if not name.startswith(("templates/", "tests/"))} - seen == set()


def _is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        return re.match(rb"#!.*\b(ba|da)?sh\b", file.readline()) is not None


def test_no_class_name_stands_twice_in_the_package() -> None:
    places: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("class "):
                name = line[len("class ") :].split("(")[0].split(":")[0]
                places.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}

"""tests/unit mirrors the package: a module's tests are where its name says."""

from __future__ import annotations

from pathlib import Path

UNIT = Path(__file__).resolve().parent
PACKAGE = UNIT.parents[1] / "npu_serving"
ABOUT_THE_PROJECT = {"test_docs", "test_guide_coverage", "test_reachability", "test_rooms", "test_tracked_files"}
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


def test_no_class_name_stands_twice_in_the_package() -> None:
    places: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("class "):
                name = line[len("class ") :].split("(")[0].split(":")[0]
                places.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}

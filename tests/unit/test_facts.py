"""A fact stands in one place: what others named or numbered is written once, and everything else asks there."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from npu_serving import facts
from npu_serving.doctor.bazel_version import can_build
from npu_serving.doctor.requirements import load_requirements
from npu_serving.errors import EXIT_ACTION_NEEDED
from npu_serving.fetch.toolchains import read_tools
from npu_serving.settings import Settings

PACKAGE = Path(facts.__file__).parent

# Each fact as a pattern of the texts in the code (not of docstrings and comments, which tell why), and the modules that
# may write it down. A sentence that only mentions a file's name is no second place for it.
ONE_PLACE = {
    r"0\.24\.1": (),  # locks/toolchains.json
    r"(?<!\d)8\.4(?!\d)": (),  # doctor/requirements.yaml
    r"3\.14(?!\d)": (),  # the same
    r"(?:\A|/)libpython3\.7": ("facts.py",),
    r"(?:\A|/)(?:lib)?_tf_adapter(?:\\?\.so)\Z": ("facts.py",),
    r"\A(?:amd64|arm64)\Z": ("facts.py",),
    # Of Serving. The others are TensorFlow's in models that are written, and an example of what a version looks like; a
    # sentence on what TensorFlow 1.15.0 knows is no place for it.
    r"(?<!TensorFlow )1\.15\.0(?! does not do)": (
        "settings.py",
        "sample/models.py",
        "bundle/writer.py",
        "models/saved_model_writer.py",
    ),
    r"\Apython3\.7\.5\Z": ("sample/sample_settings.py",),
}
SAMPLE = {"sample/sample_settings.py", "sample/__init__.py", "building/sources.py"}
"""Whoever may join "sample" to a path: where it is made, its sources, and its tree among the others."""


@functools.cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    return tuple(
        (path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(PACKAGE.rglob("*.py"))
    )


@functools.cache
def texts(module: ast.Module) -> tuple[str, ...]:
    """The string constants that are no docstring: a string that stands alone documents what is before it."""
    documenting = {node.value for node in ast.walk(module) if isinstance(node, ast.Expr)}
    return tuple(
        node.value
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documenting
    )


@pytest.mark.parametrize("fact", ONE_PLACE)
def test_a_fact_is_written_down_in_one_place(fact: str) -> None:
    holding = {name for name, module in modules() if any(re.search(fact, text) for text in texts(module))}
    assert holding == set(ONE_PLACE[fact])


def test_the_samples_directory_is_named_in_one_place() -> None:
    def joined(node: ast.AST) -> bool:
        return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and ast.unparse(node.right) == "'sample'"

    assert {name for name, module in modules() if any(map(joined, ast.walk(module)))} == SAMPLE


def test_no_result_writes_exit_code_3_as_a_bare_number() -> None:
    """Exit codes are returned as themselves, or by a property that is called after them."""

    def bare(function: ast.FunctionDef) -> bool:
        return any(
            isinstance(node, ast.Constant) and node.value == EXIT_ACTION_NEEDED and not isinstance(node.value, bool)
            for statement in ast.walk(function)
            if isinstance(statement, (ast.Return, ast.Yield))
            for node in ast.walk(statement)
        )

    found = [
        f"{name}: {function.name}"
        for name, module in modules()
        for function in ast.walk(module)
        if isinstance(function, ast.FunctionDef) and "exit" in function.name and bare(function)
    ]
    assert found == []


def test_only_the_one_writer_makes_tar_and_gzip_files() -> None:
    """archives.py and lock/ read what others packed; fetch/heal.py looks into it."""
    making = {
        name
        for name, module in modules()
        for call in ast.walk(module)
        if isinstance(call, ast.Call)
        and (ast.unparse(call.func) == "tarfile.TarInfo" or (ast.unparse(call.func), mode(call)) in MAKING)
    }
    assert making == {"tar_writer.py"}


MAKING = {(name, mode) for name in ("tarfile.open", "gzip.open", "gzip.GzipFile") for mode in ("w", "wb", "a", "x")}


def mode(call: ast.Call) -> str:
    values = [*call.args, *(word.value for word in call.keywords if word.arg == "mode")]
    return next((str(value.value) for value in values if isinstance(value, ast.Constant) and value.value), "")


def test_the_pinned_bazel_is_the_lowest_that_serves_and_the_one_that_is_locked() -> None:
    assert can_build(facts.pinned_bazel())
    assert load_requirements()["bazel"].at_least["any"] == facts.pinned_bazel()
    assert {tool.version for tool in read_tools() if tool.name == "bazel"} == {facts.pinned_bazel()}


def test_the_least_versions_are_those_of_the_requirements() -> None:
    for name in ("gcc", "g++", "cmake"):
        assert facts.least_version(name) == load_requirements()[name].at_least["any"]


def test_the_version_that_is_built_by_default_has_a_lock() -> None:
    assert (PACKAGE.parent / "locks" / f"serving-{Settings.source}.json").is_file()

"""docs/guide-coverage.md has every requirement of the guide; what it names exists, and is reached from a task."""

from __future__ import annotations

import ast
import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from invoke.tasks import Task
from reachability import package_sources, reached_by_any_task, reached_by_task, used_by_test

import tasks

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs/guide-coverage.md"
REQUIREMENTS = ROOT / "docs/requirements.json"
HEADER = ["id", "section", "requirement", "task", "test"]
NOT_YET = "not yet"
OUT_OF_SCOPE = "out of scope: "
NAMES = re.compile(r"`[^`,]+`(?:, `[^`,]+`)*")


@dataclass(frozen=True)
class Row:
    id: str
    section: str
    requirement: str
    task: str
    test: str

    @property
    def tasks(self) -> list[str]:
        return re.findall(r"`([^`]+)`", self.task)

    @property
    def tests(self) -> list[str]:
        return re.findall(r"`([^`]+)`", self.test)


def cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table, where `\\|` is a bar and `\\\\` a backslash."""
    parts = re.findall(r"((?:[^|\\]|\\.)*)\|", line.strip()[1:])
    return [re.sub(r"\\(.)", r"\1", part.strip()) for part in parts]


@functools.lru_cache(maxsize=1)
def rows() -> list[Row]:
    lines = [cells(line) for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert lines[0] == HEADER
    assert all(len(line) == len(HEADER) for line in lines), [line for line in lines if len(line) != len(HEADER)]
    return [Row(*line) for line in lines[2:]]


@functools.lru_cache(maxsize=1)
def task_names() -> set[str]:
    """The tasks of tasks.py, by the names that are typed."""
    return {value.name for value in vars(tasks).values() if isinstance(value, Task)}


@functools.cache
def functions_of(file: str) -> set[str]:
    path = ROOT / file
    assert path.is_file(), f"no test file {file}"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_there_are_250_requirements_numbered_without_a_gap() -> None:
    document = json.loads(REQUIREMENTS.read_text(encoding="utf-8"))
    assert [item["id"] for item in document] == [f"R{number:03}" for number in range(1, 251)]
    assert all(set(item) == {"id", "section", "text"} and item["section"] and item["text"] for item in document)


def test_the_table_has_every_requirement_once_in_its_own_words() -> None:
    document = json.loads(REQUIREMENTS.read_text(encoding="utf-8"))
    wanted = [(item["id"], item["section"], item["text"]) for item in document]
    assert [(row.id, row.section, row.requirement) for row in rows()] == wanted


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.id)
def test_a_requirement_is_covered_by_a_task_or_says_why_not(row: Row) -> None:
    if row.task == NOT_YET or (row.task.startswith(OUT_OF_SCOPE) and len(row.task) > len(OUT_OF_SCOPE)):
        assert row.test == "", f"{row.id} names a test but no task"
        return
    assert NAMES.fullmatch(row.task), f"{row.id}: {row.task!r} is none of: tasks, 'not yet', 'out of scope: reason'"
    assert NAMES.fullmatch(row.test) or row.test == NOT_YET, f"{row.id}: {row.test!r} is neither tests nor 'not yet'"


def test_every_task_that_is_named_exists() -> None:
    named = {(row.id, task) for row in rows() for task in row.tasks}
    assert {(where, task) for where, task in named if task not in task_names()} == set()


def test_every_test_that_is_named_exists() -> None:
    missing = []
    for row in rows():
        for name in row.tests:
            file, separator, function = name.partition("::")
            if not separator or function not in functions_of(file):
                missing.append((row.id, name))
    assert missing == []


@pytest.mark.parametrize("row", [row for row in rows() if row.tests], ids=lambda row: row.id)
def test_what_a_row_names_is_reached_from_one_of_its_tasks(row: Row) -> None:
    reached = frozenset().union(*(reached_by_task(task) for task in row.tasks))
    for name in row.tests:
        used = used_by_test(*name.split("::"))
        assert used.definitions & reached or used.words & set(row.tasks), f"{row.id}: no task leads to {name}"
        functions = {item for item in used.definitions if item[1] in package_sources()[item[0]].public}
        assert functions <= reached_by_any_task(), f"{row.id}: {name} shows what only tests call"


def test_a_function_that_no_task_calls_covers_nothing() -> None:
    assert "plan_server" in {name for _, name in reached_by_task("serve")}
    assert "needed_from_server" not in {name for _, name in reached_by_any_task()}


def test_bars_and_backslashes_within_a_cell_are_read_back() -> None:
    assert cells(r"| a \| b | c:\\d |  | e |") == ["a | b", r"c:\d", "", "e"]

"""What of npu_serving a task can reach, and what a test uses: read from the sources, nothing is imported.

A definition reaches every definition that it names, in its own module or through an import, wherever in the file the
import stands. A class reaches all of its methods: which of them is called can't be read from the source.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "npu_serving"
LIBRARY = f"{PACKAGE}.client"
ON_IMPORT = ""
"""Stands for the statements of a module that run when it is imported, or as a program."""

Definition = tuple[str, str]
"""A module's dotted name, and the name of a function, class or value at its top level."""


@dataclass
class Source:
    """One parsed file: its top-level definitions by name, and what the names that it imports stand for."""

    name: str
    tree: ast.Module
    definitions: dict[str, list[ast.AST]] = field(default_factory=dict)
    imported: dict[str, Definition] = field(default_factory=dict)

    @property
    def public(self) -> Iterator[str]:
        """The functions and classes that other modules may use."""
        for name, nodes in self.definitions.items():
            if not name.startswith("_") and any(
                isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) for node in nodes
            ):
                yield name


@functools.lru_cache(maxsize=1)
def package_sources() -> dict[str, Source]:
    """Every module of the package by its dotted name, and tasks.py."""
    paths = [*sorted((ROOT / PACKAGE).rglob("*.py")), ROOT / "tasks.py"]
    names = {_dotted(path): path for path in paths}
    return {name: read(name, path, names) for name, path in names.items()}


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read(name: str, path: Path, modules: Iterable[str]) -> Source:
    """The source of one file. `modules` are the dotted names that an import can mean."""
    source = Source(name, ast.parse(path.read_text(encoding="utf-8")))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                target = (whole, ON_IMPORT) if whole in modules else (node.module, alias.name)
                source.imported[alias.asname or alias.name] = target
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname or "." not in alias.name:
                    source.imported[alias.asname or alias.name] = (alias.name, ON_IMPORT)
    for statement in source.tree.body:
        for defined in _names_of(statement):
            source.definitions.setdefault(defined, []).append(statement)
    return source


def _names_of(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
        # In `sys.flag = …` a name is read, and nothing of this file is defined: that runs when it is imported.
        return [node.id for node in names if isinstance(node.ctx, ast.Store)] or [ON_IMPORT]
    if isinstance(statement, (ast.Import, ast.ImportFrom, ast.If)) and "TYPE_CHECKING" in ast.dump(statement):
        return ["TYPE_CHECKING"]  # never runs
    return [ON_IMPORT]


def named_by(source: Source, nodes: Iterable[ast.AST]) -> set[Definition]:
    """What these nodes of a file name: definitions of the file itself, and those that it imports."""
    found: set[Definition] = set()
    for node in _within(nodes):
        if isinstance(node, ast.Name):
            if node.id in source.imported:
                found.add(source.imported[node.id])
            elif node.id in source.definitions:
                found.add((source.name, node.id))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module, name = source.imported.get(node.value.id, ("", "-"))
            if name == ON_IMPORT:
                found.add((module, node.attr))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in package_sources():
            found.add((node.value, ON_IMPORT))  # python -m MODULE
    return found


def _within(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    for node in nodes:
        yield from ast.walk(node)


def reached_from(starts: Iterable[Definition]) -> frozenset[Definition]:
    """All definitions of the package that these lead to, they themselves included."""
    sources = package_sources()
    found: set[Definition] = set()
    left = list(starts)
    while left:
        module, name = left.pop()
        source = sources.get(module)
        if source is None or (module, name) in found:
            continue
        found.add((module, name))
        left.append((module, ON_IMPORT))
        if name in source.definitions:
            left += named_by(source, source.definitions[name])
        elif name in source.imported:
            left.append(source.imported[name])
        elif f"{module}.{name}" in sources:
            left.append((f"{module}.{name}", ON_IMPORT))
    return frozenset(found)


@functools.lru_cache(maxsize=1)
def tasks() -> dict[str, Definition]:
    """Each task's function, by the name that is typed: what tasks.py imports."""
    imported = package_sources()["tasks"].imported.values()
    commands = f"{PACKAGE}.commands."
    return {name.replace("_", "-"): (module, name) for module, name in imported if module.startswith(commands)}


@functools.cache
def reached_by_task(name: str) -> frozenset[Definition]:
    """All definitions that one task leads to."""
    return reached_from([tasks()[name]])


@functools.lru_cache(maxsize=1)
def reached_by_any_task() -> frozenset[Definition]:
    """All definitions that a task leads to, or `python -m` and `python -c` as the project's own files have it."""
    programs = [(name, ON_IMPORT) for name, source in package_sources().items() if "__main__" in ast.dump(source.tree)]
    library = package_sources()[LIBRARY]  # what its users call is what it exports
    programs += [(LIBRARY, name) for name in (*library.imported, *library.definitions)]
    programs += [
        (module, name)
        for source in package_sources().values()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for module, name in re.findall(rf"from ({PACKAGE}[\w.]*) import (\w+);", node.value)
    ]
    return reached_from([*tasks().values(), (f"{PACKAGE}.__main__", ON_IMPORT), *programs])


@dataclass(frozen=True)
class Use:
    """What one test uses: definitions of the package, and the words that it holds as text, such as a task's name."""

    definitions: frozenset[Definition]
    words: frozenset[str]


@functools.cache
def used_by_test(file: str, function: str) -> Use:
    """What a test uses, with the helpers and fixtures of its file and of the conftest.py files above it."""
    files = [_test_source(path) for path in _with_conftests(ROOT / file)]
    used: set[Definition] = set()
    words: set[str] = set()
    seen: set[tuple[str, str]] = set()
    left = [function]
    while left:
        name = left.pop()
        source = next((item for item in files if name in item.definitions), None)
        if source is None or (source.name, name) in seen:
            continue
        seen.add((source.name, name))
        nodes = source.definitions[name]
        for module, other in named_by(source, nodes):
            if module in package_sources():
                used.add((module, other))
            elif module == source.name:
                left.append(other)
            else:
                helper = next((item for item in _helpers() if item.name == module.rpartition(".")[2]), None)
                if helper is not None:
                    if helper not in files:
                        files.append(helper)
                    left.append(other)
        for node in _within(nodes):
            if isinstance(node, ast.arg):
                left.append(node.arg)  # a fixture
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.update(node.value.split())
    return Use(frozenset(used), frozenset(words))


def _with_conftests(path: Path) -> list[Path]:
    above = [parent / "conftest.py" for parent in path.parents if parent.is_relative_to(ROOT / "tests")]
    return [path, *(file for file in above if file.is_file())]


@functools.cache
def _test_source(path: Path) -> Source:
    return read(path.stem, path, package_sources())


@functools.lru_cache(maxsize=1)
def _helpers() -> list[Source]:
    paths = sorted((ROOT / "tests").rglob("*.py"))
    return [_test_source(path) for path in paths if not path.name.startswith(("test_", "conftest"))]

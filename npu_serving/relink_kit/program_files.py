"""The program of a kit, as it is packed: this package as far as the relink needs it, with two libraries in Python."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import MissingToolError
from npu_serving.relink_kit.kit_file import KIT_PROGRAM, KIT_START

PACKAGE = Path(__file__).resolve().parents[1]
ROOT_MODULE = "npu_serving.relink_kit.main"
LIBRARIES = {"PyYAML": "yaml", "packaging": "packaging"}
"""Distributions whose part in Python goes along, with their licences: what the rest imports of others."""
_TABLES = (".yaml", ".json")


@functools.cache
def program_files() -> Mapping[str, bytes]:
    """The entries of the zip that are the program, by their names: __main__.py and all of program/.

    Raises MissingToolError where one of the two libraries is not installed as pip does it.
    """
    modules = _modules(ROOT_MODULE)
    tables = {
        path
        for directory in {path.parent for path in modules.values() if path.parent != PACKAGE}
        for path in directory.iterdir()
        if path.suffix in _TABLES
    }
    own = {path.relative_to(PACKAGE.parent).as_posix(): path for path in {*modules.values(), *tables}}
    files = {f"{KIT_PROGRAM}{name}": fsutil.read_bytes(path) for name, path in sorted(own.items())}
    files[KIT_START] = fsutil.read_bytes(PACKAGE / "relink_kit" / "zip_start.py")
    for distribution, package in LIBRARIES.items():
        files.update({f"{KIT_PROGRAM}{name}": data for name, data in _library(distribution, package)})
    return files


def _modules(first: str) -> dict[str, Path]:
    """The modules of this package that `first` imports, and those that they import, within functions too."""
    found: dict[str, Path] = {}
    waiting = [first]
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if name in found or path is None:
            continue
        found[name] = path
        waiting.append(name.rpartition(".")[0])
        waiting += _imported(ast.parse(fsutil.read_text(path)).body)
    return found


def _file_of(module: str) -> Path | None:
    first, *rest = module.split(".")
    place = PACKAGE.joinpath(*rest)
    if first != PACKAGE.name:
        return None
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def _imported(statements: Iterable[ast.AST]) -> Iterator[str]:
    """What statements import; what is for type checkers alone is passed over."""
    for node in statements:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from _imported(ast.iter_child_nodes(node))


def _library(distribution: str, package: str) -> Iterator[tuple[str, bytes]]:
    try:
        listed = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        listed = []
    modules = [path for path in listed if path.parts[0] == package and path.suffix == ".py"]
    if not modules:
        raise MissingToolError(
            f"The Python package {distribution} is not installed as pip installs it, so no kit can be packed.",
            cause="the virtual environment was not created from requirements.txt",
            cure="create it again with ./inv --list",
        )
    licences = [path for path in listed if path.parts[0].endswith(".dist-info") and path.name.startswith("LICENSE")]
    for path in sorted([*modules, *licences]):
        name = path.as_posix() if path in modules else f"licences/{distribution}/{path.name}"
        yield name, Path(str(path.locate())).read_bytes()

"""CANN's own library of operators on the AI Core: which types it has, by the files that describe them for each chip.

Every .json file in a chip's directory is loaded (guide, 5.1): a copy that somebody kept there counts as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving.cann.operator_list import operator_list_table

_DIRECTORY = "built-in/op_impl/ai_core/tbe/config"
_OF_OPERATOR = ("input0", "output0", "opFile", "opInterface", "precision_reduce", "dynamicFormat")
"""Keys by which an entry is known for the description of an operator."""
_LONGEST = 256 << 20  # bytes; the real ones have some millions


@dataclass(frozen=True)
class OperatorLibrary:
    """The types of operators of all chips, and those that two files of one chip describe. No types: nothing is known.

    Since CANN 8.0 each chip has several files, one for each group of types.
    """

    directory: Path
    types: frozenset[str] = frozenset()
    twice: tuple[tuple[str, Path, Path], ...] = ()
    """A type of each pair of files, and the two."""


def operator_library(environ: Mapping[str, str]) -> OperatorLibrary:
    """What a server with that environment finds."""
    names = operator_list_table()
    directory = Path(environ.get(names.variable, names.default_directory) or "/") / _DIRECTORY
    types: set[str] = set()
    twice: dict[tuple[Path, Path], str] = {}
    try:
        chips = sorted(path for path in directory.iterdir() if path.is_dir())
        files = [(chip, file) for chip in chips for file in sorted(chip.glob("*.json"))]
    except OSError:
        return OperatorLibrary(directory)
    described: dict[tuple[Path, str], Path] = {}
    for chip, file in files:
        for name in _types_in(file):
            types.add(name)
            first = described.setdefault((chip, name), file)
            if first != file:
                twice.setdefault((first, file), name)
    return OperatorLibrary(
        directory, frozenset(types), tuple((name, first, second) for (first, second), name in twice.items())
    )


def _types_in(file: Path) -> list[str]:
    """Those that are described in it; none, where it is of another kind."""
    try:
        with file.open("rb") as opened:
            data = opened.read(_LONGEST + 1)
        document = json.loads(data.decode("utf-8-sig")) if len(data) <= _LONGEST else None
    except (OSError, ValueError, RecursionError):
        return []
    entries = document.items() if isinstance(document, dict) else ()
    return [name for name, entry in entries if isinstance(entry, dict) and any(key in entry for key in _OF_OPERATOR)]

"""CANN's own library of operators on the AI Core: what the files that describe them say of each chip's operators.

Every .json file in a chip's directory is loaded (guide, 5.1): a copy that somebody kept there counts as well. Since
CANN 8.0 each chip has several files, one for each group of types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from npu_serving.cann.operator_list import operator_list_table

WHITE, BLACK, GREY = "white", "black", "grey"
CONFIG = "built-in/op_impl/ai_core/tbe/config"
MODES = "built-in/op_impl/ai_core/tbe/impl_mode/all_ops_impl_mode.ini"
_OF_OPERATOR = ("input0", "output0", "opFile", "opInterface", "precision_reduce", "dynamicFormat")
"""Keys by which an entry is known for the description of an operator."""
_PARAMETER = re.compile("(?:input|output)[0-9]{1,3}", re.ASCII)
_SAME_DTYPE = {"float": "float32", "bf16": "bfloat16"}
"""Two names of one data type, which the graph engine takes for the same (graph/utils/type_utils.cc)."""
_LONGEST = 256 << 20  # bytes; the real ones have some millions


@dataclass(frozen=True)
class OperatorParameter:
    """An input or output: its name, and the data types that it may have; none where they are chosen by a program.

    The types at the same position of all parameters go together. A dynamic one stands for any number of tensors.
    """

    name: str
    dtypes: tuple[str, ...]
    is_dynamic: bool = False


@dataclass(frozen=True)
class DescribedOperator:
    """What a file says of a type of operators on one chip.

    `listed` is the list of mixed precision that it is on: white may compute in float16, black may not, grey does as the
    one before it.
    """

    chip: str
    file: Path
    listed: str
    inputs: tuple[OperatorParameter, ...] = ()
    outputs: tuple[OperatorParameter, ...] = ()

    @property
    def dtypes(self) -> frozenset[str]:
        """All that an input or output may have."""
        return frozenset(dtype for parameter in (*self.inputs, *self.outputs) for dtype in parameter.dtypes)

    @property
    def dtypes_are_known(self) -> bool:
        """Whether every parameter names its types: where the format is dynamic, a program of CANN's chooses them."""
        parameters = (*self.inputs, *self.outputs)
        return bool(parameters) and all(parameter.dtypes for parameter in parameters)


@dataclass(frozen=True)
class OperatorLibrary:
    """The operators of all chips by their type, and types that two files of one chip describe; nothing: none is known.

    `modes` are the implementation modes of those that have several, by type; None where CANN's list can't be read.
    """

    directory: Path
    operators: Mapping[str, tuple[DescribedOperator, ...]] = field(default_factory=dict)
    twice: tuple[tuple[str, Path, Path], ...] = ()
    """A type of each pair of files, and the two."""
    modes: Mapping[str, tuple[str, ...]] | None = None


def one_name(dtype: str) -> str:
    """The one name that a data type has here, of those that it may be written with."""
    return _SAME_DTYPE.get(dtype, dtype)


def directory_of_operators(environ: Mapping[str, str]) -> Path:
    """The directory of the operator packages that a server with that environment finds."""
    names = operator_list_table()
    return Path(environ.get(names.variable, names.default_directory) or "/")


def library_files(opp: Path) -> list[tuple[str, Path]]:
    """The files that are loaded from a directory of operator packages, each with its chip."""
    try:
        chips = sorted(path for path in (opp / CONFIG).iterdir() if path.is_dir())
        return [(chip.name, file) for chip in chips for file in sorted(chip.glob("*.json")) if file.is_file()]
    except OSError:
        return []


def operator_library(environ: Mapping[str, str]) -> OperatorLibrary:
    """What a server with that environment finds."""
    opp = directory_of_operators(environ)
    found: dict[str, list[DescribedOperator]] = {}
    twice: dict[tuple[Path, Path], str] = {}
    first: dict[tuple[str, str], Path] = {}
    for chip, file in library_files(opp):
        for name, entry in _entries(_text(file)):
            other = first.setdefault((chip, name), file)
            if other != file:
                twice.setdefault((other, file), name)
            found.setdefault(name, []).append(_described(chip, file, entry))
    return OperatorLibrary(
        opp / CONFIG,
        {name: tuple(each) for name, each in found.items()},
        tuple((name, former, second) for (former, second), name in twice.items()),
        implementation_modes(opp),
    )


def operator_in_library(opp: Path, name: str) -> tuple[DescribedOperator, ...]:
    """What the library says of one type; little of the files is read beyond it."""
    entry = re.compile(rf'"{re.escape(name)}"\s*:\s*(?=\{{)')
    found = []
    for chip, file in library_files(opp):
        text = _text(file)
        for match in entry.finditer(text):
            try:
                value, _ = json.JSONDecoder().raw_decode(text, match.end())
            except (ValueError, RecursionError):
                continue
            if _describes(value):
                found.append(_described(chip, file, value))
                break
    return tuple(found)


def implementation_modes(opp: Path) -> dict[str, tuple[str, ...]] | None:
    """all_ops_impl_mode.ini: the modes of each type, lines TYPE=MODE,MODE; None where it is not there.

    A type without a line has the one mode that it is compiled in by default, high_performance.
    """
    text = _text(opp / MODES)
    pairs = (line.partition("=") for line in text.splitlines() if not line.lstrip().startswith(("#", "[")))
    modes = {name.strip(): _words(value) for name, equals, value in pairs if equals and name.strip()}
    return modes or None


def _text(file: Path) -> str:
    """What stands in it; nothing where it can't be read."""
    try:
        with file.open("rb") as opened:
            data = opened.read(_LONGEST + 1)
        return data.decode("utf-8-sig") if len(data) <= _LONGEST else ""
    except (OSError, ValueError):
        return ""


def _entries(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The descriptions in it; none, where it is of another kind."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return
    for name, entry in document.items() if isinstance(document, dict) else ():
        if _describes(entry):
            yield name, entry


def _describes(entry: object) -> bool:
    return isinstance(entry, dict) and any(key in entry for key in _OF_OPERATOR)


def _described(chip: str, file: Path, entry: dict[str, Any]) -> DescribedOperator:
    """An entry, in which nothing need be of the kind that it should."""
    flag = _value(entry.get("precision_reduce"), "flag")
    keys = sorted((key for key in entry if _PARAMETER.fullmatch(key)), key=lambda key: (len(key), key))
    is_chosen = _value(entry.get("dynamicFormat"), "flag") == "true"
    parameters = {key: _parameter(entry[key], is_chosen=is_chosen) for key in keys}
    return DescribedOperator(
        chip,
        file,
        {"true": WHITE, "false": BLACK}.get(flag, GREY),
        tuple(value for key, value in parameters.items() if key.startswith("input")),
        tuple(value for key, value in parameters.items() if key.startswith("output")),
    )


def _parameter(entry: object, *, is_chosen: bool) -> OperatorParameter:
    dtypes = () if is_chosen else _words(_value(entry, "dtype"))
    return OperatorParameter(
        _value(entry, "name"),
        tuple(map(one_name, dtypes)),
        _value(entry, "paramType") == "dynamic",
    )


def _value(entry: object, key: str) -> str:
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, str) else ""


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())

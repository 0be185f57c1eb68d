"""The files that session options of the NPU name: JSON, and lines of CANN's own.

Each is written without comments: the guide shows them, and only for some of the formats it says that they are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from npu_serving.errors import UnwritableValueError

_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.\\/>-]*")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_VALUE = re.compile("[A-Za-z0-9][A-Za-z0-9_]*")


def json_file(value: Mapping[str, object]) -> str:
    """A JSON object, two blanks deeper at each level. Refuses half of a character, which no reader takes."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start : error.end]
        raise UnwritableValueError(f"A text holds half of a character ({half!r}).", cure="remove it") from error
    return text


def dtypes_line(name: str, inputs: Sequence[str], outputs: Sequence[str], *, by_type: bool) -> str:
    """A line of customize_dtypes.cfg: the data types of an operator, by its name or by its type."""
    who = f"OpType::{_checked(name, _WORD)}:" if by_type else f"{_checked(name)}::"
    given, made = (",".join(_checked(dtype, _WORD) for dtype in dtypes) for dtypes in (inputs, outputs))
    return f"{who}InputDtype:{given},OutputDtype:{made}\n"


def ini_file(sections: Mapping[str, Mapping[str, str]]) -> str:
    """Sections with NAME=VALUE lines, without blanks around the =; one without lines is left out."""
    written = [
        f"[{_checked(title, _WORD)}]\n"
        + "".join(f"{_checked(name)}={_checked(value, _VALUE)}\n" for name, value in lines.items())
        for title, lines in sections.items()
        if lines
    ]
    return "\n".join(written)


def debug_line(words: Sequence[str]) -> str:
    """The line of op_debug_config's file."""
    return f"op_debug_config = {','.join(_checked(word, _WORD) for word in words)}\n"


def nodes_line(names: Sequence[str]) -> str:
    """The list of nodes whose weights are compressed."""
    return ";".join(_checked(name) for name in names) + "\n"


def _checked(name: str, form: re.Pattern[str] = _NAME) -> str:
    if form.fullmatch(name) is None:
        raise UnwritableValueError(
            f"{name!r} can't be written into a file for the NPU.",
            cause="its characters would be read as the end of the name, or as another entry",
            cure="give the name that the operator has",
        )
    return name

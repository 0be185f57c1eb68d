"""Values in protobuf's text format: platform configs, lists of models."""

from __future__ import annotations

import re

from npu_serving.errors import UnwritableValueError

_INT64 = range(-(2**63), 2**63)
_AS_IT_IS = re.compile(r"[ !#-\[\]-~]*")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def textproto_string(value: str) -> str:
    """The value as a quoted string of protobuf's text format.

    Undecodable bytes of a path (surrogates, PEP 383) become octal escapes. Raises UnwritableValueError for a NUL, at
    which the programs behind the file would cut the value off, and for surrogates that mean no byte.
    """
    if _AS_IT_IS.fullmatch(value):
        return f'"{value}"'
    return '"' + "".join(_escaped(character, value) for character in value) + '"'


def _escaped(character: str, value: str) -> str:
    if character == "\0":
        raise UnwritableValueError(f"{value!r} contains a NUL byte.", cure="remove the NUL byte")
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\{code - 0xDC00:03o}"
    if 0xD800 <= code <= 0xDFFF:
        raise UnwritableValueError(
            f"{value!r} contains half of a character (U+{code:04X}).", cure="remove that character"
        )
    return f"\\{code:03o}" if code < 0x20 or code == 0x7F else character


def attr_value(name: str, value: bool | int | str) -> str:
    """The field of a tensorflow.AttrValue for a value of that kind; `name` is only for the error."""
    if isinstance(value, bool):  # before int: a bool is one
        return f"b: {'true' if value else 'false'}"
    if isinstance(value, int):
        if value not in _INT64:
            raise UnwritableValueError(
                f"{name} can't be {value}: it does not fit into 64 bits.", cure="use a smaller number"
            )
        return f"i: {value}"
    if isinstance(value, str):
        return f"s: {textproto_string(value)}"
    raise UnwritableValueError(
        f"{name} must be true or false, a whole number or a string, not {value!r}.", cure="correct its value"
    )

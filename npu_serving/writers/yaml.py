"""Values in YAML."""

from __future__ import annotations

import re

from npu_serving.errors import UnwritableValueError

_PLAIN_KEY = re.compile("[A-Za-z_][A-Za-z0-9_.-]*")


def yaml_string(value: str) -> str:
    """A double-quoted scalar in ASCII (YAML 1.2, section 5.7).

    Not json.dumps: that writes what lies beyond U+FFFF as two halves, which YAML does not put together. Raises
    UnwritableValueError for such a half on its own.
    """
    return '"' + "".join(_escaped(character, value) for character in value) + '"'


def yaml_block(value: object, indent: int = 0) -> str:
    """Mappings, lists, texts, whole numbers, truth values and null as block YAML, a line each; every text in quotes."""
    return "".join(f"{' ' * indent}{line}\n" for line in _lines(value))


def _lines(value: object) -> list[str]:
    if isinstance(value, dict) and value:
        lines = []
        for key, item in value.items():
            name = key if _PLAIN_KEY.fullmatch(key) else yaml_string(key)
            lines += _behind(f"{name}:", item)
        return lines
    if isinstance(value, list) and value:
        found = [_lines(item) for item in value]
        return [f"{'- ' if number == 0 else '  '}{line}" for lines in found for number, line in enumerate(lines)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if value is None:
        return ["null"]
    return [yaml_string(value) if isinstance(value, str) else "{}" if value == {} else str(value)]


def _behind(head: str, value: object) -> list[str]:
    """The value on the line of its key, or below it."""
    lines = _lines(value)
    if isinstance(value, (dict, list)) and value:
        return [head, *(f"  {line}" for line in lines)]
    return [f"{head} {lines[0]}"]


def _escaped(character: str, value: str) -> str:
    code = ord(character)
    if 0xD800 <= code <= 0xDFFF:
        raise UnwritableValueError(f"{value!r} holds a half of a character (U+{code:04X}).", cure="give another value")
    if character in '"\\':
        return "\\" + character
    if 0x20 <= code < 0x7F:
        return character
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"

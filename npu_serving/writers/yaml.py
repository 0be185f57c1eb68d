"""Values in YAML."""

from __future__ import annotations

from npu_serving.errors import UnwritableValueError


def yaml_string(value: str) -> str:
    """A double-quoted scalar in ASCII (YAML 1.2, section 5.7).

    Not json.dumps: that writes what lies beyond U+FFFF as two halves, which YAML does not put together. Raises
    UnwritableValueError for such a half on its own.
    """
    return '"' + "".join(_escaped(character, value) for character in value) + '"'


def _escaped(character: str, value: str) -> str:
    code = ord(character)
    if 0xD800 <= code <= 0xDFFF:
        raise UnwritableValueError(f"{value!r} holds a half of a character (U+{code:04X}).", cure="give another value")
    if character in '"\\':
        return "\\" + character
    if 0x20 <= code < 0x7F:
        return character
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"

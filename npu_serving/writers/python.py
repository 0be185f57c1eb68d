"""Values in Python: scripts."""

from __future__ import annotations

from npu_serving.errors import UnwritableValueError

_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def python_string(value: str) -> str:
    """A literal in ASCII; half of a character is refused with UnwritableValueError: no file holds it.

    Not json.dumps: that writes what lies beyond U+FFFF as two halves, which Python does not put together.
    """
    quote = "'" if '"' in value and "'" not in value else '"'
    return quote + "".join(_escaped(character, value, quote) for character in value) + quote


def python_value(value: object) -> str:
    """Texts, numbers, truth values, None, and tuples, lists and mappings of them, on one line."""
    if isinstance(value, str):
        return python_string(value)
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{python_value(key)}: {python_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        items = [python_value(item) for item in value]
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
    if isinstance(value, list):
        return f"[{', '.join(map(python_value, value))}]"
    raise UnwritableValueError(f"{value!r} can't be written into a script.", cure="correct it")


def python_comment(value: str) -> str:
    """A text as the rest of a comment's line: what would end the line is written as an escape."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in value
    )


def _escaped(character: str, value: str, quote: str) -> str:
    code = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character == quote:
        return f"\\{quote}"
    if 0xD800 <= code <= 0xDFFF:
        raise UnwritableValueError(
            f"{value!r} contains half of a character (U+{code:04X}).", cure="remove that character"
        )
    if 0x20 <= code < 0x7F:
        return character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

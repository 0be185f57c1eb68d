"""Strings of protobuf's text format, read as its tokenizer does."""

from __future__ import annotations

import re

_STRING = rb'"((?:[^"\\\n\0]|\\.)*)"'
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"\\": b"\\", b'"': b'"', b"'": b"'"}


def read_string(quoted: str) -> bytes:
    """A text-format string as protobuf's tokenizer reads it: one literal on one line, C escapes."""
    found = re.fullmatch(_STRING, quoted.encode(), re.DOTALL)
    assert found, quoted
    return re.sub(
        rb"\\([0-7]{1,3}|.)",
        lambda m: bytes([int(m[1], 8)]) if m[1][:1].isdigit() else _LETTERS[m[1]],
        found[1],
        flags=re.DOTALL,
    )

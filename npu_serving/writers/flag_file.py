"""Values in a file of server flags, one a line, as the packages' bin/serve reads it (docker/runtime/serve)."""

from __future__ import annotations

import re

from npu_serving.errors import UnwritableValueError

_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # and halves of characters


def flag_line(name: str, value: str) -> str:
    """The line for a flag: its value in quotes where it would be read as something else without them.

    The file knows no escapes: UnwritableValueError for control characters, and for a value that needs quotes and holds
    both kinds.
    """
    if _CONTROL.search(value):
        raise _refused(name, value, "it contains control characters")
    if not value or not (set(value) & set("\"'# ")):
        return f"--{name}={value}"
    for quote in ('"', "'"):
        if quote not in value:
            return f"--{name}={quote}{value}{quote}"
    raise _refused(name, value, "it contains both kinds of quotes")


def _refused(name: str, value: str, why: str) -> UnwritableValueError:
    return UnwritableValueError(
        f"--{name}={value!r} can't be written into a file of flags: {why}.",
        cause="such a file has no way to escape a character",
        cure="use a path without such characters",
    )

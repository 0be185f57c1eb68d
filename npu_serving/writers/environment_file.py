"""Environment variables in files: one that a shell sources, and one that docker (--env-file) and systemd read alike."""

from __future__ import annotations

import re

from npu_serving.errors import UnwritableValueError
from npu_serving.writers.shell import shell_word

_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # and halves of characters


def export_line(name: str, value: str) -> str:
    """The command by which a POSIX shell exports the variable."""
    return f"export {name}={shell_word(value)}"


def environment_line(name: str, value: str) -> str:
    """The variable's line in a file for docker's --env-file and systemd's EnvironmentFile= (systemd.exec(5), 252).

    docker takes the rest of the line as it is; systemd reads quotes at its beginning, backslashes, and drops blanks
    around it. UnwritableValueError for a value that the two would read differently, and for control characters; it does
    not repeat the value, which may be a password.
    """
    why = ""
    if _CONTROL.search(value):
        why = "it contains control characters"
    elif "\\" in value:
        why = "it contains a backslash"
    elif value != value.strip():
        why = "it begins or ends with a blank"
    elif value[:1] in ("'", '"'):
        why = "it begins with a quote"
    if why:
        raise UnwritableValueError(
            f"The value of {name} can't be written into a file of variables: {why}.",
            cause="docker and systemd would read it differently",
            cure="give another value",
        )
    return f"{name}={value}"

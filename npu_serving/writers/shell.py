"""Values in a shell's language: command lines that a person can paste, words of scripts."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Union

Word = Union[str, "os.PathLike[str]"]


def shell_word(value: Word) -> str:
    """One word of a POSIX shell's command line."""
    return shlex.quote(os.fspath(value))


def task_argument(flag: str, value: str) -> str:
    """What names a task's first argument: the value alone, or with its flag where it would be taken for a flag."""
    return shell_word(f"{flag}={value}" if value.startswith("-") else value)


def command_line(argv: Sequence[Word], cwd: Path | None = None) -> str:
    """The command as a person can paste it into a shell."""
    text = " ".join(shell_word(word) for word in argv)
    return f"(cd {shell_word(cwd)} && {text})" if cwd is not None else text

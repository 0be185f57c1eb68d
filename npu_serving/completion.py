"""Completion of ./inv in bash, zsh and fish: the scripts, and the words that they ask for at each TAB."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from npu_serving.settings import PROJECT_ROOT, table_of

if TYPE_CHECKING:
    from invoke.parser import Parser
    from invoke.parser.context import ParserContext

SCRIPTS = PROJECT_ROOT / "templates" / "completion"
SHELLS = ("bash", "zsh", "fish")


def print_script(shell: str) -> int:
    """Prints what the shell has to read; returns the exit code."""
    if shell not in SHELLS:
        print(f"There is no completion for {shell!r}.\nNext: choose one of {', '.join(SHELLS)}", file=sys.stderr)
        return 2
    sys.stdout.write((SCRIPTS / f"inv.{shell}").read_text(encoding="utf-8"))
    return 0


def candidates(words: Sequence[str], core: ParserContext, parser: Parser) -> list[str]:
    """What may replace the last of the words, of which the first is the program; none where a file may."""
    *before, current = words[1:] or [""]
    if before[-1:] == ["="]:  # bash takes --flag=value for three words
        before.pop()
    known = parser.contexts
    context = next((known[word] for word in reversed(before) if word in known), core)
    last = before[-1] if before else ""
    if last in context.flags and context.flags[last].takes_value and not context.flags[last].optional:
        found = _choices(last)
    elif current.startswith("-"):
        found = [name for name in context.flag_names() if name.startswith("--") or current == "-"]
    elif last == context.name and context.positional_args:
        found = []
    else:
        found = list(known)
    return sorted(word for word in set(found) if word.startswith(current))


def _choices(flag: str) -> list[str]:
    return [word for row in table_of().values() if f"--{row.flag}" == flag for word in row.choices]

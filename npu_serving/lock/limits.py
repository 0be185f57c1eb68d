"""Bounds for the evaluation of files that somebody else wrote: no loop without end, no nesting that kills the parser.

These stop an evaluation between two steps, with a message that says where. What a single operation may take, such as
[0] * 1000000000, the process that evaluates is bounded for as a whole: see confined.py.
"""

from __future__ import annotations

import re
import resource
from typing import Any

from npu_serving.errors import WorkspaceError

MOST_CHECKS = 20_000
"""The interpreter asks after every 1000 steps: some seconds in all. The tree of 2.13.1 takes 155 checks."""
MOST_MEMORY_BYTES = 1 << 30
"""By which this process may grow. It takes 0.12 GB in all for that tree."""
LARGEST_FILE_BYTES = 4 << 20
DEEPEST_CALL = 200
DEEPEST_NESTING = 500
"""The interpreter's parser calls itself for every level, and dies silently of some thousands of them."""

_TOKEN = re.compile(
    r'''(?P<skip>"""(?:\\.|[^\\])*?"""|\'\'\'(?:\\.|[^\\])*?\'\'\'|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\#[^\n]*|\\\n)'''
    r"|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<end>[,;\n])|(?P<deeper>[-+*/%|&^~<>=!.:]|\b(?:not|and|or|in|if|else|lambda)\b)",
    re.DOTALL,
)


class Budget:
    """What one tree may use up, all of its files together."""

    def __init__(self) -> None:
        self._checks = 0
        self._used_up = False
        self._most_bytes = _resident_bytes() + MOST_MEMORY_BYTES

    def options(self) -> Any:
        """Options for starlark.eval_with() and call_with(), which stop the evaluation when the budget is used up."""
        import starlark

        return starlark.EvalOptions(check_cancelled=self._is_to_end, max_callstack_size=DEEPEST_CALL)

    def check(self, name: str) -> None:
        """WorkspaceError when the budget was used up by the file or rule `name`."""
        if self._used_up:
            raise WorkspaceError(
                f"Gave up evaluating {name} after {MOST_CHECKS * 1000:,} steps or too much memory.",
                cause="an endless loop, or a malicious file",
                cure="correct that file, or unpack the tree again",
            )

    def _is_to_end(self) -> bool:
        self._checks += 1
        self._used_up = self._used_up or self._checks > MOST_CHECKS or _resident_bytes() > self._most_bytes
        return self._used_up


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def check_size(size_bytes: int, name: str) -> None:
    """WorkspaceError for a file that is larger than any legitimate one."""
    if size_bytes > LARGEST_FILE_BYTES:
        raise WorkspaceError(
            f"{name} has {size_bytes} bytes, over ten times more than any Starlark file of a serving tree.",
            cause="the file is damaged or malicious",
            cure="unpack the tree again",
        )


def check_nesting(text: str, name: str) -> None:
    """WorkspaceError, with the line, where an expression of the file `name` is nested deeper than is legitimate."""
    chains = [0]  # operators since the last comma, for each bracket that is open
    depth = 0
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "close" and len(chains) > 1:
            depth -= chains.pop()
        elif kind == "end" and (token[0] != "\n" or len(chains) == 1):
            depth -= chains[-1]
            chains[-1] = 0
        elif kind in ("open", "deeper"):
            depth += 1
            chains[-1] += 1
            if kind == "open":
                chains.append(0)
            if depth > DEEPEST_NESTING:
                raise WorkspaceError(
                    f"{name}, line {text.count(chr(10), 0, token.start()) + 1}: expressions are nested too "
                    "deeply to be read.",
                    cause="the file is damaged or malicious",
                    cure="unpack the tree again",
                )

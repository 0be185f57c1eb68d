"""Which of the caller's environment variables a started server gets: the table of server_environment.yaml."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving.documents import read_document

TABLE = Path(__file__).with_name("server_environment.yaml")


@dataclass(frozen=True)
class ServerVariable:
    """One line of the table; see its head for what the fields say."""

    match: str
    why: str
    passed: bool = True
    instead: str = ""

    def fits(self, name: str) -> bool:
        """Whether the line speaks of that variable."""
        return name.startswith(self.match[:-1]) if self.match.endswith("*") else name == self.match


@dataclass(frozen=True)
class _ServerVariableTable:
    """server_environment.yaml."""

    variables: tuple[ServerVariable, ...]


@dataclass(frozen=True)
class ServerEnvironment:
    """What of the caller's environment a server gets, and a warning for each variable left out that would matter."""

    variables: Mapping[str, str]
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@functools.cache
def known_variables() -> tuple[ServerVariable, ...]:
    """The lines of the table, in their order."""
    return read_document(TABLE, _ServerVariableTable).variables


def server_environment(caller: Mapping[str, str]) -> ServerEnvironment:
    """What of the caller's environment is read within a server; LD_LIBRARY_PATH is not among it."""
    passed, left_out, warnings = {}, [], []
    for name, value in sorted(caller.items()):
        line = next((line for line in known_variables() if line.fits(name)), None)
        if line is None:
            continue
        if line.passed:
            passed[name] = value
        else:
            left_out.append(name)
            if value and line.instead:
                warnings.append(f"{name} is not passed on to the server: {line.instead}")
    return ServerEnvironment(passed, tuple(left_out), tuple(warnings))

"""The linkers that this project links servers with: which are here, how new they have to be, and which one is taken.

It needs the standard library alone: the program in a relink kit uses it as well.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from npu_serving import fsutil
from npu_serving.errors import MissingToolError

AUTO = "auto"
BFD, GOLD, LLD = KINDS = ("bfd", "gold", "lld")
ARGUMENT = "-fuse-ld="  # for gcc

_TABLE = Path(__file__).with_name("linkers.json")
# GNU gold (GNU Binutils for Debian 2.40) 1.16 | GNU gold (version 2.27-44.base.el7) 1.14
# GNU ld (GNU Binutils for Debian) 2.40 | GNU ld version 2.30-93.el8 | Debian LLD 14.0.6 (compatible with GNU linkers)
_SAYS = (
    (GOLD, re.compile(r"^GNU gold \([^)]*?([0-9]+(?:\.[0-9]+)+)", re.MULTILINE)),
    (LLD, re.compile(r"\bLLD ([0-9]+(?:\.[0-9]+)*)")),
    ("mold", re.compile(r"^mold ([0-9]+(?:\.[0-9]+)*)", re.MULTILINE)),
    (BFD, re.compile(r"^GNU ld (?:\(.*\)|version) ([0-9]+(?:\.[0-9]+)+)", re.MULTILINE)),
)


@dataclass(frozen=True)
class Linker:
    """A linker that is here. `program` is what starts it: its path, or the driver's argument."""

    kind: str
    version: str
    program: str

    @property
    def is_new_enough(self) -> bool:
        """Whether it is one of the kinds that this project knows, and new enough."""
        known = known_linkers().get(self.kind)
        return known is not None and _numbers(self.version) >= _numbers(known.least)

    def text(self) -> str:
        """For a person, and for the manifest: `lld 14.0.6`."""
        return f"{self.kind} {self.version}"


@dataclass(frozen=True)
class KnownLinker:
    """A row of linkers.json: a kind, its program, the least version and why, and what has it on Debian and Ubuntu."""

    kind: str
    program: str
    least: str
    why: str
    packages: str


@functools.cache
def known_linkers() -> Mapping[str, KnownLinker]:
    """The rows of linkers.json by kind; the one that links the fastest first."""
    return {row["kind"]: KnownLinker(**row) for row in json.loads(fsutil.read_text(_TABLE))}


def identified(printed: str, program: str) -> Linker | None:
    """The linker that prints this for --version; None for any other text."""
    for kind, pattern in _SAYS:
        found = pattern.search(printed)
        if found:
            return Linker(kind, found.group(1), program)
    return None


def found_linkers(words: Iterable[str], ask: Callable[[str], str]) -> tuple[Linker, ...]:
    """Those that answer; `ask` returns what the linker that a word stands for prints for --version, "" for nothing.

    A word is a program's path for the bare linker, or `-fuse-ld=lld` for the driver's.
    """
    found = (identified(ask(word), word) for word in words)
    return tuple(linker for linker in found if linker is not None)


def choose(wanted: str, built_with: str, here: Sequence[Linker]) -> Linker:
    """The linker for linking a server again: `wanted`, and for "auto" lld where it is new enough, as the quickest; then
    what the server was `built_with`, then any other that is new enough.

    Raises MissingToolError where there is none of that kind, or only one that is too old.
    """
    fit = [linker for linker in here if linker.is_new_enough]
    first = [linker for linker in fit if linker.kind == (LLD if wanted == AUTO else wanted)]
    if wanted == AUTO:  # what made the server once makes it again, however old it is
        first += [linker for linker in here if linker.kind == built_with] + fit
    if not first:
        raise _missing(wanted, here)
    return first[0]


def _missing(wanted: str, here: Sequence[Linker]) -> MissingToolError:
    rows = [row for row in known_linkers().values() if wanted in (AUTO, row.kind)]
    needed = " or ".join(f"{row.program} {row.least}" for row in rows)
    too_old = [linker.text() for linker in here if linker.kind in {row.kind for row in rows}]
    others = ", ".join(linker.text() for linker in here) or "none"
    return MissingToolError(
        f"The link needs {needed} or newer; here is {', '.join(too_old) if too_old else others}.",
        cause="; ".join(dict.fromkeys(row.why for row in rows)) if too_old else "it is not installed",
        cure=f"install {' or '.join(dict.fromkeys(row.packages for row in rows))}"
        + ("" if wanted == AUTO else ", or choose another one: ./inv build-serving --linker auto"),
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))

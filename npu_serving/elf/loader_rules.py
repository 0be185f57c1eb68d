"""Which of glibc's rules the loader of this machine has. They changed with its releases, and distributions have carried
some of them back to older ones, so the release doesn't tell: what the loader can say about a file does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_LARGEST_BYTES = 64 << 20


@dataclass(frozen=True)
class LoaderRules:
    """What a loader does; without arguments, what that of glibc 2.37 and later does."""

    searches_levels: bool = True
    """Whether it looks into glibc-hwcaps (since 2.33)."""
    searches_older: bool = False
    """Whether it looks into tls, haswell and their like (until 2.36)."""
    checks_levels: bool = True
    """Whether it refuses what is marked for a newer processor (since 2.33)."""
    checks_alignment: bool = False
    """Whether it refuses a p_align below the size of a page (until 2.34): only the addresses count since."""


def rules_of(interpreter: str | None) -> LoaderRules:
    """Those of the loader at that path; of a present one where there is none, or where it can't be read."""
    if interpreter is None:
        return LoaderRules()
    try:
        status = os.stat(interpreter)
        return _read(interpreter, status.st_ino, status.st_mtime_ns)
    except (OSError, ValueError):
        return LoaderRules()


@lru_cache(maxsize=4)
def _read(path: str, _inode: int, _changed_ns: int) -> LoaderRules:
    with Path(path).open("rb") as file:
        data = file.read(_LARGEST_BYTES)
    has_levels = b"--glibc-hwcaps" in data
    return LoaderRules(
        searches_levels=has_levels,
        searches_older=b"Legacy HWCAP" in data or (b"GLIBC_PRIVATE" in data and not has_levels),
        checks_levels=b"CPU ISA level is lower than required" in data,
        checks_alignment=b"ELF load command alignment not page-aligned" in data,
    )

"""Which names the installed adapter knows: those of the options that it reads stand in its file as texts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from npu_serving import fsutil

_ALWAYS_THERE = "use_off_line"  # every release of the adapter reads it


def unknown_words(adapter: Path, words: Iterable[str]) -> tuple[str, ...]:
    """Those of the words that do not stand in the adapter's file, so that it can't read an option of that name.

    Nothing where the file does not show it: a compiler may hide short texts in the code (gcc 12 does at -O3; the
    adapter's releases are made with -O2, which keeps them). FileAccessError where the file can't be read.
    """
    data = fsutil.read_bytes(adapter)
    if not _stands_in(data, _ALWAYS_THERE):
        return ()
    return tuple(word for word in words if not _stands_in(data, word))


def _stands_in(data: bytes, word: str) -> bool:
    # A linker keeps one of two texts where the other is its end, so nothing is asked of what stands before it.
    return word.encode() + b"\0" in data

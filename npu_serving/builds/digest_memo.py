"""The digests of files that were read already, by inode, size and times: a server of 500 MB is not read twice."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import NpuServingError

FILE_NAME = ".digests.json"
_LONGEST = 2000  # files that are kept: some hundred builds
_TICK_NS = 100_000_000  # the clock of a file's times moves in steps, of 10 ms at most


class DigestMemo:
    """What the files of one dist/ held when their inode, size and times were last seen.

    Every write changes the time of change (ctime), which no program can set. A name does not count: two builds that
    share a file by a hard link share what is known of it, and what is written into one of them is noticed in both.
    """

    def __init__(self, dist_root: Path) -> None:
        self._path = dist_root / FILE_NAME
        self._known = _read(self._path)
        self._is_new = False

    def sha256_of(self, path: Path, *, again: bool = False) -> str:
        """The sha256 of a file's bytes, which are read where it isn't known, or `again`.

        FileAccessError where they can't be read.
        """
        before, now = _stamp(path), time.time_ns()
        known = self._known.get(before[0])
        if not again and known is not None and tuple(known[:-1]) == before[1:]:
            return str(known[-1])
        digest = fsutil.sha256_of(path)
        # A write within the same tick of the clock as the last one would not show in the time of change.
        if _stamp(path) == before and now - before[-1] > _TICK_NS:
            self._keep(before, digest)
        return digest

    def remember(self, path: Path, digest: str) -> None:
        """Keeps the digest of a file that nobody else has written into since it was computed."""
        self._keep(_stamp(path), digest)

    def save(self) -> None:
        """Writes down what is new. A dist/ that can't be written to, or is full, has no memo, and needs none."""
        if self._is_new:
            newest = list(self._known.items())[-_LONGEST:]
            with contextlib.suppress(NpuServingError):
                fsutil.write_file(self._path, json.dumps(dict(newest)))
            self._is_new = False

    def _keep(self, stamp: tuple[str, int, int, int], digest: str) -> None:
        self._known.pop(stamp[0], None)
        self._known[stamp[0]] = [*stamp[1:], digest]
        self._is_new = True


def _stamp(path: Path) -> tuple[str, int, int, int]:
    with fsutil.explained(path, doing="read"):
        status = os.stat(path)
    return str(status.st_ino), status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(path: Path) -> dict[str, list[object]]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        memo = json.loads(path.read_bytes())
        if isinstance(memo, dict):
            return {name: entry for name, entry in memo.items() if isinstance(entry, list) and len(entry) == 4}
    return {}

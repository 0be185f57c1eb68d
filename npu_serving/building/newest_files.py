"""JSON files of one kind, kept beside each other below build_root: the newest first, the oldest of many removed."""

from __future__ import annotations

import contextlib
from pathlib import Path

from npu_serving import fsutil

MOST_KEPT = 16


def newest_files(directory: Path) -> list[Path]:
    """All that are there, the newest first; none where there is no such directory."""
    times = {}
    for path in directory.glob("*.json"):
        with contextlib.suppress(FileNotFoundError):  # another run may remove it meanwhile
            times[path] = path.stat().st_mtime_ns
    return sorted(times, key=times.__getitem__, reverse=True)


def remove_oldest(directory: Path) -> None:
    """Removes those that are beyond MOST_KEPT."""
    for path in newest_files(directory)[MOST_KEPT:]:
        fsutil.remove(path)

"""The unfinished file: what came in so far of one digest, kept across breaks and kills, owned by one run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from npu_serving import fsutil

SECONDS_BETWEEN_LOOKS = 0.1
RANGES_SUFFIX = ".ranges"
OTHER_SUFFIX = ".other"


class PartialFile:
    """The bytes of one file that have come in: its beginning, or (once fetched in ranges) a set of ranges of it.

    The beginning is hashed as it grows, and hashed again when a later run finds it. Finished ranges are listed in a
    journal beside the file, a line each, written after the bytes: a range that isn't in it is fetched again.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._guard = threading.Lock()
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        self.in_one_stream = False
        """Set when ranges have failed for this file."""
        self.total_bytes: int | None = None
        """The size of the whole file, known once it is fetched in ranges."""
        self.ranges: list[tuple[int, int]] = []
        """The finished ranges (first byte, byte after the last), when it is fetched in ranges."""
        self._find_what_is_there()

    @property
    def journal(self) -> Path:
        """The list of finished ranges."""
        return self.path.with_name(self.path.name + RANGES_SUFFIX)

    def _find_what_is_there(self) -> None:
        if self.journal.exists() and self._read_journal():
            return
        self.journal.unlink(missing_ok=True)
        with fsutil.explained(self.path, doing="read"), os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            while chunk := file.read(fsutil.CHUNK_BYTES):
                self._hash.update(chunk)
                self.size_bytes += len(chunk)

    def _read_journal(self) -> bool:
        """Takes the finished ranges from the journal; False if it doesn't fit the file."""
        try:
            lines = self.journal.read_text(encoding="ascii").split("\n")[:-1]  # the last line may be half written
            total = int(lines[0])
            ranges = sorted({(int(first), int(end)) for first, end in (line.split() for line in lines[1:])})
        except (OSError, ValueError, IndexError):
            return False
        if os.fstat(self._descriptor).st_size != total or any(not 0 <= a < b <= total for a, b in ranges):
            return False
        self.total_bytes, self.ranges = total, ranges
        self.size_bytes = sum(end - first for first, end in ranges)
        return True

    def restart(self) -> None:
        """Forgets everything."""
        self.journal.unlink(missing_ok=True)
        with fsutil.explained(self.path):
            os.ftruncate(self._descriptor, 0)
        self._hash = hashlib.sha256()
        self.size_bytes, self.total_bytes, self.ranges = 0, None, []

    def append(self, chunk: bytes) -> None:
        """Puts the next bytes at the end of the beginning."""
        self._write(chunk, self.size_bytes)
        self._hash.update(chunk)
        self.size_bytes += len(chunk)

    def begin_ranges(self, total_bytes: int) -> None:
        """From here on the file is filled range by range; what is there counts as the first one."""
        first = [(0, self.size_bytes)] if self.size_bytes else []
        with fsutil.explained(self.path):
            os.ftruncate(self._descriptor, total_bytes)
            lines = [str(total_bytes), *(f"{a} {b}" for a, b in first)]
            self.journal.write_text("\n".join(lines) + "\n", encoding="ascii")
        self.total_bytes, self.ranges = total_bytes, first

    def write_at(self, chunk: bytes, offset: int) -> None:
        """Puts bytes of an unfinished range in their place."""
        self._write(chunk, offset)

    def finish_range(self, first: int, end: int) -> None:
        """Notes that all bytes from `first` to before `end` are there."""
        with self._guard, fsutil.explained(self.journal), self.journal.open("a", encoding="ascii") as journal:
            journal.write(f"{first} {end}\n")
            self.ranges.append((first, end))
            self.size_bytes += end - first

    def gaps(self, most_bytes: int) -> list[tuple[int, int]]:
        """The ranges that are missing, none longer than `most_bytes`."""
        missing = []
        place = 0
        for first, end in [*sorted(self.ranges), (self.total_bytes or 0, self.total_bytes or 0)]:
            while place < first:
                missing.append((place, min(first, place + most_bytes)))
                place = missing[-1][1]
            place = max(place, end)
        return missing

    def digest(self) -> str:
        """The sha256 of what is there."""
        return self._hash.hexdigest() if self.total_bytes is None else fsutil.sha256_of(self.path)

    def set_aside(self) -> Path:
        """Moves the bytes to a file of their own and starts over; returns that file's path."""
        other = self.path.with_name(self.path.name + OTHER_SUFFIX)
        fresh = self.path.with_name(self.path.name + ".fresh")
        with fsutil.explained(other):
            other.unlink(missing_ok=True)
            os.link(self.path, other)
            descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # owned before it has the name that other runs look at
            os.replace(fresh, self.path)
        os.dup2(descriptor, self._descriptor, inheritable=False)
        os.close(descriptor)
        self.restart()
        return other

    def clear_away(self) -> None:
        """Removes what lies beside the file, once it is finished."""
        self.journal.unlink(missing_ok=True)
        self.path.with_name(self.path.name + OTHER_SUFFIX).unlink(missing_ok=True)

    def _write(self, chunk: bytes, offset: int) -> None:
        view = memoryview(chunk)
        with fsutil.explained(self.path):
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                view, offset = view[written:], offset + written


@contextlib.contextmanager
def claimed(
    path: Path, *, done_elsewhere: Callable[[], bool], cancelled: threading.Event
) -> Iterator[PartialFile | None]:
    """The partial file at `path`, owned by this run while the block lasts; None when another run has finished it.

    Waits while another run owns it, so that no file is fetched twice.
    """
    fsutil.make_directory(path.parent)
    while not done_elsewhere() and not cancelled.is_set():
        with fsutil.explained(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            if not _lock(descriptor) or not _still_there(descriptor, path):
                cancelled.wait(SECONDS_BETWEEN_LOOKS)
                continue
            if done_elsewhere():  # it was renamed into the store after the look, and this is a new file of that name
                with fsutil.explained(path):
                    path.unlink(missing_ok=True)
                break
            yield PartialFile(path, descriptor)
            return
        finally:
            os.close(descriptor)
    yield None


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still_there(descriptor: int, path: Path) -> bool:
    """Whether the file that is open still has its name: the run that owned it may have renamed it into the store."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False

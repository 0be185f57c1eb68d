"""Protobuf's wire format, read from a file field by field; what a field means is not known here.

Only a window of the file is in memory: the contents of a field that are not asked for are stepped over unread,
however large they are. Nothing is read by recursion, so no depth of nesting can exhaust the stack.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from npu_serving import fsutil
from npu_serving.errors import ModelFileError
from npu_serving.wire_bytes import BYTES, FIXED32, FIXED64, VARINT

LARGEST_MESSAGE = 2**31 - 1  # bytes; protobuf refuses a larger one
MOST_FIELDS = 30_000_000
"""A million nodes have half of that; what is larger would take minutes, and be no model."""
_LONGEST_TEXT = 4096  # bytes, of a text that is kept
_SMALLEST_WINDOW, _LARGEST_WINDOW = 1 << 12, 1 << 20
"""A window after contents that were stepped over is small, and each that goes on where the last ended is larger."""
_LONGEST_HEAD = 16  # bytes, of a field's tag and length
_LONGEST_VARINT = 10  # bytes, of 64 bits

Field = tuple[int, int, int]
"""A field's tag (see tag()), then the number itself for VARINT; else where the contents begin, and where they end."""


class WireFile:
    """A file that holds one message, from its first byte to its last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Without O_NONBLOCK the opening of a pipe would wait for somebody to write into it.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(self._descriptor)
            if not stat.S_ISREG(status.st_mode):
                kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a device or a pipe"
                raise ModelFileError(f"{path} is {kind}, and a model's file is needed.", cure="name a file")
            if status.st_size > LARGEST_MESSAGE:
                raise ModelFileError(
                    f"{path} has {status.st_size} bytes, and no model's graph may have more than {LARGEST_MESSAGE}.",
                    cause="protobuf, in which it is written, has this limit",
                    cure="export the model again as a SavedModel whose values are variables, not constants",
                )
        except BaseException:
            os.close(self._descriptor)
            raise
        self.size = status.st_size
        self.identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        """Another at the same path means that the file was replaced or written to meanwhile."""
        self._base, self._window, self._next_window = 0, b"", _SMALLEST_WINDOW
        self._fields = 0

    def __enter__(self) -> WireFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message from byte `start` to `end`. ModelFileError where they are damaged."""
        position = start
        while position < end:
            at = position
            self._fields += 1
            if self._fields > MOST_FIELDS:
                raise self.damaged(at, f"there are more than {MOST_FIELDS} fields up to here, which no model has")
            # Nearly all are a byte of a tag and one or two of a length, for which no call should be made.
            index, window = position - self._base, self._window
            if 0 <= index < len(window) - _LONGEST_HEAD and (key := window[index]) & 0x87 == BYTES and key > BYTES:
                length, position = window[index + 1], position + 2
                if length >= 0x80:
                    length, position = self._varint(position - 1, end)
                if length <= end - position:
                    yield key, position, position + length
                    position += length
                    continue
                position = at
            key, position = self._varint(position, end)
            kind = key & 7
            if not 8 <= key < 1 << 32:
                raise self.damaged(at, f"{key >> 3} is not the number of a field")
            if kind == BYTES:
                length, position = self._varint(position, end)
                if length > end - position:
                    raise self.damaged(at, f"a field says that it has {length} bytes, and {end - position} are left")
                yield key, position, position + length
                position += length
            elif kind == VARINT:
                number, position = self._varint(position, end)
                yield key, number, position
            elif kind in (FIXED32, FIXED64):
                length = 4 if kind == FIXED32 else 8
                if length > end - position:
                    raise self.damaged(at, "a number ends before it is whole")
                yield key, position, position + length
                position += length
            else:
                raise self.damaged(at, f"a field is of the kind {kind}, which no model has")

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`."""
        first = start - self._base
        if first < 0 or end - self._base > len(self._window):
            goes_on = 0 <= first <= len(self._window)
            self._next_window = min(2 * self._next_window, _LARGEST_WINDOW) if goes_on else _SMALLEST_WINDOW
            wanted = max(self._next_window, end - start)
            self._base, self._window = start, os.pread(self._descriptor, wanted, start)
            first = 0
            if len(self._window) < end - start:
                raise self.damaged(start, "it became shorter while it was read")
        return self._window[first : first + end - start]

    def name(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`. ModelFileError where they are more than any name has."""
        if end - start > _LONGEST_TEXT:
            raise self.damaged(start, f"a name has {end - start} bytes")
        return self.read(start, end)

    def text(self, start: int, end: int) -> str:
        """The text from `start` to `end`. ModelFileError where it is not UTF-8, or longer than any name."""
        try:
            return self.name(start, end).decode()
        except UnicodeDecodeError as error:
            raise self.damaged(start + error.start, "a text is not UTF-8") from None

    def damaged(self, offset: int, why: str) -> ModelFileError:
        """The error for what can't be so at that byte."""
        return ModelFileError(
            f"{self.path} is damaged at byte {offset} of {self.size}: {why}.",
            cause="it was not copied as a whole, or is not a model",
            cure="copy or export the model again",
        )

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        """A number of up to 64 bits, and where it ends."""
        if position < end:
            index = position - self._base
            if 0 <= index < len(self._window) and (first := self._window[index]) < 0x80:
                return first, position + 1
        number = 0
        there = self.read(position, min(position + _LONGEST_VARINT, end)) if position < end else b""
        for count, byte in enumerate(there):
            number |= (byte & 0x7F) << 7 * count
            if byte < 0x80:
                return number & (1 << 64) - 1, position + count + 1
        why = "a number ends before it is whole" if len(there) < _LONGEST_VARINT else "a number has more than 64 bits"
        raise self.damaged(position, why)


class WireBytes(WireFile):
    """A message in memory that was made of the text of a file: its bytes are not those of the file."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.size = len(data)
        self.identity = (0, 0, len(data), 0)
        self._base, self._window, self._fields = 0, data, 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`."""
        return self._window[start:end]

    def damaged(self, offset: int, why: str) -> ModelFileError:
        """The error for what can't be so; there is no byte to name."""
        return ModelFileError(
            f"{self.path} is not a model that a server would read: {why}.",
            cause="it was not written by TensorFlow, or was changed by hand",
            cure="export the model again",
        )


@contextmanager
def open_wire_file(path: Path) -> Iterator[WireFile]:
    """The file at `path`. ModelFileError for what is not a file of a message's size, FileAccessError."""
    with fsutil.explained(path, doing="read"), WireFile(path) as file:
        yield file

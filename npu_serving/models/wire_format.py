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
_WINDOW = 1 << 16
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
        self._base, self._window = 0, b""
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
            wanted = max(_WINDOW, end - start)
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


@contextmanager
def open_wire_file(path: Path) -> Iterator[WireFile]:
    """The file at `path`. ModelFileError for what is not a file of a message's size, FileAccessError."""
    with fsutil.explained(path, doing="read"), WireFile(path) as file:
        yield file

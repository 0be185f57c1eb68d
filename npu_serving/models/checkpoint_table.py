"""The sorted table that a checkpoint's index is: keys and values in blocks, each with a checksum.

The format is LevelDB's, as TensorFlow has it in lib/io/table: blocks of entries whose keys leave out what they share
with the key before, a block with the ends of the others, and a footer of 48 bytes. What keys and values mean is not
known here.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import ModelFileError
from npu_serving.models.checksums import masked_crc32c
from npu_serving.models.snappy import unpacked
from npu_serving.wire_bytes import MalformedMessageError, varint, varint_at

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER = 48  # bytes
_TRAILER = 5  # bytes after a block: how it is compressed, and the checksum
_PLAIN, _SNAPPY = 0, 1
_BLOCK_SIZE = 262144  # bytes, after which TensorFlow begins another block (table_options.h)
_RESTART_INTERVAL = 16  # entries, after which a key is written as a whole

# More than any checkpoint has: what is kept of a table is bounded, whatever is in it.
_LONGEST_KEY = 1 << 16
_LARGEST_BLOCK = 256 << 20
_MOST_BYTES = 512 << 20  # of all keys and values
_MOST_ENTRIES = 5_000_000

Entry = tuple[bytes, bytes]


def read_table(path: Path) -> Iterator[Entry]:
    """The keys and values of a table, in ascending order of the keys.

    ModelFileError for another file, and where it is damaged, with the byte; FileAccessError.
    """
    with fsutil.explained(path, doing="read"):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield from _TableFile(path, descriptor).entries()
    finally:
        os.close(descriptor)


def damaged(path: Path, offset: int, why: str) -> ModelFileError:
    """The error for what can't be so at that byte of a file of a checkpoint."""
    return ModelFileError(
        f"{path} is damaged at byte {offset}: {why}.",
        cause="it was not copied as a whole, or a training was stopped that wrote it",
        cure="copy the checkpoint again, all of its files, or take the one before it",
    )


class _TableFile:
    """A table that is being read: nothing more than one block of it is in memory."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor
        with fsutil.explained(path, doing="read"):
            fsutil.refuse_endless(path)
            self._size = os.fstat(descriptor).st_size
        self._bytes = self._entries = 0

    def entries(self) -> Iterator[Entry]:
        footer_at = self._size - _FOOTER
        footer = self._read(max(0, footer_at), self._size)
        if footer_at < 0 or footer[-len(MAGIC) :] != MAGIC:
            raise self._damaged(max(0, footer_at), "it doesn't end as the index of a checkpoint does")
        try:
            _, at = self._handle(footer, 0, footer_at)
            (start, end), _ = self._handle(footer, at, footer_at)
        except MalformedMessageError as error:
            raise self._damaged(footer_at, str(error)) from None
        last, before = 0, None
        for _, handle in self._block(start, end):
            try:
                (first, behind), _ = self._handle(handle, 0, footer_at)
            except MalformedMessageError as error:
                raise self._damaged(start, f"the place of a block can't be read: {error}") from None
            if first < last:  # or a small file could have one large block many times
                raise self._damaged(start, "its blocks are not one after the other")
            last = behind
            for key, value in self._block(first, behind):
                if before is not None and key <= before:
                    raise self._damaged(first, f"the key {key[:80]!r} is not in its place")
                before = key
                yield key, value

    def _handle(self, data: bytes, position: int, limit: int) -> tuple[tuple[int, int], int]:
        """Where a block begins and ends, by what says so at `position`, and where that ends."""
        offset, position = varint_at(memoryview(data), position)
        size, position = varint_at(memoryview(data), position)
        if offset + size + _TRAILER > limit:
            raise MalformedMessageError(f"a block would end at byte {offset + size + _TRAILER}, where there is none")
        return (offset, offset + size), position

    def _block(self, start: int, end: int) -> Iterator[Entry]:
        if end - start > _LARGEST_BLOCK:
            raise self._damaged(start, f"a block says that it has {end - start} bytes")
        stored = self._read(start, end + _TRAILER)
        content, kind = stored[: end - start], stored[end - start]
        if int.from_bytes(stored[-4:], "little") != masked_crc32c(stored[:-4]):
            raise self._damaged(start, "the checksum of a block is wrong")
        if kind == _SNAPPY:
            try:
                content = unpacked(content, _LARGEST_BLOCK)
            except MalformedMessageError as error:
                raise self._damaged(start, str(error)) from None
        elif kind != _PLAIN:
            raise ModelFileError(
                f"{self._path} is compressed with a method of the number {kind}, at byte {start}, which this reader "
                "can't undo.",
                cause="it was not written by TensorFlow's Saver: that never compresses the index",
                cure="load the checkpoint in TensorFlow, and save it with tf.train.Saver",
            )
        restarts = int.from_bytes(content[-4:], "little") if len(content) >= 4 else 0
        limit = len(content) - 4 - 4 * restarts
        if limit < 0 or not restarts:
            raise self._damaged(start, "a block has no end")
        try:
            yield from self._entries_of(memoryview(content)[:limit], start)
        except MalformedMessageError as error:
            raise self._damaged(start, f"a block can't be read: {error}") from None

    def _entries_of(self, block: memoryview, start: int) -> Iterator[Entry]:
        position, key = 0, b""
        while position < len(block):
            at = position
            shared, position = varint_at(block, position)
            own, position = varint_at(block, position)
            length, position = varint_at(block, position)
            if shared > len(key) or own + length > len(block) - position or shared + own > _LONGEST_KEY:
                raise self._damaged(start + at, "an entry is longer than its block, or its key than any name")
            key = key[:shared] + bytes(block[position : position + own])
            position += own
            value = bytes(block[position : position + length])
            position += length
            self._entries += 1
            self._bytes += len(key) + len(value)
            if self._bytes > _MOST_BYTES or self._entries > _MOST_ENTRIES:
                raise self._damaged(start + at, "there are more entries up to here than any checkpoint has")
            yield key, value

    def _read(self, start: int, end: int) -> bytes:
        with fsutil.explained(self._path, doing="read"):
            data = os.pread(self._descriptor, end - start, start)
        if len(data) < end - start:
            raise self._damaged(start, "it became shorter while it was read")
        return data

    def _damaged(self, offset: int, why: str) -> ModelFileError:
        return damaged(self._path, offset, why)


def table_chunks(entries: Iterable[Entry]) -> Iterator[bytes]:
    """A table's bytes, those that TensorFlow 1.15 writes for the same entries, which come in ascending order."""
    writing = _TableWriting()
    for key, value in entries:
        yield from writing.add(key, value)
    yield from writing.finish()


class _TableWriting:
    def __init__(self) -> None:
        self._block = _BlockWriting(_RESTART_INTERVAL)
        self._index = _BlockWriting(1)
        self._offset = 0
        self._last = b""
        self._handle = b""
        """Where the block before is, as long as the index lacks it: its key there depends on what follows."""

    def add(self, key: bytes, value: bytes) -> Iterator[bytes]:
        if self._handle:
            self._index.add(_between(self._last, key), self._handle)
            self._handle = b""
        self._last = key
        self._block.add(key, value)
        if self._block.size >= _BLOCK_SIZE:
            yield from self._end_block()

    def finish(self) -> Iterator[bytes]:
        if not self._block.is_empty:
            yield from self._end_block()
        meta, handle_of_meta = self._stored(_BlockWriting(_RESTART_INTERVAL))
        yield meta
        if self._handle:
            self._index.add(_after(self._last), self._handle)
        index, handle_of_index = self._stored(self._index)
        yield index
        yield (handle_of_meta + handle_of_index).ljust(_FOOTER - len(MAGIC), b"\0") + MAGIC

    def _end_block(self) -> Iterator[bytes]:
        stored, self._handle = self._stored(self._block)
        self._block = _BlockWriting(_RESTART_INTERVAL)
        yield stored

    def _stored(self, block: _BlockWriting) -> tuple[bytes, bytes]:
        content = block.content() + bytes([_PLAIN])
        handle = varint(self._offset) + varint(len(content) - 1)
        self._offset += len(content) + 4
        return content + masked_crc32c(content).to_bytes(4, "little"), handle


class _BlockWriting:
    """A block of entries: every so many of them, at a restart, the key is written as a whole."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._data = bytearray()
        self._restarts = [0]
        self._count = 0
        self._last = b""

    @property
    def is_empty(self) -> bool:
        return not self._data

    @property
    def size(self) -> int:
        return len(self._data) + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        if self._count == self._interval:
            self._restarts.append(len(self._data))
            self._count, self._last = 0, b""
        shared = _shared(self._last, key)
        self._data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        self._last = key
        self._count += 1

    def content(self) -> bytes:
        return bytes(self._data) + struct.pack(f"<{len(self._restarts) + 1}I", *self._restarts, len(self._restarts))


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes they begin with in common."""
    shortest = min(len(one), len(other))
    if one[:shortest] == other[:shortest]:
        return shortest
    return next(at for at in range(shortest) if one[at] != other[at])


def _between(before: bytes, behind: bytes) -> bytes:
    """A short key from `before` on that is smaller than `behind`, as LevelDB's comparator finds it."""
    at = _shared(before, behind)
    if at < min(len(before), len(behind)) and before[at] < 0xFF and before[at] + 1 < behind[at]:
        return before[:at] + bytes([before[at] + 1])
    return before


def _after(last: bytes) -> bytes:
    """A short key that is not smaller than `last`."""
    for at, byte in enumerate(last):
        if byte < 0xFF:
            return last[:at] + bytes([byte + 1])
    return last

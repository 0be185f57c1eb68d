"""One open ELF file: its header, its segments, and the bytes behind an address. No byte outside of the file is read.

Nothing is mapped into memory: a file that is cut short while it is read gives an error, not a bus error.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from npu_serving import fsutil
from npu_serving.errors import ElfClassError, ElfError

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_GNU_PROPERTY = 1, 2, 3, 4, 0x6474E553
BYTE_ORDERS = {1: "<", 2: ">"}  # EI_DATA, and what struct calls it
_CLASS_64 = 2
_IDENT_SIZE, _HEADER_SIZE = 16, 64
_HEADER = "HHIQQQIHHHHHH"
_PROGRAM_HEADER = "IIQQQQQQ"
_PROGRAM_HEADER_SIZE = 56
_CHUNK = 1 << 20
_LONGEST_TABLE = 256 << 20  # bytes; TensorFlow's longest, that of the names, has 20 MB


def corrupt(path: Path, why: str) -> ElfError:
    """The error for a file that begins like an ELF file and contradicts itself later."""
    return ElfError(
        f"{path} is damaged: {why}.",
        cause="it was only partly copied or downloaded, or two programs wrote it at once",
        cure=f"put a good copy at {path}",
    )


class Segment(NamedTuple):
    """One program header."""

    type: int
    flags: int
    offset: int
    address: int
    physical: int
    file_size: int
    memory_size: int
    alignment: int


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image]:
    """The file, to be read within the block; what it says there counts only if nobody wrote to it meanwhile.

    Raises ElfError for anything but a 64-bit ELF file, for a damaged one, and for one that was changed while it was
    read, and FileAccessError where it can't be read. A file that is replaced by renaming stays the old one until the
    end.
    """
    with fsutil.explained(path, doing="read"):
        # A FIFO would make a plain open wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise ElfError(f"{path} is not a regular file.", cure="name the ELF file itself")
            try:
                yield Image(path, descriptor, before.st_size)
            except ElfError as error:
                raise (_changed(path) if _differs(descriptor, before) else error) from error
            if _differs(descriptor, before):
                raise _changed(path)
        finally:
            os.close(descriptor)


def _differs(descriptor: int, before: os.stat_result) -> bool:
    now = os.fstat(descriptor)
    return (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns)


def _changed(path: Path) -> ElfError:
    return ElfError(
        f"{path} changed while it was being read.",
        cause="CANN is being installed right now, or the file is being copied",
        cure="wait until that is done, then run the same command again",
    )


class Image:
    """The file as the loader lays it out. `order` is how `struct` and `array` name its byte order: "<" or ">"."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._size = size
        self.ident = self.part(0, min(size, _IDENT_SIZE))
        self.order = self._byte_order()
        self.type, self.machine, self.version, _, table, _, _, _, entry_size, count, _, _, _ = self.unpack(
            _HEADER, self.part(_IDENT_SIZE, _HEADER_SIZE - _IDENT_SIZE)
        )
        if count and entry_size != _PROGRAM_HEADER_SIZE:
            raise corrupt(path, "its program headers have an odd size")
        headers = self.part(table, count * _PROGRAM_HEADER_SIZE)
        self.segments = tuple(Segment(*item) for item in struct.iter_unpack(self.order + _PROGRAM_HEADER, headers))
        loaded_up_to = max((item.offset + item.file_size for item in self.segments if item.type == PT_LOAD), default=0)
        if loaded_up_to > size:  # the loader would map it all the same, and die of SIGBUS
            raise corrupt(path, f"it has {size} bytes, but its headers describe {loaded_up_to}")

    def _byte_order(self) -> str:
        ident = self.ident
        if ident[:4] != b"\x7fELF":
            raise ElfError(
                f"{self.path} is not an ELF file.",
                cause="it is a script, a text file, or a failed download" if self._size else "it is empty",
                cure="name a program or a shared library for Linux",
            )
        if len(ident) < _IDENT_SIZE:
            raise corrupt(self.path, "it ends inside its header")
        if ident[4] != _CLASS_64:
            raise ElfClassError(
                f"{self.path} is not a 64-bit ELF file.", cure="name a file built for x86_64 or aarch64"
            )
        if ident[5] not in BYTE_ORDERS:
            raise corrupt(self.path, f"its header has the unknown byte order {ident[5]}")
        return BYTE_ORDERS[ident[5]]

    def sha256(self) -> str:
        """That of the whole file, read through the same opened file as everything else."""
        digest = hashlib.sha256()
        for offset in range(0, self._size, _CHUNK):
            digest.update(self.part(offset, min(_CHUNK, self._size - offset)))
        return digest.hexdigest()

    def unpack(self, form: str, data: bytes) -> tuple[int, ...]:
        """The integers in `data`, in the byte order of this file."""
        return struct.unpack(self.order + form, data)

    def part(self, offset: int, size: int) -> bytes:
        """That part of the file; ElfError where it has no such part, or where it is longer than any table is."""
        if offset + size > self._size:
            raise corrupt(self.path, "it refers to a part behind its end")
        if size > _LONGEST_TABLE:
            raise corrupt(self.path, f"it claims to have a table of {size >> 20} MiB")
        data = os.pread(self._descriptor, size, offset) if size else b""
        if len(data) < size:
            raise corrupt(self.path, "it became shorter while it was being read")
        return data

    def at(self, address: int, size: int) -> bytes:
        """The bytes that the loader puts there; ElfError where the file has none."""
        offset, available = self.extent(address)
        if size > available:
            raise corrupt(self.path, "one of its tables is longer than the segment that holds it")
        return self.part(offset, size)

    def contents(self, kind: int) -> Iterator[tuple[Segment, bytes]]:
        """The segments of that kind, and their bytes."""
        for segment in self.segments:
            if segment.type == kind:
                yield segment, self.part(segment.offset, segment.file_size)

    def extent(self, address: int) -> tuple[int, int]:
        """Where in the file an address is, and how many bytes of its segment follow there."""
        for segment in self.segments:
            if segment.type == PT_LOAD and segment.address <= address < segment.address + segment.file_size:
                skipped = address - segment.address
                return segment.offset + skipped, min(segment.file_size - skipped, self._size - segment.offset - skipped)
        raise corrupt(self.path, f"it refers to the address {address:#x}, where nothing is loaded")

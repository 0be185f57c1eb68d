"""/etc/ld.so.cache, in which ldconfig(8) notes where the libraries of a machine are; its format is that of
glibc's sysdeps/generic/dl-cache.h.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

_MAGIC, _HEADER, _ENTRY = b"glibc-ld.so.cache1.1", struct.Struct("<20sI8xI12x"), struct.Struct("<iIIIQ")
_EXTENSION, _EXTENSION_MAGIC, _SECTION, _LEVELS_TAG = struct.Struct("<II"), 0xEAA42174, struct.Struct("<IIII"), 1
_NAMED, _ISA_LEVEL_MASK = 1 << 30, 0x3FF  # in the upper half of an entry's hardware bits
# The format before glibc 2.2. Until 2.32 ldconfig wrote it too, with the present one behind it.
_OLD_MAGIC, _OLD_HEADER, _OLD_ENTRY = b"ld.so-1.7.0", struct.Struct("<11sxI"), struct.Struct("<iII")
_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}  # ELF_LIBC6 with FLAG_X8664_LIB64, FLAG_AARCH64_LIB64
_LONGEST_PATH = 8192


class _CachedLibrary(NamedTuple):
    flags: int
    name: str
    library: str
    hardware: int = 0
    level: str = ""
    """The subdirectory of glibc-hwcaps that it is in."""


def read_cache(path: Path, machine: str, levels: Sequence[str] = (), hardware: int = 0) -> Mapping[str, Path]:
    """Name -> library of that machine; empty where the file is missing, not readable, or damaged.

    Of several copies, that of the first of `levels` is taken, then one for abilities that are all in `hardware`.
    """
    try:
        return _libraries(path.read_bytes(), machine, tuple(levels), hardware)
    except (OSError, struct.error):
        return {}


@functools.lru_cache(maxsize=4)  # each verification asks several times
def _libraries(data: bytes, machine: str, levels: tuple[str, ...], hardware: int) -> Mapping[str, Path]:
    found: dict[str, tuple[int, Path]] = {}
    for entry in _all_entries(data):
        if entry.flags != _FLAGS.get(machine) or not entry.library.startswith("/"):
            continue
        if entry.level not in levels if entry.level else entry.hardware & ~hardware:
            continue
        rank = levels.index(entry.level) if entry.level else len(levels)
        if entry.name not in found or rank < found[entry.name][0]:
            found[entry.name] = (rank, Path(entry.library))
    return MappingProxyType({name: library for name, (_, library) in found.items()})


@functools.lru_cache(maxsize=1)
def _all_entries(data: bytes) -> tuple[_CachedLibrary, ...]:
    return tuple(_entries(data))


def _entries(data: bytes) -> Iterator[_CachedLibrary]:
    start = data.find(_MAGIC)
    if start >= 0:
        _, count, extension = _HEADER.unpack_from(data, start)
        levels = tuple(_levels(data, extension))
        for offset in _offsets(data, start + _HEADER.size, count, _ENTRY.size):
            flags, name, path, _, hardware = _ENTRY.unpack_from(data, offset)
            level = ""
            if hardware >> 32 & ~_ISA_LEVEL_MASK == _NAMED:
                number = hardware & 0xFFFFFFFF
                level = levels[number] if number < len(levels) else "unknown"
            yield _CachedLibrary(flags, _text(data, start + name), _text(data, start + path), hardware, level)
    elif data.startswith(_OLD_MAGIC):
        _, count = _OLD_HEADER.unpack_from(data)
        strings = _OLD_HEADER.size + count * _OLD_ENTRY.size
        for offset in _offsets(data, _OLD_HEADER.size, count, _OLD_ENTRY.size):
            flags, name, path = _OLD_ENTRY.unpack_from(data, offset)
            yield _CachedLibrary(flags, _text(data, strings + name), _text(data, strings + path))


def _levels(data: bytes, extension: int) -> Iterator[str]:
    """The names of the subdirectories of glibc-hwcaps, which entries give by their numbers.

    All offsets count from the beginning of the file, also where the old format stands first.
    """
    if not extension:
        return
    magic, count = _EXTENSION.unpack_from(data, extension)
    if magic != _EXTENSION_MAGIC:
        return
    for offset in _offsets(data, extension + _EXTENSION.size, count, _SECTION.size):
        tag, _, at, size = _SECTION.unpack_from(data, offset)
        if tag == _LEVELS_TAG:
            for place in _offsets(data, at, size // 4, 4):
                yield _text(data, int.from_bytes(data[place : place + 4], "little"))


def _offsets(data: bytes, start: int, count: int, size: int) -> range:
    return range(start, start + size * min(count, len(data) // size), size)


def _text(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset, offset + _LONGEST_PATH)
    return os.fsdecode(data[offset:end]) if end >= 0 else ""

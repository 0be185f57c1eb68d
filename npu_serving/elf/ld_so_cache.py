"""/etc/ld.so.cache, in which ldconfig(8) notes where the libraries of a machine are; its format is that of
glibc's sysdeps/generic/dl-cache.h.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

_MAGIC, _HEADER, _ENTRY = b"glibc-ld.so.cache1.1", struct.Struct("<20sII20x"), struct.Struct("<iIIIQ")
# The format before glibc 2.2. Until 2.32 ldconfig wrote it too, with the present one behind it.
_OLD_MAGIC, _OLD_HEADER, _OLD_ENTRY = b"ld.so-1.7.0", struct.Struct("<11sxI"), struct.Struct("<iII")
_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}  # ELF_LIBC6 with FLAG_X8664_LIB64, FLAG_AARCH64_LIB64
_LONGEST_PATH = 8192


def read_cache(path: Path, machine: str) -> Mapping[str, Path]:
    """Name -> library of that machine; empty where the file is missing, not readable, or damaged."""
    try:
        data = path.read_bytes()
        found: dict[str, Path] = {}
        for flags, name, library in _entries(data):
            if flags == _FLAGS.get(machine) and library.startswith("/"):
                found.setdefault(name, Path(library))
        return found
    except (OSError, struct.error):
        return {}


def _entries(data: bytes) -> Iterator[tuple[int, str, str]]:
    """Flags, name and path of each; not those for special processors (glibc-hwcaps)."""
    start = data.find(_MAGIC)
    if start >= 0:
        _, count, _ = _HEADER.unpack_from(data, start)
        for offset in _offsets(data, start + _HEADER.size, count, _ENTRY.size):
            flags, name, path, _, hardware = _ENTRY.unpack_from(data, offset)
            if not hardware:
                yield flags, _text(data, start + name), _text(data, start + path)
    elif data.startswith(_OLD_MAGIC):
        _, count = _OLD_HEADER.unpack_from(data)
        strings = _OLD_HEADER.size + count * _OLD_ENTRY.size
        for offset in _offsets(data, _OLD_HEADER.size, count, _OLD_ENTRY.size):
            flags, name, path = _OLD_ENTRY.unpack_from(data, offset)
            yield flags, _text(data, strings + name), _text(data, strings + path)


def _offsets(data: bytes, start: int, count: int, size: int) -> range:
    return range(start, start + size * min(count, len(data) // size), size)


def _text(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset, offset + _LONGEST_PATH)
    return os.fsdecode(data[offset:end]) if end >= 0 else ""

"""Whether an ELF file is all there: for those who look at a file that somebody may still be writing."""

from __future__ import annotations

import os
import struct
from pathlib import Path

_HEADER = struct.Struct("<4sBB10xHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")


def is_whole(path: Path) -> bool:
    """Whether everything that the headers of a 64-bit ELF file name lies within the file.

    Linkers write the section headers last, and copying goes from the beginning to the end: while a file grows, they are
    missing. A file that can't be read, or is not an ELF file, is not whole. Nothing but the headers is read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            fields = _HEADER.unpack(file.read(_HEADER.size))
            magic, bits, order = fields[:3]
            if magic != b"\x7fELF" or (bits, order) != (2, 1):
                return False
            segments_at, sections_at = fields[7], fields[8]
            entry_size, segments, section_size, sections = fields[11], fields[12], fields[13], fields[14]
            file.seek(segments_at)
            ends: list[int] = [segments_at + entry_size * segments, sections_at + section_size * sections]
            for _ in range(segments):
                header = _PROGRAM_HEADER.unpack(file.read(entry_size)[: _PROGRAM_HEADER.size])
                ends.append(header[2] + header[5])
    except (OSError, struct.error, OverflowError, ValueError):
        return False
    return max(ends) <= size

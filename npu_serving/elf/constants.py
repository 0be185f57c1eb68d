"""The constant data of a program or library: the section .rodata, in which its texts stand."""

from __future__ import annotations

import struct
from pathlib import Path

from npu_serving.elf.elf_file import Image, opened

_NAME = b".rodata"
_TABLE_AT, _ENTRIES_AT = 40, 58  # where e_shoff stands, and e_shentsize, e_shnum, e_shstrndx
_SECTION = "IIQQQQIIQQ"
_SECTION_SIZE = 64
_PROGBITS = 1
_LARGEST = 512 << 20  # bytes; TensorFlow's has 21 MB


def constants_of(path: Path) -> bytes:
    """The contents of the sections .rodata; nothing for a file without a table of sections, which may be stripped off.

    Raises ElfError for anything but a whole 64-bit ELF file, and FileAccessError.
    """
    with opened(path) as image:
        return b"".join(image.part(offset, size) for offset, size in _sections(image))


def _sections(image: Image) -> list[tuple[int, int]]:
    (table,) = image.unpack("Q", image.part(_TABLE_AT, 8))
    entry_size, count, names_at = image.unpack("HHH", image.part(_ENTRIES_AT, 6))
    if not table or not count or entry_size != _SECTION_SIZE or names_at >= count:
        return []
    headers = list(struct.iter_unpack(image.order + _SECTION, image.part(table, count * _SECTION_SIZE)))
    names = image.part(headers[names_at][4], headers[names_at][5])
    found = []
    for name, kind, _, _, offset, size, *_ in headers:
        text = names[name : name + len(_NAME) + 1]
        if kind == _PROGBITS and text.startswith(_NAME) and text[len(_NAME) :] in (b"\0", b".") and size <= _LARGEST:
            found.append((offset, size))
    return found

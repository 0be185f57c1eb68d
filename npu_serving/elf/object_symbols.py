"""What an object file (ET_REL) defines for others: the names that the index of an archive lists."""

from __future__ import annotations

import struct

from npu_serving.elf.elf_file import Image, corrupt
from npu_serving.errors import ElfError

_REL = 1
_SYMTAB = 2
_HEADER_AT, _HEADER = 16, "HHIQQQIHHHHHH"
_SECTION, _SECTION_SIZE = "IIQQQQIIQQ", 64
_SYMBOL_SIZE = 24


def defined_names(image: Image) -> list[bytes]:
    """The names of its global, weak, unique and common symbols, in the order of its table; none without a table.

    Raises ElfError for a file that is not an object, and for a damaged one.
    """
    if image.type != _REL:
        raise ElfError(
            f"{image.path} is not an object file.",
            cause="it is a program or a library",
            cure="name a file that a compiler made with -c",
        )
    header = image.unpack(_HEADER, image.part(_HEADER_AT, struct.calcsize(f"{image.order}{_HEADER}")))
    table, entry_size, count = header[5], header[10], header[11]
    if not table:
        return []
    if entry_size != _SECTION_SIZE:
        raise corrupt(image.path, "its section headers have an odd size")
    first = image.unpack(_SECTION, image.part(table, _SECTION_SIZE))
    count = count or first[5]  # more than 65,279 sections: their number is in the size of the first one
    form = struct.Struct(f"{image.order}{_SECTION}")
    sections = list(form.iter_unpack(image.part(table, count * _SECTION_SIZE)))
    for _, kind, _, _, offset, size, link, first_global, _, _ in sections:
        if kind == _SYMTAB:
            if link >= len(sections) or first_global * _SYMBOL_SIZE > size:
                raise corrupt(image.path, "its table of symbols contradicts itself")
            begin = first_global * _SYMBOL_SIZE  # the local ones come first (System V ABI, "Symbol Table")
            symbols = image.part(offset + begin, (size - begin) // _SYMBOL_SIZE * _SYMBOL_SIZE)
            return _names(image, symbols, image.part(sections[link][4], sections[link][5]))
    return []


def _names(image: Image, symbols: bytes, strings: bytes) -> list[bytes]:
    """Each field of all symbols is one slice, which is several times as fast as a symbol after the other."""
    offsets = struct.iter_unpack(f"{image.order}I20x", symbols)
    low, high = symbols[6::_SYMBOL_SIZE], symbols[7::_SYMBOL_SIZE]  # of the section's number: 0 where it is undefined
    find = strings.find
    names = []
    for (offset,), section_low, section_high in zip(offsets, low, high):
        if section_low or section_high:
            end = find(b"\0", offset)
            if end < offset:
                raise corrupt(image.path, "a name lies outside of its table of names")
            names.append(strings[offset:end])
    return names

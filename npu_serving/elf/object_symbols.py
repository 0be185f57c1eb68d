"""What an object file (ET_REL) defines for others: the names that the index of an archive lists."""

from __future__ import annotations

import itertools
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
    headers = image.part(table, count * _SECTION_SIZE)
    kinds = struct.iter_unpack(f"{image.order}4xI56x", headers)
    place = next((at for at, (kind,) in enumerate(kinds) if kind == _SYMTAB), None)
    if place is None:
        return []
    _, _, _, _, offset, size, link, first_global, _, _ = _section(image, headers, place)
    if link >= count or first_global * _SYMBOL_SIZE > size:
        raise corrupt(image.path, "its table of symbols contradicts itself")
    begin = first_global * _SYMBOL_SIZE  # the local ones come first (System V ABI, "Symbol Table")
    symbols = image.part(offset + begin, (size - begin) // _SYMBOL_SIZE * _SYMBOL_SIZE)
    _, _, _, _, offset, size, _, _, _, _ = _section(image, headers, link)
    return _names(image, symbols, image.part(offset, size))


def _section(image: Image, headers: bytes, number: int) -> tuple[int, ...]:
    return image.unpack(_SECTION, headers[number * _SECTION_SIZE : (number + 1) * _SECTION_SIZE])


def _names(image: Image, symbols: bytes, strings: bytes) -> list[bytes]:
    """Each field of all symbols is one slice, which is several times as fast as a symbol after the other."""
    offsets = struct.iter_unpack(f"{image.order}I20x", symbols)
    low, high = symbols[6::_SYMBOL_SIZE], symbols[7::_SYMBOL_SIZE]  # of the section's number: 0 where it is undefined
    defined = int.from_bytes(low, "little") | int.from_bytes(high, "little")
    find = strings.find
    names = []
    for (offset,) in itertools.compress(offsets, defined.to_bytes(len(low), "little")):
        end = find(b"\0", offset)
        if end < offset:
            raise corrupt(image.path, "a name lies outside of its table of names")
        names.append(strings[offset:end])
    return names

"""A reader for what the dynamic loader looks at in a 64-bit ELF file: names, search paths, symbols, versions.

It follows the program headers and the dynamic section, as ld.so does, so a file without section headers reads the same.
Nothing is mapped into memory: a file that is cut short while it is read gives an error, not a bus error.
"""

from __future__ import annotations

import dataclasses
import os
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Optional

from npu_serving import fsutil
from npu_serving.elf.tables import (
    NAME_ENCODING,
    DynamicTag,
    Strings,
    VersionDefinition,
    VersionNeed,
    corrupt,
    read_version_definitions,
    read_version_needs,
    symbol_count,
)
from npu_serving.errors import ElfError

MACHINES = {62: "x86_64", 183: "aarch64"}  # e_machine, System V ABI
TYPES = {1: "REL", 2: "EXEC", 3: "DYN", 4: "CORE"}
BINDINGS = {1: "GLOBAL", 2: "WEAK", 10: "UNIQUE"}
SYMBOL_TYPES = {0: "NOTYPE", 1: "OBJECT", 2: "FUNC", 5: "COMMON", 6: "TLS", 10: "IFUNC"}

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SCANNED = struct.Struct("<IBBHQ8x")  # without the size
_NOTE = struct.Struct("<III")
_UNDEFINED_SECTION, _ABSOLUTE_SECTION = 0, 0xFFF1
_WEAK = 2
_TLS = 6
_IS_GLOBAL = bytes(info >> 4 in BINDINGS and info & 15 in SYMBOL_TYPES for info in range(256))  # by st_info
_IS_HIDDEN = (False, True, True, False)  # by visibility: default, internal, hidden, protected
_HIDDEN_VERSION, _VERSION_MASK = 0x8000, 0x7FFF
_FIRST_REAL_VERSION = 2
_BUILD_ID_NOTE = 3
_DF_1_NODEFLIB = 0x800
_LONGEST_REST = 4 << 20  # bytes; the longest honest table of versions has a quarter of that


class Symbol(NamedTuple):
    """A dynamic symbol. `version` is None where none is recorded; `library` is where an undefined one came from."""

    name: str
    version: Optional[str]  # noqa: UP045 - evaluated by NamedTuple on Python 3.9
    binding: str
    type: str
    size: int
    is_default: bool
    library: Optional[str]  # noqa: UP045

    @property
    def is_weak(self) -> bool:
        """Whether the loader goes on without it."""
        return self.binding == "WEAK"

    @property
    def versioned_name(self) -> str:
        """The name as `nm -D` writes it: memcpy@GLIBC_2.2.5, or memcpy@@GLIBC_2.14 for a default definition."""
        if self.version is None:
            return self.name
        return f"{self.name}{'@@' if self.is_default else '@'}{self.version}"


@dataclass(frozen=True)
class _SymbolData:
    """The bytes of the symbol table, kept until somebody asks for the symbols."""

    entries: bytes = b""
    versions: Sequence[int] = ()
    strings: Strings = field(default_factory=lambda: Strings(b"", Path()))


class _Scanned(NamedTuple):
    """The numbers of the symbols: the first definition of each name, the further ones, and the undefined ones."""

    first: dict[bytes, int]
    further: dict[bytes, list[int]]
    undefined: list[int]


@dataclass(frozen=True)
class ElfFile:
    """What the loader knows of one file. Symbols are read when they are first asked for, and raise ElfError then.

    `machine` is "x86_64", "aarch64" or "unknown-NUMBER"; `type` is "EXEC", "DYN", "REL", "CORE" or "unknown-NUMBER";
    `rpath` and `runpath` are as written, with ':' and $ORIGIN; `build_id` is in hexadecimal.
    """

    path: Path
    machine: str
    type: str
    soname: str | None = None
    needed: tuple[str, ...] = ()
    rpath: str | None = None
    runpath: str | None = None
    build_id: str | None = None
    interpreter: str | None = None
    no_default_directories: bool = False
    version_needs: tuple[VersionNeed, ...] = ()
    version_definitions: tuple[VersionDefinition, ...] = ()
    symbol_data: _SymbolData = field(default_factory=_SymbolData, repr=False, compare=False)

    @cached_property
    def provided_versions(self) -> frozenset[str]:
        """The versions that this library defines, without the one that is its own name."""
        return frozenset(item.name for item in self.version_definitions if not item.is_base)

    def has_version(self, version: str) -> bool:
        """Whether this library defines that version."""
        return version in self.provided_versions

    @cached_property
    def defined_names(self) -> frozenset[str]:
        """The names that others can bind to, whatever their versions."""
        return frozenset(name.decode(*NAME_ENCODING) for name in self._scanned.first)

    @cached_property
    def defined(self) -> tuple[Symbol, ...]:
        """The symbols that others can bind to, in the order of the table."""
        further = (number for found in self._scanned.further.values() for number in found)
        numbers = sorted([*self._scanned.first.values(), *further])
        return tuple(self._symbol(number, defined=True) for number in numbers)

    @cached_property
    def undefined(self) -> tuple[Symbol, ...]:
        """The symbols that this file expects others to define, in the order of the table."""
        return tuple(self._symbol(number, defined=False) for number in self._scanned.undefined)

    def defines(self, name: str, version: str | None = None) -> bool:
        """Whether a reference to `name` with that version binds here: the rules of glibc's check_match (dl-lookup.c).

        A library without versions satisfies any reference. A reference without a version takes an unversioned
        definition, the oldest version or the default one; one with a version takes that, or an unversioned definition.
        """
        text = name.encode(*NAME_ENCODING)
        if text not in self._scanned.first:
            return False
        recorded = self.symbol_data.versions
        numbers = (self._scanned.first[text], *self._scanned.further.get(text, ()))
        return not recorded or any(self._matches(recorded[number], version) for number in numbers)

    def _matches(self, recorded: int, wanted: str | None) -> bool:
        index, hidden = recorded & _VERSION_MASK, bool(recorded & _HIDDEN_VERSION)
        if wanted is None:
            return index <= _FIRST_REAL_VERSION or not hidden
        if index < _FIRST_REAL_VERSION:
            return not hidden
        return self._version(index, defined=True)[0] == wanted

    @cached_property
    def _definition_names(self) -> Mapping[int, str]:
        return {item.number: item.name for item in self.version_definitions if not item.is_base}

    @cached_property
    def _need_names(self) -> Mapping[int, tuple[str, str]]:
        return {item.number: (item.name, need.library) for need in self.version_needs for item in need.versions}

    @cached_property
    def _scanned(self) -> _Scanned:
        """Written for speed: TensorFlow's libraries have 130,000 symbols, and few of them are ever looked at."""
        first: dict[bytes, int] = {}
        further: dict[bytes, list[int]] = {}
        undefined: list[int] = []
        strings = self.symbol_data.strings
        names, left = strings.data, strings.allowance
        for number, (start, info, other, section, value) in enumerate(_SCANNED.iter_unpack(self.symbol_data.entries)):
            if not _IS_GLOBAL[info]:
                continue
            if section == _UNDEFINED_SECTION:
                undefined.append(number)
            elif (value or section == _ABSOLUTE_SECTION or info & 15 == _TLS) and not _IS_HIDDEN[other & 3]:
                end = names.find(0, start)
                left -= end - start
                if end < 0 or left < 0:
                    raise strings.corrupt("its names overlap, or lie outside of its table of names")
                name = names[start:end]
                if first.setdefault(name, number) != number:
                    further.setdefault(name, []).append(number)
        return _Scanned(first, further, undefined)

    def _symbol(self, number: int, *, defined: bool) -> Symbol:
        name, info, _, _, _, size = _SYMBOL.unpack_from(self.symbol_data.entries, number * _SYMBOL.size)
        recorded = self.symbol_data.versions[number] if self.symbol_data.versions else 0
        version, library = self._version(recorded & _VERSION_MASK, defined=defined)
        return Symbol(
            name=self.symbol_data.strings.at(name),
            version=version,
            binding=BINDINGS[info >> 4],
            type=SYMBOL_TYPES.get(info & 15, f"unknown-{info & 15}"),
            size=size,
            is_default=defined and recorded & _VERSION_MASK in self._definition_names and recorded < _HIDDEN_VERSION,
            library=library,
        )

    def _version(self, index: int, *, defined: bool) -> tuple[str | None, str | None]:
        name, library = self._need_names.get(index, (None, None))
        if defined:  # a program's copy of a library's variable (R_*_COPY) keeps the version that it needed
            return self._definition_names.get(index, name), None
        return name, library


def read_elf(path: Path) -> ElfFile:
    """What the loader would know of the file at `path`.

    Raises ElfError for anything that is not a whole, little-endian, 64-bit ELF file, and FileAccessError where the
    file can't be read. A file without a dynamic section (a static program, an object file) has no names and symbols.
    """
    with fsutil.explained(path, doing="read"):
        # A FIFO would make a plain open wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ElfError(f"{path} is not a regular file.", cure="name the file itself")
            return _Reader(path, descriptor, status.st_size).read()
        finally:
            os.close(descriptor)


class _Segment(NamedTuple):
    type: int
    flags: int
    offset: int
    address: int
    physical: int
    file_size: int
    memory_size: int
    alignment: int


class _Reader:
    """One open file: turns addresses into offsets and reads no byte outside of it."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._size = size
        self._segments: tuple[_Segment, ...] = ()

    def read(self) -> ElfFile:
        machine, kind, table_offset, entry_size, count = self._header()
        if count and entry_size != _PROGRAM_HEADER.size:
            raise corrupt(self._path, "its program headers have an odd size")
        table = self._bytes(table_offset, count * _PROGRAM_HEADER.size)
        self._segments = tuple(_Segment(*item) for item in _PROGRAM_HEADER.iter_unpack(table))
        elf = ElfFile(
            path=self._path,
            machine=MACHINES.get(machine, f"unknown-{machine}"),
            type=TYPES.get(kind, f"unknown-{kind}"),
            build_id=self._build_id(),
            interpreter=self._interpreter(),
        )
        dynamic = self._dynamic()
        if DynamicTag.STRTAB not in dynamic:
            return elf
        strings = self._strings(dynamic)
        return dataclasses.replace(
            elf,
            soname=_first_text(dynamic, DynamicTag.SONAME, strings),
            needed=tuple(strings.at(offset) for offset in dynamic.get(DynamicTag.NEEDED, ())),
            rpath=_first_text(dynamic, DynamicTag.RPATH, strings),
            runpath=_first_text(dynamic, DynamicTag.RUNPATH, strings),
            no_default_directories=bool(_first(dynamic, DynamicTag.FLAGS_1) & _DF_1_NODEFLIB),
            version_needs=read_version_needs(self._table(dynamic, DynamicTag.VERNEED), strings),
            version_definitions=read_version_definitions(self._table(dynamic, DynamicTag.VERDEF), strings),
            symbol_data=self._symbol_data(dynamic, strings),
        )

    def _header(self) -> tuple[int, int, int, int, int]:
        """Machine, type, and offset, entry size and number of the program headers."""
        if self._size < 4 or self._bytes(0, 4) != b"\x7fELF":
            raise ElfError(
                f"{self._path} is not an ELF file.",
                cause="it is a script, a text, or a download that went wrong" if self._size else "it is empty",
                cure="name a program or a shared library for Linux",
            )
        ident = self._bytes(0, min(self._size, _HEADER.size))
        if len(ident) > 5 and ident[4] != 2:
            raise ElfError(f"{self._path} is not a 64-bit ELF file.", cure="name one for x86_64 or aarch64")
        if len(ident) > 5 and ident[5] != 1:
            raise ElfError(f"{self._path} is not a little-endian ELF file.", cure="name one for x86_64 or aarch64")
        fields = _HEADER.unpack(self._bytes(0, _HEADER.size))
        return fields[2], fields[1], fields[5], fields[9], fields[10]

    def _bytes(self, offset: int, size: int) -> bytes:
        if offset + size > self._size:
            raise corrupt(self._path, "a part of it lies behind its end")
        data = os.pread(self._descriptor, size, offset) if size else b""
        while len(data) < size:  # one pread(2) gives 2 GiB at most
            piece = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not piece:
                raise corrupt(self._path, "it became shorter while it was read")
            data += piece
        return data

    def _extent(self, address: int) -> tuple[int, int]:
        """Where in the file an address is, and how many bytes of its segment follow there."""
        for segment in self._segments:
            if segment.type == _PT_LOAD and segment.address <= address < segment.address + segment.file_size:
                skipped = address - segment.address
                return segment.offset + skipped, min(segment.file_size - skipped, self._size - segment.offset - skipped)
        raise corrupt(self._path, f"nothing of it is loaded at the address {address:#x} that it names")

    def at(self, address: int, size: int) -> bytes:
        """The bytes that the loader puts there."""
        offset, available = self._extent(address)
        if size > available:
            raise corrupt(self._path, "a table of it is longer than the segment that holds it")
        return self._bytes(offset, size)

    def rest(self, address: int) -> bytes:
        """A table whose length the file does not tell: what follows in its segment."""
        offset, available = self._extent(address)
        return self._bytes(offset, max(0, min(available, _LONGEST_REST)))

    def _table(self, dynamic: Mapping[int, Sequence[int]], tag: int) -> bytes:
        return self.rest(dynamic[tag][0]) if tag in dynamic else b""

    def _dynamic(self) -> dict[int, list[int]]:
        entries: dict[int, list[int]] = {}
        for segment in self._segments:
            if segment.type == _PT_DYNAMIC:
                size = segment.file_size - segment.file_size % 16
                for tag, value in struct.iter_unpack("<QQ", self._bytes(segment.offset, size)):
                    if tag == DynamicTag.NULL:
                        break
                    entries.setdefault(tag, []).append(value)
                break
        return entries

    def _strings(self, dynamic: Mapping[int, Sequence[int]]) -> Strings:
        return Strings(self.at(dynamic[DynamicTag.STRTAB][0], _first(dynamic, DynamicTag.STRSZ)), self._path)

    def _symbol_data(self, dynamic: Mapping[int, Sequence[int]], strings: Strings) -> _SymbolData:
        if DynamicTag.SYMTAB not in dynamic:
            return _SymbolData(strings=strings)
        count = symbol_count(dynamic, self, self._path)
        entries = self.at(dynamic[DynamicTag.SYMTAB][0], count * _SYMBOL.size)
        versions: Sequence[int] = ()
        if DynamicTag.VERSYM in dynamic:
            versions = struct.unpack(f"<{count}H", self.at(dynamic[DynamicTag.VERSYM][0], 2 * count))
        return _SymbolData(entries, versions, strings)

    def _interpreter(self) -> str | None:
        for segment in self._segments:
            if segment.type == _PT_INTERP and segment.file_size:
                return os.fsdecode(self._bytes(segment.offset, segment.file_size).split(b"\0", 1)[0])
        return None

    def _build_id(self) -> str | None:
        for segment in self._segments:
            if segment.type == _PT_NOTE:
                for owner, kind, content in _notes(self._bytes(segment.offset, segment.file_size), segment.alignment):
                    if owner == b"GNU" and kind == _BUILD_ID_NOTE:
                        return content.hex()
        return None


def _notes(data: bytes, alignment: int) -> Iterator[tuple[bytes, int, bytes]]:
    step = 8 if alignment == 8 else 4
    offset = 0
    while offset + _NOTE.size <= len(data):
        name_size, size, kind = _NOTE.unpack_from(data, offset)
        name_end = offset + _NOTE.size + name_size
        start = -(-name_end // step) * step
        yield data[offset + _NOTE.size : name_end].rstrip(b"\0"), kind, data[start : start + size]
        offset = -(-(start + size) // step) * step


def _first(dynamic: Mapping[int, Sequence[int]], tag: int) -> int:
    return dynamic[tag][0] if tag in dynamic else 0


def _first_text(dynamic: Mapping[int, Sequence[int]], tag: int, strings: Strings) -> str | None:
    return strings.at(dynamic[tag][0]) if tag in dynamic else None

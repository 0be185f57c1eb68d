"""A reader for what the dynamic loader looks at in a 64-bit ELF file: names, search paths, symbols, versions.

It follows the program headers and the dynamic section, as ld.so does, so a file without section headers reads the same.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Optional

from npu_serving.elf.elf_file import PT_GNU_PROPERTY, PT_INTERP, PT_LOAD, PT_NOTE, Image, Segment, corrupt, opened
from npu_serving.elf.hashes import HashTable, read_hash_table, words
from npu_serving.elf.tables import (
    NAME_ENCODING,
    Dependency,
    Dynamic,
    DynamicTag,
    References,
    RelocationData,
    Strings,
    VersionDefinition,
    VersionNeed,
    first,
    read_dependencies,
    read_dynamic,
    read_relocations,
    read_version_definitions,
    read_version_needs,
)

MACHINES = {62: "x86_64", 183: "aarch64"}  # e_machine, System V ABI
TYPES = {1: "REL", 2: "EXEC", 3: "DYN", 4: "CORE"}
BINDINGS = {1: "GLOBAL", 2: "WEAK", 10: "UNIQUE"}
SYMBOL_TYPES = {0: "NOTYPE", 1: "OBJECT", 2: "FUNC", 5: "COMMON", 6: "TLS", 10: "IFUNC"}

_SYMBOL, _SYMBOL_SIZE = "IBBHQQ", 24
_SECTION_OFFSET = 6  # of st_shndx in a symbol
_UNDEFINED_SECTION, _ABSOLUTE_SECTION = 0, 0xFFF1
_TLS = 6
_IS_GLOBAL = bytes(info >> 4 in BINDINGS and info & 15 in SYMBOL_TYPES for info in range(256))  # by st_info
_IS_HIDDEN = (False, True, True, False)  # by visibility: default, internal, hidden, protected
_HIDDEN_VERSION, _VERSION_MASK = 0x8000, 0x7FFF
_FIRST_REAL_VERSION = 2
_NOTE, _NOTE_SIZE = "III", 12
_BUILD_ID_NOTE, _PROPERTIES_NOTE = 3, 5
_PROPERTY, _PROPERTY_SIZE = "II", 8
_ISA_NEEDED = 0xC0008002  # GNU_PROPERTY_X86_ISA_1_NEEDED
_DF_BIND_NOW, _DF_1_NOW, _DF_1_NODEFLIB, _DF_1_PIE = 0x8, 0x1, 0x800, 0x8000000


class Symbol(NamedTuple):
    """A dynamic symbol. `version` is None where none is recorded; `library` is where an undefined one came from."""

    name: str
    version: Optional[str]  # noqa: UP045 - evaluated by NamedTuple on Python 3.9
    binding: str
    type: str
    size: int
    is_default: bool
    library: Optional[str]  # noqa: UP045
    number: int
    """Its place in the table."""

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

    entries: bytes
    order: str
    versions: array[int] | None
    strings: Strings
    hashes: HashTable
    relocations: RelocationData


@dataclass(frozen=True)
class ElfFile:
    """What the loader knows of one file. Symbols are read when they are first asked for, and raise ElfError then.

    `machine` is "x86_64", "aarch64" or "unknown-NUMBER"; `type` is "EXEC", "DYN", "REL", "CORE" or "unknown-NUMBER";
    `rpath` and `runpath` are as written, with ':' and $ORIGIN; `build_id` is in hexadecimal.
    """

    path: Path
    machine: str
    type: str
    is_little_endian: bool = True
    soname: str | None = None
    dependencies: tuple[Dependency, ...] = ()
    rpath: str | None = None
    runpath: str | None = None
    build_id: str | None = None
    interpreter: str | None = None
    no_default_directories: bool = False
    is_program: bool = False
    """Whether it says itself that it can't be a library: EXEC, or DYN with the mark of a position-independent one."""
    ident: bytes = b""
    """The 16 bytes that it begins with."""
    version: int = 1
    segments: tuple[Segment, ...] = ()
    """Those that are loaded."""
    isa_needed: int = 0
    """The levels of the x86-64 psABI that it is marked for, a bit for each."""
    version_needs: tuple[VersionNeed, ...] = ()
    version_definitions: tuple[VersionDefinition, ...] = ()
    sha256: str = ""
    """That of the file, where read_elf() was asked for it."""
    symbol_data: _SymbolData | None = field(default=None, repr=False, compare=False)

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """The libraries that it needs (DT_NEEDED)."""
        return tuple(item.name for item in self.dependencies if item.tag == DynamicTag.NEEDED)

    @cached_property
    def provided_versions(self) -> frozenset[str]:
        """The versions that this library defines, without the one that is its own name."""
        return frozenset(item.name for item in self.version_definitions if not item.is_base)

    def has_version(self, version: str) -> bool:
        """Whether this library defines that version."""
        return version in self.provided_versions

    @property
    def records_versions(self) -> bool:
        """Whether its symbols have versions at all, be it only those that it needs of others (DT_VERSYM)."""
        return self.symbol_data is not None and self.symbol_data.versions is not None

    @cached_property
    def defined_names(self) -> frozenset[str]:
        """The names that others can bind to, whatever their versions."""
        return frozenset(symbol.name for symbol in self.defined)

    @cached_property
    def defined(self) -> tuple[Symbol, ...]:
        """The symbols that others can bind to, in the order of the table."""
        count = self.symbol_data.hashes.count if self.symbol_data is not None else 0
        return tuple(self._symbol(number, defined=True) for number in range(count) if self._can_be_bound_to(number))

    @cached_property
    def undefined(self) -> tuple[Symbol, ...]:
        """The symbols that this file expects others to define, in the order of the table."""
        return tuple(self._symbol(number, defined=False) for number in self._undefined_numbers())

    @cached_property
    def references(self) -> References:
        """Which symbols the loader looks for, and when."""
        return self.symbol_data.relocations.references() if self.symbol_data is not None else References()

    def copied_symbols(self) -> Iterator[Symbol]:
        """The variables of libraries that this program keeps a copy of; ElfError where there is no such symbol."""
        count = self.symbol_data.hashes.count if self.symbol_data is not None else 0
        for number in sorted(self.references.copied):
            if number >= count:
                raise corrupt(self.path, "a relocation of it names a symbol that isn't there")
            yield self._symbol(number, defined=True)

    def copied_from(self, symbol: Symbol) -> str | None:
        """The library that a copied variable came from, where its version tells."""
        recorded = self._recorded_version(symbol.number) or 0
        return self._need_names.get(recorded & _VERSION_MASK, (None, None))[1]

    def defines(self, name: str, version: str | None = None, *, for_address: bool = False) -> bool:
        """Whether a reference to `name` with that version binds here.

        Of a reference other than a call, also whether this program has an entry for the function, at which all others
        find it too (the canonical PLT entry of a program that isn't position-independent).
        """
        return self._found(name, version, for_address=for_address) is not None

    def definition(self, name: str, version: str | None = None) -> Symbol | None:
        """What a reference to `name` with that version binds to here, if to anything."""
        number = self._found(name, version)
        return None if number is None else self._symbol(number, defined=True, name=name)

    def definitions(self, name: str) -> tuple[Symbol, ...]:
        """All that is defined by that name, whatever the versions."""
        return tuple(self._symbol(number, defined=True, name=name) for number in self._named(name))

    def _found(self, name: str, version: str | None, *, for_address: bool = False) -> int | None:
        """The rules of glibc's check_match (dl-lookup.c).

        A library without versions satisfies any reference. A reference without a version takes an unversioned
        definition, the oldest version, or else the only default one; one with a version takes that, or an
        unversioned definition.
        """
        defaults = []
        for number in self._named(name, for_address=for_address):
            recorded = self._recorded_version(number)
            if recorded is None:
                return number
            index, hidden = recorded & _VERSION_MASK, recorded >= _HIDDEN_VERSION
            if version is None:
                if index <= _FIRST_REAL_VERSION:
                    return number
                defaults += [] if hidden else [number]
            elif self._version(index, defined=True)[0] == version or (index < _FIRST_REAL_VERSION and not hidden):
                return number
        return defaults[0] if len(defaults) == 1 else None

    def _named(self, name: str, *, for_address: bool = False) -> Iterator[int]:
        data = self.symbol_data
        if data is None:
            return
        text = name.encode(*NAME_ENCODING)
        for number in data.hashes.candidates(text):
            (start,) = struct.unpack_from(f"{data.order}I", data.entries, number * _SYMBOL_SIZE)
            if data.strings.holds(text, start) and self._can_be_bound_to(number, for_address=for_address):
                yield number

    def _can_be_bound_to(self, number: int, *, for_address: bool = False) -> bool:
        _, info, other, section, value, _ = self._fields(number)
        is_here = value or section == _ABSOLUTE_SECTION or info & 15 == _TLS
        if section == _UNDEFINED_SECTION and not for_address:
            is_here = False
        return bool(is_here and _IS_GLOBAL[info] and not _IS_HIDDEN[other & 3])

    def _undefined_numbers(self) -> Iterator[int]:
        """Written for speed: few of the 130,000 symbols of TensorFlow's libraries are undefined."""
        data = self.symbol_data
        if data is None:
            return
        sections = [data.entries[at::_SYMBOL_SIZE] for at in (_SECTION_OFFSET, _SECTION_OFFSET + 1)]
        number = -1
        while (number := sections[0].find(0, number + 1)) >= 0:
            if sections[1][number] == 0 and _IS_GLOBAL[self._fields(number)[1]]:
                yield number

    def _fields(self, number: int) -> tuple[int, ...]:
        assert self.symbol_data is not None
        return struct.unpack_from(self.symbol_data.order + _SYMBOL, self.symbol_data.entries, number * _SYMBOL_SIZE)

    def _recorded_version(self, number: int) -> int | None:
        versions = self.symbol_data.versions if self.symbol_data is not None else None
        return None if versions is None else versions[number]

    def _symbol(self, number: int, *, defined: bool, name: str | None = None) -> Symbol:
        """The symbol at that place; with its `name`, where it is known, the table of names isn't read once more."""
        assert self.symbol_data is not None
        start, info, _, _, _, size = self._fields(number)
        recorded = self._recorded_version(number) or 0
        version, library = self._version(recorded & _VERSION_MASK, defined=defined)
        return Symbol(
            name=self.symbol_data.strings.at(start) if name is None else name,
            version=version,
            binding=BINDINGS.get(info >> 4, f"unknown-{info >> 4}"),
            type=SYMBOL_TYPES.get(info & 15, f"unknown-{info & 15}"),
            size=size,
            is_default=defined and recorded & _VERSION_MASK in self._definition_names and recorded < _HIDDEN_VERSION,
            library=library,
            number=number,
        )

    def _version(self, index: int, *, defined: bool) -> tuple[str | None, str | None]:
        name, library = self._need_names.get(index, (None, None))
        if defined:  # a program's copy of a library's variable (R_*_COPY) keeps the version that it needed
            return self._definition_names.get(index, name), None
        return name, library

    @cached_property
    def _definition_names(self) -> Mapping[int, str]:
        return {item.number: item.name for item in self.version_definitions if not item.is_base}

    @cached_property
    def _need_names(self) -> Mapping[int, tuple[str, str]]:
        return {item.number: (item.name, need.library) for need in self.version_needs for item in need.versions}


def read_elf(path: Path, *, digest: bool = False) -> ElfFile:
    """What the loader would know of the file at `path`; with `digest` also the sha256 of the whole file.

    Raises ElfError for anything that is not a whole, unchanging 64-bit ELF file, and FileAccessError where the file
    can't be read. A file without a dynamic section (a static program, an object file) has no names and symbols.
    """
    with opened(path) as image:
        dynamic = read_dynamic(image)
        flags = first(dynamic, DynamicTag.FLAGS_1)
        machine = MACHINES.get(image.machine, f"unknown-{image.machine}")
        kind = TYPES.get(image.type, f"unknown-{image.type}")
        has_strings = DynamicTag.STRTAB in dynamic
        table = image.at(dynamic[DynamicTag.STRTAB][0], first(dynamic, DynamicTag.STRSZ)) if has_strings else b""
        strings = Strings(table, image)
        return ElfFile(
            path=path,
            machine=machine,
            type=kind,
            is_little_endian=image.order == "<",
            build_id=_build_id(image),
            interpreter=_interpreter(image),
            soname=_text(dynamic, DynamicTag.SONAME, strings),
            dependencies=read_dependencies(image, strings),
            rpath=_text(dynamic, DynamicTag.RPATH, strings),
            runpath=_text(dynamic, DynamicTag.RUNPATH, strings),
            no_default_directories=bool(flags & _DF_1_NODEFLIB),
            ident=image.ident,
            version=image.version,
            segments=tuple(segment for segment in image.segments if segment.type == PT_LOAD),
            isa_needed=_isa_needed(image) if machine == "x86_64" else 0,
            is_program=kind == "EXEC" or bool(flags & _DF_1_PIE),
            version_needs=read_version_needs(image, dynamic, strings),
            version_definitions=read_version_definitions(image, dynamic, strings),
            sha256=image.sha256() if digest else "",
            symbol_data=_symbol_data(image, dynamic, strings, machine),
        )


def _symbol_data(image: Image, dynamic: Dynamic, strings: Strings, machine: str) -> _SymbolData | None:
    if DynamicTag.SYMTAB not in dynamic:
        return None
    bound_now = (
        DynamicTag.BIND_NOW in dynamic
        or bool(first(dynamic, DynamicTag.FLAGS) & _DF_BIND_NOW)
        or bool(first(dynamic, DynamicTag.FLAGS_1) & _DF_1_NOW)
    )
    relocations = read_relocations(image, dynamic, machine, bound_now=bound_now)
    hashes = read_hash_table(image, dynamic, relocations)
    entries = image.at(dynamic[DynamicTag.SYMTAB][0], hashes.count * _SYMBOL_SIZE)
    versions = None
    if DynamicTag.VERSYM in dynamic:
        versions = words(image, image.at(dynamic[DynamicTag.VERSYM][0], 2 * hashes.count), "H")
    return _SymbolData(entries, image.order, versions, strings, hashes, relocations)


def _text(dynamic: Dynamic, tag: int, strings: Strings) -> str | None:
    return strings.at(dynamic[tag][0]) if tag in dynamic else None


def _interpreter(image: Image) -> str | None:
    for _, data in image.contents(PT_INTERP):
        return os.fsdecode(data.split(b"\0", 1)[0]) or None
    return None


def _build_id(image: Image) -> str | None:
    for segment, data in image.contents(PT_NOTE):
        for owner, kind, content in _notes(image, data, step=8 if segment.alignment == 8 else 4):
            if owner == b"GNU" and kind == _BUILD_ID_NOTE:
                return content.hex()
    return None


def _isa_needed(image: Image) -> int:
    """The levels that GNU ld's -z x86-64-v4 and its like mark a file for, by the rules of glibc's dl-prop.h.

    PT_NOTE counts only where there is no PT_GNU_PROPERTY; what isn't aligned, or damaged, isn't read at all.
    """
    kinds = {segment.type for segment in image.segments}
    for segment, data in image.contents(PT_GNU_PROPERTY if PT_GNU_PROPERTY in kinds else PT_NOTE):
        if segment.alignment != _PROPERTY_SIZE:
            continue
        for owner, kind, content in _notes(image, data, step=_PROPERTY_SIZE):
            if owner == b"GNU" and kind == _PROPERTIES_NOTE:
                return _isa_bits(image, content)
    return 0


def _isa_bits(image: Image, content: bytes) -> int:
    offset = last = 0
    while offset + _PROPERTY_SIZE <= len(content):
        kind, size = image.unpack(_PROPERTY, content[offset : offset + _PROPERTY_SIZE])
        start = offset + _PROPERTY_SIZE
        if kind < last or start + size > len(content):
            return 0  # the loader takes no word of a note that isn't in order
        if kind == _ISA_NEEDED and size == 4:
            return image.unpack("I", content[start : start + size])[0]
        offset, last = start + -(-size // 8) * 8, kind
    return 0


def _notes(image: Image, data: bytes, *, step: int) -> Iterator[tuple[bytes, int, bytes]]:
    offset = 0
    while offset + _NOTE_SIZE <= len(data):
        name_size, size, kind = image.unpack(_NOTE, data[offset : offset + _NOTE_SIZE])
        name_end = offset + _NOTE_SIZE + name_size
        start = -(-name_end // step) * step
        yield data[offset + _NOTE_SIZE : name_end].rstrip(b"\0"), kind, data[start : start + size]
        offset = -(-(start + size) // step) * step

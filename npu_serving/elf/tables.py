"""The tables that an ELF file's dynamic section points to: strings, symbol versions, relocations."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from npu_serving.elf.elf_file import PT_DYNAMIC, Image, corrupt

NAME_ENCODING = ("utf-8", "surrogateescape")
_NEED, _NEED_ENTRY, _DEFINITION, _DEFINITION_NAME = "HHIII", "IHHII", "HHHHIII", "II"
_BASE = 1  # VER_FLG_BASE: the definition that repeats the library's own name
_WEAK_VERSION = 2  # VER_FLG_WEAK: the loader only warns when it is missing
_MOST_VERSIONS = 0x8000  # a version's number has 15 bits
_RELOCATION, _RELOCATION_SIZE = "QQ8x", 24
_COPIES = {"x86_64": 5, "aarch64": 1024}  # R_X86_64_COPY, R_AARCH64_COPY
# JUMP_SLOT and those of thread-local storage: to them a program's own entry for a library's function doesn't count.
_CALLS = {"x86_64": (7, 16, 17, 18, 36), "aarch64": (1026, 1028, 1029, 1030, 1031)}

Dynamic = Mapping[int, Sequence[int]]
"""The dynamic section: tag -> values, in their order."""


class DynamicTag:
    """Tags of the dynamic section (System V ABI, and <elf.h> for the GNU ones)."""

    NULL = 0
    NEEDED = 1
    PLTRELSZ = 2
    HASH = 4
    STRTAB = 5
    SYMTAB = 6
    RELA = 7
    RELASZ = 8
    STRSZ = 10
    SONAME = 14
    RPATH = 15
    JMPREL = 23
    BIND_NOW = 24
    RUNPATH = 29
    FLAGS = 30
    GNU_HASH = 0x6FFFFEF5
    VERSYM = 0x6FFFFFF0
    RELACOUNT = 0x6FFFFFF9
    FLAGS_1 = 0x6FFFFFFB
    VERDEF = 0x6FFFFFFC
    VERNEED = 0x6FFFFFFE
    AUXILIARY = 0x7FFFFFFD
    FILTER = 0x7FFFFFFF


class Dependency(NamedTuple):
    """A library that a file wants loaded: as NEEDED, or as one in which symbols are looked for before they are looked
    for in the file itself, which a FILTER must have and an AUXILIARY may lack.
    """

    name: str
    tag: int


def read_dynamic(image: Image) -> Dynamic:
    """The dynamic section; empty where there is none."""
    entries: dict[int, list[int]] = {}
    for tag, value in _dynamic_entries(image):
        entries.setdefault(tag, []).append(value)
    return entries


def read_dependencies(image: Image, strings: Strings) -> tuple[Dependency, ...]:
    """The libraries that the dynamic section names, in its order."""
    tags = (DynamicTag.NEEDED, DynamicTag.FILTER, DynamicTag.AUXILIARY)
    return tuple(Dependency(strings.at(value), tag) for tag, value in _dynamic_entries(image) if tag in tags)


def _dynamic_entries(image: Image) -> Iterator[tuple[int, int]]:
    for _, data in image.contents(PT_DYNAMIC):
        for tag, value in struct.iter_unpack(f"{image.order}QQ", data[: len(data) - len(data) % 16]):
            if tag == DynamicTag.NULL:
                break
            yield tag, value
        break


def first(dynamic: Dynamic, tag: int) -> int:
    """The first value of a tag; 0 without one."""
    return dynamic[tag][0] if tag in dynamic else 0


class Strings:
    """A table of strings that end in NUL.

    Only as much is handed out as such a table can hold in honest use (strings share their tails, and a few are named
    more than once), so that a file in which every symbol names the same long string doesn't fill the memory.
    """

    def __init__(self, data: bytes, image: Image) -> None:
        self.data = data
        self._allowance = 16 * len(data) + 4096
        self._path = image.path

    def raw(self, offset: int) -> bytes:
        """The string that begins at `offset`; ElfError where there is none, and for one too many."""
        end = self.data.find(b"\0", offset)
        self._allowance -= end - offset
        if end < offset or self._allowance < 0:
            raise corrupt(self._path, "its names overlap, or lie outside of its table of names")
        return self.data[offset:end]

    def at(self, offset: int) -> str:
        """The same as text."""
        return self.raw(offset).decode(*NAME_ENCODING)

    def holds(self, name: bytes, offset: int) -> bool:
        """Whether the string that begins at `offset` is `name`."""
        return self.data.startswith(name, offset) and self.data[offset + len(name) : offset + len(name) + 1] == b"\0"


class NeededVersion(NamedTuple):
    """A version that a file needs from a library; the loader only warns about a missing one that is weak."""

    name: str
    number: int
    is_weak: bool


@dataclass(frozen=True)
class VersionNeed:
    """The versions that a file needs from the library it knows as `library`."""

    library: str
    versions: tuple[NeededVersion, ...]


class VersionDefinition(NamedTuple):
    """A version that a library defines; the base one repeats the library's name."""

    name: str
    number: int
    is_base: bool


def read_version_needs(image: Image, dynamic: Dynamic, strings: Strings) -> tuple[VersionNeed, ...]:
    """The records of .gnu.version_r; ElfError where they lead out of the file."""
    needs: list[VersionNeed] = []
    found = 0
    for address, (_, count, library, entries, _) in _chain(image, first(dynamic, DynamicTag.VERNEED), _NEED):
        versions: list[NeededVersion] = []
        chain = _chain(image, address + entries, _NEED_ENTRY) if count else iter(())
        for (_, (_, flags, number, name, _)), _ in zip(chain, range(count)):
            versions.append(NeededVersion(strings.at(name), number % _MOST_VERSIONS, bool(flags & _WEAK_VERSION)))
        found += len(versions)
        if found > _MOST_VERSIONS:
            raise corrupt(image.path, "it needs more versions than an ELF file can have")
        needs.append(VersionNeed(strings.at(library), tuple(versions)))
    return tuple(needs)


def read_version_definitions(image: Image, dynamic: Dynamic, strings: Strings) -> tuple[VersionDefinition, ...]:
    """The records of .gnu.version_d; ElfError where they lead out of the file."""
    definitions: list[VersionDefinition] = []
    for address, fields in _chain(image, first(dynamic, DynamicTag.VERDEF), _DEFINITION):
        _, flags, number, count, _, names, _ = fields
        if not count:
            raise corrupt(image.path, "one of its versions has no name")
        name, _ = _record(image, address + names, _DEFINITION_NAME)  # the others name the versions it inherits
        definitions.append(VersionDefinition(strings.at(name), number % _MOST_VERSIONS, bool(flags & _BASE)))
    return tuple(definitions)


def _chain(image: Image, address: int, form: str) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The records that are linked by their last field, the distance to the next one, and where each begins."""
    if not address:
        return
    for _ in range(_MOST_VERSIONS):
        fields = _record(image, address, form)
        yield address, fields
        if not fields[-1]:
            return
        if fields[-1] < struct.calcsize(f"={form}"):
            raise corrupt(image.path, "its table of versions overlaps itself")
        address += fields[-1]
    raise corrupt(image.path, "it has more versions than an ELF file can have")


def _record(image: Image, address: int, form: str) -> tuple[int, ...]:
    return image.unpack(form, image.at(address, struct.calcsize(f"={form}")))


@dataclass(frozen=True)
class References:
    """The numbers of the symbols that relocations name.

    The loader looks for `addresses` and `calls` before the program begins, for those in `when_called` as late as at
    the first call. For an address the entry that a program has for a library's function counts as its definition, for
    a call it doesn't. `copied` are the variables of libraries that a program keeps a copy of.
    """

    addresses: frozenset[int] = frozenset()
    calls: frozenset[int] = frozenset()
    when_called: frozenset[int] = frozenset()
    copied: frozenset[int] = frozenset()

    @property
    def at_start(self) -> frozenset[int]:
        """Those that the loader looks for before the program begins."""
        return self.addresses | self.calls | self.copied


@dataclass(frozen=True)
class RelocationData:
    """The bytes of the relocations that name symbols, kept until somebody asks which."""

    order: str = "<"
    machine: str = ""
    bound_at_start: bytes = b""
    bound_when_called: bytes = b""

    def references(self) -> References:
        """What they name."""
        form = self.order + _RELOCATION
        now = {info for _, info in struct.iter_unpack(form, self.bound_at_start)}
        later = {info for _, info in struct.iter_unpack(form, self.bound_when_called)}
        call_types, copy_type = _CALLS.get(self.machine, ()), _COPIES.get(self.machine, -1)
        calls = {info for info in now if info & 0xFFFFFFFF in call_types}
        copies = {info for info in now if info & 0xFFFFFFFF == copy_type}
        found = (now - calls - copies, calls, later, copies)
        return References(*(frozenset(info >> 32 for info in infos) for infos in found))


def read_relocations(image: Image, dynamic: Dynamic, machine: str, *, bound_now: bool) -> RelocationData:
    """The relocations but for the relative ones, which stand first (DT_RELACOUNT) and name no symbol."""
    relative = first(dynamic, DynamicTag.RELACOUNT) * _RELOCATION_SIZE
    address, size = first(dynamic, DynamicTag.RELA), first(dynamic, DynamicTag.RELASZ)
    now = _relocations(image, address + relative, size - relative)
    later = _relocations(image, first(dynamic, DynamicTag.JMPREL), first(dynamic, DynamicTag.PLTRELSZ))
    if bound_now:
        now, later = now + later, b""
    return RelocationData(image.order, machine, now, later)


def _relocations(image: Image, address: int, size: int) -> bytes:
    whole = size - size % _RELOCATION_SIZE
    return image.at(address, whole) if whole > 0 else b""

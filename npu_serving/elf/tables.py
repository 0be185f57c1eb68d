"""The tables that an ELF file's dynamic section points to: strings, hash tables, symbol versions."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from npu_serving.errors import ElfError

_NEED = struct.Struct("<HHIII")
_NEED_ENTRY = struct.Struct("<IHHII")
_DEFINITION = struct.Struct("<HHHHIII")
_DEFINITION_NAME = struct.Struct("<II")
_RELOCATION = struct.Struct("<QQq")
_BASE = 1  # VER_FLG_BASE: the definition that repeats the library's own name
_WEAK_VERSION = 2  # VER_FLG_WEAK: the loader only warns when it is missing
NAME_ENCODING = ("utf-8", "surrogateescape")
_MOST_VERSIONS = 0x8000  # a version's number has 15 bits


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
    RUNPATH = 29
    GNU_HASH = 0x6FFFFEF5
    VERSYM = 0x6FFFFFF0
    FLAGS_1 = 0x6FFFFFFB
    VERDEF = 0x6FFFFFFC
    VERNEED = 0x6FFFFFFE


def corrupt(path: Path, why: str) -> ElfError:
    """The error for a file that begins like an ELF file and contradicts itself later."""
    return ElfError(
        f"{path} is damaged: {why}.",
        cause="it was copied or downloaded in part, or overwritten while it was written",
        cure=f"put a good copy at {path}",
    )


class Memory(Protocol):
    """A file as the loader lays it out: by address."""

    def at(self, address: int, size: int) -> bytes:
        """The bytes there; ElfError where the file has none."""

    def rest(self, address: int) -> bytes:
        """What follows there in the same segment, up to 4 MiB; ElfError where nothing is."""


class Strings:
    """A table of strings that end in NUL.

    Only as much is handed out as such a table can hold in honest use (strings share their tails, and a few are named
    more than once), so that a file in which every symbol names the same long string doesn't fill the memory.
    """

    def __init__(self, data: bytes, path: Path) -> None:
        self.data = data
        self.allowance = 16 * len(data) + 4096
        self._path = path

    def corrupt(self, why: str) -> ElfError:
        """The error for a damaged table of this file."""
        return corrupt(self._path, why)

    def at(self, offset: int) -> str:
        """The string that begins at `offset`; ElfError where there is none."""
        end = self.data.find(b"\0", offset)
        self.spend(end - offset)
        return self.data[offset:end].decode(*NAME_ENCODING)

    def spend(self, length: int) -> None:
        """Takes note of `length` bytes that are handed out; ElfError for one string too many, or one without an end."""
        self.allowance -= length
        if length < 0 or self.allowance < 0:
            raise self.corrupt("its names overlap, or lie outside of its table of names")


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


def read_version_needs(data: bytes, strings: Strings) -> tuple[VersionNeed, ...]:
    """The records of .gnu.version_r, which begins `data`; ElfError where they lead out of it."""
    needs: list[VersionNeed] = []
    found = 0
    for offset, (_, count, library, first, _) in _chain(data, 0, _NEED, strings):
        versions: list[NeededVersion] = []
        entries = _chain(data, offset + first, _NEED_ENTRY, strings) if count else iter(())
        for (_, (_, flags, index, name, _)), _ in zip(entries, range(count)):
            versions.append(NeededVersion(strings.at(name), index, bool(flags & _WEAK_VERSION)))
        found += len(versions)
        if found > _MOST_VERSIONS:
            raise strings.corrupt("it needs more versions than there can be")
        needs.append(VersionNeed(strings.at(library), tuple(versions)))
    return tuple(needs)


def read_version_definitions(data: bytes, strings: Strings) -> tuple[VersionDefinition, ...]:
    """The records of .gnu.version_d, which begins `data`; ElfError where they lead out of it."""
    definitions: list[VersionDefinition] = []
    for offset, (_, flags, index, count, _, first, _) in _chain(data, 0, _DEFINITION, strings):
        if not count or offset + first + _DEFINITION_NAME.size > len(data):
            raise strings.corrupt("a version of it has no name")
        name, _ = _DEFINITION_NAME.unpack_from(data, offset + first)  # the others name the versions it inherits
        definitions.append(VersionDefinition(strings.at(name), index & (_MOST_VERSIONS - 1), bool(flags & _BASE)))
    return tuple(definitions)


def _chain(data: bytes, offset: int, record: struct.Struct, strings: Strings) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The records that are linked by their last field, the distance to the next one, and where each begins."""
    while data:
        if offset + record.size > len(data):
            raise strings.corrupt("its table of versions leads out of the file")
        fields = record.unpack_from(data, offset)
        yield offset, fields
        if not fields[-1]:
            return
        if fields[-1] < record.size:
            raise strings.corrupt("its table of versions overlaps itself")
        offset += fields[-1]


def symbol_count(dynamic: Mapping[int, Sequence[int]], memory: Memory, path: Path) -> int:
    """How many entries the symbol table has, which no field tells: the hash tables do.

    GNU ld writes an empty DT_GNU_HASH where nothing is exported; then the relocations tell which symbols are used.
    """
    if DynamicTag.HASH in dynamic:
        return int(struct.unpack("<II", memory.at(dynamic[DynamicTag.HASH][0], 8))[1])
    hashed = _count_by_gnu_hash(dynamic[DynamicTag.GNU_HASH][0], memory, path) if DynamicTag.GNU_HASH in dynamic else 0
    return hashed or _count_by_relocations(dynamic, memory)


def _count_by_gnu_hash(address: int, memory: Memory, path: Path) -> int:
    bucket_count, first, bloom_words, _ = struct.unpack("<IIII", memory.at(address, 16))
    buckets = address + 16 + 8 * bloom_words
    last = max(struct.unpack(f"<{bucket_count}I", memory.at(buckets, 4 * bucket_count)), default=0)
    if not last:
        return 0
    if last < first:
        raise corrupt(path, "its hash table contradicts itself")
    chain = memory.rest(buckets + 4 * bucket_count + 4 * (last - first))
    for number, (value,) in enumerate(struct.iter_unpack("<I", chain[: len(chain) & ~3])):
        if value & 1:  # the lowest bit marks the last entry of a bucket
            return int(last + number + 1)
    raise corrupt(path, "its hash table has no end")


def _count_by_relocations(dynamic: Mapping[int, Sequence[int]], memory: Memory) -> int:
    most = 0
    for start, size in ((DynamicTag.RELA, DynamicTag.RELASZ), (DynamicTag.JMPREL, DynamicTag.PLTRELSZ)):
        if start in dynamic and size in dynamic:
            whole = dynamic[size][0] - dynamic[size][0] % _RELOCATION.size
            table = memory.at(dynamic[start][0], whole)
            most = max(most, max((info >> 32 for _, info, _ in _RELOCATION.iter_unpack(table)), default=0))
    return most + 1 if most else 0

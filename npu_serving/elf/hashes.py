"""The hash tables of a dynamic symbol table: by them the loader finds a name, and only they give the table's length."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

from npu_serving.elf.elf_file import Image, corrupt
from npu_serving.elf.tables import Dynamic, DynamicTag, RelocationData

_WORDS_AT_ONCE = 1024


class HashTable(Protocol):
    """Where the loader looks for a name."""

    count: int
    """How many entries the symbol table has."""

    def candidates(self, name: bytes) -> Iterator[int]:
        """The numbers of the symbols that may have that name, in the loader's order."""


def read_hash_table(image: Image, dynamic: Dynamic, relocations: RelocationData) -> HashTable:
    """The table that the loader uses: DT_GNU_HASH, or else DT_HASH; ElfError where it leads out of the file."""
    if DynamicTag.GNU_HASH in dynamic:
        return _GnuHash(image, dynamic[DynamicTag.GNU_HASH][0], relocations)
    if DynamicTag.HASH in dynamic:
        return _SystemVHash(image, dynamic[DynamicTag.HASH][0])
    return _NoHash(_count_by_relocations(relocations))


def words(image: Image, data: bytes, kind: str = "I") -> array[int]:
    """The numbers in a table: "H", "I" and "Q" have 2, 4 and 8 bytes."""
    numbers = array(kind, data)
    if image.order != ("<" if sys.byteorder == "little" else ">"):
        numbers.byteswap()
    return numbers


class _NoHash:
    """A file in which the loader finds nothing."""

    def __init__(self, count: int) -> None:
        self.count = count

    def candidates(self, name: bytes) -> Iterator[int]:
        return iter(())


class _SystemVHash:
    def __init__(self, image: Image, address: int) -> None:
        bucket_count, self.count = image.unpack("II", image.at(address, 8))
        self._buckets = words(image, image.at(address + 8, 4 * bucket_count))
        self._chain = words(image, image.at(address + 8 + 4 * bucket_count, 4 * self.count))

    def candidates(self, name: bytes) -> Iterator[int]:
        number = self._buckets[_system_v_hash(name) % len(self._buckets)] if self._buckets else 0
        for _ in self._chain:  # no longer, even if it runs in a circle
            if not 0 < number < self.count:
                return
            yield number
            number = self._chain[number]


class _GnuHash:
    """Named symbols stand behind the others in the order of their buckets; each has its hash in the chain."""

    def __init__(self, image: Image, address: int, relocations: RelocationData) -> None:
        bucket_count, self._first, bloom_count, self._shift = image.unpack("IIII", image.at(address, 16))
        address += 16
        self._bloom = words(image, image.at(address, 8 * bloom_count), "Q")
        address += 8 * bloom_count
        self._buckets = words(image, image.at(address, 4 * bucket_count))
        address += 4 * bucket_count
        last = max(self._buckets, default=0)
        if not last:  # GNU ld writes an empty table where nothing is exported
            self.count, self._chain = max(self._first, _count_by_relocations(relocations)), array("I")
            return
        if last < self._first:
            raise corrupt(image.path, "its hash table contradicts itself")
        self.count = last + _length_of_chain(image, address + 4 * (last - self._first))
        self._chain = words(image, image.at(address, 4 * (self.count - self._first)))

    def candidates(self, name: bytes) -> Iterator[int]:
        wanted = _gnu_hash(name)
        if not self._chain or not self._may_hold(wanted):
            return
        position = self._buckets[wanted % len(self._buckets)] - self._first
        while 0 <= position < len(self._chain):
            found = self._chain[position]
            if found | 1 == wanted | 1:
                yield position + self._first
            if found & 1:  # the lowest bit marks the last of a bucket
                return
            position += 1

    def _may_hold(self, wanted: int) -> bool:
        if not self._bloom:
            return True
        word = self._bloom[wanted // 64 % len(self._bloom)]
        return bool(word >> wanted % 64 & word >> (wanted >> self._shift % 32) % 64 & 1)


def _length_of_chain(image: Image, address: int) -> int:
    """How many entries the bucket has whose chain begins there."""
    _, available = image.extent(address)
    for start in range(0, available // 4, _WORDS_AT_ONCE):
        size = min(_WORDS_AT_ONCE, available // 4 - start)
        for number, value in enumerate(words(image, image.at(address + 4 * start, 4 * size))):
            if value & 1:
                return start + number + 1
    raise corrupt(image.path, "its hash table has no end")


def _count_by_relocations(relocations: RelocationData) -> int:
    """How many symbols are used at least."""
    references = relocations.references()
    return max(references.at_start | references.when_called, default=-1) + 1


@lru_cache(maxsize=1 << 16)
def _gnu_hash(name: bytes) -> int:
    value = 5381
    for letter in name:
        value = value * 33 + letter & 0xFFFFFFFF
    return value


@lru_cache(maxsize=1 << 16)
def _system_v_hash(name: bytes) -> int:
    value = 0
    for letter in name:
        value = (value << 4) + letter
        value = (value ^ (value >> 24 & 0xF0)) & 0x0FFFFFFF
    return value

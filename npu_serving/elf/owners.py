"""Whose a symbol is: the server's to give, CANN's, the driver's, Python's, or the system's; and of which library.

A rebuild changes only what is the server's. Evidence counts before the table of names: the library that a
version names, that an earlier report has noted, or that defines the symbol's siblings.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_serving.documents import read_document
from npu_serving.elf.loader import Loaded
from npu_serving.elf.mangled import MangledName, parse_mangled
from npu_serving.elf.symbols import Symbol

TABLE = Path(__file__).with_name("owners.yaml")
SERVER, CANN, DRIVER, PYTHON = "server", "cann", "driver", "python"
SYSTEM, UNKNOWN = "system", "unknown"
_OF_THE_SYSTEM = re.compile(r"(GLIBC|GLIBCXX|CXXABI|GCC|GOMP|OMP|GOACC|LIBATOMIC)_")
_LIBSTDCXX = "libstdc++.so.6"
_STANDARD_SCOPES = ("std", "__gnu_cxx", "__cxxabiv1", "__cxxabiapple")
_WORD = re.compile(r"_*(?:[A-Za-z]+?_|[a-z]+|[A-Z]+[a-z0-9]*)")
_SHORTEST_WORD = 3


@dataclass(frozen=True)
class OwnerRow:
    """A row of owners.yaml, whose comments say what the keys mean."""

    owner: str
    namespaces: tuple[str, ...]
    names: str
    library: str


@dataclass(frozen=True)
class OwnersTable:
    """owners.yaml."""

    driver_libraries: str
    driver_cure: str
    rows: tuple[OwnerRow, ...]


@dataclass(frozen=True)
class Owner:
    """Whose a symbol is, and the library that should define it, "" where that can't be said."""

    kind: str
    library: str = ""


@functools.cache
def owners_table() -> OwnersTable:
    """owners.yaml."""
    return read_document(TABLE, OwnersTable)


def is_of_driver(library: str) -> bool:
    """Whether the NPU driver's package holds a library of that name, and none of CANN's does."""
    return bool(re.fullmatch(owners_table().driver_libraries, library))


@functools.cache
def owner_by_name(name: str) -> Owner:
    """Whose a symbol is as far as its name, mangled or of C, says."""
    mangled = parse_mangled(name)
    if mangled is None:
        return _named(name) or Owner(UNKNOWN)
    return _scoped(mangled.scope) or _by_types(mangled) or Owner(UNKNOWN)


def is_named_as_xlas(symbol: str) -> bool:
    """Whether a symbol's namespace says that it is of XLA, or of the LLVM that comes with it."""
    mangled = parse_mangled(symbol)
    return mangled is not None and mangled.scope[:1] in (("xla",), ("llvm",)) and len(mangled.scope) > 1


def owner_of(symbol: Symbol, needed_by: Loaded, former: str | None, libraries: tuple[Loaded, ...]) -> Owner:
    """Whose a symbol is that `needed_by` needs.

    `former` is the library that once defined it, as far as is known, "" for the server; `libraries` are those loaded.
    """
    owner = owner_by_name(symbol.name)
    if symbol.library is not None and symbol.version is not None:
        kind = SYSTEM if _OF_THE_SYSTEM.match(symbol.version) or owner.kind == UNKNOWN else owner.kind
        return Owner(kind, symbol.library)
    if former:
        return Owner({SERVER: CANN, UNKNOWN: SYSTEM}.get(owner.kind, owner.kind), former)
    if owner.kind == SERVER:
        return owner
    if owner.kind == PYTHON:
        here = (item.name for item in libraries if item.name.startswith("libpython"))
        return Owner(PYTHON, next(here, owner.library))
    if owner.kind != UNKNOWN:
        return owner
    library = _family_of(symbol.name, needed_by, libraries)
    return Owner(SYSTEM, library) if library else owner


def _named(name: str) -> Owner | None:
    for row in owners_table().rows:
        if row.names and re.fullmatch(row.names, name):
            return Owner(row.owner, row.library)
    return None


def _scoped(scope: tuple[str, ...]) -> Owner | None:
    """By the scope in which it is declared; a function in no namespace by its own name."""
    if len(scope) == 1:
        named = _named(scope[0])
        if named is not None:
            return named
    for row in owners_table().rows:
        if _is_in(scope, row):
            return Owner(row.owner, row.library)
    return None


def _by_types(mangled: MangledName) -> Owner | None:
    """By the types in its parameters; what speaks of none but the standard library's is that one's."""
    for row in owners_table().rows:
        if any(_is_in(parts, row) for parts in mangled.mentioned):
            return Owner(row.owner, row.library)
    if mangled.scope[:1] and mangled.scope[0] in _STANDARD_SCOPES:
        return Owner(SYSTEM, _LIBSTDCXX)
    return None


def _is_in(parts: tuple[str, ...], row: OwnerRow) -> bool:
    return len(parts) > 1 and any(
        parts[: len(wanted)] == wanted for wanted in (tuple(text.split("::")) for text in row.namespaces)
    )


def _family_of(name: str, needed_by: Loaded, libraries: tuple[Loaded, ...]) -> str:
    """The library that defines the names with the same beginning, such as XML_ of XML_SetHashSalt: most of them, and
    among those that `needed_by` names itself before all others.

    One whose symbols have versions doesn't count: the reference would have one too.
    """
    word = _first_word(name)
    if not word:
        return ""
    for candidates in _in_order(needed_by, libraries):
        counted = [(sum(other.startswith(word) for other in item.elf.defined_names), item.name) for item in candidates]
        most, library = max(counted, default=(0, ""), key=lambda pair: pair[0])
        if most:
            return library
    return ""


def _first_word(name: str) -> str:
    mangled = parse_mangled(name)
    if mangled is not None:
        return f"_ZN{len(mangled.scope[0])}{mangled.scope[0]}" if len(mangled.scope) > 1 else ""
    match = _WORD.match(name)
    return match.group() if match is not None and len(match.group().strip("_")) + 1 >= _SHORTEST_WORD else ""


def _in_order(needed_by: Loaded, libraries: tuple[Loaded, ...]) -> Iterator[list[Loaded]]:
    others = [item for item in libraries[1:] if item is not needed_by and not item.elf.provided_versions]
    yield [item for item in others if item.name in needed_by.elf.needed]
    yield [item for item in others if item.name not in needed_by.elf.needed]

"""Findings on symbols that nothing defines: the reason for `symbol lookup error … undefined symbol`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from npu_serving.elf import owners
from npu_serving.elf.binding import Unresolved
from npu_serving.elf.demangle import demangled
from npu_serving.elf.loader import RPATH, Loaded, lineage
from npu_serving.elf.owners import Owner, owner_of
from npu_serving.elf.report import (
    CANNOT_TELL,
    SYMBOL_OF_CANN,
    SYMBOL_OF_DRIVER,
    SYMBOL_OF_PYTHON,
    SYMBOL_OF_SYSTEM,
    UNDEFINED_SYMBOL,
)
from npu_serving.elf.subject import NOT_OF_CANN, Subject, label
from npu_serving.elf.symbols import Symbol, read_elf
from npu_serving.errors import NpuServingError
from npu_serving.findings import PROBLEM, WARNING, Finding

RELINK = "./inv rebuild-after-cann (a server exports what its own adapter needs, and those that it was built to fit)"
_REBUILD = "./inv build-serving, on a machine with the same libraries as this one"
_KINDS = {
    owners.SERVER: UNDEFINED_SYMBOL,
    owners.UNKNOWN: UNDEFINED_SYMBOL,
    owners.CANN: SYMBOL_OF_CANN,
    owners.DRIVER: SYMBOL_OF_DRIVER,
    owners.PYTHON: SYMBOL_OF_PYTHON,
    owners.SYSTEM: SYMBOL_OF_SYSTEM,
}


def unresolved_symbols(subject: Subject, library: Loaded, unresolved: Sequence[Unresolved]) -> Iterator[Finding]:
    """What `library` needs and nobody defines, and what only a library that is missing here can define."""
    owned = {item.symbol: owner_in(subject, library, item.symbol) for item in unresolved}
    open_questions = [symbol for symbol, owner in owned.items() if _may_be_in_a_missing_one(subject, symbol, owner)]
    missing = [item for item in unresolved if item.symbol not in set(open_questions)]
    is_judged = library in (subject.program, subject.adapter)
    # A library of CANN's may refer to what it never calls: that keeps it from nothing, until it is called.
    at_call = [item.symbol for item in missing if not is_judged and not item.at_start]
    certain = [item.symbol for item in missing if is_judged or item.at_start]
    for symbols, severity, effect in (
        (certain, PROBLEM, "it would fail with 'symbol lookup error … undefined symbol'"),
        (at_call, WARNING, "the server starts, but fails when it calls it"),
    ):
        for owner_kind, group in _by_owner(owned, symbols):
            yield Finding(
                kind=_KINDS[owner_kind],
                severity=severity,
                where=label(library),
                what=f"{_count(group)} defined neither by the server nor by a library that it loads: {effect}."
                f"{whose(subject, owner_kind, [owned[symbol] for symbol in group])}",
                cure=cure_for(subject, library, group[0]),
                details=_described(subject, group, owned),
                symbols=tuple(symbol.name for symbol in group),
            )
    if open_questions:
        unusable = {item.name for item in subject.plan.missing if item.is_broken}
        elsewhere = sorted(subject.missing_names - unusable)
        yield Finding(
            kind=CANNOT_TELL,
            severity=WARNING,
            where=label(library),
            what=f"{_count(open_questions)} not defined by anything that could be loaded; "
            f"{_may_define(elsewhere, sorted(subject.missing_names & unusable))}.",
            cure="check again on a machine that has those libraries: ./inv verify-serving"
            if elsewhere
            else "first fix what is said above of the library, then ./inv verify-serving again",
            details=_described(subject, open_questions, owned),
        )


def owner_in(subject: Subject, library: Loaded, symbol: Symbol) -> Owner:
    """Whose a symbol is that `library` needs, with all that is known of this server.

    The adapter needs no C function of the server, and what came in with it is CANN's but for what the system has.
    """
    owner = owner_of(symbol, library, subject.case.former_definers.get(symbol.name), subject.plan.libraries)
    if owner.kind != owners.UNKNOWN:
        return owner
    if library is subject.adapter:
        return owner if symbol.name.startswith("_Z") else Owner(owners.CANN)
    return Owner(owners.CANN) if is_of_cann(subject, library) else owner


def is_of_cann(subject: Subject, library: Loaded) -> bool:
    """Whether a library came in with the adapter, from elsewhere than the system's own directories."""
    if subject.adapter is None or subject.adapter not in lineage(library):
        return False
    system = subject.case.host.default_directories(subject.program.elf.machine)
    return not NOT_OF_CANN.match(library.name) and library.path.parent not in system


def cure_for(subject: Subject, library: Loaded, symbol: Symbol) -> str:
    """What to type next when nobody defines a symbol that `library` needs."""
    owner = owner_in(subject, library, symbol)
    provider = subject.plan.named(owner.library) if owner.library else None
    again = "then ./inv verify-serving again"
    preferred = _preferred_copy(subject, symbol)
    if preferred is not None:
        copy, plain = preferred
        return (
            f"remove {copy}, which the loader prefers to {plain} on this processor and which lacks it, "
            f"or put a copy of the same release there, {again}"
        )
    if owner.kind == owners.CANN:
        return f"install toolkit (or nnae) and adapter of the same CANN release: ./inv cann-info names both, {again}"
    if owner.kind == owners.DRIVER:
        return f"install the NPU driver that the toolkit's release names (in a container: on the host), {again}"
    if owner.kind == owners.PYTHON:
        if provider is not None and provider.rule == RPATH:  # which the loader searches before LD_LIBRARY_PATH
            return (
                "set python_prefix in invoke.yaml to a Python 3.7.5 built with --enable-shared, then "
                f"./inv build-serving: this server contains its own, {provider.path}"
            )
        where = f"{provider.path.parent} holds another one" if provider is not None else "none is found"
        return f"put the lib directory of a Python 3.7.5 built with --enable-shared first in LD_LIBRARY_PATH: {where}"
    if owner.kind == owners.SYSTEM and provider is not None:
        other = _another_copy(subject, provider, symbol)
        if other is not None:
            return (
                f"take {provider.path.parent} out of LD_LIBRARY_PATH, or put {other.parent} before it: {other} has it"
            )
        return f"install a newer {owner.library} than {provider.path}, with this system's packages, {again}"
    if owner.kind == owners.SYSTEM:
        return f"install the package that contains a newer {owner.library}, {again}"
    if library is subject.program:
        return _REBUILD
    if owner.kind == owners.SERVER:
        return RELINK
    return f"./inv verify-serving --explain {symbol.name} shows who needs it; if it is CANN's, ./inv cann-info"


def _preferred_copy(subject: Subject, symbol: Symbol) -> tuple[Path, Path] | None:
    """A library from a subdirectory for this processor (glibc-hwcaps/x86-64-v3), and the copy that has the symbol:
    the plain one, or that for lesser processors.
    """
    inner = subject.case.host.subdirectories(subject.plan.rules)
    for library in subject.plan.libraries[1:]:
        for at, name in enumerate(inner):
            if str(library.path.parent).endswith(f"/{name}"):
                directory = Path(str(library.path.parent)[: -len(name) - 1] or "/")
                for other in (*(directory / each for each in inner[at + 1 :]), directory):
                    if _defines(other / library.path.name, symbol):
                        return library.path, other / library.path.name
                break  # the longest comes first: tls/haswell before haswell
    return None


def _another_copy(subject: Subject, provider: Loaded, symbol: Symbol) -> Path | None:
    """A library of that name which the loader would find only after `provider`, and which has the symbol."""
    machine, host = subject.program.elf.machine, subject.case.host
    places = [
        directory / provider.name for directory in (*subject.case.library_path, *host.default_directories(machine))
    ]
    cached = host.cached(machine).get(provider.name)
    for path in dict.fromkeys((*places, *([cached] if cached is not None else []))):
        if os.path.exists(path) and not path.samefile(provider.path) and _defines(path, symbol):  # noqa: PTH110 - also where a directory is shut
            return path
    return None


def _defines(path: Path, symbol: Symbol) -> bool:
    try:
        return read_elf(path).defines(symbol.name, symbol.version)
    except (NpuServingError, OSError):
        return False


def _by_owner(owned: dict[Symbol, Owner], symbols: Sequence[Symbol]) -> Iterator[tuple[str, list[Symbol]]]:
    """The symbols of one owner together; those of the system by library, for each is cured for itself."""
    found: dict[tuple[str, str], list[Symbol]] = {}
    for symbol in symbols:
        owner = owned[symbol]
        found.setdefault((owner.kind, owner.library if owner.kind == owners.SYSTEM else ""), []).append(symbol)
    for (kind, _), group in sorted(found.items(), key=lambda item: list(_KINDS).index(item[0][0])):
        yield kind, group


def whose(subject: Subject, kind: str, group: Sequence[Owner]) -> str:
    """The sentence that names the libraries which should define them, with the copies that were found."""
    if kind in (owners.SERVER, owners.UNKNOWN):
        return ""
    names = sorted({owner.library for owner in group if owner.library})
    copies = [str(item.path) for item in map(subject.plan.named, names) if item is not None]
    of = {owners.CANN: "CANN's", owners.DRIVER: "the NPU driver's", owners.PYTHON: "Python's"}.get(kind, "the system's")
    it, them = ("It is", "it") if len(group) == 1 else ("They are", "them")
    here = f"; what is here, {', '.join(copies)}, is older, or a different build" if copies else ""
    return f" {it} {of}: {' and '.join(names) or 'one of its libraries'} should define {them}{here}."


def _may_be_in_a_missing_one(subject: Subject, symbol: Symbol, owner: Owner) -> bool:
    if symbol.library is not None:
        return symbol.library in subject.missing_names
    if owner.kind == owners.PYTHON:
        return any(name.startswith("libpython") for name in subject.missing_names)
    if owner.kind == owners.SERVER:
        return False  # the server defines it or nobody does
    return bool(subject.missing_names)


def _may_define(missing: Sequence[str], unusable: Sequence[str]) -> str:
    parts = [f"a library that is missing here may define them: {', '.join(missing)}"] if missing else []
    parts += [f"a library that can't be used may define them: {', '.join(unusable)}"] if unusable else []
    return "; ".join(parts)


def _count(symbols: Sequence[Symbol]) -> str:
    return "1 symbol that it needs is" if len(symbols) == 1 else f"{len(symbols)} symbols that it needs are"


def _described(subject: Subject, symbols: Sequence[Symbol], owned: dict[Symbol, Owner]) -> tuple[str, ...]:
    names = demangled(symbol.name for symbol in symbols)
    libraries = {owned[symbol].library for symbol in symbols}
    return tuple(
        sorted(
            _described_one(subject, symbol, names[symbol.name], owned[symbol].library if len(libraries) > 1 else "")
            for symbol in symbols
        )
    )


def adapters_of(releases: Sequence[str]) -> str:
    """Names the adapters of those releases, of which there is one at least."""
    *others, last = releases
    return f"TF Adapter of CANN {', '.join(others)} and {last}" if others else f"TF Adapter of CANN {last}"


def _described_one(subject: Subject, symbol: Symbol, readable: str, library: str) -> str:
    text = symbol.versioned_name if readable == symbol.name else f"{readable}  [{symbol.versioned_name}]"
    releases = subject.case.needing(symbol.name)
    if releases:
        text += f", needed by {adapters_of(releases)}"
    former = symbol.library or subject.case.former_definers.get(symbol.name)
    if former:
        return f"{text}, once in {former}"
    return f"{text}, of {library}" if library else text

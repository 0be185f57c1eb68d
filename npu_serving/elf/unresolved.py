"""Findings on symbols that nothing defines: the reason for `symbol lookup error … undefined symbol`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from npu_serving.elf.binding import Unresolved
from npu_serving.elf.demangle import demangled
from npu_serving.elf.loader import Loaded
from npu_serving.elf.report import CANNOT_TELL, UNDEFINED_SYMBOL
from npu_serving.elf.subject import Subject, is_of_cann, is_of_tensorflow, label
from npu_serving.elf.symbols import Symbol
from npu_serving.findings import PROBLEM, WARNING, Finding

_PYTHON_SYMBOL = re.compile(r"_?Py[A-Z_]")
RELINK = "./inv rebuild-after-cann (a server exports exactly what the adapter it was linked with needed)"
SAME_RELEASE = "install toolkit (or nnae) and tfplugin of the same CANN release, then ./inv verify-serving again"
_REBUILD = "./inv build-serving, on a machine with the same libraries as this one"


def unresolved_symbols(subject: Subject, library: Loaded, unresolved: Sequence[Unresolved]) -> Iterator[Finding]:
    """What `library` needs and nobody defines, and what only a library that is missing here can define."""
    open_questions = [item.symbol for item in unresolved if _may_be_in_a_missing_one(subject, item.symbol)]
    missing = [item for item in unresolved if item.symbol not in set(open_questions)]
    is_judged = library in (subject.program, subject.adapter)
    # A library of CANN's may refer to what it never calls: that keeps it from nothing, until it is called.
    at_call = [] if is_judged else [item.symbol for item in missing if not item.at_start]
    certain = [item.symbol for item in missing if is_judged or item.at_start]
    for cure, symbols in _by_cure(subject, library, certain):
        yield Finding(
            kind=UNDEFINED_SYMBOL,
            severity=PROBLEM,
            where=label(library),
            what=f"{_count(symbols)} defined neither by the server nor by a library that it loads: it would fail with "
            "'symbol lookup error … undefined symbol'.",
            cure=cure,
            details=_described(subject, symbols),
        )
    if at_call:
        yield Finding(
            kind=UNDEFINED_SYMBOL,
            severity=WARNING,
            where=label(library),
            what=f"{_count(at_call)} defined by nothing that is loaded: the server starts, but fails when it calls it.",
            cure=SAME_RELEASE,
            details=_described(subject, at_call),
        )
    if open_questions:
        yield Finding(
            kind=CANNOT_TELL,
            severity=WARNING,
            where=label(library),
            what=f"{_count(open_questions)} not defined by anything that was found; a library that is missing here may "
            f"define them: {', '.join(sorted(subject.missing_names))}.",
            cure="check again on a machine that has those libraries: ./inv verify-serving",
            details=_described(subject, open_questions),
        )


def cure_for(subject: Subject, library: Loaded, symbol: Symbol) -> str:
    """What to type next when nobody defines a symbol that `library` needs."""
    if library is subject.program:
        return _REBUILD
    if library is not subject.adapter or is_of_cann(symbol.name) or subject.case.former_definers.get(symbol.name):
        return SAME_RELEASE
    return RELINK


def _by_cure(subject: Subject, library: Loaded, symbols: Iterable[Symbol]) -> Iterator[tuple[str, list[Symbol]]]:
    found: dict[str, list[Symbol]] = {}
    for symbol in symbols:
        found.setdefault(cure_for(subject, library, symbol), []).append(symbol)
    yield from found.items()


def _may_be_in_a_missing_one(subject: Subject, symbol: Symbol) -> bool:
    if symbol.library is not None:
        return symbol.library in subject.missing_names
    if _PYTHON_SYMBOL.match(symbol.name):
        return any(name.startswith("libpython") for name in subject.missing_names)
    if is_of_tensorflow(symbol.name):
        return False  # the server defines it or nobody does
    return bool(subject.missing_names)


def _count(symbols: Sequence[Symbol]) -> str:
    return "1 symbol that it needs is" if len(symbols) == 1 else f"{len(symbols)} symbols that it needs are"


def _described(subject: Subject, symbols: Sequence[Symbol]) -> tuple[str, ...]:
    names = demangled(symbol.name for symbol in symbols)
    return tuple(sorted(_described_one(subject, symbol, names[symbol.name]) for symbol in symbols))


def _described_one(subject: Subject, symbol: Symbol, readable: str) -> str:
    text = symbol.versioned_name if readable == symbol.name else f"{readable}  [{symbol.versioned_name}]"
    former = symbol.library or subject.case.former_definers.get(symbol.name)
    return f"{text}, once in {former}" if former else text

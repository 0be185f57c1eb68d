"""Where server and adapter agree on names but not on what the names mean: std::string, and the sizes of variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from npu_serving.elf.demangle import demangled
from npu_serving.elf.loader import Loaded, LoadPlan
from npu_serving.elf.report import ABI_MIXTURE, COPY_LOST, SIZE_CHANGED
from npu_serving.elf.subject import Subject
from npu_serving.elf.symbols import Symbol
from npu_serving.findings import PROBLEM, WARNING, Finding

_IDENTIFIER = re.compile(r"(?<![ST])(?<![ST][0-9])[0-9]+")  # S0_ and T1_ name something that came before
_NEW_STRING = ("7__cxx11", "B5cxx11")  # namespace and ABI tag of GCC's dual ABI
_OLD_STRING = ("Ss", "Sb")  # std::string and std::basic_string as the Itanium C++ ABI abbreviates them
_NAMES = {"old": "the old one (_GLIBCXX_USE_CXX11_ABI=0)", "new": "the new one (_GLIBCXX_USE_CXX11_ABI=1)"}
_CURE = (
    "take the adapter that CANN ships for TensorFlow 1.15, which like the server's .bazelrc has "
    "_GLIBCXX_USE_CXX11_ABI=0, or build both with the same value"
)


def mixed_strings(server: Loaded, adapter: Loaded, missing: Iterable[Symbol]) -> Iterator[Finding]:
    """Signs that server and adapter were compiled for different std::strings.

    For certain where the server defines a missing function with the other one; probably where one side asks for
    functions with the new std::string only, and the other side with the old one only.
    """
    twins = tuple(_twins(server, missing))
    sides = {label: string_kinds(item.elf.undefined) for label, item in (("server", server), ("adapter", adapter))}
    if twins or (len(sides["server"]) == len(sides["adapter"]) == 1 and sides["server"] != sides["adapter"]):
        wanted = "; ".join(f"the {side}'s is {_NAMES[min(kinds)]}" for side, kinds in sides.items() if len(kinds) == 1)
        yield Finding(
            kind=ABI_MIXTURE,
            severity=PROBLEM if twins else WARNING,
            where=adapter.name or adapter.path.name,
            what="Server and adapter were compiled for different std::strings, so neither can read the other's"
            f"{': ' + wanted if wanted else ''}.",
            cure=_CURE,
            details=twins,
        )


def string_kinds(symbols: Iterable[Symbol]) -> frozenset[str]:
    """Which std::string the names speak of: "old", "new", both or none."""
    return frozenset(kind for symbol in symbols if (kind := string_kind(symbol.name)))


def string_kind(name: str) -> str:
    """Which std::string a mangled name speaks of: "old", "new", or "" for none."""
    if any(mark in name for mark in _NEW_STRING):
        return "new"
    if name.startswith("_Z") and any(mark in name for mark in _OLD_STRING):
        between = "".join(text for text, _ in _pieces(name))
        return "old" if any(mark in between for mark in _OLD_STRING) else ""
    return ""


def _twins(server: Loaded, missing: Iterable[Symbol]) -> Iterator[str]:
    """The missing symbols that the server defines, but for the other std::string."""
    wanted = {(_path(item.name), kind): item.name for item in missing if (kind := string_kind(item.name))}
    if not wanted:
        return
    for name in sorted(server.elf.defined_names):
        other = {"old": "new", "new": "old"}.get(string_kind(name), "")
        asked = wanted.pop((_path(name), other), None)
        if asked is not None:
            yield f"{asked}  (the server has {name})"


def _path(name: str) -> tuple[str, ...]:
    """The identifiers that a mangled name begins with: tensorflow, strings, Cat."""
    found: list[str] = []
    for between, identifier in _pieces(name):
        if found and between:
            break
        found.append(identifier)
    return tuple(found)


def _pieces(name: str) -> Iterator[tuple[str, str]]:
    """A mangled name in pieces: what stands before an identifier, and the identifier, whose length is written."""
    start = 0
    while (found := _IDENTIFIER.search(name, start)) is not None:
        end = found.end() + int(found.group()[:6])
        yield name[start : found.start()], name[found.end() : end]
        start = end
    yield name[start:], ""


def lost_copies(subject: Subject) -> Iterator[Finding]:
    """The variables of libraries that the server keeps a copy of (R_*_COPY) and that no library has any more."""
    lost = tuple(subject.binding.lost_copies())
    if not lost:
        return
    is_open = bool(subject.missing_names) and all(symbol.library in (None, *subject.missing_names) for symbol in lost)
    variables = "a variable" if len(lost) == 1 else f"{len(lost)} variables"
    nowhere = "only a library that is missing here can have" if is_open else "no library has any more"
    yield Finding(
        kind=COPY_LOST,
        severity=WARNING if is_open else PROBLEM,
        where=subject.program.path.name,
        what=f"It was linked with a copy of {variables} that {nowhere}: it would fail with 'symbol lookup error … "
        "undefined symbol'.",
        cure="./inv rebuild-after-cann (linking again finds what its libraries have now)",
        details=tuple(sorted(_described(lost))),
    )


def _described(lost: Sequence[Symbol]) -> Iterator[str]:
    names = demangled(symbol.name for symbol in lost)
    for symbol in lost:
        readable, name = names[symbol.name], symbol.versioned_name
        once = f", once in {symbol.library}" if symbol.library else ""
        yield f"{name if readable == symbol.name else f'{readable}  [{name}]'}{once}"


def changed_sizes(plan: LoadPlan) -> Iterator[Finding]:
    """The variables of libraries that the server keeps a copy of with a size that has since changed.

    The loader copies what fits. It warns of one that grew, and starts the server all the same.
    """
    for copy in plan.program.elf.copied_symbols():
        for library in plan.libraries[1:]:
            original = library.elf.definition(copy.name, copy.version)
            if original is None:
                continue
            if original.size != copy.size:
                grown = (
                    " The loader only warns of it (has different size in shared object, consider re-linking), but what "
                    "uses the rest of it uses the memory behind the copy."
                )
                yield Finding(
                    kind=SIZE_CHANGED,
                    severity=WARNING,
                    where=library.name,
                    what=f"The server has a copy of its variable {copy.name} with {copy.size} bytes; in {library.path} "
                    f"it has {original.size}.{grown if original.size > copy.size else ''}",
                    cure="./inv rebuild-after-cann (linking again renews the copy)",
                )
            break

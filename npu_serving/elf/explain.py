"""verify-serving --explain: what needs a symbol, what defines it, the search order, and why it is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from npu_serving.elf.binding import lacks_version
from npu_serving.elf.demangle import demangled, names_meant
from npu_serving.elf.loader import Loaded
from npu_serving.elf.owners import SERVER, UNKNOWN
from npu_serving.elf.subject import ServerCase, Subject, label, subject_of
from npu_serving.elf.symbols import Symbol, read_elf
from npu_serving.elf.unresolved import adapters_of, cure_for, owner_in, whose
from npu_serving.errors import EXIT_ACTION_NEEDED, NpuServingError, RequestError


@dataclass(frozen=True)
class Use:
    """One file that refers to a symbol: `when` is "at the start", "when called" or "never"; `bound_to` may be ""."""

    file: str
    version: str
    is_weak: bool
    when: str
    bound_to: str


@dataclass(frozen=True)
class Definition:
    """One file that defines a symbol, with the version as nm writes it, the kind, and the size in bytes."""

    file: str
    versioned_name: str
    type: str
    size_bytes: int


@dataclass(frozen=True)
class Explanation:
    """All about one symbol. `elsewhere` are files that define it, lie in searched directories, and are not loaded."""

    name: str
    readable: str
    uses: tuple[Use, ...]
    definitions: tuple[Definition, ...]
    elsewhere: tuple[str, ...]
    why: str
    cure: str
    releases: tuple[str, ...] = ()
    """The releases of CANN whose adapters are known to need it of the server."""

    def text(self) -> str:
        """A line for each use and definition, then the reason and the cure."""
        lines = [self.readable if self.readable == self.name else f"{self.readable}  [{self.name}]"]
        for use in self.uses:
            wanted = f"{'weak, ' if use.is_weak else ''}looked up {use.when}"
            version = f", version {use.version}" if use.version else ""
            lines.append(f"  needed by {use.file} ({wanted}{version}); bound to {use.bound_to or 'nothing'}")
        for item in self.definitions:
            lines.append(f"  defined by {item.file} as {item.versioned_name} ({item.type}, {item.size_bytes} bytes)")
        lines += [f"  defined by {path}, which is not loaded" for path in self.elsewhere]
        if self.releases:
            lines.append(f"  needed of the server by {adapters_of(self.releases)}")
        return "\n".join([*lines, f"  {self.why}", *([f"  Next: {self.cure}"] if self.cure else [])])


@dataclass(frozen=True)
class ExplainResult:
    """The symbols that were meant; the files in which the loader looks, in its order, and why each is there."""

    symbols: tuple[Explanation, ...]
    order: tuple[tuple[str, str], ...]

    @property
    def exit_code(self) -> int:
        """0, or 3 where one of them is missing."""
        return EXIT_ACTION_NEEDED if any(symbol.cure for symbol in self.symbols) else 0

    def to_json(self) -> dict[str, object]:
        """All of it."""
        order = [{"file": file, "found_by": rule} for file, rule in self.order]
        return {"symbols": [asdict(symbol) for symbol in self.symbols], "lookup_order": order}

    def text(self) -> str:
        """The symbols, then the order."""
        numbered = [f"  {number} {file} ({rule})" for number, (file, rule) in enumerate(self.order, 1)]
        return "\n".join([*(symbol.text() for symbol in self.symbols), "searched in this order:", *numbered])


def explain(case: ServerCase, symbol: str) -> ExplainResult:
    """Everything known about `symbol`, mangled or as C++ writes it, with or without its parameters.

    Raises what check_server() does; RequestError for a symbol that no file needs or defines.
    """
    subject = subject_of(case)
    name, _, version = symbol.partition("@")
    names = names_meant(name, _all_names(subject.plan.libraries))
    if not names:
        raise RequestError(
            f"Neither {case.server.name} nor any library that it loads needs or defines {symbol}.",
            cause="it is spelled differently there; C++ names are compared as c++filt (of binutils) writes them"
            + (f", or it is in a library that is missing: {_missing(subject)}" if subject.missing_names else ""),
            cure="copy the name from the output of verify-serving or the loader",
        )
    readable = demangled(names)
    wanted_version = version.lstrip("@") or None
    order = tuple((str(item.path), item.rule) for item in subject.plan.libraries)
    return ExplainResult(tuple(_explained(subject, name, readable[name], wanted_version) for name in names), order)


def _all_names(libraries: Sequence[Loaded]) -> set[str]:
    return {
        name
        for item in libraries
        for name in (*item.elf.defined_names, *(symbol.name for symbol in item.elf.undefined))
    }


def _explained(subject: Subject, name: str, readable: str, version: str | None) -> Explanation:
    found = [
        (item, symbol)
        for item in subject.plan.libraries
        for symbol in item.elf.undefined
        if symbol.name == name and version in (None, symbol.version)
    ]
    definitions = tuple(
        Definition(str(item.path), symbol.versioned_name, symbol.type, symbol.size)
        for item in subject.plan.libraries
        for symbol in item.elf.definitions(name)
    )
    lost = [(item, symbol) for item, symbol in found if not symbol.is_weak and _bound_to(subject, item, symbol) is None]
    elsewhere = tuple(_elsewhere(subject, name)) if lost else ()
    why = _why_missing(subject, *lost[0], definitions, elsewhere) if lost else _why_found(subject, found)
    return Explanation(
        name=name,
        readable=readable,
        uses=tuple(_use(subject, item, symbol) for item, symbol in found),
        definitions=definitions,
        elsewhere=elsewhere,
        why=why,
        cure=cure_for(subject, *lost[0]) if lost else "",
        releases=tuple(subject.case.needing(name)),
    )


def _use(subject: Subject, library: Loaded, symbol: Symbol) -> Use:
    references = library.elf.references
    when = "when called" if symbol.number in references.when_called else "never"
    bound_to = _bound_to(subject, library, symbol)
    return Use(
        file=str(library.path),
        version=symbol.version or "",
        is_weak=symbol.is_weak,
        when="at the start" if symbol.number in references.at_start else when,
        bound_to=str(bound_to.path) if bound_to is not None else "",
    )


def _bound_to(subject: Subject, library: Loaded, symbol: Symbol) -> Loaded | None:
    references = library.elf.references
    is_called = symbol.number in references.calls | references.when_called
    return subject.binding.definer(symbol, for_address=not is_called)


def _why_found(subject: Subject, found: Sequence[tuple[Loaded, Symbol]]) -> str:
    if not found:
        return "Nothing that is loaded needs it."
    if any(_bound_to(subject, item, symbol) is None for item, symbol in found):
        return "Nothing defines it, which is fine: the reference is weak."
    return "It is found: the first file in the order below that defines it is taken."


def _why_missing(
    subject: Subject, library: Loaded, symbol: Symbol, definitions: Sequence[Definition], elsewhere: Sequence[str]
) -> str:
    if symbol.version is not None and symbol.library is not None:
        provider = subject.plan.named(symbol.library)
        if provider is not None and lacks_version(provider, symbol.version):
            return f"It is missing: {provider.path} has no version {symbol.version}."
    if definitions:
        return f"It is missing: it is defined, but not in the needed version, {symbol.version}."
    if elsewhere:
        return "It is missing: the library that defines it is installed, but nothing that is loaded depends on it."
    former = symbol.library or subject.case.former_definers.get(symbol.name)
    if former in subject.missing_names:
        return f"It is missing because {former}, which defined it, is missing."
    if former:
        return f"It is missing: an earlier {former} defined it, but the one installed here does not."
    owner = owner_in(subject, library, symbol)
    if owner.kind not in (SERVER, UNKNOWN) and owner.library not in subject.missing_names:
        return f"It is missing.{whose(subject, owner.kind, [owner])}"
    if subject.missing_names:
        return f"It is missing, perhaps because a library is missing: {_missing(subject)}."
    return f"It is missing: neither {label(subject.program)} nor any library defines it."


def _missing(subject: Subject) -> str:
    return ", ".join(sorted(subject.missing_names))


def _elsewhere(subject: Subject, name: str) -> Iterator[str]:
    """The libraries beside those that are loaded, which would define it."""
    loaded = {os.path.realpath(item.path) for item in subject.plan.libraries}
    directories = [*subject.case.library_path, *(item.path.parent for item in subject.plan.libraries[1:])]
    for directory in dict.fromkeys(directories):
        for path in sorted(directory.glob("*.so*")):
            real = os.path.realpath(path)
            if real not in loaded and _defines(path, name):
                loaded.add(real)
                yield str(path)


def _defines(path: Path, name: str) -> bool:
    try:
        return bool(read_elf(path).definitions(name))
    except NpuServingError:
        return False

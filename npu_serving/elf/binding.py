"""Which library the loader binds a symbol to: the first one in its order that defines it with a fitting version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from npu_serving.elf.loader import Loaded, LoadPlan
from npu_serving.elf.symbols import Symbol


class Unresolved(NamedTuple):
    """A symbol that nothing defines. Without `at_start`, the loader notices only when it is called."""

    symbol: Symbol
    at_start: bool


class Binding:
    """The symbols of all libraries of a plan, as glibc's global lookup binds them (elf/dl-lookup.c)."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._known: dict[tuple[str, str | None, str | None, bool], Loaded | None] = {}

    def definer(self, symbol: Symbol, *, for_address: bool = False) -> Loaded | None:
        """The library that an undefined symbol is bound to; None where the loader finds none that fits.

        It depends on what the symbol is wanted for: see ElfFile.defines().
        """
        key = (symbol.name, symbol.version, symbol.library, for_address)
        if key not in self._known:
            self._known[key] = self._found(symbol, self._plan.libraries, for_address=for_address)
        return self._known[key]

    def unresolved(self, library: Loaded) -> Iterator[Unresolved]:
        """The symbols that `library` refers to and that the loader ends at: strong ones that nothing defines.

        Those of a version that their library lacks are not among them: the loader stops before it looks for them.
        """
        references = library.elf.references
        for symbol in library.elf.undefined:
            if self.definer(symbol) is not None or self._version_is_missing(symbol):
                continue
            if symbol.is_weak and not self._is_inconsistent(symbol):
                continue
            is_address = symbol.number in references.addresses and self.definer(symbol, for_address=True) is None
            if is_address or symbol.number in references.calls:
                yield Unresolved(symbol, at_start=True)
            elif symbol.number in references.when_called:
                yield Unresolved(symbol, at_start=False)

    def lost_copies(self) -> Iterator[Symbol]:
        """The variables that the program keeps a copy of, and that no library defines any more.

        The loader looks for them in the libraries alone, and ends where it finds none, but for weak ones.
        """
        program = self._plan.program
        for symbol in program.elf.copied_symbols():
            wanted = symbol._replace(library=program.elf.copied_from(symbol))
            if self._version_is_missing(wanted) or (symbol.is_weak and not self._is_inconsistent(wanted)):
                continue
            if self._found(wanted, self._plan.libraries[1:], for_address=True) is None:
                yield wanted

    def _found(self, symbol: Symbol, libraries: Sequence[Loaded], *, for_address: bool) -> Loaded | None:
        for item in libraries:
            if item.elf.defines(symbol.name, symbol.version, for_address=for_address):
                return None if self._gives_up_at(item, symbol) else item
        return None

    def _version_is_missing(self, symbol: Symbol) -> bool:
        if symbol.version is None or symbol.library is None:
            return False
        return lacks_version(self._plan.named(symbol.library), symbol.version)

    def _is_inconsistent(self, symbol: Symbol) -> bool:
        """Whether the loader comes across such a library, which ends it for a weak symbol as well."""
        provider = self._plan.named(symbol.library) if symbol.library is not None else None
        return provider is not None and self._gives_up_at(provider, symbol) and provider.elf.defines(symbol.name)

    def _gives_up_at(self, found: Loaded, symbol: Symbol) -> bool:
        """Whether glibc ends with "Inconsistency detected": a library that once had versions has none at all."""
        if symbol.version is None or symbol.library is None or found.elf.records_versions:
            return False
        return self._plan.named(symbol.library) is found


def lacks_version(provider: Loaded | None, version: str) -> bool:
    """Whether the loader would refuse: a library that defines no versions is taken with a warning."""
    return provider is not None and bool(provider.elf.version_definitions) and not provider.elf.has_version(version)

"""Which library the loader binds a symbol to: the first one in its order that defines it with a fitting version."""

from __future__ import annotations

from collections.abc import Iterator
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
        self._known: dict[tuple[str, str | None, str | None], Loaded | None] = {}

    def definer(self, symbol: Symbol) -> Loaded | None:
        """The library that an undefined symbol is bound to; None where the loader finds none that fits."""
        key = (symbol.name, symbol.version, symbol.library)
        if key not in self._known:
            found = next((item for item in self._plan.libraries if item.elf.defines(symbol.name, symbol.version)), None)
            self._known[key] = None if found is not None and self._gives_up_at(found, symbol) else found
        return self._known[key]

    def unresolved(self, library: Loaded) -> Iterator[Unresolved]:
        """The strong symbols that `library` refers to and that nothing defines.

        Those of a version that their library lacks are not among them: the loader stops before it looks for them.
        """
        for symbol in library.elf.undefined:
            if symbol.is_weak or self.definer(symbol) is not None or self._version_is_missing(symbol):
                continue
            references = library.elf.references
            if symbol.number in references.at_start or symbol.number in references.when_called:
                yield Unresolved(symbol, symbol.number in references.at_start)

    def _version_is_missing(self, symbol: Symbol) -> bool:
        if symbol.version is None or symbol.library is None:
            return False
        return lacks_version(self._plan.named(symbol.library), symbol.version)

    def _gives_up_at(self, found: Loaded, symbol: Symbol) -> bool:
        """Whether glibc ends with "Inconsistency detected": a library that once had versions has none at all."""
        if symbol.version is None or symbol.library is None or found.elf.records_versions:
            return False
        return self._plan.named(symbol.library) is found


def lacks_version(provider: Loaded | None, version: str) -> bool:
    """Whether the loader would refuse: a library that defines no versions is taken with a warning."""
    return provider is not None and bool(provider.elf.version_definitions) and not provider.elf.has_version(version)

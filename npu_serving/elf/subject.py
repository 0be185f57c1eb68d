"""What a check is about: a server and its adapter with all that the loader would load for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Callable

from npu_serving.elf.binding import Binding
from npu_serving.elf.loader import Host, Loaded, LoadPlan, plan_loading
from npu_serving.elf.symbols import ElfFile
from npu_serving.facts import ADAPTER_SONAME

# Libraries that the adapter needs and that no CANN package holds.
NOT_OF_CANN = re.compile(
    r"(libtensorflow_framework|_pywrap_tensorflow_internal|libpython[\w.]*?|ld-linux-[\w-]+"
    r"|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|gomp|atomic))\.so"
)


def needed_by_nobody(_symbol: str) -> Sequence[str]:
    """For a server of which it is not known what the adapters of several releases need."""
    return ()


@dataclass(frozen=True)
class ServerCase:
    """A server that is to be judged as it is, and the circumstances in which it would be started."""

    server: Path
    adapter: Path | None = None
    """Stands in for the one that the loader would find: if the report on it is ok, then all that it needs is there, and
    it may replace the adapter of the build without another link."""
    adapter_elf: ElfFile | None = None
    """What was read from that one already; None where nothing was."""
    adapter_soname: str = ADAPTER_SONAME
    library_path: Sequence[Path] = ()
    """LD_LIBRARY_PATH."""
    cann_absent: bool = False
    """On a machine that builds and has no CANN, CANN's libraries may be missing, and the symbols that can only be
    theirs are not looked for."""
    without_adapter: bool = False
    """It was linked without one, to be tried on the CPU."""
    former_definers: Mapping[str, str] = field(default_factory=dict)
    """What an earlier report says about who defines which symbol of the adapter."""
    needing: Callable[[str], Sequence[str]] = needed_by_nobody
    """The releases whose adapters are known to need a symbol of the server."""
    host: Host = field(default_factory=Host)
    """Where this machine's libraries are."""


def subject_of(case: ServerCase, program: ElfFile | None = None) -> Subject:
    """What the loader would load for it; `program` is the server where it was read already.

    Raises ElfError and FileAccessError for a server, or an adapter that stands in, that can't be read.
    """
    instead = {case.adapter_soname: case.adapter_elf or case.adapter} if case.adapter is not None else {}
    server = program or case.server
    return Subject(case, plan_loading(server, library_path=case.library_path, instead=instead, host=case.host))


@dataclass(frozen=True)
class Subject:
    """A server with its libraries, in the order in which the loader looks for symbols."""

    case: ServerCase
    plan: LoadPlan

    @property
    def program(self) -> Loaded:
        """The server."""
        return self.plan.program

    @property
    def adapter_soname(self) -> str:
        """The name by which the server asks for its adapter."""
        return self.case.adapter_soname

    @cached_property
    def adapter(self) -> Loaded | None:
        """The adapter that would be loaded."""
        return self.plan.named(self.adapter_soname)

    @cached_property
    def binding(self) -> Binding:
        """Who defines what."""
        return Binding(self.plan)

    @cached_property
    def missing_names(self) -> frozenset[str]:
        """The libraries that can't be loaded."""
        return frozenset(item.name for item in self.plan.missing)

    def definers(self) -> Mapping[str, str]:
        """Who defines the unversioned symbols of the adapter: symbol -> the library's name, "" for the server."""
        if self.adapter is None:
            return {}
        wanted = [item for item in self.adapter.elf.undefined if item.version is None]
        found = {item.name: self.binding.definer(item) for item in wanted}
        return {name: library.name for name, library in sorted(found.items()) if library is not None}


def label(library: Loaded) -> str:
    """How a finding names a library, or the server."""
    return library.name or library.path.name

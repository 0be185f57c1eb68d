"""What a check is about: a server and its adapter with all that the loader would load for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from npu_serving.elf.binding import Binding
from npu_serving.elf.loader import Loaded, LoadPlan

# CANN has TensorFlow's messages as domi::tensorflow::…, and its own interfaces are ge::… and domi::…
_TENSORFLOW = re.compile(r"(?<!4domi)10tensorflow")
_SCOPE_OF_CANN = re.compile(r"_Z(T[VTIS])?NK?(2ge|4domi)")


@dataclass(frozen=True)
class Subject:
    """A server with its libraries, in the order in which the loader looks for symbols.

    `library_path` is LD_LIBRARY_PATH. With `cann_absent` this is a machine that builds and has no CANN.
    `former_definers` says who defined a symbol of the adapter at an earlier check.
    """

    plan: LoadPlan
    adapter_soname: str
    library_path: Sequence[Path]
    cann_absent: bool
    former_definers: Mapping[str, str]

    @property
    def program(self) -> Loaded:
        """The server."""
        return self.plan.program

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


def is_of_tensorflow(name: str) -> bool:
    """Whether a mangled name refers to TensorFlow's own classes, not of CANN's copies of its messages."""
    return bool(_TENSORFLOW.search(name)) and not is_of_cann(name)


def is_of_cann(name: str) -> bool:
    """Whether a mangled name belongs to a namespace of CANN."""
    return bool(_SCOPE_OF_CANN.match(name))

"""Will this server start on this machine, with that adapter? Answered from the files alone: nothing is started."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.elf.abi import changed_sizes, lost_copies, mixed_strings
from npu_serving.elf.binding import lacks_version
from npu_serving.elf.loader import Host, Loaded, NotLoaded, lineage, plan_loading
from npu_serving.elf.machine import level_findings, program_findings
from npu_serving.elf.owners import is_of_driver, owners_table
from npu_serving.elf.processor import LARGEST_COMMON_PAGE_BYTES
from npu_serving.elf.refusals import page_refusal
from npu_serving.elf.report import (
    ADAPTER_NOT_LINKED,
    DRIVER_NOT_FOUND,
    LIBRARY_NOT_FOUND,
    LIBRARY_UNUSABLE,
    NEEDS_IT,
    OTHER_MACHINE,
    PAGE_SIZE,
    TOO_NEW,
    CompatReport,
)
from npu_serving.elf.stubs import stub_findings
from npu_serving.elf.subject import NOT_OF_CANN, ServerCase, Subject, label, subject_of
from npu_serving.elf.symbols import ElfFile, read_elf
from npu_serving.elf.unresolved import unresolved_symbols
from npu_serving.errors import ElfError
from npu_serving.facts import ADAPTER_SONAME
from npu_serving.file_access import cure_for, refused_at, whose
from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.version_numbers import leading_version, version_of

if TYPE_CHECKING:
    from packaging.version import Version

_OF_BAZEL = ("bazel-out", "execroot")  # directories of an output base
_NEWER_LIBSTDCXX = (
    "put a newer libstdc++.so.6 first in LD_LIBRARY_PATH (guide 7.5), or ./inv build-serving --runner docker"
)
_CURES_FOR_VERSIONS = {
    "GLIBC": "./inv build-serving --runner docker, whose image has an older C library; or run it on a newer system",
    "GLIBCXX": _NEWER_LIBSTDCXX,
    "CXXABI": _NEWER_LIBSTDCXX,
}


def check_server(case: ServerCase) -> CompatReport:
    """What would keep the server from starting; `.ok` if nothing would.

    Raises ElfError and FileAccessError when the server, or the adapter that stands in, can't be read.
    """
    program = read_elf(case.server)
    if program.type not in ("EXEC", "DYN"):
        raise ElfError(
            f"{case.server} is not a program.",
            cause="it is an object file",
            cure="name the linked server, such as dist/current/bin/tensorflow_model_server",
        )
    if program.machine != platform.machine():
        found = (_other_machine(case.server.name, program.machine), *_pages_elsewhere(case, program))
        return CompatReport(case.server, case.adapter, (case.server,), found)
    subject = subject_of(case, program)
    taken = subject.adapter.path if subject.adapter is not None else case.adapter
    paths = tuple(item.path for item in subject.plan.libraries)
    found = tuple(_Check(subject).findings())
    return CompatReport(case.server, taken, paths, found, subject.definers(), case.without_adapter)


def undefined_needs(adapter: ElfFile) -> tuple[str, ...]:
    """The symbols that `adapter` expects of the program it is linked into, of CANN or of Python, sorted.

    Those that record a version (memcpy@GLIBC_2.14, …@GLIBCXX_3.4) come from the system's libraries, and the loader
    goes on without weak ones: both are left out. So the answer depends on the adapter alone, not on this machine.
    """
    undefined = adapter.undefined
    return tuple(sorted({symbol.name for symbol in undefined if symbol.version is None and not symbol.is_weak}))


def needed_from_server(
    server: Path,
    adapter: Path,
    *,
    adapter_soname: str = ADAPTER_SONAME,
    library_path: Sequence[Path] = (),
    host: Host | None = None,
) -> tuple[str, ...]:
    """The strong symbols of `adapter` that `server` itself must export, sorted: no library beside it defines them.

    Where libraries of CANN are missing, what can only be theirs is among them. Raises what check_server() does.
    """
    plan = plan_loading(server, library_path=library_path, instead={adapter_soname: adapter}, host=host)
    libraries = plan.libraries[1:]
    undefined = [item for item in read_elf(adapter).undefined if not item.is_weak]
    return tuple(
        sorted(
            {
                item.name
                for item in undefined
                if not any(library.elf.defines(item.name, item.version) for library in libraries)
            }
        )
    )


def _pages_elsewhere(case: ServerCase, program: ElfFile) -> Iterator[Finding]:
    """What could not be loaded where it belongs: machines of one kind have pages of several sizes."""
    page_bytes = LARGEST_COMMON_PAGE_BYTES.get(program.machine)
    adapter = case.adapter_elf or (read_elf(case.adapter) if case.adapter is not None else None)
    for elf in (program, adapter):
        if elf is None or elf.machine != program.machine or page_bytes is None:
            continue
        refusal = page_refusal(elf, page_bytes)
        if refusal is not None:
            yield Finding(
                kind=PAGE_SIZE,
                severity=WARNING,
                where=elf.path.name,
                what=f"Machines for {elf.machine} with large pages can't load it: {refusal.why}",
                cure=refusal.cure,
            )


def _searched(item: NotLoaded) -> tuple[str, ...]:
    """The directories that were searched, without those of the tree that a server was built in: its DT_RUNPATH names
    them beside its own lib/, and nobody is meant to put anything there.
    """
    return tuple(
        str(path)
        for path in item.searched
        if not any(part.startswith("_solib_") or part.endswith(".runfiles") or part in _OF_BAZEL for part in path.parts)
    )


def _other_machine(name: str, machine: str) -> Finding:
    return Finding(
        kind=OTHER_MACHINE,
        severity=PROBLEM,
        where=name,
        what=f"It is built for {machine}, but this machine is {platform.machine()}.",
        cure=f"use one that is built for {platform.machine()}",
    )


@dataclass(frozen=True)
class _Check:
    subject: Subject

    def findings(self) -> Iterator[Finding]:
        """All of them, the ones that decide first."""
        subject = self.subject
        yield from program_findings(subject)
        if subject.adapter is None and subject.adapter_soname not in subject.missing_names:
            yield self._not_linked()
        if subject.adapter is not None and subject.adapter.elf.machine != subject.program.elf.machine:
            yield _other_machine(str(subject.adapter.path), subject.adapter.elf.machine)
            return
        yield from map(self._not_loaded, subject.plan.missing)
        yield from level_findings(subject)
        for library in subject.plan.libraries:
            yield from self._missing_versions(library)
        unresolved = {library.path: tuple(subject.binding.unresolved(library)) for library in subject.plan.libraries}
        judged = [item for item in (subject.program, subject.adapter) if item is not None]
        for library in dict.fromkeys((*judged, *subject.plan.libraries)):
            if unresolved[library.path]:
                yield from unresolved_symbols(subject, library, unresolved[library.path])
        if subject.adapter is not None:
            missing = [item.symbol for item in unresolved[subject.adapter.path]]
            yield from mixed_strings(subject.program, subject.adapter, missing)
        yield from lost_copies(subject)
        yield from changed_sizes(subject.plan)
        yield from stub_findings(subject)

    def _not_linked(self) -> Finding:
        if self.subject.case.without_adapter:
            return Finding(
                kind=ADAPTER_NOT_LINKED,
                severity=WARNING,
                where=self.subject.program.path.name,
                what="It was linked without an adapter, as somebody asked for: every model runs on the CPU.",
                cure="./inv build-serving on a machine with CANN, or relink the kit there, for a server for the NPU",
            )
        return Finding(
            kind=ADAPTER_NOT_LINKED,
            severity=PROBLEM,
            where=self.subject.program.path.name,
            what=f"None of the libraries that it names is {self.subject.adapter_soname}, so it would serve every model "
            "on the CPU and say nothing about it. A linker that works --as-needed drops a library that no object "
            "refers to.",
            cure="./inv build-serving (the overlay keeps the linker from dropping it)",
            details=tuple(self.subject.program.elf.needed),
        )

    # ---- libraries

    def _not_loaded(self, item: NotLoaded) -> Finding:
        by = label(item.needed_by)
        if item.is_broken:
            return Finding(
                kind=LIBRARY_UNUSABLE,
                severity=PROBLEM,
                where=item.name,
                what=f"{by}{NEEDS_IT}and the loader would fail at the file that it finds first.",
                cure=item.cure or "replace it with a good copy",
                details=item.reasons,
            )
        closed = next((at for place in item.searched if (at := refused_at(place / item.name)) is not None), None)
        if closed is not None:
            return Finding(
                kind=LIBRARY_NOT_FOUND,
                severity=PROBLEM,
                where=item.name,
                what=f"{by}{NEEDS_IT}and the loader passes over {closed}, which this user may not "
                f"{'enter' if closed.is_dir() else 'read'} ({whose(closed)}).",
                cure=cure_for(closed),
            )
        if is_of_driver(item.name):
            return Finding(
                kind=DRIVER_NOT_FOUND,
                severity=PROBLEM,
                where=item.name,
                what=f"{by}{NEEDS_IT}and it is the NPU driver's: it is in none of the directories that the loader "
                "searches.",
                cure=owners_table().driver_cure,
                details=item.reasons or _searched(item),
            )
        of_cann = self._may_be_of_cann(item)
        return Finding(
            kind=LIBRARY_NOT_FOUND,
            severity=WARNING if of_cann and self.subject.case.cann_absent else PROBLEM,
            where=item.name,
            what=f"{by}{NEEDS_IT}and no directory that the loader searches has one that fits.",
            cure=self._cure_for(item, of_cann=of_cann),
            details=item.reasons or _searched(item),
        )

    def _may_be_of_cann(self, item: NotLoaded) -> bool:
        if NOT_OF_CANN.match(item.name) or self.subject.adapter is None:
            return False
        return self.subject.adapter in lineage(item.needed_by)

    def _cure_for(self, item: NotLoaded, *, of_cann: bool) -> str:
        if item.name == self.subject.adapter_soname:
            return (
                "add the adapter's directory (…/npu_bridge) to LD_LIBRARY_PATH; "
                "without one, ./inv cann-info says how to install it"
            )
        if of_cann:
            return (
                "install the CANN toolkit or nnae, name its directory with cann_root, "
                "or source its set_env.sh before starting the server"
            )
        if item.name.startswith("libpython"):
            return "add the lib directory of a Python 3.7.5 that was built with --enable-shared to LD_LIBRARY_PATH"
        return f"install the package that contains {item.name}, or add its directory to LD_LIBRARY_PATH"

    # ---- versions

    def _missing_versions(self, library: Loaded) -> Iterator[Finding]:
        for need in library.elf.version_needs:
            provider = self.subject.plan.named(need.library)
            lacking = [item.name for item in need.versions if not item.is_weak and lacks_version(provider, item.name)]
            if provider is not None and lacking:
                family = _family(lacking[0])
                newest = max(_of_family(provider.elf, family), key=_version_key, default=f"no {family} version")
                yield Finding(
                    kind=TOO_NEW,
                    severity=PROBLEM,
                    where=label(library),
                    what=f"It needs versions that {provider.path} lacks: its newest is {newest}.",
                    cure=_CURES_FOR_VERSIONS.get(
                        family, f"install the version of {need.library} that it was linked with"
                    ),
                    details=tuple(sorted(lacking, key=_version_key)),
                )


def _of_family(elf: ElfFile, family: str) -> Iterator[str]:
    return (version for version in elf.provided_versions if _family(version) == family and _numbers(version))


def _family(version: str) -> str:
    return version.rpartition("_")[0]


def _numbers(version: str) -> str:
    return leading_version(version.rpartition("_")[2])


def _version_key(version: str) -> tuple[str, Version]:
    """GLIBC_2.9 comes before GLIBC_2.17; versions that are not numbers (GLIBC_PRIVATE) come first."""
    return _family(version), version_of(_numbers(version))

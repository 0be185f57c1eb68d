"""Will this server start on this machine, with that adapter? Answered from the files alone: nothing is started."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from npu_serving.elf.demangle import demangled
from npu_serving.elf.loader import Host, Loaded, LoadPlan, NotLoaded, lineage, plan_loading
from npu_serving.elf.report import (
    ADAPTER_NOT_LINKED,
    CANNOT_TELL,
    ERROR,
    LIBRARY_NOT_FOUND,
    LIBRARY_UNUSABLE,
    OTHER_MACHINE,
    SECOND_TENSORFLOW,
    TOO_NEW,
    UNDEFINED_SYMBOL,
    WARNING,
    CompatReport,
    Finding,
)
from npu_serving.elf.symbols import ElfFile, Symbol, read_elf
from npu_serving.errors import ElfError

ADAPTER_SONAME = "_tf_adapter.so"

# Libraries that the adapter needs and that no CANN package holds.
_NOT_OF_CANN = re.compile(
    r"(libtensorflow_framework|_pywrap_tensorflow_internal|libpython[\w.]*?|ld-linux-[\w-]+"
    r"|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|gomp|atomic))\.so"
)
_TENSORFLOW_STUBS = ("libtensorflow_framework.so", "_pywrap_tensorflow_internal.so")
_PYTHON_SYMBOL = re.compile(r"_?Py[A-Z_]")
# CANN has TensorFlow's messages as domi::tensorflow::…, and its own interfaces are ge::… and domi::…
_TENSORFLOW = re.compile(r"(?<!4domi)10tensorflow")
_SCOPE_OF_CANN = re.compile(r"_Z(T[VTIS])?NK?(2ge|4domi)")
_NEWER_LIBSTDCXX = (
    "put a newer libstdc++.so.6 first in LD_LIBRARY_PATH (guide 7.5), or ./inv build-serving --runner docker"
)
_CURES_FOR_VERSIONS = {
    "GLIBC": "./inv build-serving --runner docker, whose image has an older C library; or run it on a newer system",
    "GLIBCXX": _NEWER_LIBSTDCXX,
    "CXXABI": _NEWER_LIBSTDCXX,
}


def check_server(
    server: Path,
    *,
    adapter_soname: str = ADAPTER_SONAME,
    adapter: Path | None = None,
    library_path: Sequence[Path] = (),
    cann_absent: bool = False,
    host: Host | None = None,
) -> CompatReport:
    """What speaks against starting `server`, as it is, here with `library_path` as LD_LIBRARY_PATH; `.ok` if nothing.

    `adapter` stands in for the one that the loader would find: is the report on it ok, then all that it needs is met,
    and it may replace the adapter of the build without another link. With `cann_absent`, on a machine that builds and
    has no CANN, CANN's libraries may be missing, and the symbols that can only be theirs are not looked for. `host`
    tells where this machine's libraries are, if not in the usual places.

    Raises ElfError and FileAccessError when the server, or `adapter`, can't be read.
    """
    program = read_elf(server)
    if program.type not in ("EXEC", "DYN"):
        raise ElfError(f"{server} is not a program.", cause="it is an object file", cure="name the linked server")
    if program.machine != platform.machine():
        return CompatReport(server, adapter, (server,), (_other_machine(server.name, program.machine),))
    instead = {adapter_soname: adapter} if adapter is not None else {}
    plan = plan_loading(server, library_path=library_path, instead=instead, host=host)
    check = _Check(plan, adapter_soname, cann_absent)
    taken = check.adapter.path if check.adapter is not None else adapter
    return CompatReport(server, taken, tuple(item.path for item in plan.libraries), tuple(check.findings()))


def undefined_needs(adapter: Path) -> tuple[str, ...]:
    """The symbols that `adapter` expects of the program it is linked into, of CANN or of Python, sorted.

    Those that record a version (memcpy@GLIBC_2.14, …@GLIBCXX_3.4) come from the system's libraries, and the loader
    goes on without weak ones: both are left out. So the answer depends on the adapter alone, not on this machine.
    """
    undefined = read_elf(adapter).undefined
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


def _other_machine(name: str, machine: str) -> Finding:
    return Finding(
        OTHER_MACHINE,
        ERROR,
        name,
        f"It is built for {machine}; this machine is {platform.machine()}.",
        f"take one that is built for {platform.machine()}",
    )


@dataclass(frozen=True)
class _Check:
    plan: LoadPlan
    adapter_soname: str
    cann_absent: bool

    @cached_property
    def adapter(self) -> Loaded | None:
        """The adapter that would be loaded."""
        return self.plan.named(self.adapter_soname)

    def findings(self) -> Iterator[Finding]:
        """All of them, the ones that decide first."""
        if self.adapter is None and self.adapter_soname not in self._missing_names:
            yield self._not_linked()
        if self.adapter is not None and self.adapter.elf.machine != self.plan.program.elf.machine:
            yield _other_machine(str(self.adapter.path), self.adapter.elf.machine)
            return
        yield from map(self._not_loaded, self.plan.missing)
        for library in self.plan.libraries:
            yield from self._missing_versions(library)
        for judged in (self.plan.program, self.adapter):
            if judged is not None:
                yield from self._missing_symbols(judged)
        yield from self._second_tensorflow()

    @cached_property
    def _missing_names(self) -> frozenset[str]:
        return frozenset(item.name for item in self.plan.missing)

    def _not_linked(self) -> Finding:
        return Finding(
            ADAPTER_NOT_LINKED,
            ERROR,
            self.plan.program.path.name,
            f"None of the libraries that it names is {self.adapter_soname}, so it would serve every model on the CPU "
            "and say nothing about it. A linker that works --as-needed drops a library that no object refers to.",
            "./inv build-serving (the overlay keeps the linker from dropping it)",
            tuple(self.plan.program.elf.needed),
        )

    # ---- libraries

    def _not_loaded(self, item: NotLoaded) -> Finding:
        by = _label(item.needed_by)
        if item.is_broken:
            return Finding(
                LIBRARY_UNUSABLE,
                ERROR,
                item.name,
                f"{by} needs it, and the loader would stop at the file that it finds first.",
                "put a good copy in its place",
                item.reasons,
            )
        of_cann = self._may_be_of_cann(item)
        return Finding(
            LIBRARY_NOT_FOUND,
            WARNING if of_cann and self.cann_absent else ERROR,
            item.name,
            f"{by} needs it, and no directory that the loader looks in holds one that serves.",
            self._cure_for(item, of_cann=of_cann),
            item.reasons or tuple(str(path) for path in item.searched),
        )

    def _may_be_of_cann(self, item: NotLoaded) -> bool:
        if _NOT_OF_CANN.match(item.name) or self.adapter is None:
            return False
        return self.adapter in lineage(item.needed_by)

    def _cure_for(self, item: NotLoaded, *, of_cann: bool) -> str:
        if item.name == self.adapter_soname:
            return "install tfplugin, or put the adapter's directory (…/npu_bridge) into LD_LIBRARY_PATH"
        if of_cann:
            return (
                "install the CANN toolkit or nnae, name its directory with cann_root, "
                "or source its set_env.sh before the server is started"
            )
        if item.name.startswith("libpython"):
            return "put the lib directory of the Python 3.7.5 that was built with --enable-shared into LD_LIBRARY_PATH"
        return f"install the package that holds {item.name}, or put its directory into LD_LIBRARY_PATH"

    # ---- versions

    def _missing_versions(self, library: Loaded) -> Iterator[Finding]:
        for need in library.elf.version_needs:
            provider = self.plan.named(need.library)
            lacking = [item.name for item in need.versions if not item.is_weak and _lacks_version(provider, item.name)]
            if provider is not None and lacking:
                family = _family(lacking[0])
                newest = max(_of_family(provider.elf, family), key=_version_key, default=f"no {family} version")
                yield Finding(
                    TOO_NEW,
                    ERROR,
                    _label(library),
                    f"It needs versions that {provider.path} does not have: that one provides up to {newest}.",
                    _CURES_FOR_VERSIONS.get(family, f"install the version of {need.library} that it was linked with"),
                    tuple(sorted(lacking, key=_version_key)),
                )

    # ---- symbols

    def _missing_symbols(self, library: Loaded) -> Iterator[Finding]:
        unresolved = [item for item in library.elf.undefined if not item.is_weak and not self._is_defined(item)]
        open_questions = [item for item in unresolved if self._may_be_in_a_missing_one(item, library)]
        missing = [item for item in unresolved if item not in set(open_questions)]
        label = _label(library)
        if missing:
            yield Finding(
                UNDEFINED_SYMBOL,
                ERROR,
                label,
                f"{_count(missing)} defined neither by the server nor by a library that it loads: it would end with "
                "'symbol lookup error … undefined symbol'.",
                "./inv rebuild-after-cann (a server exports exactly what the adapter it was linked with needed)"
                if library is self.adapter
                else "./inv build-serving, on or for a machine with the same libraries as this one",
                _described(missing),
            )
        if open_questions:
            yield Finding(
                CANNOT_TELL,
                WARNING,
                label,
                f"{_count(open_questions)} defined by nothing that was found; a library that is missing here may "
                f"define them: {', '.join(sorted(self._missing_names))}.",
                "check it again where those libraries are",
                _described(open_questions),
            )

    def _is_defined(self, symbol: Symbol) -> bool:
        """Whether the loader finds it; True as well where a version is missing, which is a finding of its own."""
        if symbol.version is not None and symbol.library is not None:
            provider = self.plan.named(symbol.library)
            if _lacks_version(provider, symbol.version):
                return True
        return any(item.elf.defines(symbol.name, symbol.version) for item in self.plan.libraries)

    def _may_be_in_a_missing_one(self, symbol: Symbol, library: Loaded) -> bool:
        if symbol.library is not None:
            return symbol.library in self._missing_names
        if _PYTHON_SYMBOL.match(symbol.name):
            return any(name.startswith("libpython") for name in self._missing_names)
        if _TENSORFLOW.search(symbol.name) and not _SCOPE_OF_CANN.match(symbol.name):
            return False  # the server defines it or nobody does
        return bool(self._missing_names)

    # ---- a TensorFlow beside the server's own

    def _second_tensorflow(self) -> Iterator[Finding]:
        for library in self.plan.libraries[1:]:
            is_stub_name = library.name.startswith(_TENSORFLOW_STUBS)
            if is_stub_name and any(_TENSORFLOW.search(name) for name in library.elf.defined_names):
                yield Finding(
                    SECOND_TENSORFLOW,
                    WARNING,
                    library.name,
                    f"{library.path} is a real TensorFlow, which would be loaded beside the server's own; "
                    "an empty library of that name belongs here.",
                    f"take {library.path.parent} out of LD_LIBRARY_PATH",
                )


def _label(library: Loaded) -> str:
    return library.name or library.path.name


def _count(symbols: Sequence[Symbol]) -> str:
    return "1 symbol that it needs is" if len(symbols) == 1 else f"{len(symbols)} symbols that it needs are"


def _described(symbols: Sequence[Symbol]) -> tuple[str, ...]:
    names = demangled(symbol.name for symbol in symbols)
    return tuple(sorted(_described_one(symbol, names[symbol.name]) for symbol in symbols))


def _described_one(symbol: Symbol, readable: str) -> str:
    text = symbol.versioned_name if readable == symbol.name else f"{readable}  [{symbol.versioned_name}]"
    return f"{text}, once in {symbol.library}" if symbol.library is not None else text


def _lacks_version(provider: Loaded | None, version: str) -> bool:
    """Whether the loader would refuse: a library without any versions is taken with a warning."""
    return provider is not None and bool(provider.elf.version_definitions) and not provider.elf.has_version(version)


def _of_family(elf: ElfFile, family: str) -> Iterator[str]:
    return (version for version in elf.provided_versions if _family(version) == family and _version_key(version)[1])


def _family(version: str) -> str:
    return version.rpartition("_")[0]


def _version_key(version: str) -> tuple[str, tuple[int, ...]]:
    """GLIBC_2.9 comes before GLIBC_2.17; versions that are no numbers (GLIBC_PRIVATE) come first."""
    family, _, numbers = version.rpartition("_")
    parts = numbers.split(".")
    return family, tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else ()

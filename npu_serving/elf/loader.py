"""Which libraries the dynamic loader would load for a program, found by ld.so's own rules without starting anything.

The rules are those of ld.so(8) and glibc's elf/dl-load.c and elf/dl-deps.c.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.elf.ld_so_cache import read_cache
from npu_serving.elf.loader_rules import LoaderRules, rules_of
from npu_serving.elf.processor import Processor, this_processor
from npu_serving.elf.refusals import library_refusal
from npu_serving.elf.symbols import ElfFile, read_elf
from npu_serving.elf.tables import DynamicTag
from npu_serving.errors import ElfClassError, ElfError, FileAccessError

_TOKEN = re.compile(r"\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM)(?![A-Za-z0-9_]))")


@dataclass(frozen=True)
class Host:
    """Where a machine keeps the libraries that every program may use, and which of them it can load."""

    cache: Path | None = Path("/etc/ld.so.cache")
    directories: tuple[Path, ...] = ()
    """Empty for the usual ones of the program's machine."""
    processor: Processor = field(default_factory=this_processor)
    rules: LoaderRules | None = None
    """None for those of the program's own loader."""

    def default_directories(self, machine: str) -> tuple[Path, ...]:
        """The directories that ld.so looks in last: Debian's, then those of the other distributions."""
        if self.directories:
            return self.directories
        names = (f"lib/{machine}-linux-gnu", f"usr/lib/{machine}-linux-gnu", "lib64", "usr/lib64", "lib", "usr/lib")
        return tuple(Path("/", name) for name in names)

    def cached(self, machine: str, rules: LoaderRules | None = None) -> Mapping[str, Path]:
        """Name -> library, as ldconfig noted it in /etc/ld.so.cache; empty where that is missing or not readable.

        With the rules of a loader, the copies for this processor are taken into account that it would prefer.
        """
        if self.cache is None:
            return {}
        levels = self.processor.levels if rules is not None and rules.searches_levels else ()
        hardware = self.processor.older_bits if rules is not None and rules.searches_older else 0
        return read_cache(self.cache, machine, levels, hardware)

    def subdirectories(self, rules: LoaderRules) -> tuple[str, ...]:
        """What the loader looks into in each directory first."""
        return self.processor.subdirectories(named=rules.searches_levels, older=rules.searches_older)


RPATH = "rpath"
"""The rule of what the loader finds by a program's DT_RPATH, before it looks into LD_LIBRARY_PATH."""


@dataclass(frozen=True)
class Loaded:
    """A library that would be loaded: by which name, from where, and the rule by which it was found."""

    name: str
    elf: ElfFile
    rule: str
    needed_by: Loaded | None = field(default=None, repr=False)

    @property
    def path(self) -> Path:
        """The file."""
        return self.elf.path


@dataclass(frozen=True)
class NotLoaded:
    """A library that is needed and can't be loaded; `reasons` says why files of that name don't fit."""

    name: str
    needed_by: Loaded
    searched: tuple[Path, ...]
    reasons: tuple[str, ...] = ()
    is_broken: bool = False
    """True where the loader takes a file that it can't use, rather than finding none."""
    cure: str = ""
    """What helps against the last of the reasons, where that is known."""


@dataclass(frozen=True)
class LoadPlan:
    """What would be loaded, in the order in which the loader looks for symbols: the program itself comes first."""

    libraries: tuple[Loaded, ...]
    missing: tuple[NotLoaded, ...]
    by_name: Mapping[str, Loaded] = field(repr=False)
    """Every name by which one was asked for, and every soname."""
    rules: LoaderRules = field(default_factory=LoaderRules)
    """Those of the loader that the program names."""

    @property
    def program(self) -> Loaded:
        """The program itself."""
        return self.libraries[0]

    def named(self, name: str) -> Loaded | None:
        """The library that the loader would take for that name."""
        return self.by_name.get(name)


def plan_loading(
    program: Path | ElfFile,
    *,
    library_path: Sequence[Path] = (),
    instead: Mapping[str, Path | ElfFile] | None = None,
    host: Host | None = None,
) -> LoadPlan:
    """The libraries that ld.so would load for `program` with `library_path` as LD_LIBRARY_PATH, breadth first.

    `instead` names files to take for some of the names. Of these, and of the program, it may be given what was read
    already. Raises ElfError and FileAccessError for them; what is wrong with other libraries is in the plan.
    """
    main = Loaded("", _read(program), "program")
    walk = _Walk(main, library_path, instead or {}, host or Host())
    return walk.run()


class _Walk:
    def __init__(
        self, main: Loaded, library_path: Sequence[Path], instead: Mapping[str, Path | ElfFile], host: Host
    ) -> None:
        self._main = main
        self._machine = main.elf.machine
        self._library_path = tuple(path for path in library_path if path.is_absolute())
        self._instead = instead
        self._host = host
        self._rules = host.rules or rules_of(main.elf.interpreter)
        self._subdirectories = host.subdirectories(self._rules)
        self._places: dict[Path, tuple[Path, ...]] = {}
        self._cached = host.cached(self._machine, self._rules)
        self._default = host.default_directories(self._machine)
        self._loaded: list[Loaded] = [main]
        self._missing: dict[str, NotLoaded] = {}
        self._by_name: dict[str, Loaded] = {main.elf.soname: main} if main.elf.soname else {}
        self._by_file: dict[tuple[int, int], Loaded] = {}

    def run(self) -> LoadPlan:
        done: set[int] = set()  # a filtee that stands before its filter comes next, wherever it stood
        while (library := next((item for item in self._loaded if id(item) not in done), None)) is not None:
            done.add(id(library))
            for name, tag in library.elf.dependencies:
                is_filtee = tag != DynamicTag.NEEDED
                if name not in self._by_name:  # one that was missing may be found by the paths of this library
                    self._load(name, library, is_optional=tag == DynamicTag.AUXILIARY)
                if name in self._by_name:
                    self._place(self._by_name[name], library if is_filtee else None)
        return LoadPlan(tuple(self._loaded), tuple(self._missing.values()), self._by_name, self._rules)

    def _place(self, library: Loaded, before: Loaded | None) -> None:
        """Puts it last where it is new; a filtee is put, or moved, before its filter if it doesn't stand there."""
        order = [id(item) for item in self._loaded]
        at = order.index(id(before)) if before is not None else len(order)
        if id(library) in order[: at + 1]:
            return
        if id(library) in order:
            del self._loaded[order.index(id(library))]
        self._loaded.insert(at, library)

    def _load(self, name: str, by: Loaded, *, is_optional: bool) -> None:
        item = self._looked_for(name, by)
        if isinstance(item, Loaded):
            self._take(name, item)
        elif not is_optional:
            self._missing.setdefault(name, item)

    def _looked_for(self, name: str, by: Loaded) -> Loaded | NotLoaded:
        searched: list[Path] = []
        reasons: list[str] = []
        if name in self._instead:
            elf = _read(self._instead[name])
            if _is_unfit(elf):
                raise ElfError(_is_unfit(elf), cure="name a shared library, such as _tf_adapter.so")
            refusal = library_refusal(elf, self._host.processor, self._rules)
            if refusal is not None:
                return NotLoaded(name, by, (), (refusal.why,), is_broken=True, cure=refusal.cure)
            return Loaded(name, elf, "given", by)
        for rule, path in self._candidates(name, by):
            searched.append(path.parent)
            if not os.path.exists(path):  # noqa: PTH110 - Path.exists() raises some errors; also where a loop of links, or a directory that is shut, is in the way
                continue
            try:
                elf = read_elf(path)
            except (ElfError, FileAccessError) as error:
                reasons.append(error.what)
                if _passes_over(error, path):
                    continue
                return NotLoaded(name, by, tuple(searched), tuple(reasons), is_broken=True)
            if elf.machine != self._machine or not elf.is_little_endian:
                reasons.append(f"{path} is for {elf.machine}{'' if elf.is_little_endian else ', big-endian'}.")
                continue
            if _is_unfit(elf):
                return NotLoaded(name, by, tuple(searched), (*reasons, _is_unfit(elf)), is_broken=True)
            refusal = library_refusal(elf, self._host.processor, self._rules)
            if refusal is not None:
                found = (*reasons, refusal.why)
                return NotLoaded(name, by, tuple(searched), found, is_broken=True, cure=refusal.cure)
            return Loaded(name, elf, rule, by)
        return NotLoaded(name, by, tuple(dict.fromkeys(searched)), tuple(reasons))

    def _take(self, name: str, library: Loaded) -> None:
        status = library.path.stat()
        known = self._by_file.setdefault((status.st_dev, status.st_ino), library)
        for each in (name, known.elf.soname):
            if each:
                self._by_name.setdefault(each, known)

    def _candidates(self, name: str, by: Loaded) -> Iterator[tuple[str, Path]]:
        """The files that the loader tries for a name, in its order, and the rule that names them."""
        if "/" in name:
            for path in expanded(name, by):
                yield "path", path
        elif self._main.elf.interpreter is not None and name == Path(self._main.elf.interpreter).name:
            yield "interpreter", Path(self._main.elf.interpreter)  # it is in memory before anything is looked for
        else:
            for rule, directory in self._directories(by):
                for place in self._places_in(directory):
                    yield rule, place / name
            if not by.elf.no_default_directories:
                if name in self._cached:
                    yield "cache", self._cached[name]
                for directory in self._default:
                    for place in self._places_in(directory):
                        yield "default", place / name

    def _places_in(self, directory: Path) -> tuple[Path, ...]:
        """The directory, and before it those of its subdirectories for special processors that are there."""
        if directory not in self._places:
            tops = {name.partition("/")[0] for name in self._subdirectories}
            there = {name for name in tops if os.path.isdir(directory / name)}  # noqa: PTH112 - Path.is_dir() raises where it is shut
            inner = [directory / name for name in self._subdirectories if name.partition("/")[0] in there]
            self._places[directory] = (*inner, directory)
        return self._places[directory]

    def _directories(self, by: Loaded) -> Iterator[tuple[str, Path]]:
        if by.elf.runpath is None:
            for ancestor in lineage(by):  # each one's DT_RPATH counts for what it loads
                if ancestor.elf.runpath is None and ancestor.elf.rpath is not None:
                    for directory in expanded(ancestor.elf.rpath, ancestor):
                        yield RPATH, directory
        for directory in self._library_path:
            yield "LD_LIBRARY_PATH", directory
        for directory in expanded(by.elf.runpath or "", by):
            yield "runpath", directory


def library_path_of(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """LD_LIBRARY_PATH without the entries that mean the working directory of whoever starts the program."""
    return tuple(Path(item) for item in re.split("[:;]", environ.get("LD_LIBRARY_PATH", "")) if item.startswith("/"))


def own_directories(program: Loaded) -> tuple[Path, ...]:
    """The directories that a program names as its own, by DT_RUNPATH or DT_RPATH."""
    return tuple(expanded(program.elf.runpath or program.elf.rpath or "", program))


def expanded(text: str, owner: Loaded) -> Iterator[Path]:
    """The directories of an rpath or runpath, or the path of a library; the tokens are those of ld.so(8).

    Relative and empty ones mean the working directory of whoever starts the program: nothing to rely on.
    """
    # The loader resolves the program's own links (it asks /proc/self/exe), not those of libraries.
    file = owner.path.absolute() if owner.needed_by is not None else Path(os.path.realpath(owner.path))
    triplet = Path("/lib", f"{owner.elf.machine}-linux-gnu")
    values = {
        "ORIGIN": str(file.parent),
        "LIB": f"lib/{triplet.name}" if triplet.is_dir() else "lib64",
        "PLATFORM": this_processor().platform if owner.elf.machine == platform.machine() else owner.elf.machine,
    }
    for part in text.split(":"):
        path = _TOKEN.sub(lambda match: values[match.group(1) or match.group(2)], part)
        if path.startswith("/") and "\0" not in path:
            yield Path(path)


def lineage(library: Loaded) -> Iterator[Loaded]:
    """The library, the one that needed it first, and so on to the program."""
    yield library
    while library.needed_by is not None:
        library = library.needed_by
        yield library


def _read(file: Path | ElfFile) -> ElfFile:
    return file if isinstance(file, ElfFile) else read_elf(file)


def _passes_over(error: ElfError | FileAccessError, path: Path) -> bool:
    """Whether ld.so goes on looking after such a file: after 32-bit and unreadable ones, not after damaged ones."""
    return isinstance(error, ElfClassError) or not os.access(path, os.R_OK)


def _is_unfit(elf: ElfFile) -> str:
    """Why the loader would give up at this file, or ""."""
    return (
        f"{elf.path} is a program or an object file, not a shared library."
        if elf.is_program or elf.type != "DYN"
        else ""
    )

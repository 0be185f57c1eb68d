"""The saved link: the command of a server's final link, and every file that it reads, by digest."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from npu_serving import fsutil
from npu_serving.errors import FileAccessError, NpuServingError, RequestError
from npu_serving.linking.linker_words import LinkLibrary
from npu_serving.resources import usable_processors

FORMAT = 1

Places = Sequence[tuple[Path, Path]]
"""Directories as the runner sees them, each with where that is on this machine."""


@dataclass(frozen=True)
class LinkInput:
    """A file that the link reads, and Bazel made or the toolchain has; named relative to the execroot, or absolute."""

    name: str
    sha256: str
    size_bytes: int
    mtime_ns: int
    """For the quick check: a file of the same size and time is unchanged."""


@dataclass(frozen=True)
class FoundLibrary:
    """What the linker took for `-lNAME`, as LinkInput names it; "" where nothing was found."""

    name: str
    path: str
    static: bool = False


@dataclass(frozen=True)
class LinkDifference:
    """Why a link would read other files than it read; `is_gone` where one of them is not there any more."""

    why: str
    is_gone: bool = False


@dataclass(frozen=True)
class SavedLink:
    """The final link of a server as Bazel did it. Paths are as the runner sees them."""

    objects: str
    """The digest of all that decides the inputs but the adapter: a build with the same has the same link."""
    directory: str
    """The execroot, in which the command is run."""
    output: str
    """What -o names."""
    command: tuple[str, ...]
    """The driver's words, with the argument that names the parameter file still in its place."""
    parameters: tuple[str, ...]
    """The lines of the parameter file."""
    environment: Mapping[str, str]
    inputs: tuple[LinkInput, ...]
    replaced: tuple[str, ...]
    """The adapter's own files, as the command finds them: adapter, symbols, stubs, libpython."""
    linker: str
    """The linker of the command: "gold", "bfd", "lld" …"""
    made_size_bytes: int = 0
    made_mtime_ns: int = 0
    """Size and time of what Bazel made with it: while they are the same, what is there is what this link made."""
    searched: tuple[str, ...] = ()
    """The directories in which the linker looks for libraries, in its order."""
    libraries: tuple[FoundLibrary, ...] = ()
    """Those behind `-l`; none in what was saved before they were noted."""
    format: int = field(default=FORMAT)

    def why_other(self, root: Path, places: Places = ()) -> str:
        """Why the link would read other files than it read, "" where it would not; `root` as for changed_input()."""
        found = self.difference(root, places)
        return found.why if found is not None else ""

    def difference(self, root: Path, places: Places = ()) -> LinkDifference | None:
        """The same, and whether something is gone; None where it would not."""
        changed = self.changed_input(root, places)
        if changed and located(root, changed, places).exists():
            return LinkDifference(f"{changed} has changed since the server was linked with it")
        if changed:
            return LinkDifference(f"{changed} is gone, with which the server was linked", is_gone=True)
        for library in self.libraries:
            now = place_of_library(LinkLibrary(library.name, library.static), self.searched, root, places)
            if now != library.path:
                then = f"{library.path} was" if library.path else "nothing was found"
                taken = f"the linker would take {now or 'nothing'} for -l{library.name}"
                return LinkDifference(f"{taken}, where {then} when it was linked")
        return None

    def changed_input(self, root: Path, places: Places = ()) -> str:
        """The first input that is gone or differs, "" where none does; `root` is where the execroot is on this machine.

        Size and time of each are compared, and the digest of those whose time differs.
        """
        doubtful = []
        for item in self.inputs:
            path = located(root, item.name, places)
            try:
                status = path.stat()
            except OSError:
                return item.name
            if status.st_size != item.size_bytes:
                return item.name
            if status.st_mtime_ns != item.mtime_ns:
                doubtful.append((item, path))
        digests = digests_of(path for _, path in doubtful)
        return next((item.name for item, path in doubtful if digests.get(path) != item.sha256), "")


def place_of_library(library: LinkLibrary, searched: Sequence[str], root: Path, places: Places = ()) -> str:
    """The file that the linker takes, "" where there is none; relative names are below `root`."""
    return next((name for name in library.candidates(searched) if located(root, name, places).is_file()), "")


def located(root: Path, name: str, places: Places = ()) -> Path:
    """Where a file of the link is on this machine: links are followed as the runner sees them."""
    path = root / name
    if not places:
        return path
    for _ in range(_LONGEST_CHAIN):
        path = _outside(path, places)
        link = next((part for part in reversed([path, *path.parents]) if part.is_symlink()), None)
        if link is None:
            return path
        path = link.parent / link.readlink() / path.relative_to(link)
    return path


_LONGEST_CHAIN = 40  # of links that lead to links, as the kernel's own


def _outside(path: Path, places: Places) -> Path:
    for inside, outside in places:
        with contextlib.suppress(ValueError):
            return outside / path.relative_to(inside)
    return path


def _tell_nobody(_done: float) -> None:
    pass


def digests_of(paths: Iterable[Path], on_done: Callable[[float], None] = _tell_nobody) -> dict[Path, str]:
    """The sha256 of each file that can be read, by as many threads as there are processors; `on_done` gets how many
    are done.
    """
    wanted = list(dict.fromkeys(paths))
    if not wanted:
        return {}

    def digest(path: Path) -> str:
        try:
            return fsutil.sha256_of(path)
        except (FileAccessError, RequestError):
            return ""

    digests = {}
    with ThreadPoolExecutor(usable_processors()) as pool:
        for path, found in zip(wanted, pool.map(digest, wanted)):
            if found:
                digests[path] = found
            on_done(len(digests))
    return digests


def write_saved_link(path: Path, saved: SavedLink) -> None:
    """Keeps it in that file."""
    fsutil.write_file(path, json.dumps(dataclasses.asdict(saved), separators=(",", ":")))


def read_saved_link(path: Path) -> SavedLink | None:
    """What write_saved_link() kept; None where there is nothing, or something else: then Bazel links."""
    try:
        document: Any = json.loads(fsutil.read_text(path))
        if document["format"] != FORMAT:
            return None
        inputs = tuple(LinkInput(**item) for item in document.pop("inputs"))
        libraries = tuple(FoundLibrary(**item) for item in document.pop("libraries", ()))
        names = ("command", "parameters", "replaced", "searched")
        lists: Any = {name: tuple(document.pop(name, ())) for name in names}
        saved = SavedLink(inputs=inputs, libraries=libraries, **lists, **document)
    except (NpuServingError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return saved if _is_whole(saved) else None


def _is_whole(saved: SavedLink) -> bool:
    texts = [saved.objects, saved.directory, saved.output, saved.linker, *saved.command, *saved.parameters]
    texts += [*saved.searched, *(text for item in saved.libraries for text in (item.name, item.path))]
    texts += [*saved.replaced, *(item.name for item in saved.inputs), *(item.sha256 for item in saved.inputs)]
    numbers = [number for item in saved.inputs for number in (item.size_bytes, item.mtime_ns)]
    whole = all(isinstance(text, str) for text in texts) and all(isinstance(number, int) for number in numbers)
    return whole and isinstance(saved.environment, dict) and bool(saved.command)

"""What of a link goes into a relink kit, under which names there, and the link's command with these names."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from npu_serving import fsutil
from npu_serving.elf.symbols import read_elf
from npu_serving.errors import SourceError
from npu_serving.overlay.content import ADAPTER_FILE, EXPORTS_FILE, SYMBOLS_FILE, link_option
from npu_serving.packaging.bare_link import ELF, END_LIB, START_LIB, LinkFile, Word
from npu_serving.packaging.object_archive import archive_pieces, size_of

ADAPTER, OBJECTS, LIBRARIES, SYSTEM = "adapter", "objects", "lib", "system"
"""The directories of a kit: what is written for each adapter, what Bazel made, what goes beside the server, and
what the toolchain has."""

ROLES = {ADAPTER_FILE: "adapter", SYMBOLS_FILE: "needed_symbols", EXPORTS_FILE: "exported_symbols"}


@dataclass(frozen=True)
class PackedMember:
    """A file of the kit: the one that it is copied from, or the objects that it is an archive of."""

    path: str
    sources: tuple[Path, ...]
    digests: tuple[str, ...] = ()
    """What each of them had when it was linked; "" where nobody noted it."""
    is_archive: bool = False

    def pieces(self) -> Iterator[bytes]:
        """Its bytes. SourceError where a file is no longer the one that was linked."""
        expected = dict(zip(self.sources, self.digests))

        def read(path: Path) -> Iterator[bytes]:
            return _unchanged(path, expected.get(path, ""))

        return archive_pieces(self.sources, read) if self.is_archive else read(self.sources[0])

    @property
    def size_bytes(self) -> int:
        """How much is read for it."""
        return sum(map(size_of, self.sources))


@dataclass(frozen=True)
class KitLink:
    """The link as it is in a kit."""

    command: tuple[str, ...]
    """For the linker itself; all files are in the kit, relative to its root."""
    adapter_files: Mapping[str, str]
    libraries: Mapping[str, str]
    members: tuple[PackedMember, ...]


def kit_link(
    words: Sequence[Word], *, replaced: Sequence[str], digests: Mapping[str, str], needed: Mapping[str, Path]
) -> KitLink:
    """The command and the members. `replaced` names the adapter's own files, `digests` what the link's files had.

    `needed` are libraries that no word names and others need; a linker that follows those looks for them in SYSTEM.
    """
    layout = _Layout(frozenset(replaced), digests)
    command = list(layout.words(words))
    for soname, path in sorted(needed.items()):
        layout.add(f"{SYSTEM}/{soname}", path, "")
    options = [f"-L{ADAPTER}", "-rpath-link", SYSTEM]
    return KitLink(
        (command[0], *options, *command[1:]), layout.adapter_files, layout.libraries, tuple(layout.members.values())
    )


class _Layout:
    """Names are given out, each once."""

    def __init__(self, replaced: frozenset[str], digests: Mapping[str, str]) -> None:
        self._replaced = replaced
        self._digests = {posixpath.normpath(name): digest for name, digest in digests.items()}
        self.adapter_files: dict[str, str] = {}
        self.libraries: dict[str, str] = {}
        self.members: dict[str, PackedMember] = {}

    def words(self, words: Sequence[Word]) -> Iterator[str]:
        group: list[LinkFile] | None = None
        for word in words:
            if word == START_LIB:
                group = []
            elif word == END_LIB:
                yield from self._archive(group or [])
                group = None
            elif isinstance(word, str):
                yield word
            elif group is not None and word.name.endswith(".o"):
                group.append(word)
            else:
                yield from self._archive(group or [])
                group = group and []
                yield self._file(word)

    def _archive(self, group: Sequence[LinkFile]) -> Iterator[str]:
        if not group:
            return
        sources = tuple(file.path for file in group)
        digests = tuple(self._digest(file.name) for file in group)
        directory = _within(str(PurePosixPath(group[0].name).parent)) or "group"
        yield self._added(PackedMember(f"{OBJECTS}/{directory}.a", sources, digests, is_archive=True))

    def _file(self, file: LinkFile) -> str:
        base = PurePosixPath(file.name).name
        if file.name in self._replaced:
            role = ROLES.get(base)
            if role is None:
                return self._library(file)
            self.adapter_files[role] = f"{ADAPTER}/{base}"
            return link_option(base) if base == ADAPTER_FILE else f"{file.option}{ADAPTER}/{base}"
        if file.name.startswith("/"):
            soname = _soname(file.path)
            return file.option + self.add(f"{SYSTEM}/{soname or base}", file.path, self._digest(file.name))
        return file.option + self.add(f"{OBJECTS}/{_within(file.name)}", file.path, self._digest(file.name))

    def _digest(self, name: str) -> str:
        return self._digests.get(posixpath.normpath(name), "")

    def _library(self, file: LinkFile) -> str:
        soname = _soname(file.path) or PurePosixPath(file.name).name
        self.libraries[soname] = self.add(f"{LIBRARIES}/{soname}", file.path, "")
        return self.libraries[soname]

    def add(self, path: str, source: Path, digest: str) -> str:
        """The name that the file has in the kit."""
        return self._added(PackedMember(path, (source,), (digest,)))

    def _added(self, member: PackedMember) -> str:
        """The member's name: the one that it asks for, or the next where something else has that."""
        path, number = member.path, 1
        while path in self.members and self.members[path].sources != member.sources:
            number += 1
            path = f"{member.path}.{number}"
        self.members[path] = PackedMember(path, member.sources, member.digests, member.is_archive)
        return path


def _within(name: str) -> str:
    """A relative path without what leads out of a directory."""
    return "/".join(part for part in PurePosixPath(name).parts if part not in ("/", "..", "."))


def _soname(path: Path) -> str:
    with fsutil.explained(path, doing="read"), path.open("rb") as file:
        begin = file.read(18)
    if not begin.startswith(ELF) or begin[16:18] != b"\x03\x00":  # ET_DYN
        return ""
    return read_elf(path).soname or ""


def _unchanged(path: Path, expected: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    with fsutil.explained(path, doing="read"):
        file = path.open("rb")
    with file:
        for piece in fsutil.chunks(file, path):
            digest.update(piece)
            yield piece
    if expected and digest.hexdigest() != expected:
        raise SourceError(
            f"{path} is no longer what the server was linked from.",
            cause="another build wrote over it since, or it was changed by hand",
            cure="build again, then pack: ./inv build-serving",
        )

"""Where .bzl files come from: a directory, or an archive that is read without being unpacked."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Callable, Protocol

from npu_serving import fsutil
from npu_serving.errors import WorkspaceError
from npu_serving.lock.limits import check_size

KEPT = (".bzl", ".tpl")
"""Files that are loaded, and those that rules write such files from."""
LARGEST_TOTAL_BYTES = 64 << 20


class Tree(Protocol):
    """The Starlark files of one repository."""

    def read(self, path: str) -> str | None:
        """The text of the file at `path` within the repository, or None."""


class DirectoryTree:
    """A repository that lies on disk."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str) -> str | None:
        """The text of a file, or None; a path that leads out of the directory is never followed."""
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            return None
        file = self._root / path
        if not file.is_file():
            return None
        if not file.resolve().is_relative_to(self._root.resolve()):
            raise WorkspaceError(
                f"{file} is a link that points outside {self._root}.",
                cause="the tree is malicious, or was not copied completely",
                cure="replace the link with the file itself",
            )
        check_size(file.stat().st_size, str(file))
        return fsutil.read_text(file)


class ArchiveTree:
    """A repository that is an archive: its Starlark files and templates are read in one pass and kept."""

    def __init__(self, archive: Path, strip_prefix: str) -> None:
        self._files: dict[str, bytes] = {}
        prefix = strip_prefix.strip("/") + "/" if strip_prefix.strip("/") else ""
        total = 0
        for name, data in _starlark_members(archive):
            if name.startswith(prefix):
                total += len(data)
                if total > LARGEST_TOTAL_BYTES:
                    raise WorkspaceError(
                        f"{archive} has more Starlark files than any archive of this build should.",
                        cure="fetch it again: ./inv fetch-deps --verify",
                    )
                self._files[name[len(prefix) :]] = data

    def read(self, path: str) -> str | None:
        """The text of a file, or None."""
        data = self._files.get(path)
        return None if data is None else data.decode("utf-8", "replace")


@dataclass(frozen=True)
class Written:
    """A file that a rule's implementation writes: its text, or the path of a template and what it replaces in it."""

    text: str
    template: str = ""
    substitutions: Mapping[str, str] = field(default_factory=dict)


class WrittenTree:
    """A repository whose files a rule's implementation writes itself. `read_template` gives the text of a path."""

    def __init__(self, files: Mapping[str, Written], read_template: Callable[[str], str | None]) -> None:
        self._files = files
        self._read_template = read_template

    def read(self, path: str) -> str | None:
        """The text of a file, or None."""
        written = self._files.get(path)
        if written is None or not written.template:
            return written.text if written is not None else None
        text = self._read_template(written.template)
        for old, new in written.substitutions.items():
            text = text.replace(old, new) if text is not None else None
        return text


class PartOfTree:
    """A repository that is a directory of another one."""

    def __init__(self, tree: Tree, directory: str) -> None:
        self._tree = tree
        self._directory = directory

    def read(self, path: str) -> str | None:
        """The text of a file, or None; a path that leads out of the directory is never followed."""
        return None if ".." in PurePosixPath(path).parts else self._tree.read(f"{self._directory}/{path}")


def _starlark_members(archive: Path) -> Iterator[tuple[str, bytes]]:
    try:
        if zipfile.is_zipfile(archive):
            yield from _of_zip(archive)
        else:
            yield from _of_tar(archive)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise WorkspaceError(
            f"{archive} can't be read as an archive ({error}).", cure="fetch it again: ./inv fetch-deps --verify"
        ) from error


def _of_zip(archive: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            if info.filename.endswith(KEPT):
                check_size(info.file_size, f"{archive}: {info.filename}")
                yield info.filename, packed.read(info)


def _of_tar(archive: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive, "r|*") as tar:  # as a stream: one pass, without an index of all members
        for info in tar:
            if info.name.endswith(KEPT) and info.isreg():
                check_size(info.size, f"{archive}: {info.name}")
                file = tar.extractfile(info)
                if file is not None:
                    yield info.name.removeprefix("./"), file.read()

"""What a package holds, whatever its kind: the build, its manifest and licences, and the two programs around the
server.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from npu_serving import fsutil
from npu_serving.builds import bill_of_materials, provenance
from npu_serving.builds.manifest import CREATED, MANIFEST, Build
from npu_serving.errors import RequestError
from npu_serving.settings import PROJECT_ROOT
from npu_serving.tar_writer import GNU, TarWriter

PREFIX = "opt/npu-serving"
"""Where packages are installed, below /. The stub libraries are in its lib/, where only the server's RPATH looks."""
RUNTIME = PROJECT_ROOT / "docker" / "runtime"
OWNER = "root"
PROGRAMS = ("serve", "healthcheck")
PAPERS = (MANIFEST, bill_of_materials.FILE_NAME, provenance.FILE_NAME)


@dataclass(frozen=True)
class PackageFile:
    """A file of a package, by its path within it."""

    name: str
    source: Path
    mode: int

    @property
    def size_bytes(self) -> int:
        """Its size."""
        with fsutil.explained(self.source, doing="read"):
            return self.source.stat().st_size


def contents(build: Build) -> tuple[PackageFile, ...]:
    """The files, sorted by name. RequestError where one is gone or is not what the manifest says."""
    for name, digest in build.manifest.files.items():
        path = build.directory / name
        if not path.is_file() or fsutil.sha256_of(path) != digest:
            raise RequestError(
                f"The build {build.manifest.build_id} is damaged: {path} does not match its manifest.",
                cause="it was changed or removed after the build",
                cure="build it again with ./inv build-serving, or choose another one that ./inv list-builds shows",
            )
    files = [PackageFile(name, build.directory / name, 0o755) for name in build.manifest.files]
    papers = [PackageFile(name, build.directory / name, 0o644) for name in PAPERS if (build.directory / name).is_file()]
    programs = [PackageFile(f"bin/{name}", RUNTIME / name, 0o755) for name in PROGRAMS]
    return tuple(sorted([*files, *papers, *programs], key=lambda entry: entry.name))


def build_time(build: Build) -> int:
    """When it was built, in seconds since 1970: the time of every file in a package, so that two are the same bytes."""
    try:
        return calendar.timegm(time.strptime(build.manifest.created, CREATED))
    except ValueError as error:
        raise RequestError(
            f"{build.directory / MANIFEST} has no valid build time ({error}).",
            cure="build again: ./inv build-serving",
        ) from error


def write_tar(file: IO[bytes], entries: Sequence[PackageFile], *, prefix: str, mtime: int) -> None:
    """A tar stream of the entries below `prefix`, owned by root, each directory before what is in it.

    The same bytes for the same entries, whoever writes them and wherever.
    """
    with TarWriter(file, GNU, mtime=mtime, owner=OWNER) as tar:
        add_entries(tar, entries, prefix=prefix)


def add_entries(tar: TarWriter, entries: Sequence[PackageFile], *, prefix: str) -> None:
    """The same, into a tar that holds something else besides."""
    for directory in _directories(prefix, entries):
        tar.add_directory(f"{directory}/")
    for entry in entries:
        tar.add_file(f"{prefix}/{entry.name}", entry.source, mode=entry.mode)


def _directories(prefix: str, entries: Sequence[PackageFile]) -> Iterator[str]:
    whole = {parent for entry in entries for parent in Path(prefix, entry.name).parents}
    lead = "./" if prefix.startswith("./") else ""
    yield from sorted(f"{lead}{directory}" for directory in whole if directory.name)

"""What a package holds, whatever its kind: the build, its manifest and licences, and the two programs around the
server.
"""

from __future__ import annotations

import calendar
import io
import tarfile
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

PREFIX = "opt/npu-serving"
"""Where packages are installed, below /. The stub libraries are in its lib/, where only the server's RPATH looks."""
RUNTIME = PROJECT_ROOT / "docker" / "runtime"
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
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for directory in _directories(prefix, entries):
            tar.addfile(_member(f"{directory}/", 0, 0o755, mtime, tarfile.DIRTYPE))
        for entry in entries:
            member = _member(f"{prefix}/{entry.name}", entry.size_bytes, entry.mode, mtime)
            with fsutil.explained(entry.source, doing="read"), entry.source.open("rb") as data:
                tar.addfile(member, data)


def add_text(tar: tarfile.TarFile, name: str, text: str, *, mtime: int, mode: int = 0o644) -> None:
    """Adds a file that isn't on the disk."""
    data = text.encode()
    tar.addfile(_member(name, len(data), mode, mtime), io.BytesIO(data))


def _directories(prefix: str, entries: Sequence[PackageFile]) -> Iterator[str]:
    whole = {parent for entry in entries for parent in Path(prefix, entry.name).parents}
    lead = "./" if prefix.startswith("./") else ""
    yield from sorted(f"{lead}{directory}" for directory in whole if directory.name)


def _member(name: str, size_bytes: int, mode: int, mtime: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime, member.type = size_bytes, mode, mtime, kind
    member.uname = member.gname = "root"
    return member

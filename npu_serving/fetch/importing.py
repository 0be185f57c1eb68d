"""Files that a person fetched by hand: recognised by their content, whatever they are called, and taken into the store.

This is the guide's table 6-4 (download, rename, pass --distdir), for every archive and without the renaming.
"""

from __future__ import annotations

import stat
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.console import Reporter, Silent
from npu_serving.errors import EXIT_FAILED, RequestError
from npu_serving.fetch import heal
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.transfer import LARGEST_UNKNOWN_BYTES
from npu_serving.lock.lockfile import Archive


@dataclass(frozen=True)
class Recognised:
    """A file and the archive that it is. `healed`: it had been recompressed or unpacked before."""

    file: Path
    archive: str
    file_name: str
    healed: bool


@dataclass(frozen=True)
class ImportReport:
    """What was found in a directory. `present` archives were in the store before; `missing` ones are still needed."""

    directory: Path
    recognised: tuple[Recognised, ...]
    unrecognised: tuple[Path, ...]
    unreadable: tuple[Path, ...]
    present: tuple[str, ...]
    missing: tuple[Archive, ...]

    @property
    def exit_code(self) -> int:
        """1 where no file of the directory is one of the archives."""
        return 0 if self.recognised else EXIT_FAILED

    def to_json(self) -> dict[str, object]:
        """For --json."""
        return {
            "directory": str(self.directory),
            "recognised": [
                {"file": str(item.file), "name": item.archive, "file_name": item.file_name, "healed": item.healed}
                for item in self.recognised
            ],
            "unrecognised": [str(path) for path in self.unrecognised],
            "unreadable": [str(path) for path in self.unreadable],
            "present": list(self.present),
            "missing": [
                {"name": item.name, "file_name": item.file_name, "sha256": item.sha256, "urls": list(item.urls)}
                for item in self.missing
            ],
        }

    def text(self) -> str:
        """What a person wants to know: what came in, what was not recognised, what is still missing and its URL."""
        lines = [f"{len(self.recognised)} archives recognised in {self.directory}."]
        lines += [
            f"  {item.file.name} is {item.file_name} ({item.archive})"
            + (", recompressed: the pinned bytes were recreated from it" if item.healed else "")
            for item in self.recognised
        ]
        if self.unrecognised:
            lines.append(f"{len(self.unrecognised)} files are not among the archives in the lock, or are damaged:")
            lines += [f"  {path}" for path in self.unrecognised]
        if self.unreadable:
            lines.append(f"{len(self.unreadable)} files could not be read:")
            lines += [f"  {path}" for path in self.unreadable]
        if self.missing:
            lines.append(f"{len(self.missing)} archives that are needed are still missing:")
            lines += [f"  {item.file_name} ({item.name})  {item.urls[-1]}" for item in self.missing]
        else:
            lines.append("All needed archives are here.")
        return "\n".join(lines)


def import_directory(
    directory: Path,
    archives: Iterable[Archive],
    store: ContentStore,
    *,
    needed: Container[str] | None = None,
    reporter: Reporter | None = None,
) -> ImportReport:
    """Takes every file below `directory` that is one of the archives into the store, by its sha256.

    Of what is not there, the archives whose sha256 is among `needed` (all, by default) are reported as missing.
    The directory is only read. Raises RequestError when it isn't one, and what the store raises when it can't be
    written. Files that differ from an archive only in their compression are healed where GNU gzip is there.
    """
    if not directory.is_dir():
        raise RequestError(
            f"{directory} is not a directory.",
            cure="name the directory that holds the files: --import DIR",
        )
    said = reporter if reporter is not None else Silent()
    by_digest = {archive.sha256: archive for archive in archives if archive.sha256 is not None}
    present = store.check(by_digest).present
    missing = {sha256: archive for sha256, archive in by_digest.items() if sha256 not in present}
    recognised: list[Recognised] = []
    others: list[Path] = []
    unreadable: list[Path] = []
    files = list(_files(directory, store.root))
    with said.progress("importing", total=len(files), unit="files") as progress:
        for number, file in enumerate(files):
            progress.update(number, detail=file.name)
            try:
                sha256 = _digest_if_it_fits(file, by_digest)
            except OSError:
                unreadable.append(file)
                continue
            if sha256 is None:
                others.append(file)
                continue
            if sha256 in missing:
                store.adopt(file, sha256)
                del missing[sha256]
            recognised.append(_recognised(file, by_digest[sha256], healed=False))
        for file in list(others):
            progress.update(len(files), detail=file.name)
            healed = _heal(file, missing, store) if missing else None
            if healed is not None:
                others.remove(file)
                recognised.append(_recognised(file, missing.pop(healed), healed=True))
    return ImportReport(
        directory=directory,
        recognised=tuple(recognised),
        unrecognised=tuple(others),
        unreadable=tuple(unreadable),
        present=tuple(by_digest[sha256].name for sha256 in present),
        missing=tuple(archive for sha256, archive in missing.items() if needed is None or sha256 in needed),
    )


def _recognised(file: Path, archive: Archive, *, healed: bool) -> Recognised:
    return Recognised(file, archive.name, archive.file_name, healed)


def _files(directory: Path, store_root: Path) -> Iterator[Path]:
    """The regular files below a directory, links to files included, links to directories and the store left out."""
    for parent, names, file_names in fsutil.walk(directory):
        names[:] = sorted(name for name in names if Path(parent, name) != store_root)
        for name in sorted(file_names):
            path = Path(parent, name)
            try:
                if stat.S_ISREG(path.stat().st_mode):
                    yield path
            except OSError:
                yield path  # a dangling link, or not ours to look at: counted among the unreadable ones


def _digest_if_it_fits(file: Path, by_digest: dict[str, Archive]) -> str | None:
    """The file's sha256 if it is an archive's. It is hashed only when its size may be that of one."""
    size = file.stat().st_size
    if not any(_fits(size, archive) for archive in by_digest.values()):
        return None
    with file.open("rb"):
        pass  # an OSError here is about this file; further on it would be about the store
    sha256 = fsutil.sha256_of(file)
    return sha256 if sha256 in by_digest else None


def _fits(size_bytes: int, archive: Archive) -> bool:
    """Whether a file of that size may be the archive; where its size is not known, a fetch takes as much as this.

    None is empty, as the files of /proc and /sys say that they are, some of which never end.
    """
    if archive.size_bytes is None:
        return 0 < size_bytes <= LARGEST_UNKNOWN_BYTES
    return archive.size_bytes == size_bytes


def _heal(file: Path, missing: dict[str, Archive], store: ContentStore) -> str | None:
    """Makes a missing archive from a file with the same tree in it; its sha256, or None."""
    if not 0 < file.stat().st_size <= LARGEST_UNKNOWN_BYTES or not heal.can_be_healed(file):
        return None
    top = heal.top_directory(file)
    if not any(not archive.strip_prefix or archive.strip_prefix.split("/")[0] == top for archive in missing.values()):
        return None
    with fsutil.scratch_directory(store.partial) as scratch:
        healed = heal.heal(file, missing.__contains__, scratch)
        if healed is None:
            return None
        sha256 = fsutil.sha256_of(healed)
        store.take_verified(healed, sha256)
    return sha256

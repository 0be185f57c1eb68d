"""The files of a version's directory: listed, compared with another's, and copied to where a server looks for them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.console import Reporter, amount_text
from npu_serving.errors import RequestError

MOST_FILES = 100_000  # of a version: more than any model has, and fewer than / has
_MOST_DEPTH = 64
_COMPARED_BYTES = 1 << 20


@dataclass(frozen=True)
class VersionFiles:
    """What is in a directory: files with their sizes in bytes, by their path within it; and its directories."""

    directory: Path
    sizes: dict[str, int]
    directories: tuple[str, ...]

    @property
    def total_bytes(self) -> int:
        """The bytes of all files."""
        return sum(self.sizes.values())


def version_files(directory: Path) -> VersionFiles:
    """All files below that directory; a link counts as what it leads to.

    RequestError for what can't be copied: a device, a pipe, links in a circle, more than MOST_FILES.
    """
    sizes: dict[str, int] = {}
    directories: list[str] = []
    with fsutil.explained(directory, doing="read"):
        waiting = [""]
        while waiting:
            within = waiting.pop()
            for entry in sorted(os.scandir(directory / within), key=lambda each: each.name):
                name = f"{within}{entry.name}"
                mode = entry.stat().st_mode
                if stat.S_ISDIR(mode):
                    directories.append(name)
                    waiting.append(f"{name}/")
                elif stat.S_ISREG(mode):
                    sizes[name] = entry.stat().st_size
                else:
                    raise _refused(directory / name, "is a device or a pipe")
                if name.count("/") > _MOST_DEPTH:
                    raise _refused(directory / name, f"lies more than {_MOST_DEPTH} directories deep")
            if len(sizes) + len(directories) > MOST_FILES:
                raise _refused(directory, f"has more than {MOST_FILES:,} files")
    return VersionFiles(directory, sizes, tuple(sorted(directories)))


def differing_file(one: VersionFiles, other: VersionFiles) -> str:
    """The first file that is not in both with the same bytes, by its path; "" where the two are alike."""
    for name in sorted({*one.sizes, *other.sizes}):
        if one.sizes.get(name) != other.sizes.get(name):
            return name
    return next((name for name in one.sizes if not _are_alike(one.directory / name, other.directory / name)), "")


def copy_files(
    files: VersionFiles, target: Path, reporter: Reporter, *, leaving_out: Callable[[str], bool] = lambda _name: False
) -> None:
    """Copies them into `target`, which is there; all of them but those that are left out.

    DiskFullError before anything is written where they would not fit, RequestError where one changes meanwhile.
    """
    names = [name for name in files.sizes if not leaving_out(name)]
    total = sum(files.sizes[name] for name in names)
    fsutil.check_space(target, total, what="The files of the version", instead="publish it to another disk")
    for name in files.directories:
        if not leaving_out(f"{name}/"):
            fsutil.make_directory(target / name)
    done = 0
    with reporter.progress(f"copying {amount_text(total, 'bytes')}", total=total, unit="bytes") as progress:

        def count(size_bytes: int) -> None:
            nonlocal done
            done += size_bytes
            progress.update(done)

        for name in names:
            fsutil.copy_within(files.directory / name, target / name, on_bytes=count)
    if version_files(files.directory).sizes != files.sizes:
        raise RequestError(
            f"{files.directory} has changed while it was copied.",
            cause="somebody is still writing the model, or is replacing it",
            cure="wait until it is complete, then run the same command again",
        )


def _are_alike(one: Path, other: Path) -> bool:
    with fsutil.explained(one, doing="read"), one.open("rb") as first, other.open("rb") as second:
        while True:
            pieces = first.read(_COMPARED_BYTES), second.read(_COMPARED_BYTES)
            if pieces[0] != pieces[1]:
                return False
            if not pieces[0]:
                return True


def _refused(path: Path, why: str) -> RequestError:
    return RequestError(
        f"{path} {why}, so the version it is in can't be copied.",
        cause="the directory is not that of one version of a model",
        cure="name the directory that has saved_model.pb in it",
    )

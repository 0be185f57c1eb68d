"""Whether a build can work in its directories: their paths, and how the file systems that hold them are mounted.

What the build refuses, `doctor` and a dry run say as well, by the same function.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_serving.doctor.requirements import DOCKER
from npu_serving.errors import RequestError
from npu_serving.facts import pinned_bazel
from npu_serving.settings import Settings
from npu_serving.writers.shell import command_line

TEMPORARY = Path("/tmp")  # noqa: S108 - what Bazel gives its actions where TMPDIR is not set
LONGEST_PATH = 4095  # bytes; limits.h of Linux: PATH_MAX without the byte that ends it
ROOM_BELOW = 1024  # bytes for what Bazel makes below its output root; the longest path of the real tree has some 350

_IN_A_CONTAINER = "build in a container, where such paths work: ./inv build-serving --runner docker"


@dataclass(frozen=True)
class Place:
    """A directory of a build. `cure` is how another one is named; `plain` that Bazel fails in some paths."""

    what: str
    path: Path
    cure: str
    plain: bool = False
    room_below: int = 0
    has_libraries: bool = False
    ours: bool = False
    """Whether it is this project's alone, so that it may belong to the user who builds."""
    is_made: bool = True
    """Whether the build makes it where it is missing."""

    @property
    def title(self) -> str:
        """What it is, as a sentence begins with it."""
        return f"{self.what[0].upper()}{self.what[1:]}"

    @property
    def existing(self) -> Path:
        """It, or the nearest directory above it that is there."""
        path = self.path.absolute()
        while not _exists(path) and path != path.parent:
            path = path.parent
        return path


def build_places(settings: Settings, runner: str, tree: Path) -> tuple[Place, ...]:
    """The directories that a build with that runner works in."""
    plain = runner != DOCKER
    cure = "set build_root in invoke.yaml to another directory"
    room = ROOM_BELOW
    state = Place("the state directory", settings.build_root, cure, plain=plain, room_below=room, ours=True)
    output = Place("Bazel's output root", output_user_root(settings, runner), cure, plain=plain, room_below=room)
    cure = "set dist_root in invoke.yaml to another directory"
    finished = Place("the directory of finished builds", settings.dist_root, cure, has_libraries=True, ours=True)
    places = [state, finished]
    if _exists(output.path):  # it may lead elsewhere
        places.append(output)
    if _exists(tree) or settings.build_root not in tree.parents:
        places.append(Place("the source tree", tree, "move the tree to another directory", plain=plain))
    return (*places, temporary_place()) if plain else tuple(places)


def output_user_root(settings: Settings, runner: str) -> Path:
    """Where Bazel keeps what it makes; each runner has its own, for the paths differ inside."""
    return settings.build_root / "bazel" / runner


def temporary_place() -> Place:
    """Where actions make their temporary files: libevent is configured, and its scripts are started, there."""
    path = Path(os.environ.get("TMPDIR") or TEMPORARY)
    cure = "export TMPDIR=DIRECTORY, of another directory"
    return Place("the directory for temporary files", path, cure, plain=True, is_made=False)


def check_places(places: Iterable[Place]) -> None:
    """RequestError for the first one that a build can't work in."""
    for trouble in troubles(places):
        raise trouble


def troubles(places: Iterable[Place]) -> Iterator[RequestError]:
    """What is wrong with each of them."""
    for place in places:
        trouble = _unfit_path(place) or _unfit_directory(place)
        if trouble is not None:
            yield trouble


def noexec_trouble(what: str, path: Path, cure: str) -> RequestError | None:
    """The error where programs can't be started from that directory, whoever may execute them."""
    place = Place(what, path, cure)
    try:
        if not os.statvfs(place.existing).f_flag & os.ST_NOEXEC:
            return None
    except OSError:  # another check says so
        return None
    mounted = _mount_of(place.existing)
    return RequestError(
        f"No program can be started from {what}, {path}.",
        cause=f"the file system at {mounted} is mounted noexec",
        cure=f"{cure} on a file system without noexec, or as root: "
        f"{command_line(['mount', '-o', 'remount,exec', mounted])}",
    )


def _unfit_path(place: Place) -> RequestError | None:
    path = str(place.path)
    unfit = {letter for letter in path if not letter.isascii() or letter.isspace() or letter == ":"}
    if not place.plain:
        unfit &= {":"} if place.has_libraries else set()  # no part of LD_LIBRARY_PATH can have one
    if unfit:
        named = ", ".join(map(repr, sorted(unfit)))
        return RequestError(
            f"{f'Bazel {pinned_bazel()}' if place.plain else 'A build'} can't work in {path!r}, {place.what}: "
            f"the path contains {named}.",
            cause="it fails with spaces, line breaks, colons and letters outside of ASCII"
            if place.plain
            else "a server that is started from there would not find its libraries",
            cure=f"{place.cure}, without them in its path" + (f"; or {_IN_A_CONTAINER}" if place.plain else ""),
        )
    length = len(os.fsencode(place.path))
    if length + place.room_below > LONGEST_PATH:
        below = f", and {place.room_below} are needed below it" if place.room_below else ""
        return RequestError(
            f"{place.title} has a path that is too long: {path[:100]}...",
            cause=f"it has {length} bytes{below}; {LONGEST_PATH} are possible in all",
            cure=f"{place.cure}, with a shorter path",
        )
    return None


def _unfit_directory(place: Place) -> RequestError | None:
    existing = place.existing
    try:
        is_directory = stat.S_ISDIR(existing.stat().st_mode)
    except OSError as error:
        return RequestError(f"{place.title}, {place.path}: {error.strerror}.", cure=place.cure)
    if not is_directory:
        return RequestError(f"{existing} is not a directory, so {place.what} can't be there.", cure=place.cure)
    if not place.is_made and existing != place.path.absolute():
        cure = f"{command_line(['mkdir', '-p', place.path])}, or {place.cure}"
        return RequestError(f"{place.title}, {place.path}, does not exist.", cure=cure)
    if not os.access(existing, os.W_OK | os.X_OK):
        read_only = os.statvfs(existing).f_flag & os.ST_RDONLY
        return RequestError(
            f"This user may not write to {existing}, and so not to {place.what}.",
            cause=f"the file system at {_mount_of(existing)} is mounted read-only" if read_only else "",
            cure=f"sudo install -d -o $(id -un) {command_line([place.path])}, or {place.cure}"
            if place.ours and not read_only
            else place.cure,
        )
    return noexec_trouble(place.what, place.path, place.cure)


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _mount_of(path: Path) -> Path:
    path = path.resolve()
    while not path.is_mount() and path != path.parent:
        path = path.parent
    return path

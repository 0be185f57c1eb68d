"""The builds in dist/: which there are, which is current and which was before it, and switching between them."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.builds.manifest import MANIFEST, SERVER, Build, read_manifest
from npu_serving.console import Reporter
from npu_serving.errors import FileAccessError, RequestError, StateLockedError, SwitchedMeanwhileError
from npu_serving.settings import user_path
from npu_serving.state_lock import state_lock
from npu_serving.writers.shell import command_line

CURRENT = "current"
PREVIOUS = "previous"
DIST_LOCK = ".relink.lock"
"""Who makes a new current build of dist/ holds it: from what was linked or built until the links are switched, but for
the proof between, which may take an hour."""
CPU_SERVER = "cpu-server"
"""A link as well: to the build that was linked last without an adapter, which never becomes current by itself."""
KIT_SUFFIX = ".pyz"
"""A relink kit is a zip file that Python runs."""


@dataclass(frozen=True)
class DamagedBuild:
    """A directory of dist/ that was a build, and whose manifest can no longer be read."""

    directory: Path
    why: str

    def to_json(self) -> dict[str, object]:
        """Where it is, and what is wrong."""
        return {"directory": str(self.directory), "damaged": self.why}


@dataclass(frozen=True)
class Builds:
    """All of dist/: the builds, the newest first, and what can't be read."""

    sound: tuple[Build, ...]
    damaged: tuple[DamagedBuild, ...] = ()


def read_builds(dist_root: Path) -> Builds:
    """Every build of `dist_root`. Hidden directories are those of runs that are under way, or were killed."""
    current, previous = link_target(dist_root, CURRENT), link_target(dist_root, PREVIOUS)
    sound: list[Build] = []
    damaged: list[DamagedBuild] = []
    for path in dist_root.glob(f"*/{MANIFEST}"):
        directory = path.parent
        if directory.is_symlink() or directory.name.startswith("."):
            continue
        try:
            manifest = read_manifest(path)
        except (RequestError, FileAccessError) as error:
            damaged.append(DamagedBuild(directory, error.what))
        else:
            name = directory.name
            sound.append(Build(directory, manifest, name == current, previous=name == previous != current))
    sound.sort(key=lambda build: (build.manifest.created, build.directory.name), reverse=True)
    return Builds(tuple(sound), tuple(sorted(damaged, key=lambda item: item.directory.name)))


def find_build(dist_root: Path, name: str = "") -> Build:
    """The build of that id, path or unambiguous beginning of an id; the current one without a name."""
    builds = read_builds(dist_root)
    if not name:
        matches = [build for build in builds.sound if build.current]
    else:
        as_path = user_path(name, "--build").resolve()
        exact = [
            build for build in builds.sound if name == build.manifest.build_id or as_path == build.directory.resolve()
        ]
        matches = exact or [build for build in builds.sound if build.manifest.build_id.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    raise _not_found(dist_root, name, builds, len(matches))


def _not_found(dist_root: Path, name: str, builds: Builds, matches: int) -> RequestError:
    what, cure = of_none(dist_root)
    if not builds.sound and not builds.damaged:
        return RequestError(f"There is no build in {dist_root}{what}.", cure=cure)
    named = name or link_target(dist_root, CURRENT)
    broken = next((item for item in builds.damaged if named and item.directory.name.startswith(named)), None)
    if broken is not None:
        return RequestError(
            f"The build {broken.directory.name} is damaged: {broken.why}",
            cure="build again with ./inv build-serving, or switch to another one with ./inv rollback --build ID",
        )
    known = "\n".join(f"    {build.manifest.build_id}" for build in builds.sound)
    if name:
        more = "write more of the name" if matches else "use the name of one of them, or its beginning"
        cure = f"{more} (./inv list-builds shows all)"
        return RequestError(f"{matches or 'No'} builds match {name!r}. The builds are:\n{known}", cure=cure)
    if what and not builds.damaged and all(build.manifest.without_adapter for build in builds.sound):
        return RequestError(f"There is no build with an adapter in {dist_root}{what}.", cure=cure)
    gone = f": {dist_root / CURRENT} points to {named}, which is not a build" if named else ""
    return RequestError(
        f"No build is current{gone}. The builds are:\n{known}",
        cure="name one with --build, or make one current with ./inv rollback --build ID",
    )


def of_none(dist_root: Path) -> tuple[str, str]:
    """What goes on after "There is no build in …", and what to type next: where only a relink kit was made, a server
    comes of that.
    """
    kits = kit_files(dist_root)
    if not kits:
        return "", "make one with: ./inv build-serving"
    relink = command_line(["python3", str(kits[0]), "relink", "--dist"])
    return (
        ": there is only a relink kit, of which a server can be made",
        f"on the machine with CANN: {relink} DIST; or here: ./inv build-serving --adapter auto",
    )


def build_made_from(dist_root: Path, input_digest: str, *, read_again: bool = False) -> Build | None:
    """The newest build of exactly these inputs whose files are as they were built, or None.

    With `read_again` a file is not taken as it was remembered by its size and times.
    """
    builds = (build for build in read_builds(dist_root).sound if build.manifest.input_digest == input_digest)
    return next((build for build in builds if not build.damaged_file(read_again=read_again)), None)


def unused_id(dist_root: Path, build_id: str) -> str:
    """The id, or with a number behind it where dist/ has it: a build that is made again does not replace the earlier
    one.
    """
    numbered = (f"{build_id}-{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([build_id], numbered) if not os.path.lexists(dist_root / name))


def packages_directory(dist_root: Path) -> Path:
    """Where packages and relink kits of the builds are put."""
    return dist_root / "packages"


def kit_files(dist_root: Path) -> list[Path]:
    """The relink kits among the packages, the newest first."""
    found = []
    for path in packages_directory(dist_root).glob(f"*{KIT_SUFFIX}"):
        with contextlib.suppress(OSError):  # removed since
            found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found, reverse=True)]


@contextlib.contextmanager
def dist_lock(dist_root: Path, *, doing: str, waiting: Reporter | None = None) -> Iterator[None]:
    """Keeps other runs that make or choose the current build out of `dist_root` while the block runs.

    They may have other state directories: a relink kit has its cache. StateLockedError where one of them is in there;
    with `waiting` it is named there, and its end is waited for.
    """
    cure = "wait until it has finished, then run the same command again"

    def lock(*, wait: bool) -> contextlib.AbstractContextManager[None]:
        return state_lock(dist_root, doing=doing, wait=wait, name=DIST_LOCK, cure=cure)

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock(wait=False))
        except StateLockedError as error:
            if waiting is None:
                raise
            waiting.note(f"{error.what} This run goes on when that has finished.")
            held.enter_context(lock(wait=True))
        yield


@contextlib.contextmanager
def while_proven(build: Build, held: contextlib.ExitStack, *, doing: str, reporter: Reporter) -> Iterator[None]:
    """Gives back the dist_lock() that `held` holds while the block runs, which proves the build, and takes it again.

    A model is compiled for an hour perhaps, and whoever wants to go back meanwhile can. SwitchedMeanwhileError where
    somebody did, or another run has made its own build the current one: that was decided later, so it stays.
    """
    root = build.directory.parent
    former = link_target(root, CURRENT)
    held.close()
    yield
    held.enter_context(dist_lock(root, doing=doing, waiting=reporter))
    now = link_target(root, CURRENT)
    if now not in (former, build.directory.name):
        name = build.directory.name
        raise SwitchedMeanwhileError(
            f"{now or 'No build'} was made current while {name} was being proven, and stays so.",
            cause="somebody went back to it with rollback, or another run has made it",
            cure=f"leave it so, or make the new build current, which is kept and proven: ./inv rollback --build {name}",
        )


def link_target(dist_root: Path, link: str) -> str:
    """The name of the build that `current` or `previous` points to; "" where there is no such link."""
    path = dist_root / link
    return path.readlink().name if path.is_symlink() else ""


def make_current(build: Build, install_link: str = "") -> bool:
    """Points dist/current, and the link that the settings name, to the build; True if that changed anything.

    What was current becomes `previous`. Each link is switched in one step, `current` last: whatever fails or is killed
    before that leaves the old build current.
    """
    root = build.directory.parent
    changed = False
    if install_link:
        changed = fsutil.point_link(_link_path(install_link), _link_target(root))
    with state_lock(root, doing="switching the current build", wait=True):
        if not (build.directory / MANIFEST).is_file():  # prune holds the same lock
            raise RequestError(
                f"The build {build.directory.name} was removed in the meantime.",
                cause="prune ran at the same time",
                cure="choose another one that ./inv list-builds shows",
            )
        former = link_target(root, CURRENT)
        if former and former != build.directory.name:
            fsutil.point_link(root / PREVIOUS, former)
        changed |= fsutil.point_link(root / CURRENT, build.directory.name)
    return changed


def check_link(install_link: str, dist_root: Path) -> None:
    """FileAccessError, before hours of building, for a link that could not be made in the end."""
    if not install_link or not link_differs(dist_root, install_link):
        return
    link = _link_path(install_link)
    if link.exists() and not link.is_symlink():
        raise FileAccessError(
            f"{link} is not a symbolic link, so it was not replaced.",
            cure=f"move {link} away, then run the same command again",
        )
    directory = link.parent
    while not directory.exists():
        directory = directory.parent
    if not os.access(directory, os.W_OK | os.X_OK):
        raise FileAccessError(
            f"Could not create {link}: user {os.geteuid()} may not write to {directory}.",
            cure="use --install-link with another path, or run the same command as a user who may write there",
        )


def link_differs(dist_root: Path, install_link: str) -> bool:
    """Whether the link that the settings name is missing, or does not point to the current build."""
    if not install_link:
        return False
    link = _link_path(install_link)
    return not link.is_symlink() or link.readlink() != _link_target(dist_root)


def _link_path(install_link: str) -> Path:
    return user_path(install_link, "install_link").absolute()


def _link_target(dist_root: Path) -> Path:
    """Through `current`, so that a rollback or a relink moves it along."""
    return dist_root.absolute() / CURRENT / SERVER

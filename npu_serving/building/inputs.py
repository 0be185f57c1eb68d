"""What goes into a build, found out before anything is done: the tree, the lock, the adapter, libpython, the runner."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.building.bazel_program import find_bazel, find_bazel_for_image
from npu_serving.building.host_runner import HostRunner
from npu_serving.building.runner import Runner
from npu_serving.building.sources import ServingSource, resolve_source
from npu_serving.cann.install import Adapter, find_adapter, find_installation
from npu_serving.console import Reporter
from npu_serving.errors import MissingToolError
from npu_serving.facts import LIBPYTHON
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.mirrors import parse_mirror
from npu_serving.lock.lockfile import Archive, Lock
from npu_serving.overlay.content import OverlayInputs
from npu_serving.overlay.patches import Toolchain, plan_patches
from npu_serving.sample.sample_settings import sample_archives, with_sample
from npu_serving.settings import Settings


@dataclass(frozen=True)
class Inputs:
    """Everything a build is made from."""

    source: ServingSource
    adapter: Adapter
    libpython: Path
    library_path: tuple[Path, ...]
    """CANN's own directories, where the server will look at run time; empty on a machine without CANN."""
    runner: Runner
    archives: tuple[Archive, ...]

    def overlay(self, settings: Settings) -> OverlayInputs:
        """What goes into the tree. The runner has to be ready: its compiler decides which patches are called for."""
        store = ContentStore(settings.store_root)
        patches = plan_patches(
            self.source.tree,
            self.source.lock.archives,
            lambda archive: store.path(archive.sha256 or ""),
            patched_root(settings),
            toolchain_of(self.runner.identity()),
        )
        return OverlayInputs(adapter=self.adapter.path, libpython=self.libpython, patches=patches)


def find_inputs(settings: Settings, reporter: Reporter) -> Inputs:
    """Finds all of them, or raises the error that tells which one is missing or unfit."""
    settings = with_sample(settings)
    for mirror in settings.mirrors:
        parse_mirror(mirror)  # a wrong one is refused, whether or not there is something to fetch
    source = resolve_source(settings)
    runner = choose_runner(settings, reporter)
    adapter = find_adapter(settings.adapter, settings.cann_root)
    installation = find_installation(settings.cann_root)
    return Inputs(
        source=source,
        adapter=adapter,
        libpython=find_libpython(settings),
        library_path=installation.library_directories if installation else (),
        runner=runner,
        archives=needed_archives(source.lock, source.archive if source.archive_file is None else None),
    )


def needed_archives(lock: Lock, source: Archive | None, machine: str = "") -> tuple[Archive, ...]:
    """What the server's build asks for on that architecture (by default this machine's), and the tree's own archive."""
    needed = lock.needed(f"linux-{machine or platform.machine()}-cpu")
    return (source, *needed) if source is not None else needed


def choose_runner(settings: Settings, reporter: Reporter) -> Runner:
    """The runner that is asked for; `auto` takes Docker where its engine answers."""
    if runner_name(settings) == "docker":
        from npu_serving.building.docker_runner import DockerRunner

        return DockerRunner(settings, find_bazel_for_image(settings, reporter), reporter)
    return HostRunner(settings, find_bazel(settings, reporter))


def runner_name(settings: Settings) -> str:
    """`host` or `docker`."""
    if settings.runner != "auto":
        return settings.runner
    from npu_serving.images.docker_engine import engine_answers

    return "docker" if engine_answers() else "host"


def find_libpython(settings: Settings) -> Path:
    """The shared libpython that the adapter needs (guide 6.3, step 3.2)."""
    path = settings.python_prefix / "lib" / LIBPYTHON
    if path.is_file():
        return path
    raise MissingToolError(
        f"There is no {path}.",
        cause="Python 3.7.5 is not installed there, or was built without --enable-shared",
        cure="set python_prefix in invoke.yaml to the prefix of a Python 3.7 built with --enable-shared "
        "(./inv doctor tells more)",
    )


def patched_root(settings: Settings) -> Path:
    """Where the repositories are that have a patch applied."""
    return settings.build_root / "patched"


def toolchain_of(identity: Mapping[str, str]) -> Toolchain:
    """The versions by which patches are chosen, from what a runner says it is."""
    glibc, gcc = (re.search(r"[0-9][0-9.]*", identity.get(name, "")) for name in ("glibc", "compiler"))
    return Toolchain(glibc.group() if glibc else "0", gcc.group() if gcc else "0")


def make_sample_archives(settings: Settings) -> None:
    """Packs the sample's archives into the directory that serves as their mirror."""
    from npu_serving.sample.sample_archives import build_archives

    build_archives(fsutil.make_directory(sample_archives(settings)))

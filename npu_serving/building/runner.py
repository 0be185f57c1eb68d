"""The interface to the place where Bazel runs; host_runner.py and docker_runner.py implement it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Protocol

from npu_serving.console import Reporter
from npu_serving.process import Finished


@dataclass(frozen=True)
class Layout:
    """The directories of a build, as the program that runs sees them."""

    workspace: Path
    """The serving tree; read only."""
    output_user_root: Path
    """Bazel's output; the only one that is written to, and kept between runs."""
    distdir: Path
    repository_cache: Path
    """The content store."""
    extra: tuple[Path, ...] = ()
    """Further directories that are read, such as repositories with a patch applied."""
    writable: tuple[Path, ...] = ()
    """Further directories that are written to, such as a disk cache."""


@dataclass(frozen=True)
class RunRequest:
    """A command for a runner: its words and its environment as they are seen inside, the layout as it is outside."""

    argv: Sequence[str]
    layout: Layout
    env: Mapping[str, str]
    log_path: Path
    on_line: Callable[[str], None] | None = None
    on_tick: Callable[[], None] | None = None
    """Called about once a second while the command runs, so that a person sees that it lives."""
    directory: Path | None = None
    """Where it runs, as seen inside; None for the workspace."""


class Runner(Protocol):
    """A machine, real or contained, with a toolchain and a Bazel."""

    name: str
    where: str
    """For a person: `on this machine`."""

    def check(self, layout: Layout) -> None:
        """Raises RequestError for a layout that Bazel can't work with here."""

    def what_is_missing(self) -> str:
        """What prepare() would have to fetch or make, for a person; empty when the runner is ready."""

    def prepare(self, reporter: Reporter) -> None:
        """Fetches or makes what is missing: the bazel program, the image."""

    def identity(self) -> dict[str, str]:
        """What decides the outcome of a build here, for the manifest: compiler, C library, Bazel, Python, image."""

    def toolchain_key(self) -> str:
        """What decides the outcome of an action here and is not an input of it: the same text, the same objects."""

    def inside(self, layout: Layout) -> Layout:
        """The layout as Bazel will see it."""

    def bazel(self) -> str:
        """The bazel program, as seen inside."""

    def python(self) -> str:
        """The interpreter for TensorFlow's build scripts (PYTHON_BIN_PATH), as seen inside."""

    def environment(self) -> dict[str, str]:
        """The whole environment Bazel gets. It becomes part of every action, so it is the same in every run."""

    def run(self, request: RunRequest) -> Finished:
        """Runs the command in its directory. A failure is returned, not raised."""

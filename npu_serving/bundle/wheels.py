"""The Python packages that this project itself needs, as wheels for a given Python and processor.

What is needed, with which digests, is in requirements.txt and requirements-dev.txt. pip fetches, from whatever
index it is configured with. This module imports the standard library only: see bootstrap.py.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil, process
from npu_serving.console import Reporter
from npu_serving.errors import FetchError, PinMismatchError, ProgramError, RequestError
from npu_serving.pip_environment import pip_environment

RUN_TIME = "requirements.txt"
DEVELOPMENT = "requirements-dev.txt"
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
GLIBC_MINORS = range(17, 4, -1)
"""Wheels that need no glibc newer than 2.17 run wherever the server does (PEP 600)."""
OLDER_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""What PEP 600 calls legacy tags, by the glibc 2.x that they stand for."""

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Target:
    """The Python (such as 3.11) and the processor that wheels are for; RequestError for others than the project's."""

    python: str
    machine: str

    def __post_init__(self) -> None:
        for value, known, flag in ((self.python, PYTHONS, "--python"), (self.machine, MACHINES, "--arch")):
            if value not in known:
                raise RequestError(f"{flag} can't be {value!r}.", cure=f"choose one of {', '.join(known)}")

    @property
    def tag(self) -> str:
        """Like cp311."""
        return "cp" + self.python.replace(".", "")

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags that run there, the newest glibc first."""
        names = []
        for minor in GLIBC_MINORS:
            names += [f"manylinux_2_{minor}", *([OLDER_NAMES[minor]] if minor in OLDER_NAMES else [])]
        return tuple(f"{name}_{self.machine}" for name in names)

    def environment(self) -> dict[str, str]:
        """The target's side of environment markers (PEP 508), for CPython on Linux."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


@dataclass(frozen=True)
class PinnedPackage:
    """One line of a requirements file: the digests are those of all its wheels, for whichever platform."""

    name: str
    version: str
    digests: frozenset[str]

    def line(self) -> str:
        """As pip reads it, without the marker: that one was judged for the target, and pip judges for itself."""
        return f"{self.name}=={self.version} " + " ".join(f"--hash=sha256:{digest}" for digest in sorted(self.digests))


def pinned_digests(project: Path) -> frozenset[str]:
    """The digests of all wheels that the project's requirements allow."""
    texts = [fsutil.read_text(project / name) for name in (RUN_TIME, DEVELOPMENT)]
    return frozenset(digest for text in texts for digest in _HASH.findall(text))


def pinned_packages(project: Path, target: Target, *, development: bool) -> tuple[PinnedPackage, ...]:
    """What has to be installed there, each package once; with `development` what the tests need, too."""
    from packaging.requirements import Requirement

    found: dict[str, PinnedPackage] = {}
    for name in (RUN_TIME, *([DEVELOPMENT] if development else [])):
        for entry in fsutil.read_text(project / name).replace("\\\n", " ").splitlines():
            text = entry.partition(" --hash=")[0].partition("#")[0].strip()
            if not text:
                continue
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate(target.environment()):
                version = str(requirement.specifier).removeprefix("==")
                found[requirement.name] = PinnedPackage(requirement.name, version, frozenset(_HASH.findall(entry)))
    return tuple(found[name] for name in sorted(found))


def held_wheels(directory: Path, packages: Sequence[PinnedPackage]) -> dict[str, Path] | None:
    """The wheel of each package in `directory`, by the package's name; None unless it has all of them, verified."""
    if not directory.is_dir():
        return None
    by_digest = {fsutil.sha256_of(path): path for path in sorted(directory.glob("*.whl"))}
    found = {}
    for package in packages:
        digest = next((digest for digest in sorted(package.digests) if digest in by_digest), None)
        if digest is None:
            return None
        found[package.name] = by_digest[digest]
    return found


def fetch_wheels(
    directory: Path,
    packages: Sequence[PinnedPackage],
    target: Target,
    reporter: Reporter,
    *,
    local: Path | None = None,
) -> dict[str, Path]:
    """Fills `directory` with the wheel of each package for the target, by pip, and returns them by package.

    With `local` they come from that directory, and no connection is opened. Raises FetchError, with what pip says.
    """
    with fsutil.new_directory(directory) as temporary:
        listed = temporary / "wanted.txt"
        fsutil.write_file(listed, "".join(package.line() + "\n" for package in packages))
        command = [sys.executable, "-I", "-m", "pip", "download"]
        command += ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
        command += ["--implementation", "cp", "--python-version", target.python]
        for abi in (target.tag, "abi3", "none"):
            command += ["--abi", abi]
        for name in target.platforms:
            command += ["--platform", name]
        command += ["--requirement", str(listed), "--dest", str(temporary)]
        if local is not None:
            command += ["--no-index", "--find-links", str(local)]
        with reporter.progress("fetching the Python packages", total=len(packages), unit="packages") as progress:
            saved: list[str] = []

            def on_line(line: str) -> None:
                saved.extend([line] if line.startswith("Saved ") else [])
                progress.update(len(saved), detail=line.strip())

            try:
                process.run(command, env=pip_environment(os.environ), on_line=on_line)
            except ProgramError as error:
                raise _could_not_fetch(error, local) from error
        listed.unlink()
    wheels = held_wheels(directory, packages)
    if wheels is None:
        raise PinMismatchError(
            f"pip succeeded but did not put every wheel into {directory}.",
            cause="the index offers other files than those that are pinned",
            cure="name another index with PIP_INDEX_URL, or make the bundle from a clone that is up to date",
        )
    return wheels


def _could_not_fetch(error: ProgramError, local: Path | None) -> FetchError:
    tail = "\n".join(f"    {line}" for line in error.output.strip().splitlines()[-5:])
    what = f"Could not fetch the Python packages of this project with pip:\n{tail}"
    if local is not None:
        return FetchError(
            what,
            cause=f"{local} lacks wheels for that Python and processor",
            cure="run the same command on a machine with network access",
        )
    return FetchError(
        what,
        cause="no network, or a proxy or a package index that isn't set (https_proxy, PIP_INDEX_URL)",
        cure="set PIP_INDEX_URL to your mirror of the package index, then run the same command again",
    )

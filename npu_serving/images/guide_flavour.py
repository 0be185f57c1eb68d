"""The tools of the `guide` flavour: what is made from sources in the image, from which files, and fetching them."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil, process
from npu_serving.console import Reporter
from npu_serving.documents import read_document
from npu_serving.errors import FetchError
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.fetching import fetch, plan_fetch
from npu_serving.fetch.toolchains import Tool, find_tool
from npu_serving.pip_environment import pip_environment
from npu_serving.settings import PROJECT_ROOT, Settings

GUIDE = PROJECT_ROOT / "docker" / "guide"
PYTHON = "3.7"
OLDER_TAGS = ("manylinux1", "manylinux2010", "manylinux2014")
_WHEEL = re.compile(
    r"(?P<sha256>[0-9a-f]{64})  (?P<file>(?P<name>\w+)-(?P<version>[\w.]+)-\S+?_?(?P<platform>any|x86_64|aarch64)\.whl)"
)


@dataclass(frozen=True)
class Wheel:
    """A Python package of docker/guide/wheels.txt."""

    file_name: str
    sha256: str
    requirement: str


@dataclass(frozen=True)
class GuideStep:
    """One script of docker/guide, and the tools whose archives it takes."""

    name: str
    tools: tuple[Tool, ...]


@dataclass(frozen=True)
class _StepEntry:
    """An entry of steps.yaml: the version of each tool, or one for each processor."""

    step: str
    tools: Mapping[str, str | Mapping[str, str]]


def guide_steps(machine: str = "") -> tuple[GuideStep, ...]:
    """The steps in their order, for that architecture (by default this machine's)."""
    machine = machine or platform.machine()
    return tuple(
        GuideStep(
            entry.step,
            tuple(
                find_tool(name, f"linux-{machine}", version=_version(version, machine))
                for name, version in entry.tools.items()
            ),
        )
        for entry in read_document(GUIDE / "steps.yaml", tuple[_StepEntry, ...])
    )


def guide_wheels(machine: str = "") -> tuple[Wheel, ...]:
    """The Python packages for that architecture."""
    machine = machine or platform.machine()
    found = (_WHEEL.fullmatch(line) for line in fsutil.read_text(GUIDE / "wheels.txt").splitlines())
    return tuple(
        Wheel(wheel["file"], wheel["sha256"], f"{wheel['name']}=={wheel['version']}")
        for wheel in found
        if wheel is not None and wheel["platform"] in ("any", machine)
    )


def fetch_guide_inputs(settings: Settings, reporter: Reporter) -> None:
    """Fetches what the guide's image is made from and the store doesn't have. Raises FetchError, PinMismatchError."""
    store = ContentStore(settings.store_root)
    wanted = [tool.wanted() for step in guide_steps() for tool in step.tools]
    fetch(plan_fetch(wanted, store), store, mirrors=settings.mirrors, offline=settings.offline, reporter=reporter)
    missing = [wheel for wheel in guide_wheels() if not store.has(wheel.sha256)]
    if not missing:
        return
    if settings.offline:
        raise FetchError(
            "These Python packages are missing, and --offline forbids fetching: "
            + ", ".join(wheel.file_name for wheel in missing),
            cause="they were never fetched on this machine, or build_root names a different store",
            cure="run ./inv build-image --flavour guide on a machine with network access, then copy its store here",
        )
    with tempfile.TemporaryDirectory(dir=fsutil.make_directory(store.root)) as temporary:
        _download(missing, Path(temporary), reporter)
        for wheel in missing:
            store.adopt(Path(temporary) / wheel.file_name, wheel.sha256)


def _download(wheels: list[Wheel], directory: Path, reporter: Reporter) -> None:
    """Fetches them with pip, from whatever index it is configured with."""
    reporter.note(f"fetching with pip: {', '.join(wheel.requirement for wheel in wheels)}")
    platforms = [word for tag in OLDER_TAGS for word in ("--platform", f"{tag}_{platform.machine()}")]
    argv: list[process.Arg] = [
        sys.executable,
        "-I",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "-d",
        directory,
    ]
    target = ["--python-version", PYTHON, "--implementation", "cp", "--abi", "cp37m", *platforms]
    process.run(
        [*argv, *target, *(wheel.requirement for wheel in wheels)],
        env=pip_environment(os.environ),
        timeout_s=900,
        cure="set PIP_INDEX_URL to a package index that you can reach, or use --flavour distro",
    )


def _version(declared: str | Mapping[str, str], machine: str) -> str:
    return declared if isinstance(declared, str) else declared.get(machine, "")

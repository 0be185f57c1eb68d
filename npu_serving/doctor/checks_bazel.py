"""The checks of examination.py that look at Bazel and at the JDK that it is bootstrapped with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from npu_serving.doctor.bazel_version import bazel_version
from npu_serving.doctor.checks import Examination, RequirementFinding
from npu_serving.doctor.requirements import Requirement
from npu_serving.findings import NOT_NEEDED, OK, WARNING
from npu_serving.version_numbers import version_of

FETCHABLE = ("x86_64",)  # upstream has no aarch64 binary before Bazel 3.6
JAVA_SERIES = 11


def check_bazel(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """A Bazel that TensorFlow 1.15 can be built with: the one that is set, the one on PATH, or one to be fetched.

    An unsuitable Bazel is a warning where the pinned one is fetched in its place.
    """
    settings, architecture = examination.settings, examination.machine.architecture
    minimum = requirement.minimum(architecture)
    replaced = not settings.bazel and architecture in FETCHABLE
    program = _bazel(requirement, examination)
    if program is None:
        found = f"no program {settings.bazel!r}" if settings.bazel else "not on PATH"
        return _fetched(requirement, examination, found) if replaced else examination.missing(requirement, found)
    version = bazel_version(program)
    found = f"{version} ({program})" if version else f"{program}, which is not Bazel itself (probably a wrapper)"
    if version and requirement.accepts(version, architecture):
        return examination.finding(requirement, OK, found)
    if replaced and requirement.needed_for(examination.use):
        text = f"{found}; build-serving ignores it and fetches the pinned {minimum}"
        return examination.finding(requirement, WARNING, text, cure="./inv fetch-deps")
    return examination.unfit(requirement, f"{found}; build-serving can't use it")


def check_jdk(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """A JDK 11, where Bazel has to be bootstrapped because there is none and no binary of it exists."""
    bazel = examination.requirements["bazel"]
    machine = examination.machine
    if machine.architecture in FETCHABLE:
        return examination.finding(requirement, NOT_NEEDED, "Bazel is fetched as a binary on this architecture")
    program = _bazel(bazel, examination)
    if program and bazel.accepts(bazel_version(program) or "0", machine.architecture):
        return examination.finding(requirement, NOT_NEEDED, f"{program} is already installed")
    homes = {home: _java_version(home) for home in _java_homes(examination)}
    for home, version in homes.items():
        if version_of(version).major == JAVA_SERIES:
            return examination.finding(requirement, OK, f"{version} ({home})")
    if not homes:
        return examination.missing(requirement, "none")
    return examination.unfit(requirement, ", ".join(f"{version or '?'} ({home})" for home, version in homes.items()))


def _bazel(requirement: Requirement, examination: Examination) -> Path | None:
    """The program that build-serving would look at first."""
    if not examination.settings.bazel:
        return examination.machine.find(*requirement.program)
    program = Path(examination.settings.bazel).expanduser()
    return program if program.is_file() else None


def _fetched(requirement: Requirement, examination: Examination, found: str) -> RequirementFinding:
    version = requirement.minimum(examination.machine.architecture)
    if examination.settings.offline:
        text = f"{found}; with --offline the pinned {version} has to be in {examination.settings.store_root} already"
        return examination.finding(requirement, WARNING, text, cure="./inv fetch-deps  (where there is a network)")
    return examination.finding(requirement, OK, f"{found}; build-serving fetches the pinned {version}")


def _java_homes(examination: Examination) -> Iterator[Path]:
    """The directories of the JDKs (not of mere runtimes) that are here: JAVA_HOME's, PATH's, the distribution's."""
    machine = examination.machine
    compiler = machine.find("javac")
    candidates = [Path(machine.java_home)] if machine.java_home else []
    if compiler is not None:
        candidates.append(compiler.resolve().parent.parent)
    installed = machine.root / "usr/lib/jvm"
    if installed.is_dir():
        candidates += sorted(installed.iterdir())
    seen = set()
    for home in candidates:
        real = home.resolve()
        if (real / "bin/javac").is_file() and real not in seen:
            seen.add(real)
            yield real


def _java_version(home: Path) -> str:
    """The version in a JDK's `release` file, so that it needn't be started, or ""."""
    try:
        text = (home / "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = re.search(r'^JAVA_VERSION="?([^"\n]*)', text, re.MULTILINE)
    return match.group(1) if match else ""

"""The checks of examination.py that look at disk, memory, the C library, dpkg, CANN and the Docker engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from npu_serving import fsutil
from npu_serving.console import amount_text
from npu_serving.doctor import dpkg
from npu_serving.doctor.checks import REPAIR_DPKG, Examination, RequirementFinding, program_version
from npu_serving.doctor.places import build_places, troubles
from npu_serving.doctor.requirements import DOCKER, HOST, Requirement
from npu_serving.errors import MissingToolError, NpuServingError
from npu_serving.findings import NOT_NEEDED, NOTE, OK, PROBLEM, WARNING
from npu_serving.version_numbers import leading_version

GB = 10**9
_RELINKED = "with `adapter: none` it is needed where the server is linked later, not here"


def check_glibc(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """Which GNU C library there is."""
    version = _glibc_version(examination)
    if not version:
        return examination.missing(requirement, examination.machine.libc or "another C library")
    return examination.finding(requirement, OK, version)


def check_patches(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """Whether the fixes that this C library and compiler call for fit the archives that this tree declares."""
    row = examination.requirements["gcc"]
    compiler = examination.machine.find(*row.program)
    gcc = program_version(row, compiler, examination) if compiler is not None else ""
    glibc = _glibc_version(examination)
    if not glibc or not gcc:
        unknown = "C library" if not glibc else "compiler"
        return examination.finding(requirement, NOT_NEEDED, f"not known: the version of the {unknown} is not known")
    answers = examination.patches(examination.settings, glibc, gcc)
    wrong = [answer for answer in answers if answer.severity == WARNING]
    worth_telling = wrong or [answer for answer in answers if answer.severity == NOTE]
    said = "; ".join(dict.fromkeys(answer.what for answer in worth_telling))
    if wrong:
        return replace(examination.unfit(requirement, said), cure=wrong[0].cure)
    if worth_telling:
        cure = next((answer.cure for answer in worth_telling if answer.cure), "")
        return examination.finding(requirement, NOTE, said, cure=cure)
    fine = ", ".join(answer.kind for answer in answers if answer.severity == OK)
    found = f"applied: {fine}" if fine else f"none is called for by glibc {glibc} and gcc {gcc}"
    return examination.finding(requirement, OK, found)


def _glibc_version(examination: Examination) -> str:
    name, _, version = examination.machine.libc.partition(" ")
    return version if name == "glibc" and leading_version(version) else ""


def check_disk(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """Free space where the build goes: with less than the smallest build takes, a problem; else a warning."""
    tree = "sample" if examination.is_sample else "real"
    least, wanted = (requirement.limits[f"{tree}{suffix}"] for suffix in ("_least_gb", "_gb"))
    place = examination.settings.build_root
    required = f"{wanted:.0f} GB" if least == wanted else f"{wanted:.0f} GB; {least:.0f} GB at -O0"
    return _space(requirement, examination, place, fsutil.free_bytes(place), least, wanted, required)


def check_docker_disk(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """Free space where the engine keeps its images, if that is on this machine."""
    least = requirement.limits["least_gb"]
    try:
        root = Path(_engine_info(examination)["DockerRootDir"])
        if not root.is_dir():
            return examination.finding(requirement, OK, f"Docker's {root} can't be read from here")
        free = fsutil.free_bytes(root)
    except (NpuServingError, OSError, KeyError):
        return examination.finding(requirement, NOT_NEEDED, "no Docker engine")
    return _space(requirement, examination, root, free, least, least, f"{least:.0f} GB")


def check_build_root(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """Whether a build can work in its directories; the first build makes those that are missing."""
    settings = examination.settings
    runner = DOCKER if examination.use == DOCKER else HOST
    source = Path(settings.source).expanduser()
    with fsutil.explained(source, doing="read"):
        tree = source.absolute() if source.is_dir() else settings.build_root / "src"
    found = list(troubles(build_places(settings, runner, tree)))
    if found:
        what = " ".join(f"{error.what.rstrip('.')} ({error.cause})." if error.cause else error.what for error in found)
        return examination.finding(requirement, requirement.unfit[examination.use], what, cure=found[0].cure)
    place = settings.build_root
    return examination.finding(
        requirement, OK, str(place) if place.is_dir() else f"{place}, which the first build makes"
    )


def check_memory(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """Whether the memory that is free now is enough for one compiler job, and for as many as were asked for."""
    from npu_serving.resources import MEMORY_FOR_BAZEL_MB, MEMORY_PER_JOB_MB, available_resources

    memory, settings = examination.machine.memory_mb, examination.settings
    fitting = available_resources(examination.machine.processors, memory).jobs
    found = amount_text(memory * 1e6, "bytes") + " available"
    if examination.is_sample:
        least = requirement.limits["sample_least_mb"]
        return (
            examination.finding(requirement, OK, found)
            if memory >= least
            else examination.unfit(requirement, found, jobs=1)
        )
    by_memory = (memory - MEMORY_FOR_BAZEL_MB) // MEMORY_PER_JOB_MB
    if by_memory < 1:
        return examination.unfit(requirement, f"{found}; not enough for Bazel and one job", jobs=1)
    if settings.jobs > by_memory:
        unfit = examination.unfit(requirement, "", jobs=by_memory)
        text = f"{found}: enough for {by_memory} jobs, but jobs is set to {settings.jobs}"
        return examination.finding(requirement, WARNING, text, cure=unfit.cure)
    jobs = settings.jobs or min(fitting, by_memory)
    return examination.finding(requirement, OK, f"{found}, for {jobs} jobs at once")


def check_dpkg_record(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """The record of an ascend-cann-toolkit that has to be reinstalled, and others like it."""
    status = examination.machine.root / dpkg.STATUS
    if not status.is_file():
        return examination.finding(requirement, NOT_NEEDED, "no dpkg on this machine")
    try:
        broken = dpkg.broken_records(status.read_bytes())
    except OSError as error:
        return examination.finding(requirement, WARNING, f"{status} can't be read ({error.strerror})")
    if not broken:
        return examination.finding(requirement, OK, "none")
    found = "; ".join(f"{record.package}: {record.status}" for record in broken)
    others = [record.package for record in broken if not record.removable]
    if others:
        verdict = requirement.unfit.get(examination.use, NOT_NEEDED)
        cure = examination.reinstall_command(others)
        return examination.finding(requirement, verdict, found, cure=cure)
    return examination.with_fix(examination.unfit(requirement, found), REPAIR_DPKG)


def check_cann(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """A CANN installation, which the server needs when it runs; its parts have to be of one version."""
    if examination.settings.without_adapter:
        return examination.finding(requirement, NOT_NEEDED, _RELINKED)
    if examination.adapter_is_sample:
        return examination.finding(requirement, NOT_NEEDED, "the sample has its own")
    cann = examination.cann
    try:
        installation = cann.installation
    except NpuServingError as error:
        return examination.missing(requirement, error.what)
    if installation is None or installation.runtime is None:
        return examination.missing(requirement, "none")
    problems = [finding for finding in cann.findings if finding.needs_action]
    if problems:
        found = " ".join(problem.what for problem in problems)
        return replace(examination.unfit(requirement, found), cure=problems[0].cure)
    return examination.finding(requirement, OK, f"CANN {installation.version} in {installation.root}")


def check_tfplugin(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """The adapter that will be linked: the one that was named, or that of the tfplugin installed here."""
    if examination.settings.without_adapter:
        return examination.finding(requirement, NOT_NEEDED, _RELINKED)
    if examination.adapter_is_sample:
        return examination.finding(requirement, NOT_NEEDED, "the sample has its own")
    try:
        adapter, misfit = examination.cann.adapter, examination.cann.misfit()
    except NpuServingError as error:
        if examination.settings.adapter != "auto":  # a build of the sample's tree refuses it as well
            return examination.finding(requirement, PROBLEM, error.what, cure=error.cure)
        return examination.no_adapter(requirement, error.what, cure=error.cure)
    if misfit is not None:
        return examination.finding(requirement, WARNING, misfit.what, cure=misfit.cure)
    return examination.finding(requirement, OK, f"{adapter.wheel or adapter.path} ({adapter.machine})")


def check_docker(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """A Docker engine that answers within a few seconds."""
    try:
        info = _engine_info(examination)
    except MissingToolError as error:
        if examination.machine.find("docker", "dockerd") is None:
            return examination.missing(requirement, f"no docker on PATH. {error.what}")
        return examination.finding(requirement, requirement.missing[examination.use], error.what, cure=error.cure)
    except NpuServingError as error:
        return examination.finding(requirement, requirement.missing[examination.use], error.what, cure=error.cure)
    return examination.finding(requirement, OK, f"engine {info.get('ServerVersion', '?')}")


def _engine_info(examination: Examination) -> Mapping[str, Any]:
    """What the engine says about itself, asked once."""
    if examination.engine_info is None:
        from npu_serving.images.docker_engine import ANSWER_TIMEOUT_S, connected

        with connected(timeout_s=ANSWER_TIMEOUT_S) as client:
            examination.engine_info = client.info()
    return examination.engine_info


def _space(
    requirement: Requirement,
    examination: Examination,
    place: Path,
    free: int,
    least: float,
    wanted: float,
    required: str,
) -> RequirementFinding:
    found = f"{amount_text(free, 'bytes')} free for {place}"
    if free >= wanted * GB:
        finding = examination.finding(requirement, OK, found)
    else:
        finding = examination.unfit(requirement, found, place=place)
        if free >= least * GB and finding.severity == PROBLEM:
            finding = replace(finding, severity=WARNING)
    return replace(finding, required=required)

"""doctor: looks at this machine and reports what a build or a server needs, what is there, and how to fix it.

Nothing here changes anything; fixes.py does, and only what is safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from npu_serving.console import Reporter
from npu_serving.doctor import checks, checks_bazel, checks_limits, checks_npu, checks_python, checks_system
from npu_serving.doctor.checks import Check, Examination, Machine, PatchAnswers, RequirementFinding
from npu_serving.doctor.requirements import (
    DOCKER,
    HOST,
    SAMPLE,
    SERVING,
    Requirement,
    load_requirements,
    load_serving_requirements,
)
from npu_serving.errors import EXIT_ACTION_NEEDED, RequestError
from npu_serving.findings import NOT_NEEDED, NOTE, OK, PROBLEM, WARNING
from npu_serving.settings import Settings

# What checks each requirement; the others are programs, and their row says everything.
SPECIAL_CHECKS: Mapping[str, Check] = {
    "architecture": checks.check_architecture,
    "gcc-is-g++": checks.check_same_compilers,
    "cmake": checks.check_cmake,
    "bazel": checks_bazel.check_bazel,
    "jdk": checks_bazel.check_jdk,
    "python": checks_python.check_python,
    "libpython": checks_python.check_libpython,
    "tensorflow": checks_python.check_package,
    "tensorflow-serving-api": checks_python.check_package,
    "future": checks_python.check_future,
    "builtins": checks_python.check_builtins,
    "python-link": checks_python.check_python_link,
    "glibc": checks_system.check_glibc,
    "patches": checks_system.check_patches,
    "disk": checks_system.check_disk,
    "build-root": checks_system.check_build_root,
    "memory": checks_system.check_memory,
    "dpkg-record": checks_system.check_dpkg_record,
    "cann": checks_system.check_cann,
    "tfplugin": checks_system.check_tfplugin,
    "docker": checks_system.check_docker,
    "docker-disk": checks_system.check_docker_disk,
    "npu-devices": checks_npu.check_devices,
    "npu-management": checks_npu.check_management,
    "npu-access": checks_npu.check_access,
    "npu-driver": checks_npu.check_driver,
    "npu-firmware": checks_npu.check_firmware,
    "serving-cann": checks_system.check_cann,
    "npu-smi": checks_npu.check_npu_smi,
    "npu-health": checks_npu.check_health,
    "npu-memory": checks_npu.check_device_memory,
    "open-files": checks_limits.check_open_files,
    "serving-memory": checks_limits.check_memory,
    "serving-disk": checks_limits.check_disk,
    "shared-memory": checks_limits.check_shared_memory,
    "local-ports": checks_limits.check_local_ports,
}

BUILD, ALL = "build", "all"
PURPOSES: Mapping[str, str] = {
    BUILD: "building",
    SERVING: "serving",
    ALL: "building and serving",
}
"""What doctor can be asked to look for, and how a sentence says it."""


@dataclass(frozen=True)
class DoctorReport:
    """Everything that was found, in the order of the tables. `runner` and `source` are the build's."""

    runner: str
    source: str
    architecture: str
    findings: tuple[RequirementFinding, ...]
    purpose: str = BUILD

    @property
    def exit_code(self) -> int:
        """0 where it can go ahead (warnings don't prevent it), 3 where something has to be done first."""
        return EXIT_ACTION_NEEDED if self.with_verdict(PROBLEM) else 0

    def with_verdict(self, verdict: str) -> tuple[RequirementFinding, ...]:
        """The findings of one kind."""
        return tuple(finding for finding in self.findings if finding.severity == verdict)

    def to_json(self) -> dict[str, object]:
        """The report as `--json` shows it."""
        return {
            "for": self.purpose,
            "runner": self.runner,
            "source": self.source,
            "architecture": self.architecture,
            "problems": len(self.with_verdict(PROBLEM)),
            "warnings": len(self.with_verdict(WARNING)),
            "findings": [finding.to_json() for finding in self.findings],
            "exit_code": self.exit_code,
        }

    def text(self) -> str:
        """What a person reads: problems with their cures, then warnings, notes, and what is fine, in a line each."""
        build = f"the {self.runner} runner, source {checks.printable(self.source)}"
        wanted = {BUILD: build, SERVING: "serving", ALL: f"{build}, and for serving"}[self.purpose]
        parts = [f"For {wanted}, on {self.architecture}:"]
        for verdict, heading in ((PROBLEM, "Problem"), (WARNING, "Warning"), (NOTE, "Note")):
            parts += [_described(finding, heading) for finding in self.with_verdict(verdict)]
        for verdict, heading in ((OK, "Fine"), (NOT_NEEDED, "Not needed here")):
            titles = [finding.what for finding in self.with_verdict(verdict)]
            if titles:
                parts.append(f"\n{heading}: {', '.join(titles)}.")
        parts.append("\n" + self._conclusion())
        return "\n".join(parts)

    def _conclusion(self) -> str:
        problems = self.with_verdict(PROBLEM)
        if not problems:
            return f"This machine is ready for {'the build' if self.purpose == BUILD else PURPOSES[self.purpose]}."
        safe = sum(finding.fix_is_safe for finding in problems + self.with_verdict(WARNING))
        offer = f" ./inv doctor --fix can fix {safe} of them; add --dry-run to see how." if safe else ""
        count = "1 problem keeps" if len(problems) == 1 else f"{len(problems)} problems keep"
        return f"{count} this machine from {PURPOSES[self.purpose]}.{offer}"


def examine(
    settings: Settings,
    runner: str,
    reporter: Reporter,
    *,
    patches: PatchAnswers,
    machine: Machine | None = None,
    purpose: str = BUILD,
) -> DoctorReport:
    """Checks what a build of settings.source with that runner (host, docker, auto) needs, and no more.

    `purpose` may ask for what a server needs instead, or for both. `patches` answers what becomes of the declared
    patches, as the build itself would.
    `auto` is what build-serving makes of it: docker where an engine answers, else host. Each program is asked once,
    within a time limit, so that one which hangs or prints nonsense is a finding like any other.
    """
    here = machine if machine is not None else Machine.here()
    chosen = _resolved(runner) if purpose != SERVING else ""
    examinations = [begin(settings, chosen, here, patches)] if purpose != SERVING else []
    if purpose != BUILD:
        examinations.append(begin_serving(settings, here))
    findings = []
    rows = [(requirement, one) for one in examinations for requirement in one.requirements.values()]
    with reporter.progress("checking this machine", total=len(rows)) as progress:
        for done, (requirement, examination) in enumerate(rows):
            progress.update(done, detail=requirement.title)
            findings.append(check(requirement, examination))
    return DoctorReport(chosen, settings.source, here.architecture, tuple(findings), purpose)


def purpose_of(text: str) -> str:
    """What `--for` names. RequestError for anything else."""
    if text not in PURPOSES:
        raise RequestError(f"doctor can't look for {text!r}.", cure=f"--for takes {', '.join(PURPOSES)}")
    return text


def begin(settings: Settings, runner: str, machine: Machine, patches: PatchAnswers) -> Examination:
    """An examination of that machine for that runner (host or docker), before anything has been looked at."""
    use = DOCKER if runner == DOCKER else SAMPLE if settings.source == "sample" else HOST
    return Examination(settings, use, machine, load_requirements(), patches)


def begin_serving(settings: Settings, machine: Machine) -> Examination:
    """The same for a server."""
    return Examination(settings, SERVING, machine, load_serving_requirements(), lambda *_: ())


def check(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """What is found about one requirement; what this use doesn't need is not checked."""
    if not requirement.needed_for(examination.use):
        return examination.finding(requirement, NOT_NEEDED, f"not checked: not needed for {examination.use}")
    return SPECIAL_CHECKS.get(requirement.id, checks.check_program)(requirement, examination)


def _resolved(runner: str) -> str:
    if runner != "auto":
        return runner
    from npu_serving.images.docker_engine import engine_answers

    return DOCKER if engine_answers() else HOST


def _described(finding: RequirementFinding, heading: str) -> str:
    lines = [
        f"\n{heading}: {finding.what} (guide {finding.section})"
        if finding.section[:1].isdigit()
        else f"\n{heading}: {finding.what}",
        f"    found     {finding.found}",
        f"    required  {finding.required}: {finding.why}" if finding.required else f"    required  {finding.why}",
    ]
    if finding.cure:
        lines.append(f"    cure      {finding.cure.encode('utf-8', 'backslashreplace').decode()}")
    return "\n".join(lines)

"""doctor --fix: safe cures are applied, the others are shown as commands.

Safe is what only adds (packages of the distribution, and only as root) and what keeps a copy of what it changes (the
record of dpkg). Nothing is removed, and no link or Python of the system is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from npu_serving import process
from npu_serving.console import Reporter
from npu_serving.doctor import dpkg
from npu_serving.doctor.checks import INSTALL_PACKAGES, REPAIR_DPKG, Machine, RequirementFinding
from npu_serving.doctor.examination import DoctorReport
from npu_serving.errors import EXIT_ACTION_NEEDED, EXIT_FAILED, NpuServingError
from npu_serving.findings import PROBLEM, WARNING
from npu_serving.writers.shell import command_line

SECONDS_FOR_PACKAGES = 1800.0
# apt-get asks no questions, removes nothing, and installs no more than what was named.
INSTALL_ARGUMENTS = {
    "apt-get": ("install", "-y", "--no-remove", "--no-install-recommends"),
    "dnf": ("install", "-y"),
    "yum": ("install", "-y"),
}


@dataclass(frozen=True)
class Action:
    """Something that --fix does: `target` is the status file of dpkg, or what installs the packages."""

    kind: str
    target: str
    packages: tuple[str, ...] = ()

    def text(self) -> str:
        """The action in a line."""
        if self.kind == REPAIR_DPKG:
            return f"remove the broken record of {dpkg.REMOVABLE} from {self.target}, keeping a copy of the file"
        return command_line([self.target, *INSTALL_ARGUMENTS[self.target], *self.packages])


@dataclass(frozen=True)
class FixPlan:
    """What --fix would do, in that order, and what it leaves to a person."""

    actions: tuple[Action, ...]
    left: tuple[RequirementFinding, ...]
    exit_code: int

    def to_json(self) -> dict[str, object]:
        """The plan as `--json` shows it."""
        return {
            "actions": [action.text() for action in self.actions],
            "left": [finding.to_json() for finding in self.left],
            "exit_code": self.exit_code,
        }

    def text(self) -> str:
        """The plan for a person."""
        done = [f"  {action.text()}" for action in self.actions]
        return "\n".join(["Would do:", *(done or ["  nothing"]), *_left_lines(self.left)])


@dataclass(frozen=True)
class FixOutcome:
    """The result of an action: `error` is empty where it succeeded."""

    action: Action
    detail: str = ""
    error: str = ""


@dataclass(frozen=True)
class FixReport:
    """What was done, and what is left to a person."""

    outcomes: tuple[FixOutcome, ...]
    left: tuple[RequirementFinding, ...]

    @property
    def exit_code(self) -> int:
        """1 where an action failed, 3 where a problem is left, else 0."""
        if any(outcome.error for outcome in self.outcomes):
            return EXIT_FAILED
        return EXIT_ACTION_NEEDED if any(finding.severity == PROBLEM for finding in self.left) else 0

    def to_json(self) -> dict[str, object]:
        """The report as `--json` shows it."""
        done = [{"action": item.action.text(), "detail": item.detail, "error": item.error} for item in self.outcomes]
        return {"done": done, "left": [finding.to_json() for finding in self.left], "exit_code": self.exit_code}

    def text(self) -> str:
        """The report for a person."""
        lines = [] if self.outcomes else ["There was nothing that could be fixed safely."]
        for outcome in self.outcomes:
            lines.append(f"{'failed' if outcome.error else 'done'}: {outcome.action.text()}")
            lines += [f"    {line}" for line in (outcome.error or outcome.detail).splitlines()]
        return "\n".join([*lines, *_left_lines(self.left)])


def plan_fixes(report: DoctorReport, *, machine: Machine | None = None) -> FixPlan:
    """The safe actions for what the report complains of; the record of dpkg comes first, for apt needs it."""
    here = machine if machine is not None else Machine.here()
    complaints = report.with_verdict(PROBLEM) + report.with_verdict(WARNING)
    possible = _possible_fixes(complaints, here)
    chosen = [finding for finding in complaints if finding.fix in possible]
    actions = []
    if any(finding.fix == REPAIR_DPKG for finding in chosen):
        actions.append(Action(REPAIR_DPKG, str(here.root / dpkg.STATUS)))
    packages = tuple(dict.fromkeys(name for finding in chosen for name in finding.packages))
    if packages:
        actions.append(Action(INSTALL_PACKAGES, here.package_manager, packages))
    left = tuple(finding for finding in complaints if finding not in chosen)
    return FixPlan(tuple(actions), left, report.exit_code)


def apply_fixes(plan: FixPlan, reporter: Reporter, *, machine: Machine | None = None) -> FixReport:
    """Applies the plan; an action that fails is reported, and the next one is still tried."""
    here = machine if machine is not None else Machine.here()
    outcomes = []
    for action in plan.actions:
        reporter.note(action.text())
        try:
            outcomes.append(FixOutcome(action, detail=_APPLY[action.kind](action, here)))
        except NpuServingError as error:
            outcomes.append(FixOutcome(action, error=str(error)))
    return FixReport(tuple(outcomes), plan.left)


def _possible_fixes(complaints: tuple[RequirementFinding, ...], here: Machine) -> set[str]:
    """What this user can do on this machine: all of it is root's work, and apt can't install past a broken record."""
    if here.user_id != 0:
        return set()
    stuck = any(finding.kind == "dpkg-record" and finding.fix != REPAIR_DPKG for finding in complaints)
    return {REPAIR_DPKG} if stuck or not here.package_manager else {REPAIR_DPKG, INSTALL_PACKAGES}


def _repair_dpkg(action: Action, _here: Machine) -> str:
    backup = dpkg.repair(Path(action.target))
    return f"the old file is kept as {backup}" if backup else "nothing was left to remove"


def _install_packages(action: Action, here: Machine) -> str:
    """Installs; where apt has no list of packages yet, or an old one, the list is updated once."""
    environment = {**process.base_environment(here.path, proxies=True), "DEBIAN_FRONTEND": "noninteractive"}
    argv = [action.target, *INSTALL_ARGUMENTS[action.target], *action.packages]
    first = process.run(
        argv, env=environment, check=action.target != "apt-get", timeout_s=SECONDS_FOR_PACKAGES, cure=_BY_HAND
    )
    if first.returncode != 0:
        process.run([action.target, "update"], env=environment, check=False, timeout_s=SECONDS_FOR_PACKAGES)
        process.run(argv, env=environment, timeout_s=SECONDS_FOR_PACKAGES, cure=_BY_HAND)
    return f"installed {', '.join(action.packages)}"


def _left_lines(left: tuple[RequirementFinding, ...]) -> list[str]:
    if not left:
        return []
    lines = ["To be done by hand:"]
    for finding in left:
        lines += [
            f"  {finding.what}: {finding.found}",
            f"    {finding.cure.encode('utf-8', 'backslashreplace').decode()}",
        ]
    return lines


_BY_HAND = "run that command yourself to see what it asks for"
_APPLY: Mapping[str, Callable[[Action, Machine], str]] = {
    REPAIR_DPKG: _repair_dpkg,
    INSTALL_PACKAGES: _install_packages,
}

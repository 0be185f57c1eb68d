"""What a build would do, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npu_serving.building.context import BuildContext
from npu_serving.builds.current import check_link, link_differs
from npu_serving.builds.manifest import Build
from npu_serving.console import table
from npu_serving.fetch.fetching import plan_fetch
from npu_serving.findings import NOTE, WARNING
from npu_serving.overlay.adapter import plan_overlay
from npu_serving.overlay.patch_plan import PatchCase

_WHEN = {WARNING: "If the build fails because of that"}
STEPS = ("dependencies", "source", "toolchain", "overlay", "build", "current")


@dataclass(frozen=True)
class Step:
    """One step of a build. `why` says what is out of date, and is empty when nothing is."""

    name: str
    why: str

    @property
    def needed(self) -> bool:
        """Whether there is something to do."""
        return bool(self.why)


@dataclass(frozen=True)
class BuildPlan:
    """What a build would do, in order. `existing` is the build that has all of it already."""

    steps: tuple[Step, ...]
    existing: Build | None = None
    patches: tuple[PatchCase, ...] = ()
    """What becomes of the patches that the toolchain calls for, as far as that is known before the steps."""

    @property
    def nothing_to_do(self) -> bool:
        """Whether every step is up to date."""
        return not any(step.needed for step in self.steps)

    def from_scratch(self) -> BuildPlan:
        """The plan where everything that Bazel made is made again."""
        steps = [Step(step.name, "from scratch, as requested") if step.name == "build" else step for step in self.steps]
        return BuildPlan(tuple(steps), patches=self.patches)

    def to_json(self) -> dict[str, object]:
        """Every step with its reason."""
        return {
            "nothing_to_do": self.nothing_to_do,
            "steps": [{"name": step.name, "needed": step.needed, "why": step.why} for step in self.steps],
            "build_id": self.existing.manifest.build_id if self.existing else None,
            "patches": [case.to_json() for case in self.patches],
        }

    def text(self) -> str:
        """A line for each step, and for each patch whose archive holds other bytes than it was written for."""
        rows = [(step.name, "to do" if step.needed else "up to date", step.why) for step in self.steps]
        return "\n".join([table(rows), *told(self.patches)])


def plan_build(context: BuildContext) -> BuildPlan:
    """Compares what is there with what a build needs; changes nothing but memos."""
    source, settings = context.source, context.settings
    check_link(settings.install_link, settings.dist_root)
    steps = first_steps(context)
    patches = context.patches_if_known()
    cases = patches.cases if patches is not None else ()
    if any(step.needed for step in steps):
        later = "after the steps above"
        return BuildPlan((*steps, Step("overlay", later), Step("build", later), Step("current", later)), patches=cases)
    changes = plan_overlay(source.tree, context.overlay).changes
    steps.append(overlay_step(len(changes)))
    existing = None if changes else context.existing_build()
    if existing is None:
        steps.append(Step("build", "the overlay changes" if changes else "no build has been made from these inputs"))
        steps.append(Step("current", "switches to the new build"))
        return BuildPlan(tuple(steps), patches=cases)
    steps.append(Step("build", ""))
    elsewhere = not existing.current or link_differs(settings.dist_root, settings.install_link)
    steps.append(Step("current", f"it does not point to {existing.manifest.build_id}" if elsewhere else ""))
    return BuildPlan(tuple(steps), existing, cases)


def first_steps(context: BuildContext) -> list[Step]:
    """What comes before anything is put into the tree. Raises what Runner.check() raises."""
    source = context.source
    context.runner.check(context.layout)
    missing = plan_fetch(context.archives, context.store).missing
    return [
        Step("dependencies", _count(len(missing), "archive", "archives") + " to fetch" if missing else ""),
        Step("source", "" if source.is_ready else f"{source.tree} has to be created"),
        Step("toolchain", context.runner.what_is_missing()),
    ]


def overlay_step(changes: int) -> Step:
    """The step for so many changes of the tree."""
    return Step("overlay", _count(changes, "file differs", "files differ") if changes else "")


def told(cases: Sequence[PatchCase]) -> list[str]:
    """What a person has to know of them, and what helps where one is skipped."""
    findings = [case.finding() for case in cases if case.is_worth_telling]
    lines = [f"{WARNING if item.severity == WARNING else NOTE}: {item.what}" for item in findings]
    cures = dict.fromkeys((item.severity, item.cure) for item in findings if item.cure)
    return [*lines, *(f"{_WHEN.get(severity, 'To know it before')}: {cure}" for severity, cure in cures)]


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"

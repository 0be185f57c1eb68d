"""What a newcomer types first: the demonstration, the examination of the machine, and what can be set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_serving.commands.flags import OFFERED, Call, command
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command()
def demo(call: Call) -> Result:
    """Try everything on the embedded sample: build, verify, deploy, predict, upgrade CANN, relink, serve again."""
    from npu_serving.demo import run_demo

    return run_demo(call.settings, call.console)


@command(
    settings=("source", "adapter", "runner", "cann_root"),
    help={
        "fix": "apply the fixes that are safe",
        "for_": "what the machine is to be fit for: build (the default), serving (the NPU, its driver, limits), all",
    },
)
def doctor(call: Call, fix: bool = False, dry_run: bool = False, for_: str = "build") -> Result:
    """Check everything that a build needs, or a server, and show how to fix what is missing."""
    from npu_serving.building.inputs import refuse_what_is_not_there, runner_name
    from npu_serving.building.patching import patch_findings
    from npu_serving.doctor.examination import examine, purpose_of
    from npu_serving.doctor.fixes import apply_fixes, plan_fixes

    purpose = purpose_of(for_)
    serving = purpose == "serving"
    if not serving:
        refuse_what_is_not_there(call.settings)
    runner = "" if serving else runner_name(call.settings)
    report = examine(call.settings, runner, call.console, patches=patch_findings, purpose=purpose)
    if not fix:
        return report
    plan = plan_fixes(report)
    return plan if dry_run else apply_fixes(plan, call.console)


@command(
    help={
        "reference": "print an invoke.yaml with every setting at its default, explained",
        "schema": "print the JSON Schema of invoke.yaml, for an editor to complete and check it by",
    }
)
def settings(_call: Call, reference: bool = False, schema: bool = False) -> Result:
    """Show every setting: its value here, where that comes from, and which tasks take it as a flag."""
    from npu_serving.settings_reference import Reference, SettingsSchema, settings_in_force

    if reference and schema:
        raise RequestError("--reference and --schema cannot be combined.", cure="give one of them at a time")
    if schema:
        return SettingsSchema()
    return Reference() if reference else settings_in_force(OFFERED)

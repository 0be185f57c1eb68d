"""The first two a newcomer types: the demonstration, and the examination of the machine."""

from __future__ import annotations

from invoke.tasks import task

from npu_serving.commands.flags import help_for, run


@task(help=help_for("json"))
def demo(_context, json=False):
    """Take the whole road on the embedded sample: build, verify, serve, predict, upgrade CANN, relink, serve again."""

    def work(console):
        from npu_serving.demo import run_demo
        from npu_serving.settings import load_settings

        return run_demo(load_settings(), console)

    run(work, as_json=json)


@task(help=help_for("source", "adapter", "runner", "json", "dry_run", fix="carry out the cures that are safe"))
def doctor(_context, source=None, adapter=None, runner=None, fix=False, json=False, dry_run=False):
    """Check everything that a build needs; each finding comes with its cure."""

    def work(console):
        from npu_serving.building.inputs import runner_name
        from npu_serving.doctor.examination import examine
        from npu_serving.doctor.fixes import apply_fixes, plan_fixes
        from npu_serving.settings import load_settings

        settings = load_settings(source=source, adapter=adapter, runner=runner)
        report = examine(settings, runner_name(settings), console)
        if not fix:
            return report
        plan = plan_fixes(report)
        return plan if dry_run else apply_fixes(plan, console)

    run(work, as_json=json)

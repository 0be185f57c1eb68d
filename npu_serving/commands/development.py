"""For people who work on this project."""

from __future__ import annotations

from invoke.tasks import task

from npu_serving.commands.flags import help_for, run


@task(help={"unit": "only the fast ones, without Bazel and Docker", "k": "only those whose name matches"})
def test(_context, unit=False, k=""):
    """Run the tests."""
    from npu_serving.cli import run_pytest

    run_pytest(unit=unit, matching=k)


@task(help={"fix": "mend what can be mended"})
def lint(_context, fix=False):
    """Check style, types and shell scripts."""
    from npu_serving.cli import run_linters

    run_linters(fix=fix)


@task(help={"name": "one benchmark of bench/; all by default"})
def bench(_context, name=""):
    """Run the benchmarks."""
    from npu_serving.cli import run_benchmarks

    run_benchmarks(name)


@task(
    help=help_for(
        "json",
        "dry_run",
        all="the fetched archives too; with --images, those of finished servers",
        images="this project's containers, volumes and images instead, and nothing that doesn't carry its labels",
    )
)
def clean(_context, all=False, images=False, json=False, dry_run=False):
    """Remove what can be made again; the builds in dist/ and the fetched archives stay."""

    def work(console):
        from npu_serving.clean import clean_state
        from npu_serving.settings import load_settings

        if images:
            from npu_serving.images.cleanup import clean_images

            return clean_images(dry_run=dry_run, everything=all)
        return clean_state(load_settings(), everything=all, dry_run=dry_run)

    run(work, as_json=json)

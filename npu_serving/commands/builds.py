"""What becomes of finished builds: whether they start, and what a new CANN calls for."""

from __future__ import annotations

from invoke.tasks import task

from npu_serving.commands.flags import help_for, run


@task(
    name="verify-serving",
    help=help_for(
        "adapter",
        "json",
        build="a build of list-builds; the current one by default",
        server="look at this server instead of a build's",
    ),
)
def verify_serving(_context, build="", server=None, adapter=None, json=False):
    """Tell whether the server will start here, with the adapter that is installed, without starting anything."""

    def work(_console):
        from npu_serving.build import verify
        from npu_serving.settings import load_settings, user_path

        settings = load_settings(adapter=adapter)
        if server:
            return verify.verify_files(settings, user_path(server, "--server"))
        return verify.verify_build(settings, build)

    run(work, as_json=json)


@task(name="list-builds", help=help_for("json"))
def list_builds(_context, json=False):
    """List what was built, from what."""

    def work(_console):
        from npu_serving.build import artifact
        from npu_serving.settings import load_settings

        return artifact.list_builds(load_settings().dist_root)

    run(work, as_json=json)


@task(
    name="rebuild-after-cann",
    help=help_for(
        "adapter",
        "json",
        "dry_run",
        build="a build of list-builds; the current one by default",
        check="only say what is to be done (exit code 3 if anything)",
        clean="build all of it anew",
    ),
)
def rebuild_after_cann(_context, build="", adapter=None, check=False, clean=False, json=False, dry_run=False):
    """Link the current build again, with the adapter of the CANN that is installed now."""

    def work(console):
        from npu_serving.cann import relink
        from npu_serving.settings import load_settings

        settings = load_settings(adapter=adapter)
        if check or dry_run:
            return relink.plan_rebuild(settings, build)
        return relink.rebuild_after_cann(settings, console, build, clean=clean)

    run(work, as_json=json)

"""What becomes of finished builds: whether they start, and what a new CANN calls for."""

from __future__ import annotations

from invoke.tasks import task

from npu_serving.commands.flags import help_for, run, run_each


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
    """List what was built, from what, and whether each build fits the CANN that is installed now."""

    def work(_console):
        from npu_serving.build import listing
        from npu_serving.settings import load_settings

        return listing.list_builds(load_settings())

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
        watch="stay, and report each time when CANN was replaced and its installer has finished",
        act="with --watch: rebuild then",
        once="with --watch: end when the state that is found has been dealt with",
        interval="with --watch: seconds between two looks",
    ),
)
def rebuild_after_cann(
    _context,
    build="",
    adapter=None,
    check=False,
    clean=False,
    watch=False,
    act=False,
    once=False,
    interval="10",
    json=False,
    dry_run=False,
):
    """Bring the current build up to the CANN that is installed now, by the least that does it."""

    def watched(console):
        from npu_serving.cann.watch import watch_build
        from npu_serving.cli import seconds
        from npu_serving.settings import load_settings

        interval_s = seconds(interval, "--interval")
        settings = load_settings(adapter=adapter)
        return watch_build(settings, console, build, act=act and not dry_run, once=once, interval_s=interval_s)

    def work(console):
        from npu_serving.errors import RequestError
        from npu_serving.settings import load_settings

        if act or once:
            raise RequestError("--act and --once say how to watch.", cure="./inv rebuild-after-cann --watch --act")
        settings = load_settings(adapter=adapter)
        if check or dry_run:
            from npu_serving.cann.rebuild_plan import plan_rebuild

            return plan_rebuild(settings, build, clean=clean)
        from npu_serving.cann.rebuild import rebuild_after_cann

        return rebuild_after_cann(settings, console, build, clean=clean)

    if watch:
        run_each(watched, as_json=json)
    run(work, as_json=json)

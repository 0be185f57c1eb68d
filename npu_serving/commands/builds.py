"""What becomes of finished builds: whether they start, and what a new CANN calls for."""

from __future__ import annotations

from invoke.tasks import task

from npu_serving.commands.flags import help_for, run, run_each


@task(
    name="verify-serving",
    help=help_for(
        "adapter",
        "build",
        "json",
        server="look at this server instead of a build's",
        explain="a symbol, as the loader or as C++ writes it: who wants it, who defines it, why it is missing",
    ),
)
def verify_serving(_context, build="", server=None, adapter=None, explain="", json=False):
    """Tell whether the server will start here, with the adapter that is installed, without starting anything."""

    def work(_console):
        from npu_serving.builds import verify
        from npu_serving.errors import RequestError
        from npu_serving.settings import load_settings, user_path

        if server is not None and build:
            raise RequestError("--server and --build name two servers.", cure="give one of the two")
        settings = load_settings(adapter=adapter)
        program = user_path(server, "--server") if server is not None else None
        if explain:
            return verify.explain_symbol(settings, explain, name=build, server=program)
        if program is not None:
            return verify.verify_files(settings, program)
        return verify.verify_build(settings, build)

    run(work, as_json=json)


@task(name="list-builds", help=help_for("json"))
def list_builds(_context, json=False):
    """List what was built, from what, and whether each build fits the CANN that is installed now."""

    def work(_console):
        from npu_serving.builds import listing
        from npu_serving.settings import load_settings

        return listing.list_builds(load_settings())

    run(work, as_json=json)


@task(
    name="rebuild-after-cann",
    help=help_for(
        "adapter",
        "build",
        "json",
        "dry_run",
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
        from npu_serving.cli import seconds
        from npu_serving.errors import RequestError
        from npu_serving.settings import load_settings
        from npu_serving.upgrade.watch import watch_build

        if check or clean:
            raise RequestError(
                "--check and --clean are for one run, not for --watch.",
                cause="--watch reports, and with --act it does what is called for",
                cure="./inv rebuild-after-cann --watch",
            )
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
            from npu_serving.upgrade.rebuild_plan import plan_rebuild

            return plan_rebuild(settings, build, clean=clean)
        from npu_serving.upgrade.rebuild import rebuild_after_cann

        return rebuild_after_cann(settings, console, build, clean=clean)

    if watch:
        run_each(watched, as_json=json)
    run(work, as_json=json)


@task(
    help=help_for(
        "json",
        "dry_run",
        build="the build to go back to; the one that was current before by default",
        force="switch even if it does not fit the CANN that is installed now",
    ),
)
def rollback(_context, build="", force=False, json=False, dry_run=False):
    """Make the build current that was so before, or another one; nothing is built."""

    def work(_console):
        from npu_serving.builds.rollback import roll_back
        from npu_serving.settings import load_settings

        return roll_back(load_settings(), build, force=force, dry_run=dry_run)

    run(work, as_json=json)


@task(help=help_for("json", "dry_run", keep="how many of the newest builds stay in any case"))
def prune(_context, keep="3", json=False, dry_run=False):
    """Remove old builds; never the current one, the one a rollback goes back to, or one that is running."""

    def work(_console):
        from npu_serving.builds.pruning import prune_builds
        from npu_serving.cli import whole_number
        from npu_serving.settings import load_settings

        return prune_builds(load_settings(), whole_number(keep, "--keep"), dry_run=dry_run)

    run(work, as_json=json)


@task(
    help=help_for(
        "build",
        "json",
        "dry_run",
        record="keep the answer as what every rebuilt server has to answer",
        model_base_path="with --record: the directory that holds the model's version directories",
        model_name="with --record: its name; the directory's by default",
        request="with --record: the request in JSON: a file, - for standard input, or the text itself",
        platform_config_file="with --record: the platform configuration (NpuOptimizer)",
        tolerance="with --record: by how much a number may differ, as a fraction of it; 0.001 by default",
    ),
)
def smoke(
    _context,
    build="",
    record=False,
    model_base_path=None,
    model_name="",
    request=None,
    platform_config_file=None,
    tolerance=None,
    json=False,
    dry_run=False,
):
    """Start a build's server on spare ports, ask it the golden request, and compare its answer."""

    def work(console):
        from npu_serving.errors import RequestError
        from npu_serving.serving import smoke as room
        from npu_serving.serving.golden_request import RECORD, asked_for
        from npu_serving.settings import load_settings

        settings = load_settings()
        if record:
            golden = asked_for(model_base_path, model_name, request, platform_config_file, tolerance or "0.001")
        elif model_base_path or model_name or request or platform_config_file or tolerance:
            raise RequestError("What is asked and expected is said when it is recorded.", cure=RECORD)
        else:
            golden = room.golden_of(settings)
        if dry_run:
            return room.plan_smoke(settings, build, golden)
        return room.record(settings, build, golden, console) if record else room.smoke(settings, build, console)

    run(work, as_json=json)

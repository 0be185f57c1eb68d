"""What becomes of finished builds: whether they start, and what a new CANN calls for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    settings=("adapter",),
    kinds={"server": Path},
    help={
        "server": "look at this server instead of a build's",
        "explain": "a symbol, as the loader or as C++ writes it: who wants it, who defines it, why it is missing",
    },
)
def verify_serving(call: Call, build: str = "", server: Path | None = None, explain: str = "") -> Result:
    """Tell whether the server will start here, with the adapter that is installed, without starting anything."""
    from npu_serving.builds import verify
    from npu_serving.errors import RequestError

    if server is not None and build:
        raise RequestError("--server and --build name two servers.", cure="give one of the two")
    if explain:
        return verify.explain_symbol(call.settings, explain, name=build, server=server)
    if server is not None:
        return verify.verify_files(call.settings, server)
    return verify.verify_build(call.settings, build)


@command()
def list_builds(call: Call) -> Result:
    """List what was built, from what, and whether each build fits the CANN that is installed now."""
    from npu_serving.builds import listing

    return listing.list_builds(call.settings)


@command(
    settings=("adapter",),
    lines_with="watch",
    help={
        "check": "only say what is to be done (exit code 3 if anything)",
        "clean": "build all of it from scratch",
        "watch": "stay, and report each time when CANN was replaced and its installer has finished",
        "act": "with --watch: rebuild then",
        "once": "with --watch: end when the state that is found has been dealt with",
        "interval": "with --watch: seconds between two looks",
    },
)
def rebuild_after_cann(
    call: Call,
    build: str = "",
    check: bool = False,
    clean: bool = False,
    watch: bool = False,
    act: bool = False,
    once: bool = False,
    interval: str = "10",
    dry_run: bool = False,
) -> Result | Iterator[Result]:
    """Bring the current build up to the CANN that is installed now, by the least that does it."""
    from npu_serving.errors import RequestError

    if watch:
        from npu_serving.cli import seconds
        from npu_serving.upgrade.watch import watch_build

        if check or clean:
            raise RequestError(
                "--check and --clean are for one run, not for --watch.",
                cause="--watch reports, and with --act it does what is called for",
                cure="./inv rebuild-after-cann --watch",
            )
        interval_s = seconds(interval, "--interval")
        act = act and not dry_run
        return watch_build(call.settings, call.console, build, act=act, once=once, interval_s=interval_s)
    if act or once:
        raise RequestError(
            "--act and --once have no effect without --watch.", cure="./inv rebuild-after-cann --watch --act"
        )
    if check or dry_run:
        from npu_serving.upgrade.rebuild_plan import plan_rebuild

        return plan_rebuild(call.settings, build, clean=clean)
    from npu_serving.upgrade.rebuild import rebuild_after_cann

    return rebuild_after_cann(call.settings, call.console, build, clean=clean)


@command(
    help={
        "build": "the build to go back to; the one that was current before by default",
        "force": "switch even if it does not fit the CANN that is installed now",
    },
)
def rollback(call: Call, build: str = "", force: bool = False, dry_run: bool = False) -> Result:
    """Make the build current that was so before, or another one; nothing is built."""
    from npu_serving.builds.rollback import roll_back

    return roll_back(call.settings, build, force=force, dry_run=dry_run)


@command(help={"keep": "how many of the newest builds stay in any case"})
def prune(call: Call, keep: int = 3, dry_run: bool = False) -> Result:
    """Remove old builds; never the current one, the one a rollback goes back to, or one that is running."""
    from npu_serving.builds.pruning import prune_builds

    return prune_builds(call.settings, keep, dry_run=dry_run)


@command(
    help={
        "record": "keep the answer as what every rebuilt server has to answer",
        "model_base_path": "with --record: the directory that holds the model's version directories",
        "model_name": "with --record: its name; the directory's by default",
        "request": "with --record: the request in JSON: a file, - for standard input, or the text itself",
        "platform_config_file": "with --record: the platform configuration (NpuOptimizer)",
        "tolerance": "with --record: by how much a number may differ, as a fraction of it; 0.001 by default",
    },
)
def smoke(
    call: Call,
    build: str = "",
    record: bool = False,
    model_base_path: str | None = None,
    model_name: str = "",
    request: str | None = None,
    platform_config_file: str | None = None,
    tolerance: str | None = None,
    dry_run: bool = False,
) -> Result:
    """Start a build's server on spare ports, ask it the golden request, and compare its answer."""
    from npu_serving.errors import RequestError
    from npu_serving.serving import smoke as room
    from npu_serving.serving.golden_request import RECORD, asked_for

    settings, console = call.settings, call.console
    if record:
        golden = asked_for(model_base_path, model_name, request, platform_config_file, tolerance or "0.001")
    elif model_base_path or model_name or request or platform_config_file or tolerance:
        raise RequestError("What is asked and expected is said when it is recorded.", cure=RECORD)
    else:
        golden = room.golden_of(settings)
    if dry_run:
        return room.plan_smoke(settings, build, golden)
    return room.record(settings, build, golden, console) if record else room.smoke(settings, build, console)

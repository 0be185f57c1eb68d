"""Finished builds: whether they start, and what a new CANN requires."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.deployment import OF_A_DEPLOYMENT, read_with, refuse_without_file
from npu_serving.commands.flags import Call, command, refuse_together

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    settings=("adapter",),
    kinds={"server": Path},
    help={
        "server": "check this server instead of a build's",
        "explain": "a symbol, as the loader or as C++ writes it: what needs it, what defines it, why it is missing",
    },
)
def verify_serving(call: Call, build: str = "", server: Path | None = None, explain: str = "") -> Result:
    """Check whether the server will start here with the installed adapter, without starting anything."""
    from npu_serving.builds import verify
    from npu_serving.errors import RequestError

    if server is not None and build:
        raise RequestError("--server and --build cannot be combined.", cure="use one of them")
    if explain:
        return verify.explain_symbol(call.settings, explain, name=build, server=server)
    if server is not None:
        return verify.verify_files(call.settings, server)
    return verify.verify_build(call.settings, build)


@command()
def list_builds(call: Call) -> Result:
    """List the builds, what they were made from, and whether each one fits the installed CANN."""
    from npu_serving.builds import listing

    return listing.list_builds(call.settings)


@command(
    settings=("adapter",),
    lines_with="watch",
    help={
        "check": "only report what has to be done, and what it takes (exit code 3 if anything)",
        "clean": "build everything from scratch",
        "with_bazel": "have Bazel link, even where the link that was saved, or a relink kit, would do",
        "watch": "keep running, and report each time CANN was replaced and its installer has finished",
        "act": "with --watch: rebuild instead of reporting",
        "once": "with --watch: exit when the state found at the start has been handled",
        "interval": "with --watch: seconds between two checks",
    },
)
def rebuild_after_cann(
    call: Call,
    build: str = "",
    check: bool = False,
    clean: bool = False,
    with_bazel: bool = False,
    watch: bool = False,
    act: bool = False,
    once: bool = False,
    interval: str = "10",
    dry_run: bool = False,
) -> Result | Iterator[Result]:
    """Update the current build to the installed CANN, with the least work that is enough."""
    from npu_serving.errors import RequestError

    if watch:
        from npu_serving.cli import seconds
        from npu_serving.upgrade.watch import watch_build

        if check or clean or with_bazel:
            raise RequestError(
                "--check, --clean and --with-bazel cannot be combined with --watch.",
                cause="--watch reports by itself, and with --act it does what is needed",
                cure="leave them out: ./inv rebuild-after-cann --watch",
            )
        interval_s = seconds(interval, "--interval")
        act = act and not dry_run
        return watch_build(call.settings, call.console, build, act=act, once=once, interval_s=interval_s)
    if act or once:
        # Whoever asked for a report alone is not told to rebuild.
        words = ["--watch", *(["--act"] if act else []), *(["--once"] if once else [])]
        raise RequestError("--act and --once need --watch.", cure=f"./inv rebuild-after-cann {' '.join(words)}")
    if check or dry_run:
        from npu_serving.upgrade.rebuild_plan import plan_rebuild

        return plan_rebuild(call.settings, build, clean=clean, with_bazel=with_bazel, costs=True)
    from npu_serving.upgrade.rebuild import rebuild_after_cann

    return rebuild_after_cann(call.settings, call.console, build, clean=clean, with_bazel=with_bazel)


@command(
    help={
        "build": "the build to switch to; the previous one by default",
        "force": "switch even if it does not fit the installed CANN",
    },
)
def rollback(call: Call, build: str = "", force: bool = False, dry_run: bool = False) -> Result:
    """Switch back to the previous build, or to another one; nothing is built."""
    from npu_serving.builds.rollback import roll_back

    return roll_back(call.settings, build, force=force, dry_run=dry_run)


@command(help={"keep": "how many of the newest builds to keep in any case"})
def prune(call: Call, keep: int = 3, dry_run: bool = False) -> Result:
    """Remove old builds, but never the current one, the previous one, or one that is running."""
    from npu_serving.builds.pruning import prune_builds

    return prune_builds(call.settings, keep, dry_run=dry_run)


@command(
    kinds={"directory": Path, "deployment": Path},
    help={
        "record": "record the answer that every rebuilt server has to give",
        "model_base_path": "with --record: the directory that contains the model's version directories",
        "model_name": "with --record: its name; the directory's by default",
        "request": "with --record: the request: JSON in a file, - or the text itself, or arrays in a .npz file",
        "platform_config_file": "with --record: the platform configuration (NpuOptimizer)",
        "tolerance": "with --record: how far numbers may be off, relative and absolute; 0.001 by default",
        "grpc": "with --record: have it asked over gRPC",
        "name": "the golden request of this name only; with --record: its name, the model's by default",
        "directory": "where the golden requests are; golden/ beside the builds by default",
        "deployment": "a deployment.yaml: ask its server, by its own golden requests where it names their directory",
        **OF_A_DEPLOYMENT,
        "show": "only list the golden requests",
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
    grpc: bool = False,
    name: str = "",
    directory: Path | None = None,
    deployment: Path | None = None,
    set: tuple[str, ...] = (),
    overlay: tuple[str, ...] = (),
    show: bool = False,
    dry_run: bool = False,
) -> Result:
    """Start a build's server on free ports, send it the golden requests, and compare its answers."""
    from npu_serving.asking.golden_files import read_golden_requests
    from npu_serving.asking.golden_places import RECORD
    from npu_serving.errors import RequestError
    from npu_serving.serving.golden_request import arrays_of, asked_for, golden_requests, of_models
    from npu_serving.trials import smoke as room

    settings, console = call.settings, call.console
    if record:
        refuse_together("--record", "it adds a request or replaces one", show=show, deployment=deployment)
        golden = asked_for(
            model_base_path,
            model_name,
            request,
            platform_config_file,
            tolerance or "0.001",
            name=name,
            grpc=grpc,
        )
        if dry_run:
            return room.plan_smoke(settings, build, golden)
        return room.record(settings, build, golden, console, directory=directory, inputs_npz=arrays_of(request))
    if model_base_path or model_name or request or platform_config_file or tolerance or grpc:
        raise RequestError("The request and the model can only be set with --record.", cure=RECORD)
    if deployment is None:
        refuse_without_file(overlay, set)
    file = read_with(deployment, overlay, set) if deployment is not None else None
    found = read_golden_requests(directory) if directory is not None else golden_requests(settings, file)
    if show:
        return room.list_golden(found)
    chosen = room.golden_of(found, name)
    of_deployment = None
    if file is not None and deployment is not None:
        chosen, of_deployment = of_models(chosen, file), (file, deployment)
    if dry_run:
        return room.plan_smokes(settings, build, chosen, of_deployment)
    return room.smoke(settings, build, console, chosen, of_deployment)

"""From a deployment.yaml to the files of a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command, refuse_together
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npu_serving.cli import Result
    from npu_serving.deploy.deployment_file import DeploymentFile
    from npu_serving.deploy.deployment_places import PlacedDeployment

OF_A_DEPLOYMENT = {
    "set": "one value over the file's, such as server.port=9000 or models.0.name=resnet (repeatable)",
    "overlay": "a second file whose values count over the first one's, such as for another site (repeatable)",
}


def read_with(file: Path, overlays: Sequence[str], values: Sequence[str]) -> DeploymentFile:
    """The deployment of that file, with what --overlay and --set replace in it."""
    from npu_serving.deploy.deployment_file import read_deployment
    from npu_serving.settings import user_path

    return read_deployment(file, [user_path(text, "--overlay") for text in overlays], values)


def read_placed(file: Path, overlays: Sequence[str], values: Sequence[str]) -> PlacedDeployment:
    """The same, with the place of each value."""
    from npu_serving.deploy.deployment_places import read_placed_deployment
    from npu_serving.settings import user_path

    return read_placed_deployment(file, [user_path(text, "--overlay") for text in overlays], values)


def refuse_without_file(overlays: Sequence[str], values: Sequence[str]) -> None:
    """RequestError for --overlay and --set of a task that was not given a deployment."""
    if overlays or values:
        raise RequestError("--set and --overlay are for a deployment file.", cure="give it as well: --deployment FILE")


@command(
    kinds={"output": Path, "from_": Path, "from_server": int},
    help={
        "model": "a model as NAME=PATH: the directory of its versions, or a URL (s3://, gs://, hdfs://) (repeatable)",
        "output": "the file; deployment.yaml in this directory by default",
        "cpu": "have the CPU serve the models",
        "from_": "take over what was set up by hand in that directory: configurations, start script",
        "from_server": "take over what the server runs with that listens on that port of this machine",
    },
)
def init_deployment(
    call: Call,
    model: tuple[str, ...] = (),
    output: Path | None = None,
    cpu: bool = False,
    from_: Path | None = None,
    from_server: int | None = None,
    dry_run: bool = False,
) -> Result:
    """Write a first deployment.yaml by looking at the models, at a set-up by hand, or at a running server."""
    from npu_serving.deploy import init_deployment as first

    if from_server is not None:
        refuse_together("--from-server", "the server says what is served", from_=from_, model=model, cpu=cpu)
        from npu_serving.serving.running_set_up import running_set_up

        return first.take_over_deployment(running_set_up(from_server), output, dry_run=dry_run)
    if from_ is not None:
        refuse_together("--from", "the set-up says what is served", model=model, cpu=cpu)
        from npu_serving.deploy.set_up_by_hand import found_in

        return first.take_over_deployment(found_in(from_), output, dry_run=dry_run)
    return first.init_deployment(model, output, npu=not cpu, settings=call.settings, dry_run=dry_run)


@command(
    settings=("adapter",),
    kinds={"output": Path},
    help={
        "file": "the deployment.yaml",
        "output": "the directory for the files",
        **OF_A_DEPLOYMENT,
        "at": "where the server will find the files, where that is not --output: in a container, elsewhere",
        "diff": "only show how the files there differ; ends with 3 if they do",
    },
)
def render_deployment(
    call: Call,
    file: str,
    output: Path | None = None,
    set: tuple[str, ...] = (),
    overlay: tuple[str, ...] = (),
    at: str = "",
    diff: bool = False,
    dry_run: bool = False,
) -> Result:
    """Write all files of one server from a deployment.yaml: configurations, environment, flags, start script, unit."""
    from npu_serving.builds.build_settings import settings_to_serve
    from npu_serving.deploy.older_precision import precision_note
    from npu_serving.deploy.preset_values import filled_in
    from npu_serving.deploy.render_deployment import plan_files, write_files
    from npu_serving.settings import user_path

    if output is None:
        raise RequestError(
            "render-deployment needs --output.",
            cause="a server's files are in a directory of their own",
            cure="name the directory: --output DIR",
        )
    if diff:
        refuse_together("--diff", "it changes nothing either way", dry_run=dry_run)
    deployment = read_with(user_path(file, "the deployment file"), overlay, set)
    filled = filled_in(deployment, settings_to_serve(call.settings))
    plan = plan_files(filled, output, at=at, is_check=diff, note=precision_note(deployment, filled))
    return plan if diff or dry_run else write_files(plan)


@command(
    settings=("adapter",),
    help={
        "file": "the deployment.yaml",
        "elsewhere": "another machine is to serve it: what this one lacks, such as CANN or the models, is only noted",
        **OF_A_DEPLOYMENT,
    },
)
def check_deployment(
    call: Call,
    file: str,
    build: str = "",
    set: tuple[str, ...] = (),
    overlay: tuple[str, ...] = (),
    elsewhere: bool = False,
) -> Result:
    """Check a deployment.yaml, its models, the options for the NPU and this machine, without starting anything."""
    from npu_serving.checking import check_deployment as checking
    from npu_serving.settings import user_path

    path = user_path(file, "the deployment file")
    if elsewhere:
        refuse_together("--elsewhere", "the other machine has a build of its own", build=build)
    read = read_placed(path, overlay, set)
    return checking.check_deployment(call.settings, path, read, build=build, elsewhere=elsewhere)

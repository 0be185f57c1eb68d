"""A model checked by itself, before anybody serves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.deployment import OF_A_DEPLOYMENT, read_with, refuse_without_file
from npu_serving.commands.flags import Call, command, refuse_together

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    settings=("adapter",),
    kinds={"version": int, "deployment": Path, "server": Path},
    help={
        "model": "a directory with version directories, one version, or a file of a model",
        "version": "the version to check; the newest by default",
        "all_versions": "check all versions, not only the newest",
        "tag": "a tag of the graph that the server loads; serve by default (repeatable)",
        "quick": "compare the sizes of the variables' files only, and not the checksums of all values",
        "server": "the server that is to load it, instead of a build's: whether it has the model's operators",
        "deployment": "a deployment.yaml that has the model: as its server would load it, with gears and batching",
        **OF_A_DEPLOYMENT,
    },
)
def check_model(
    call: Call,
    model: str,
    version: int | None = None,
    all_versions: bool = False,
    tag: tuple[str, ...] = (),
    quick: bool = False,
    build: str = "",
    server: Path | None = None,
    deployment: Path | None = None,
    set: tuple[str, ...] = (),
    overlay: tuple[str, ...] = (),
) -> Result:
    """Check a model by itself: its files, variables, signatures and operators, without starting anything."""
    from npu_serving.checking import check_model as checking
    from npu_serving.settings import user_path

    if all_versions:
        refuse_together("--all-versions", "it is about each of them", version=version is not None)
    if server is not None:
        refuse_together("--server", "it names the server itself", build=build)
    file = None
    if deployment is not None:
        because = "the deployment says which versions and tags the server loads"
        refuse_together("--deployment", because, version=version is not None, all_versions=all_versions, tag=tag)
        file = read_with(deployment, overlay, set)
    else:
        refuse_without_file(overlay, set)
    asked = checking.ModelCheckRequest(user_path(model, "the model"), version, all_versions, tag or ("serve",), quick)
    return checking.check_model(call.settings, asked, call.console, build=build, server=server, deployment=file)

"""Versions of models put where a server loads them from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, check_timeout, command, refuse_together
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from npu_serving.cli import Result

TIMEOUT_S = 600


@command(
    optional=("source",),
    kinds={"to": Path, "deployment": Path, "version": int, "weights": Path},
    chosen_by=("deployment", "server", "version"),
    help={
        "source": "a version's directory; an archive (https://, file://) with --sha256; oci://NAME@sha256:DIGEST",
        "to": "the directory that has the versions of the model",
        "deployment": "the deployment.yaml that lists the model",
        "server": "a server that runs here: its port",
        "model": "which model of the deployment or server; only needed where it has several",
        "version": "the number of the version; the next free one by default",
        "label": "have this label, such as stable, mean the version, as soon as it is loaded and has answered",
        "wait": "return when the server serves it; --label, --unload-first and --back wait anyway",
        "unload_first": "have the server unload the former version before: where memory does not hold both",
        "back": "have the version before the one that is served answer again",
        "weights": "new values of variables (.npz, or a checkpoint) for the source, by default the newest version",
        "partial": "take those variables that --weights and the model both have; the others keep their values",
        "sha256": "the digest of the archive",
        "path": "the directory of the version within the archive or the image",
        "timeout": f"for how many seconds a version is waited for; {TIMEOUT_S} by default",
    },
)
def publish_model(
    call: Call,
    source: str = "",
    to: Path | None = None,
    deployment: Path | None = None,
    server: str = "",
    model: str = "",
    version: int | None = None,
    label: str = "",
    wait: bool = False,
    unload_first: bool = False,
    back: bool = False,
    weights: Path | None = None,
    partial: bool = False,
    sha256: str = "",
    path: str = "",
    timeout: int = TIMEOUT_S,
    dry_run: bool = False,
) -> Result:
    """Put a version of a model where a server loads it, check it first, and move labels when it answers."""
    from npu_serving.publishing.destination import destination, newest
    from npu_serving.publishing.given_source import GivenSource
    from npu_serving.publishing.publish import PublicationWish, plan_publication, publish

    check_timeout(timeout)
    if version is not None and version < 0:
        raise RequestError(f"--version can't be {version}.", cure="use a number from 0")
    if back:
        from npu_serving.publishing.taking_back import plan_taking_back, take_back

        refuse_together(
            "--back",
            "it takes the former version, which is there",
            version=version,
            weights=weights,
            partial=partial,
            sha256=sha256,
            path=path,
            unload_first=unload_first,
        )
        if source:
            raise RequestError(
                f"{source} would have no effect with --back.",
                cause="it takes the former version, which is there",
                cure="leave it out",
            )
        place = destination(call.settings, to=to, deployment=deployment, server=server, model=model)
        taking = plan_taking_back(place, label)
        return taking if dry_run else take_back(call.settings, taking, call.console, timeout_s=timeout)
    if not source and weights is None:
        raise RequestError(
            "publish-model needs what is to be published.",
            cause="it puts one version of a model where a server looks for it",
            cure="name its directory: ./inv publish-model EXPORTED --to models/NAME",
        )
    if partial and weights is None:
        raise RequestError("--partial would have no effect.", cause="it is about --weights", cure="leave it out")
    place = destination(call.settings, to=to, deployment=deployment, server=server, model=model)
    given = GivenSource(source or newest(place), sha256, path)
    wanted = PublicationWish(version, label, wait, unload_first, timeout)
    with given.directory(call.settings, call.console) as directory:
        new = None
        if weights is not None:
            from npu_serving.publishing.new_weights import new_weights

            new = new_weights(weights, directory, partial=partial)
        plan = plan_publication(directory, given.shown, place, wanted, new)
        return plan if dry_run else publish(call.settings, plan, call.console)

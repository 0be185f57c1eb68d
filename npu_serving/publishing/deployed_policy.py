"""The versions and labels of a deployment's model, written into its file and given to its server."""

from __future__ import annotations

from pathlib import Path

from npu_serving import fsutil
from npu_serving.console import Reporter
from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.documents.yaml_edit import UneditableError, edited
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.publishing.destination import Destination
from npu_serving.publishing.version_policy import PolicyChange, versions_of
from npu_serving.serving.deployed_from import DeployedFrom
from npu_serving.settings import Settings
from npu_serving.status.reloading import reload_held

_BYTE_ORDER_MARK = "\ufeff"  # as some editors begin a file


def refuse_other_changes(settings: Settings, place: Destination, reporter: Reporter) -> None:
    """RequestError where the file has what its server would get only by a restart: it gets the whole of its list."""
    if place.server is not None:
        reload_held(settings, place.server, reporter, timeout_s=1.0, dry_run=True)


def write_policy(
    settings: Settings, place: Destination, policy: PolicyChange, reporter: Reporter, timeout_s: float
) -> None:
    """Writes it into the file, and gives the server its list by that. The file is as it was where either fails."""
    assert place.file is not None
    before = fsutil.read_text(place.file)
    fsutil.write_file(place.file, edited_text(place, before, policy).encode("utf-8", "surrogateescape"))
    try:
        _check(place, policy)
        if place.server is not None:
            reload_held(settings, place.server, reporter, timeout_s=timeout_s)
    except BaseException:
        fsutil.write_file(place.file, before.encode("utf-8", "surrogateescape"))
        raise


def edited_text(place: Destination, text: str, policy: PolicyChange) -> str:
    """The text of the deployment file with that policy. RequestError, with what to write, where it can't be edited."""
    assert place.file is not None
    mark = _BYTE_ORDER_MARK if text.startswith(_BYTE_ORDER_MARK) else ""
    try:
        return mark + edited(text[len(mark) :], policy.edits(_index_of(place)))
    except UneditableError as error:
        raise RequestError(
            f"{place.file} is as it was: {error}.",
            cause="only single values are written into it, and nothing else of it may change",
            cure=f"write it yourself, for the model {place.model}: {'; '.join(policy.lines())}; then ./inv reload",
        ) from error


def _index_of(place: Destination) -> int:
    """The place of the model in the file itself, without what an overlay replaces."""
    assert place.file is not None
    for index, model in enumerate(read_deployment(place.file).models):
        if model.name == place.model:
            return index
    raise UneditableError(f"the model {place.model} stands in an overlay")


def _check(place: Destination, policy: PolicyChange) -> None:
    """RequestError where the deployment says something else in spite of the edit, by an overlay or a value of --set."""
    deployed = place.server.record.deployed if place.server is not None and place.server.record is not None else None
    source = deployed or DeployedFrom(place.file or Path())
    model = next(each for each in _read(source).models if each.name == place.model)
    if versions_of(model) != policy.after or dict(model.labels) != dict(policy.labels_after):
        raise RequestError(
            f"An overlay of {source.file}, or a value of --set, says something else of {place.model}.",
            cause="its server was started with --overlay or --set",
            cure=f"write it there, for the model {place.model}: {'; '.join(policy.lines())}; then ./inv reload",
        )


def _read(source: DeployedFrom) -> DeploymentFile:
    try:
        return read_deployment(source.file, source.overlays, source.values)
    except NpuServingError as error:
        raise RequestError(f"{source.file} can't be edited: {error.what}", cure="write the values yourself") from error

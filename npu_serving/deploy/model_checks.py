"""The models of a deployment, looked at on the disk: what a server would find of them, or fail at, or do unasked.

The rules on a version directory itself are in model_checks/; here is what depends on the deployment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from npu_serving.deploy.batching_checks import check_batching, check_warm_up_rows
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.deployment_sections import DeployedModel, LatestVersions
from npu_serving.deploy.gear_checks import check_gears
from npu_serving.deploy.range_checks import check_iterations, check_ranges
from npu_serving.errors import NpuServingError
from npu_serving.findings import NOTE, Finding
from npu_serving.fsutil import explained
from npu_serving.model_checks.naming import BASE_PATH, MODEL_DIRECTORY, Naming, deployment_naming, listed
from npu_serving.model_checks.version_check import check_version
from npu_serving.model_checks.version_directories import check_versions
from npu_serving.models.layout import RemotePlace, model_place
from npu_serving.models.saved_model import MetaGraph
from npu_serving.models.warm_up_file import WARM_UP_FILE
from npu_serving.options.session_options import OptionValue, complete_options
from npu_serving.shown_text import in_a_line

_NO_VERSION = (BASE_PATH, MODEL_DIRECTORY)


@dataclass(frozen=True)
class CheckedVersion:
    """A version that the server would load, and its graph with the tags that are asked for; None without such a one."""

    number: int
    path: Path
    graph: MetaGraph | None = None


@dataclass(frozen=True)
class CheckedModel:
    """A model of the deployment; no versions where it can't be looked at from here."""

    name: str
    base_path: str
    versions: tuple[CheckedVersion, ...]
    findings: tuple[Finding, ...]
    options: Mapping[str, OptionValue] | None
    """Those that its sessions get; None where the CPU serves it."""


def check_models(deployment: DeploymentFile) -> Iterator[CheckedModel]:
    """The models in their order, each with what is wrong with it, and who else waits where one has no version."""
    checked = [check_model_of(deployment, index) for index in range(len(deployment.models))]
    waiting = [model.name for model in checked if model.versions]
    for model in checked:
        yield model if model.versions or not waiting else replace(model, findings=_for_all(model.findings, waiting))


def check_model_of(deployment: DeploymentFile, index: int) -> CheckedModel:
    """The model with that number in the deployment, and what is wrong with it."""
    return _check(deployment, deployment.models[index], f"models.{index}")


def _for_all(findings: tuple[Finding, ...], waiting: list[str]) -> tuple[Finding, ...]:
    """With the models that a server would not load either: it looks for all of them before it loads the first."""
    effect = f"Without it the server does not offer {listed(waiting)} either, and opens no port."
    return tuple(
        replace(each, what=f"{each.what} {effect}") if each.needs_action and each.kind in _NO_VERSION else each
        for each in findings
    )


def _check(deployment: DeploymentFile, model: DeployedModel, where: str) -> CheckedModel:
    own = deployment.npu_of(model)
    options = complete_options(own) if own is not None else None
    place = model_place(model.base_path, where)
    if isinstance(place, RemotePlace):
        remote = f"{model.name} is at {in_a_line(place.url)}, which is not looked into from here."
        note = Finding(remote, severity=NOTE, kind=MODEL_DIRECTORY, where=f"{where}.base_path")
        return CheckedModel(model.name, model.base_path, (), (note,), options)
    naming = deployment_naming(where)
    findings: list[Finding] = []
    found: dict[int, Path] = {}
    try:
        with explained(place, doing="read"):
            for item in _versions(model, place, naming):
                if isinstance(item, Finding):
                    findings.append(item)
                else:
                    found[item[0]] = item[1]
    except NpuServingError as error:
        findings.append(Finding(error.what, error.cure, kind=MODEL_DIRECTORY, where=f"{where}.base_path"))
    versions: list[CheckedVersion] = []
    server = deployment.server
    for number, directory in sorted(found.items()):
        of_version = check_version(directory, server.saved_model_tags, naming=naming, warm_up=server.warm_up)
        findings += of_version.findings
        findings += check_warm_up_rows(deployment.batching_of(model), of_version.warm_up, directory / WARM_UP_FILE)
        versions.append(CheckedVersion(number, directory, of_version.graph))
        if of_version.graph is not None:
            findings += _check_options(deployment, model, options or {}, of_version.graph, where)
    return CheckedModel(model.name, model.base_path, tuple(versions), tuple(dict.fromkeys(findings)), options)


def _versions(model: DeployedModel, base: Path, naming: Naming) -> Iterator[Finding | tuple[int, Path]]:
    """The versions that the policy of the model chooses."""
    asked = model.versions
    if isinstance(asked, LatestVersions):
        return check_versions(base, model.name, naming, latest=asked.latest)
    return check_versions(base, model.name, naming, numbers=() if asked == "all" else asked)


def _check_options(
    deployment: DeploymentFile, model: DeployedModel, options: Mapping[str, OptionValue], graph: MetaGraph, where: str
) -> Iterator[Finding]:
    """What the deployment asks for, held against the graph."""
    npu = f"{where}.npu" if model.npu else "npu"
    yield from check_gears(options, graph, npu)
    yield from check_ranges(options, graph, npu)
    yield from check_iterations(options, graph, npu)
    yield from check_batching(deployment.batching_of(model), graph, model.name, where)

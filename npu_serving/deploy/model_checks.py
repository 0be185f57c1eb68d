"""The models of a deployment, looked at on the disk: what a server would find of them, or fail at, or do unasked.

The rules for their directories are those of the server (file_system_storage_path_source.cc, SavedModel's loader).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from npu_serving.deploy.batching_checks import check_batching
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.deployment_sections import DeployedModel, LatestVersions
from npu_serving.deploy.gear_checks import check_gears
from npu_serving.deploy.range_checks import check_iterations, check_ranges
from npu_serving.errors import ModelFileError, NpuServingError
from npu_serving.findings import NOTE, WARNING, Finding, as_finding
from npu_serving.fsutil import explained
from npu_serving.models.dangerous_operators import dangerous_among
from npu_serving.models.layout import MODEL_LAYOUT, RemotePlace, model_place, same_versions, version_directories
from npu_serving.models.saved_model import SAVED_MODEL, SAVED_MODEL_TEXT, MetaGraph, read_saved_model
from npu_serving.models.warm_up_file import WARM_UP_FILE, warm_up_trouble
from npu_serving.options.session_options import OptionValue, complete_options
from npu_serving.shown_text import in_a_line
from npu_serving.writers.shell import shell_word

BASE_PATH, MODEL_DIRECTORY, MODEL_FILE = "base-path", "model-directory", "model-file"
TAGS, SIGNATURES, SECURITY = "tags", "signatures", "security"

_VARIABLES = frozenset(("VariableV2", "Variable", "VarHandleOp"))
_INDEX = Path("variables") / "variables.index"
_PART = re.compile(r"variables\.data-[0-9]{5}-of-([0-9]{5})")
_SHOWN = 5
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
    checked = [_check(deployment, model, f"models.{index}") for index, model in enumerate(deployment.models)]
    waiting = [model.name for model in checked if model.versions]
    for model in checked:
        yield model if model.versions or not waiting else replace(model, findings=_for_all(model.findings, waiting))


def _for_all(findings: tuple[Finding, ...], waiting: list[str]) -> tuple[Finding, ...]:
    """With the models that a server would not load either: it looks for all of them before it loads the first."""
    effect = f"Without it the server does not offer {_listed(waiting)} either, and opens no port."
    return tuple(
        replace(each, what=f"{each.what} {effect}") if each.needs_action and each.kind in _NO_VERSION else each
        for each in findings
    )


def _check(deployment: DeploymentFile, model: DeployedModel, where: str) -> CheckedModel:
    own = deployment.npu_of(model)
    options = complete_options(own) if own is not None else None
    versions: list[CheckedVersion] = []
    place = model_place(model.base_path, where)
    if isinstance(place, RemotePlace):
        remote = f"{model.name} is at {in_a_line(place.url)}, which is not looked into from here."
        findings = [Finding(remote, severity=NOTE, kind=MODEL_DIRECTORY, where=f"{where}.base_path")]
        return CheckedModel(model.name, model.base_path, (), tuple(findings), options)
    findings = []
    found: dict[int, Path] = {}
    try:
        with explained(place, doing="read"):
            for item in _versions(model, place, where):
                if isinstance(item, Finding):
                    findings.append(item)
                else:
                    found[item[0]] = item[1]
    except NpuServingError as error:
        findings.append(Finding(error.what, error.cure, kind=MODEL_DIRECTORY, where=f"{where}.base_path"))
    npu = f"{where}.npu" if model.npu else "npu"
    for number, directory in sorted(found.items()):
        graph = None
        try:
            with explained(directory, doing="read"):
                graph, of_version = _read_version(directory, deployment.server.saved_model_tags)
                findings += of_version
                findings += _check_warm_up(directory) if deployment.server.warm_up else []
        except NpuServingError as error:
            findings.append(Finding(error.what, error.cure, kind=MODEL_DIRECTORY, where=str(directory)))
        versions.append(CheckedVersion(number, directory, graph))
        if graph is not None:
            findings += _check_graph(graph, directory)
            findings += check_gears(options or {}, graph, npu)
            findings += check_ranges(options or {}, graph, npu)
            findings += check_iterations(options or {}, graph, npu)
            findings += check_batching(deployment.batching_of(model), graph, model.name, where)
    return CheckedModel(model.name, model.base_path, tuple(versions), tuple(dict.fromkeys(findings)), options)


def _versions(model: DeployedModel, base: Path, where: str) -> Iterator[Finding | tuple[int, Path]]:
    """The directories of the versions that the server would load, and what is wrong with them."""
    at = f"{where}.base_path"
    inside = next((parent for parent in [*base.parents][:2] if _is_version(parent)), None)
    if inside is not None:
        what = f"{base} is within the version {inside.name} of a model, and the server would look for versions there"
        yield Finding(f"{what}: {MODEL_LAYOUT}.", f"write base_path: {inside.parent}", kind=BASE_PATH, where=at)
        return
    if not base.is_dir():
        what = f"{base} is not a directory" if base.exists() else f"The model directory {base} does not exist"
        yield Finding(f"{what}: {MODEL_LAYOUT}.", f"put the model there: {base}/1", kind=MODEL_DIRECTORY, where=at)
        return
    versions = version_directories(base)
    if any((base / name).is_file() for name in (SAVED_MODEL, SAVED_MODEL_TEXT)):
        is_version = re.fullmatch("[0-9]+", base.name) is not None
        instead = f"write base_path: {base.parent}" if is_version else f"mkdir {base}/1, and move the model into it"
        what = f"{base} contains a model itself, and the server would wait for versions of it for ever"
        yield Finding(f"{what}: {MODEL_LAYOUT}.", instead, kind=BASE_PATH, where=at)
        return
    if not versions:
        yield from _without_versions(base, at)
        return
    for number, twice in same_versions(base).items():
        what = f"{base} has the version {number} as {' and '.join(path.name for path in twice)}"
        cure = f"keep one of them, such as {twice[0].name}, and move the other away"
        what += ": the server would load one of them and pass over the other"
        yield Finding(f"{what}.", cure, kind=BASE_PATH, where=at)
    asked = model.versions
    if isinstance(asked, LatestVersions):
        chosen = sorted(versions)[-asked.latest :]
        if len(chosen) < asked.latest:
            what = (
                f"{base} has {len(chosen)} of the latest {asked.latest} versions of {model.name} that are to be served."
            )
            yield Finding(what, severity=NOTE, kind=MODEL_DIRECTORY, where=f"{where}.versions")
    else:
        chosen = sorted(versions) if asked == "all" else sorted(asked)
    for number in chosen:
        if number in versions:
            yield number, versions[number]
        else:
            there = _listed([str(each) for each in sorted(versions)])
            what = f"{base} has no version {number} of {model.name}; there are {there}"
            yield Finding(
                f"{what}.", f"put it into {base}/{number}, or write another version", kind=MODEL_DIRECTORY, where=at
            )


def _without_versions(base: Path, at: str) -> Iterator[Finding]:
    """What is meant where a directory has no version: one below it, or another name."""
    below = sorted(child for child in base.iterdir() if child.is_dir() and version_directories(child))
    if below:
        instead = f"write base_path: {below[0]}"
        what = f"{base} contains models ({_listed([child.name for child in below])}), not the versions of one"
        yield Finding(f"{what}: {MODEL_LAYOUT}.", instead, kind=BASE_PATH, where=at)
    else:
        what = f"{base} contains no version directory, so the server would not open its ports"
        others = sorted(child.name for child in base.iterdir() if child.is_dir())
        instead = f"put the model into {base}/1"
        if others:
            what += f", and passes over other names than numbers ({_listed([in_a_line(name) for name in others])})"
            instead = f"mv {shell_word(base / others[0])} {shell_word(base / '1')}"
        yield Finding(f"{what}: {MODEL_LAYOUT}.", instead, kind=MODEL_DIRECTORY, where=at)


def _is_version(directory: Path) -> bool:
    """Whether it is the directory of one version, with a model in it."""
    files = (directory / name for name in (SAVED_MODEL, SAVED_MODEL_TEXT))
    return re.fullmatch("[0-9]+", directory.name) is not None and any(file.is_file() for file in files)


def _read_version(directory: Path, tags: tuple[str, ...]) -> tuple[MetaGraph | None, list[Finding]]:
    """The graph that the server would load, None without one, and what is wrong with the version's directory."""
    file = directory / SAVED_MODEL
    if not file.exists():
        if (directory / SAVED_MODEL_TEXT).exists():
            what = f"{directory} has its model as text ({SAVED_MODEL_TEXT}), which is not looked into."
            return None, [Finding(what, severity=NOTE, kind=MODEL_FILE, where=str(directory))]
        what = f"{directory} contains no {SAVED_MODEL}"
        cure = f"complete {directory} or remove it"
        return None, [Finding(f"{what}: the server could not load it.", cure, kind=MODEL_DIRECTORY, where=str(file))]
    try:
        graphs = read_saved_model(file)
    except ModelFileError as error:
        return None, [as_finding(error, MODEL_FILE, str(file))]
    graph = next((each for each in graphs if each.tags == set(tags)), None)
    if graph is None:
        there = " and ".join(f"[{in_a_line(', '.join(sorted(each.tags)))}]" for each in graphs[:_SHOWN])
        what = f"{file} has no graph with the tags [{', '.join(tags)}]; there is one with {there}"
        cure = f"write server.saved_model_tags: [{in_a_line(', '.join(sorted(graphs[0].tags)))}], or export it again"
        return None, [Finding(f"{what}.", cure, kind=TAGS, where="server.saved_model_tags")]
    missing = _missing_variables(directory) if _VARIABLES & set(graph.graph.operators) else None
    if missing is None:
        return graph, []
    effect = "the server could not load the model"
    if missing == _INDEX:
        effect = "the server would load the model, and every request would fail (Attempting to use uninitialized value)"
    what = f"{directory / missing} is missing: {effect}."
    cure = "copy the model again, with its directory variables"
    return graph, [Finding(what, cure, kind=MODEL_DIRECTORY, where=str(directory))]


def _missing_variables(directory: Path) -> Path | None:
    """The first file of the variables' values that is not there: the index, or one of the parts that it is about."""
    if not (directory / _INDEX).exists():
        return _INDEX
    names = {path.name for path in (directory / _INDEX.parent).iterdir()}
    parts = {int(found[1]) for found in map(_PART.fullmatch, names) if found}
    wanted = (f"variables.data-{number:05}-of-{max(parts, default=1):05}" for number in range(max(parts, default=1)))
    return next((_INDEX.parent / name for name in wanted if name not in names), None)


def _check_warm_up(directory: Path) -> Iterator[Finding]:
    path = directory / WARM_UP_FILE
    if not path.is_file():
        return
    trouble = warm_up_trouble(path)
    if trouble:
        what = f"{path} would keep the server from loading the model: {trouble}."
        yield Finding(what, "record it again, or set server.warm_up: false", kind=MODEL_FILE, where=str(path))


def _check_graph(graph: MetaGraph, directory: Path) -> Iterator[Finding]:
    if not any(signature.is_for_requests for signature in graph.signatures.values()):
        what = f"{directory} has no signature, so no request can name its inputs and outputs."
        yield Finding(what, "export it again with a signature", WARNING, SIGNATURES, str(directory))
    run_by = {name: graph.graph.run_by(signature) for name, signature in graph.signatures.items()}
    found = dangerous_among(graph.graph.operators)
    for operator, does in {**found.files, **found.python}.items():
        signatures = sorted(in_a_line(name) for name, operators in run_by.items() if operator in operators)
        asked = f"requests of {_listed(signatures)} run it" if signatures else "no signature reaches it"
        needs = ", and a server has no Python: they would fail" if operator in found.python and signatures else ""
        yield Finding(
            f"The model in {directory} has the operator {operator}, which {does}; {asked}{needs}.",
            "serve it only if you know who made it, or export it without the operator" if signatures else "",
            WARNING if signatures else NOTE,
            SECURITY,
            str(directory),
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")

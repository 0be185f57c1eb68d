"""What is wrong with a deployment's session options: each alone, a model's together, and those of the process.

The rules are those of options/; here each finding gets its place in the file.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from npu_serving.deploy.deployed_presets import Place, options_of, place_of_option
from npu_serving.deploy.platforms import process_options
from npu_serving.errors import NpuServingError
from npu_serving.findings import Finding
from npu_serving.options.asked_options import WRONG_KIND, forbidden
from npu_serving.options.auxiliary_files import AuxiliaryContent
from npu_serving.options.catalogue import KINDS, OptionValue, session_options
from npu_serving.options.guide_rules import SHARED_MEMORY
from npu_serving.options.rules import check_options
from npu_serving.options.session_options import complete_options
from npu_serving.writers.text_proto import attr_value

if TYPE_CHECKING:
    from npu_serving.deploy.deployment_file import DeploymentFile
    from npu_serving.deploy.deployment_sections import DeployedModel

_POLICY = "static_memory_policy"


@dataclass(frozen=True)
class OptionFinding:
    """What is wrong with an option, and where in the file; a mistake, or only a warning."""

    place: Place
    message: str
    is_mistake: bool


@dataclass(frozen=True)
class _Whole:
    """A model with all options that are written for it."""

    model: DeployedModel
    options: Mapping[str, OptionValue]


def problems_of_options(deployment: DeploymentFile) -> Iterator[tuple[Place, str]]:
    """The mistakes, each with its place: what would end the server, fail a model, or is wrong or slow in service."""
    yield from _refused_alone(deployment.npu or {}, ("npu",))
    for index, model in enumerate(deployment.models):
        yield from _refused_alone(model.npu or {}, ("models", index, "npu"))
    yield from ((found.place, found.message) for found in judged_options(deployment) if found.is_mistake)


def judged_options(deployment: DeploymentFile) -> Iterator[OptionFinding]:
    """What the rules find in the options of each model together, and where models disagree on the process's."""
    judged: set[str] = set()
    found: set[tuple[Place, str]] = set()
    first: _Whole | None = None
    for index, model in enumerate(deployment.models):
        own = repr((model.npu, model.presets))
        options = deployment.npu_of(model) if own not in judged else None
        judged.add(own)
        if options is None:
            continue
        place: Place = ("models", index, "npu") if model.npu or model.presets else ("npu",)
        # Those that are refused alone are said by problems_of_options(); the others are judged without them.
        rest = {name: value for name, value in options.items() if not any(_refused_alone({name: value}, place))}
        try:
            whole = complete_options(rest)
        except NpuServingError as error:  # both precisions: the rest is judged with the newer one
            yield OptionFinding(place, _sentence(error), is_mistake=True)
            whole = complete_options({name: value for name, value in rest.items() if name != "precision_mode"})
        for finding in _of_rules(deployment, whole, place, model):
            if (finding.place, finding.message) not in found:
                found.add((finding.place, finding.message))
                yield finding
        if first is None:
            first = _Whole(model, whole)
        else:
            yield from _disagreements(place, _Whole(model, whole), first)
    for shared in check_shared_memory(deployment):
        yield OptionFinding(("npu",), f"{shared.what}: {shared.cure}", is_mistake=False)


def check_shared_memory(deployment: DeploymentFile) -> Iterator[Finding]:
    """Models side by side whose graphs would share memory, though requests run them at the same time."""
    of_models = (own for model in deployment.models for own in (model.npu, options_of(model.presets)))
    if not any(_POLICY in own for own in (deployment.npu, deployment.options_of_presets, *of_models) if own):
        return
    of_each = [options for model in deployment.models if (options := deployment.npu_of(model)) is not None]
    policies = {options.get(_POLICY) for options in of_each} & set(SHARED_MEMORY)
    if len(of_each) > 1 and policies:
        what = (
            f"{_POLICY} is {min(policies, key=str)}, with which graphs share memory, and requests run {len(of_each)} "
            "models at the same time"
        )
        yield forbidden(session_options()[_POLICY], what, f"leave {_POLICY} out, or write a deployment for each model")


def _of_rules(
    deployment: DeploymentFile, whole: Mapping[str, OptionValue], place: Place, model: DeployedModel
) -> Iterator[OptionFinding]:
    variables = {name: str(value) for name, value in deployment.environment.items()}
    for finding in check_options(whole, environment=variables, directory=None):  # it may be for another machine
        at = place_of_option(deployment, model, place[:-1], finding.where)
        is_written = at != ("npu", finding.where) or finding.where in (deployment.npu or {})
        yield _placed(finding, at if is_written else place, whole)


def _placed(finding: Finding, place: Place, whole: Mapping[str, OptionValue]) -> OptionFinding:
    if finding.kind == WRONG_KIND:
        kinds = [kind for kind in dict.fromkeys(session_options()[finding.where].kinds.values()) if kind in KINDS]
        wanted = " or ".join(KINDS[kind][0] for kind in kinds)
        given = attr_value(finding.where, whole[finding.where]).partition(": ")[2]
        read_as = KINDS[kinds[-1]][1]
        return OptionFinding(place, f"must be {wanted}, not {given}: it would silently be read as {read_as}", True)
    message = f"{finding.what}: {finding.cure}" if finding.cure else finding.what
    return OptionFinding(place, message, finding.needs_action)


def _disagreements(place: Place, ours: _Whole, first: _Whole) -> Iterator[OptionFinding]:
    """The options of the process that two models have with different values."""
    model = ours.model
    for name in sorted(process_options()):
        value, theirs = ours.options.get(name), first.options.get(name)
        if (type(value), value) != (type(theirs), theirs):
            yield OptionFinding(
                (*place, name) if model.npu and name in model.npu else place,
                f"{name} is {_shown(name, value)} for {model.name} and {_shown(name, theirs)} for {first.model.name}, "
                "and the first session decides it for the whole process: give them one value, or a deployment for each",
                is_mistake=True,
            )


def _refused_alone(options: Mapping[str, OptionValue | AuxiliaryContent], place: Place) -> Iterator[tuple[Place, str]]:
    for name, value in options.items():
        if not isinstance(value, (bool, int, str)):
            continue  # the content of a file, which has been read by its own rules
        why = _why_refused(name, value, type(value).__name__)
        if why:
            yield (*place, name), why


@functools.lru_cache(maxsize=1000)  # thousands of models may have the same options of their own
def _why_refused(name: str, value: OptionValue, _kind: str) -> str:
    """Nothing for an option that may be written; `_kind` keeps True and 1 apart."""
    try:
        complete_options({name: value})
    except NpuServingError as error:
        return _sentence(error)
    return ""


def _sentence(error: NpuServingError) -> str:
    return ": ".join(part for part in (error.what.rstrip("."), error.cause, error.cure) if part)


def _shown(name: str, value: OptionValue | None) -> str:
    return "not set" if value is None else attr_value(name, value).partition(": ")[2]

"""Which entries a deployment's platform config has: one for each set of options that models have in common.

A server takes any name of its platform config as a model's platform, so models with different options run in one
process, each with sessions of their own; but some options are the process's.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Union

from npu_serving.deploy.platform_config import PlatformEntry
from npu_serving.errors import NpuServingError
from npu_serving.options.catalogue import OptionValue, session_options
from npu_serving.options.rules import check_options
from npu_serving.options.session_options import complete_options
from npu_serving.writers.text_proto import attr_value

if TYPE_CHECKING:
    from npu_serving.deploy.deployment_file import DeployedModel, DeploymentFile

PLATFORM = "tensorflow"
DEVICE = "session_device_id"
"""An option of the session; but up to 6.3 the graph engine starts for the whole process, on one device."""
_Place = tuple[Union[str, int], ...]


@functools.cache
def process_options() -> frozenset[str]:
    """The session options on which all models of a process have to agree: the first session decides them for all.

    Those that count for the process and for the session as well are the session's.
    """
    of_process = {option.name for option in session_options().values() if ("process",) in option.reach.values()}
    return frozenset({DEVICE, *of_process})


def platforms_of(deployment: DeploymentFile) -> tuple[dict[str, PlatformEntry], dict[str, str]]:
    """The entries by their names, and the name of each model's entry, both in the order of the models."""
    entries: dict[str, PlatformEntry] = {}
    names: dict[str, str] = {}
    known: dict[str, str] = {}
    for model in deployment.models:
        own = (deployment.npu_of(model), deployment.batching_of(model))
        name = known.get(repr(own))
        if name is None:
            name = known[repr(own)] = PLATFORM if not known else f"{PLATFORM}_{len(known) + 1}"
            server, cpu = deployment.server, deployment.cpu
            entries[name] = PlatformEntry(
                npu=own[0],
                batching=own[1],
                intra_op_threads=cpu.intra_op_threads,
                inter_op_threads=cpu.inter_op_threads,
                saved_model_tags=server.saved_model_tags,
                warm_up=server.warm_up,
                warm_up_iterations=server.warm_up_iterations,
                remove_unused_fields=server.remove_unused_fields_from_bundle_metagraph,
            )
        names[model.name] = name
    return entries, names


def problems_of_options(deployment: DeploymentFile) -> Iterator[tuple[_Place, str]]:
    """What is wrong with the session options, each alone, those of a model together, and those of the process."""
    wrong = [*_refused_alone(deployment.npu or {}, ("npu",))]
    for index, model in enumerate(deployment.models):
        wrong += _refused_alone(model.npu or {}, ("models", index, "npu"))
    yield from wrong
    if wrong:
        return
    judged: set[str] = set()
    reported: list[tuple[_Place, str]] = []
    first: tuple[DeployedModel, dict[str, OptionValue]] | None = None
    for index, model in enumerate(deployment.models):
        options = deployment.npu_of(model)
        if options is None or repr(options) in judged:
            continue
        judged.add(repr(options))
        place: _Place = ("models", index, "npu") if model.npu else ("npu",)
        try:
            whole = complete_options(options)
        except NpuServingError as error:
            yield place, _sentence(error)
            continue
        for problem in _refused_together(deployment, whole, index):
            if problem not in reported:
                reported.append(problem)
                yield problem
        if first is None:
            first = (model, whole)
            continue
        for name in sorted(process_options()):
            ours, theirs = whole.get(name), first[1].get(name)
            if (type(ours), ours) != (type(theirs), theirs):
                at = (*place, name) if model.npu and name in model.npu else place
                yield (
                    at,
                    f"{name} is {_shown(name, ours)} for {model.name} and {_shown(name, theirs)} for {first[0].name}, "
                    "and the first session decides it for the whole process: give them one value, or a deployment "
                    "for each",
                )


def _refused_alone(options: Mapping[str, OptionValue], place: _Place) -> Iterator[tuple[_Place, str]]:
    for name, value in options.items():
        try:
            complete_options({name: value})
        except NpuServingError as error:
            yield (*place, name), _sentence(error)


def _refused_together(
    deployment: DeploymentFile, options: Mapping[str, OptionValue], index: int
) -> Iterator[tuple[_Place, str]]:
    """What of a model's options no adapter takes, or would make models slow or wrong. No directory is looked at."""
    own = deployment.models[index].npu or {}
    environment = {name: str(value) for name, value in deployment.environment.items()}
    for finding in check_options(options, environment=environment, directory=None):
        if finding.needs_action:
            where = finding.where
            of_model = bool(own) and (where in own or where not in (deployment.npu or {}))
            place: _Place = ("models", index, "npu") if of_model else ("npu",)
            if where in options:
                place = (*place, where)
            elif where in deployment.environment:
                place = ("environment", where)
            yield place, f"{finding.what}: {finding.cure}"


def _sentence(error: NpuServingError) -> str:
    return ": ".join(part for part in (error.what.rstrip("."), error.cause) if part) + (
        f": {error.cure}" if error.cure else ""
    )


def _shown(name: str, value: OptionValue | None) -> str:
    return "not set" if value is None else attr_value(name, value).partition(": ")[2]

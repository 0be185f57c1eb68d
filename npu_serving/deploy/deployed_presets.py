"""The presets of a deployment and of its models: which go together, what each needs, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Union

from npu_serving.deploy.deployment_sections import Problem
from npu_serving.deploy.platforms import process_options
from npu_serving.options.catalogue import OptionValue, environment_variables, presets
from npu_serving.options.explained_entry import preset_options

if TYPE_CHECKING:
    from npu_serving.deploy.deployment_file import DeploymentFile
    from npu_serving.deploy.deployment_sections import DeployedModel

Place = tuple[Union[str, int], ...]
"""The keys and list positions that lead to a value of the file."""


def options_of(names: Sequence[str]) -> dict[str, OptionValue]:
    """What those presets set where nothing else is written."""
    return {option: value for name in names for option, value in presets()[name].options.items()}


def place_of_option(deployment: DeploymentFile, model: DeployedModel, at: Place, name: str) -> Place:
    """Where a session option of the model stands, which itself stands `at`; or a variable.

    The model's own stand before its presets', these before those of the deployment, and these before its presets'. A
    variable that the file does not name comes from the shell, and is its own name.
    """
    if name in (model.npu or {}):
        return (*at, "npu", name)
    if name in deployment.environment:
        return ("environment", name)
    if name in environment_variables():
        return (name,)
    of_model = _setting_preset(model.presets, name)
    if of_model is not None:
        return (*at, "presets", of_model)
    of_all = _setting_preset(deployment.presets, name)
    return ("presets", of_all) if of_all is not None and name not in (deployment.npu or {}) else ("npu", name)


def _setting_preset(names: Sequence[str], option: str) -> int | None:
    """Which of these presets sets the option, by its place; None for none."""
    return next((place for place, name in reversed(list(enumerate(names))) if option in presets()[name].options), None)


def problems_of_presets(deployment: DeploymentFile) -> Iterator[Problem]:
    """Presets that contradict each other, what one needs besides, and what only the whole server can have."""
    yield from _of_list(("presets",), deployment.presets, deployment.presets, deployment.npu or {})
    everywhere = {model.name: deployment.npu_of(model) for model in deployment.models if deployment.presets}
    for index, name in enumerate(deployment.presets):
        for model, options in everywhere.items():
            yield from _of_needs(("presets", index), name, model, options)
        yield from _of_new_versions(deployment, name)
    for number, each in enumerate(deployment.models):
        if not each.presets:
            continue
        place = ("models", number, "presets")
        if each.npu is False:
            yield place, "have no effect, because npu is false: leave one of the two out"
            continue
        yield from _of_list(place, each.presets, (*deployment.presets, *each.presets), each.npu or {})
        for index, name in enumerate(each.presets):
            yield from _of_needs((*place, index), name, each.name, deployment.npu_of(each))
            of_process = sorted(process_options() & set(presets()[name].options))
            if of_process:
                yield (
                    (*place, index),
                    f"{name} sets {' and '.join(of_process)}, which the first session decides for the whole process: "
                    f"write it for all models, presets: [{name}], or give this model a deployment of its own",
                )


def _of_list(place: Place, names: Sequence[str], beside: Sequence[str], own: Mapping[str, object]) -> Iterator[Problem]:
    """Those of one list, `beside` being all that count where they do; the file's own values decide first."""
    before = len(beside) - len(names)
    for index, name in enumerate(names):
        preset, at = presets()[name], (*place, index)
        if name in beside[: before + index]:
            yield at, f"{name} is there twice"
            continue
        for other in beside[: before + index]:
            why = preset.conflicts.get(other) or presets()[other].conflicts.get(name)
            if why:
                yield at, f"{name} can't stand beside {other}: {why}"
                continue
            # What a model has of its own counts before what all have.
            for option, value in preset.options.items() if other in names else ():
                theirs = presets()[other].options.get(option, value)
                if theirs != value and option not in own:
                    yield (
                        at,
                        f"{name} sets {option} to {value}, and {other} to {theirs}: keep one of the two, or write "
                        f"{option} under npu",
                    )


def _of_needs(place: Place, name: str, model: str, options: Mapping[str, object] | None) -> Iterator[Problem]:
    lacking = [need for need in presets()[name].needs if options is not None and need not in options]
    if lacking:
        yield place, f"{name} needs {' and '.join(lacking)} under npu, for {model}"


def _of_new_versions(deployment: DeploymentFile, name: str) -> Iterator[Problem]:
    """What would keep a server from the new versions that a preset is for."""
    if not presets()[name].new_versions:
        return
    if deployment.server.file_system_poll_wait_seconds == 0:
        yield (
            ("server", "file_system_poll_wait_seconds"),
            f"is 0, so a new version would never be found, and {name} is for new versions: write 1, or leave it out",
        )
    for index, model in enumerate(deployment.models):
        if isinstance(model.versions, tuple):
            yield (
                ("models", index, "versions"),
                f"are fixed, so a new version would not be served, and {name} is for new versions: leave them out",
            )


def expanded(names: Sequence[str], written: Mapping[str, OptionValue]) -> dict[str, tuple[str, ...]]:
    """What became of the options of each preset where these are written, a text for each."""
    return {name: tuple(preset_options(presets()[name], written)) for name in names}

"""A list of models before a server is started with it: mistakes in one written by hand, and models that are not there.

The fields are those of model_server_config.proto at 1.15.0. The server looks for the directories of all models before
it loads the first (file_system_storage_path_source.cc), so that one that is missing keeps back the others, for ever.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from npu_serving import fsutil
from npu_serving.documents.text_format import TextField, TextFormatError, last_text, read_text_format
from npu_serving.errors import RequestError
from npu_serving.models.layout import ModelPlace, check_model_directory

_FIELDS = (
    "name",
    "base_path",
    "model_type",
    "model_platform",
    "model_version_policy",
    "version_labels",
    "logging_config",
)
_PLATFORM = 'write model_platform: "tensorflow" into it, or the name of another entry of the platform config'
_POLICIES = {
    "latest": "latest { num_versions: 1 }",
    "all": "all {}",
    "specific": "specific { versions: 1 }",
}
LABELS_FLAG = "allow_version_labels_for_unavailable_models"


def check_models_config(path: Path, flags: Mapping[str, str]) -> str:
    """The text of a list of models that somebody wrote; RequestError with every mistake, each with its line and column.

    `flags` are the others that the server gets: without the one for labels it would end where there are any.
    """
    with fsutil.explained(path, doing="read"):
        text = fsutil.read_text(path)
    try:
        fields = read_text_format(text)
    except TextFormatError as error:
        raise RequestError(
            f"{path}:{error}.",
            cause="the server would end when it reads this list of models",
            cure=f"correct it; an entry is: {_example()}",
        ) from error
    configs = [item for top in fields if top.name == "model_config_list" for item in top.fields]
    mistakes = [f"{path}:{field.line}:{field.column}: {what}" for field, what in _mistakes(configs, flags)]
    if mistakes:
        raise RequestError(
            "\n".join(mistakes),
            cause="the server would end when it reads this list of models, or would not load what is meant",
            cure=f"correct {path}; ./inv init-deployment --model NAME=PATH writes a file of which a right list is made",
        )
    return text


def check_model_places(places: Iterable[tuple[str, ModelPlace]], wanted: str = "saved_model.pb") -> None:
    """RequestError where a model is not where the list says, with those that wait for it. Other hosts are not asked."""
    wrong: dict[str, RequestError] = {}
    right = []
    for name, place in places:
        try:
            if isinstance(place, Path):
                with fsutil.explained(place, doing="read"):
                    check_model_directory(place, wanted)
            right.append(name)
        except RequestError as error:
            wrong[name] = error
    if not wrong:
        return
    first = next(iter(wrong.values()))
    waiting = f"Without it the server does not offer {', '.join(right)} either." if right else ""
    raise RequestError(
        " ".join([*(f"{name}: {error.what}" for name, error in wrong.items()), *([waiting] if waiting else [])]),
        cause=first.cause,
        cure=first.cure,
    )


def _example() -> str:
    return f'config {{ name: "m" base_path: "/models/m" {_policy("latest")} model_platform: "tensorflow" }}'


def _policy(choice: str) -> str:
    return f"model_version_policy {{ {_POLICIES[choice]} }}"


def _mistakes(configs: Iterable[TextField], flags: Mapping[str, str]) -> Iterator[tuple[TextField, str]]:
    for config in configs:
        if config.name != "config":
            yield config, f"a list of models has no field {config.name}: write config {{ ... }} for each model"
            continue
        name = last_text(config.fields, "name")
        of_model = f"the model {name!r}" if name else "this model"
        if not name:
            yield config, 'this model has no name: write name: "NAME" into it'
        if not last_text(config.fields, "model_platform") and not last_text(config.fields, "model_type"):
            yield config, f"{of_model} has no platform: {_PLATFORM}"
        for field in config.fields:
            if field.name not in _FIELDS:
                yield field, _unknown(field)
            elif field.name == "model_version_policy":
                yield from policy_mistakes(field)
        yield from _of_labels(config, flags)


def _unknown(field: TextField) -> str:
    if field.name == "version_policy":  # of releases before 1.0, whose examples are still read
        return f"there is no field version_policy: write {_policy(_nearest(field.text))}"
    near = difflib.get_close_matches(field.name, _FIELDS, n=1)
    return f"a model has no field {field.name}: " + (f"write {near[0]}" if near else "leave it out")


def _nearest(word: str) -> str:
    return next((choice for choice in _POLICIES if word.lower().startswith(choice)), "latest")


def policy_mistakes(policy: TextField) -> Iterator[tuple[TextField, str]]:
    """What is wrong with a model_version_policy, each with the field that it is about and what to write there."""
    if not isinstance(policy.value, tuple):
        yield policy, f"{policy.text} is not a version policy, which is a block: write {_policy(_nearest(policy.text))}"
        return
    for choice in policy.fields:
        if choice.name not in _POLICIES:
            yield choice, f"there is no version policy {choice.name}: write {_policy(_nearest(choice.name))}"
        elif not isinstance(choice.value, tuple):
            yield choice, f"{choice.name} is a block: write {_policy(choice.name)}"


def _of_labels(config: TextField, flags: Mapping[str, str]) -> Iterator[tuple[TextField, str]]:
    labels = [field for field in config.fields if field.name == "version_labels"]
    if labels and flags.get(LABELS_FLAG) != "true":
        yield labels[0], f"a label needs --flag=--{LABELS_FLAG}=true: no version is available when the server reads it"
    choices = [choice for field in config.fields if field.name == "model_version_policy" for choice in field.fields]
    specific = [choice for choice in choices if choice.name == "specific"]
    if not specific:
        return
    served = [field.text for choice in specific for field in choice.fields if field.name == "versions"]
    for label in labels:
        version = last_text(label.fields, "value")
        if version not in served:
            name = last_text(label.fields, "key")
            yield label, f"the label {name!r} is for version {version}, and only {', '.join(served)} are served"

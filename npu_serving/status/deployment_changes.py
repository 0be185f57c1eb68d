"""What differs between the files that a server was started with and those that its deployment file gives now.

TensorFlow Serving 1.15 reads its list of models again, on a request (HandleReloadConfigRequest) or by its poll flag
(--model_config_file_poll_wait_seconds), and nothing else: platform config, flags and environment are read at the start.
A model that is already there can't get another platform that way (server_core.cc, ValidateNoModelsChangePlatforms()).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from npu_serving.deploy.listed_models import LABELS_FLAG
from npu_serving.deploy.platform_config import ServedModel
from npu_serving.deploy.rendering import (
    EXPORTS,
    FLAGS,
    MODELS_CONFIG,
    PLATFORM_CONFIG,
    START,
    UNIT,
    VARIABLES,
    RenderedFile,
)
from npu_serving.documents.text_format import TextField, TextFormatError, last_text, read_text_format
from npu_serving.serving.asked_models import models_in
from npu_serving.shown_text import HIDDEN, in_a_line, masked_variable, masked_word

RELOAD, RESTART = "reload", "restart"
_NOT_READ = frozenset((UNIT, EXPORTS))
"""Files that `serve` starts no server by: the others say the same."""
_DEPLOYMENT_KEYS = {
    "intra_op_parallelism_threads": "cpu.intra_op_threads",
    "inter_op_parallelism_threads": "cpu.inter_op_threads",
    "saved_model_tags": "server.saved_model_tags",
    "enable_model_warmup": "server.warm_up",
    "num_request_iterations": "server.warm_up_iterations",
    "remove_unused_fields_from_bundle_metagraph": "server.remove_unused_fields_from_bundle_metagraph",
}
"""What fields of a platform config are called in a deployment file, where that is not the name after its message's."""
_NPU = "npu"
_OF_THE_OPTIMIZER = ("remapping", "memory_optimization")
"""What is written beside NpuOptimizer, and only there."""
_OF_START = {
    "cann": re.compile(r"^export ASCEND_ROOT=(.*)$", re.MULTILINE),
    "cpu.cpus": re.compile(r'^exec taskset -c ([^"]*) "\$serve"$', re.MULTILINE),
    "cpu.numa_node": re.compile(r"^node=.*/node(\d+)/cpulist$", re.MULTILINE),
}
"""What a deployment file says that stands in the start script only."""
_BOTH, _UNKNOWN = f"{PLATFORM_CONFIG} and {MODELS_CONFIG}", "unknown"
_SHOWN_MODELS, _SHOWN_LETTERS = 3, 80
_Values = Mapping[str, Sequence[str]]


def _masked_line(line: str) -> str:
    name, _, value = line.partition("=")
    return f"{name}={HIDDEN if masked_variable(name, value) != value else value}"


_MASKED = {FLAGS: masked_word, VARIABLES: _masked_line}
"""The files of lines NAME=VALUE, and what hides a line's value that may not be shown."""


@dataclass(frozen=True)
class DeploymentChange:
    """One thing that the file has otherwise than the running server: what, in the file's words, and what is due.

    `running` and `wanted` are the two values, "" where there is none.
    """

    what: str
    running: str
    wanted: str
    due: str

    def to_json(self) -> dict[str, object]:
        """As `--json` shows it."""
        return asdict(self)

    def text(self) -> str:
        """In a line: the two values, shortened."""
        return f"{self.what}: {_shown(self.running)} -> {_shown(self.wanted)}"


def changes_between(
    before: Mapping[str, str | None], after: Mapping[str, RenderedFile]
) -> tuple[DeploymentChange, ...]:
    """What differs between the texts of a deployment's files that a server runs with and those that it would have now.

    Both are by the files' names; None stands for a text that nobody knows any more. Models and their options come
    first.
    """
    texts = {name: file.text for name, file in after.items()}
    of_models = (PLATFORM_CONFIG, MODELS_CONFIG)
    found: list[DeploymentChange] = []
    if any(before.get(name, "") != texts[name] for name in of_models):
        found += _of_models(before, texts)
    for name in dict.fromkeys((*texts, *before)):
        was, will_be = before.get(name, ""), texts.get(name, "")
        if name in (*of_models, *_NOT_READ) or was == will_be:
            continue
        if was is not None and name in _MASKED:
            found += _of_lines(was, will_be, _MASKED[name])
        elif was is not None and name == START:
            found += _of_start(was, will_be)
        else:
            running = _UNKNOWN if was is None else "as it was" if name in before else ""
            found.append(DeploymentChange(name, running, "changed" if name in texts else "", RESTART))
    return tuple(found)


def _of_models(before: Mapping[str, str | None], after: Mapping[str, str]) -> Iterator[DeploymentChange]:
    """Models that came, went or changed, and the options of each. What can't be read counts as changed altogether."""
    try:
        models = [{model.name: model for model in models_in(texts[MODELS_CONFIG] or "{")} for texts in (before, after)]
        entries = [_entries(texts[PLATFORM_CONFIG] or "{") for texts in (before, after)]
    except (KeyError, TextFormatError):
        yield DeploymentChange(_BOTH, _UNKNOWN, "changed", RESTART)
        return
    were, will_be = models
    sharing: dict[tuple[str, str], list[str]] = {}
    for name, model in will_be.items():
        if name in were:
            yield from _of_model(were[name], model)
            sharing.setdefault((were[name].platform, model.platform), []).append(name)
        else:
            is_known = entries[0].get(model.platform) == entries[1].get(model.platform)
            yield DeploymentChange(_of(name), "", model.base_path, RELOAD if is_known else RESTART)
    for name, model in were.items():
        if name not in will_be:
            yield DeploymentChange(_of(name), model.base_path, "", RELOAD)
    common = sum(len(names) for names in sharing.values())
    for (platform_before, platform_after), names in sharing.items():
        whose = "" if len(names) == common else f"{_of(*names)}."
        yield from _of_entries(entries[0].get(platform_before, {}), entries[1].get(platform_after, {}), whose)


def _of_model(was: ServedModel, will_be: ServedModel) -> Iterator[DeploymentChange]:
    pairs = (
        ("base_path", was.base_path, will_be.base_path, RELOAD),
        ("versions", _versions(was), _versions(will_be), RELOAD),
        ("labels", _labels(was), _labels(will_be), RELOAD),
        ("platform", was.platform, will_be.platform, RESTART),
    )
    for key, running, wanted, due in pairs:
        if running != wanted:
            yield DeploymentChange(f"{_of(was.name)}.{key}", running, wanted, due)


def _of_entries(before: _Values, after: _Values, whose: str) -> Iterator[DeploymentChange]:
    switched = before.get(_NPU) != after.get(_NPU)
    for name in dict.fromkeys((*before, *after)):
        if switched and (name in _OF_THE_OPTIMIZER or name.startswith(f"{_NPU}.")):
            continue  # they come and go together
        running, wanted = ", ".join(before.get(name, ())), ", ".join(after.get(name, ()))
        if running != wanted:
            yield DeploymentChange(f"{whose}{name}", running, wanted, RESTART)


def _entries(platform_config: str) -> dict[str, dict[str, list[str]]]:
    """The values of each entry of a platform config, by its name and theirs."""
    configs = [item for item in read_text_format(platform_config) if item.name == "platform_configs"]
    return {last_text(item.fields, "key"): _values(item.fields) for item in configs}


def _values(fields: Sequence[TextField], messages: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Every scalar of these fields, in whatever messages, by what a deployment file calls it."""
    found: dict[str, list[str]] = {}
    for field in fields:
        if field.name == "parameter_map":
            values = [part.text for item in field.fields if item.name == "value" for part in item.fields]
            found[f"{_NPU}.{last_text(field.fields, 'key')}"] = values
        elif field.fields:
            for name, texts in _values(field.fields, (*messages, field.name)).items():
                found.setdefault(name, []).extend(texts)
        elif field.name != "key" or messages:
            path = [name for name in (*messages, field.name) if name != "value"]
            batching = "batching." if "batching_parameters" in path[:-1] else ""
            key = _NPU if path[-2:] == ["custom_optimizers", "name"] else _DEPLOYMENT_KEYS.get(path[-1], path[-1])
            found.setdefault(batching + key, []).append(field.text)
    return found


def _of_lines(before: str, after: str, masked: Callable[[str], str]) -> Iterator[DeploymentChange]:
    """Lines NAME=VALUE that differ; `masked` hides, of a whole line, what may not be shown.

    The flag for labels of versions that are not loaded yet counts at the start alone: it comes with the first label.
    """
    were, will_be = _assignments(before), _assignments(after)
    for name in dict.fromkeys((*were, *will_be)):
        if were.get(name) != will_be.get(name):
            running, wanted = (
                masked(f"{name}={values[name]}").partition("=")[2] if name in values else ""
                for values in (were, will_be)
            )
            yield DeploymentChange(name, running, wanted, RELOAD if name.lstrip("-") == LABELS_FLAG else RESTART)


def _of_start(before: str, after: str) -> Iterator[DeploymentChange]:
    for key, pattern in _OF_START.items():
        running, wanted = (found[1] if (found := pattern.search(text)) else "" for text in (before, after))
        if running != wanted:
            yield DeploymentChange(key, running, wanted, RESTART)


def _assignments(text: str) -> dict[str, str]:
    lines = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, equals, value in lines if equals}


def _versions(model: ServedModel) -> str:
    if isinstance(model.versions, tuple):
        return ", ".join(str(version) for version in model.versions)
    return model.versions if isinstance(model.versions, str) else f"latest {model.versions}"


def _labels(model: ServedModel) -> str:
    return ", ".join(f"{label} {version}" for label, version in sorted(model.labels.items()))


def _of(*names: str) -> str:
    shown = ", ".join(names[:_SHOWN_MODELS])
    return f"models.{shown}" + (f" and {len(names) - _SHOWN_MODELS} more" if len(names) > _SHOWN_MODELS else "")


def _shown(value: str) -> str:
    text = in_a_line(value) if value else "nothing"
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}..."

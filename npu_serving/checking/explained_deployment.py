"""What each line of a deployment does: its meaning, what becomes of it here, for which models, and what a change takes.

Whether anything is wrong, check-deployment says; of that, only what the rules find in options and variables is here.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from npu_serving.cann.adapter_words import unknown_words
from npu_serving.cann.environment import cann_environment
from npu_serving.cann.install import Cann, cann_of
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.deployment_places import PlacedDeployment, option_place
from npu_serving.deploy.older_precision import NEWER, older_default, precision_note
from npu_serving.deploy.preset_values import filled_in, with_its_cann
from npu_serving.deploy.rendering import server_flags_of, server_variables
from npu_serving.documents import SourcePlace, json_schema
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.findings import Finding
from npu_serving.options.adapter_release import candidates, kind_in
from npu_serving.options.auxiliary_files import LimitedCache
from npu_serving.options.catalogue import KINDS, NOT_READ, environment_variables, presets, session_options
from npu_serving.options.explained_entry import Fact, option_default, option_reach, paragraph
from npu_serving.options.rules import check_options
from npu_serving.options.session_options import complete_options
from npu_serving.sample.sample_settings import with_sample
from npu_serving.settings import Settings
from npu_serving.shown_text import HIDDEN, in_a_line, masked, masked_variable
from npu_serving.status.deployment_changes import RELOAD, RESTART
from npu_serving.writers.text_proto import attr_value

_Path = tuple[Union[str, int], ...]
_NOTHING = "nothing"
_CHANGES = {
    RELOAD: "takes no restart: ./inv reload has the server read models.config again while it runs",
    RESTART: "takes a restart of the server",
    _NOTHING: "is of no interest to the server",
}
_RELOADED = ("name", "base_path", "versions", "labels")
"""What of a model the server reads again."""
_NOT_THE_SERVERS = ("version", "golden")
_OF_PREDICT = ("preprocess",)
"""What a model has for `predict` alone."""
_SCENE = "online inference"


@dataclass(frozen=True)
class ExplainedLine:
    """A line of the file, or an option that is written besides: `place` is None for the latter."""

    key: str
    value: str
    meaning: str
    facts: tuple[Fact, ...]
    place: SourcePlace | None
    change: str
    """What a change of it takes: RELOAD, RESTART or nothing."""

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {
            "key": self.key,
            "value": self.value,
            "meaning": self.meaning,
            "place": self.place.to_json() if self.place is not None else None,
            "change": self.change,
            "facts": {heading: said if isinstance(said, str) else list(said) for heading, said in self.facts},
        }

    def text(self) -> str:
        """A paragraph."""
        at = f"  ({in_a_line(str(self.place))})" if self.place is not None else ""
        facts = (*self.facts, ("a change", _CHANGES[self.change]))
        return paragraph(f"{in_a_line(self.key)}: {in_a_line(self.value)}{at}", self.meaning, facts)


@dataclass(frozen=True)
class ExplainedDeployment:
    """The lines of the file in their order, then the options that are written besides."""

    file: Path
    adapter: str
    """The adapter that reads the options."""
    lines: tuple[ExplainedLine, ...]

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {"file": str(self.file), "adapter": self.adapter, "lines": [line.to_json() for line in self.lines]}

    def text(self) -> str:
        """A paragraph for each."""
        of_file = [line.text() for line in self.lines if line.place is not None]
        besides = [line.text() for line in self.lines if line.place is None]
        heading = ["Written into config.cfg besides:"] if besides else []
        return "\n\n".join([f"{self.file}, read by {self.adapter}:", *of_file, *heading, *besides])


def explain_deployment(settings: Settings, file: Path, read: PlacedDeployment, name: str = "") -> ExplainedDeployment:
    """What each line of the deployment that was read from `file` does; with a name, the lines of that name alone.

    Raises RequestError where no line has that name.
    """
    explaining = _Explaining(settings, read)
    lines = [*explaining.lines()]
    if name:
        plain = name.strip().lstrip("-").replace("-", "_").casefold()
        lines = [line for line in lines if plain in (line.key.casefold(), line.key.rpartition(".")[2].casefold())]
        lines = lines or [line for line in explaining.lines() if line.value.casefold() == plain.replace("_", "-")]
    if not lines:
        raise RequestError(
            f"{file} has no line {name!r}, and it is not written besides.",
            cure=f"./inv explain {name}, without --deployment, explains it",
        )
    return ExplainedDeployment(file, explaining.adapter, tuple(lines))


class _Explaining:
    """A deployment, the CANN that it meets here, and what the rules find in its options."""

    def __init__(self, settings: Settings, read: PlacedDeployment) -> None:
        self._read = read
        self._written = read.deployment
        self._deployment = filled_in(read.deployment, settings)
        self._cann = _cann(settings, self._written)
        installation = self._cann.installation if self._cann is not None else None
        self._release = installation.version if installation is not None else ""
        own = server_variables(self._deployment)
        self._environment = cann_environment(installation, os.environ).added_to(own)
        self._options = [
            complete_options(options) if (options := self._deployment.npu_of(model)) is not None else None
            for model in self._deployment.models
        ]
        self._findings = self._found()
        self._unknown = self._not_in_the_adapter()

    @property
    def adapter(self) -> str:
        """The adapter that reads the options."""
        if self._release:
            return f"the adapter of CANN {self._release}"
        return "any adapter, as none is found here"

    def lines(self) -> Iterator[ExplainedLine]:
        """Those of the file, then the options that are written besides."""
        for path, value in _leaves(self._read.sources.document, ()):
            key = ".".join(str(part) for part in path)
            yield self._line(path, key, value)
        told = set(self._keys_of_options())
        for name, places in told_besides(self._options, self._written, told).items():
            yield self._besides(name, places)

    def _keys_of_options(self) -> Iterator[str]:
        for name in self._written.npu or {}:
            yield f"npu.{name}"
        for index, model in enumerate(self._written.models):
            for name in model.npu or {}:
                yield f"models.{index}.npu.{name}"

    def _line(self, path: _Path, key: str, value: object) -> ExplainedLine:
        shown, change = _shown(path, value), RESTART
        meaning, facts = _described(path), []
        if len(path) > 1 and path[-2] == "npu":
            name = str(path[-1])
            index = int(path[1]) if path[0] == "models" else None
            option = session_options().get(name)
            meaning = option.meaning if option is not None else "NpuOptimizer has no option of that name."
            facts = [*self._of_option(name, value), *self._models_of(name, index)]
        elif len(path) > 1 and path[-2] == "presets":
            preset = presets()[str(value)]
            meaning = preset.meaning
            of_model = f" of {self._written.models[int(path[1])].name}" if path[0] == "models" else ""
            facts = [("sets", self._deployment.expanded_presets().get(f"{preset.name}{of_model}", ()))]
            facts.append(("for", self._names([int(path[1])] if of_model else self._on_npu)))
        elif path[0] == "environment" and len(path) > 1:
            variable = environment_variables().get(str(path[-1]))
            meaning = (
                variable.meaning if variable is not None else "The server gets it; what it means is not known here."
            )
            facts = [("default", variable.default)] if variable is not None and variable.default else []
        elif path[0] == "models" and path[2] in _RELOADED:
            change = RELOAD
        elif path[0] in _NOT_THE_SERVERS or path[2:3] == _OF_PREDICT:
            change = _NOTHING
        elif path[0] in ("server", "cpu") and len(path) > 1:
            facts = [*self._of_server(path)]
        facts += [(finding.severity, f"{finding.what}: {finding.cure}") for finding in self._findings.get(key, ())]
        known = [(heading, said) for heading, said in facts if said]
        return ExplainedLine(key, shown, meaning, tuple(known), self._read.sources.place(path), change)

    def _besides(self, name: str, indices: Sequence[int]) -> ExplainedLine:
        """An option that no line of the file is: a preset's, or one that every server on the NPU gets."""
        option = session_options()[name]
        value = next(iter(options[name] for index in indices if (options := self._options[index]) is not None))
        place = option_place(self._written, indices[0], name)
        keys = place.split(".")
        source = "it is always written for the NPU"
        note = precision_note(self._written, self._deployment)
        if option.name == older_default()[0] and note:
            source = note
        elif "presets" in keys:
            owner = self._written.models[int(keys[1])] if keys[0] == "models" else self._written
            source = f"the preset {owner.presets[int(keys[-1])]}"
        elif option.written is not None:
            source = "it is written where nothing else is chosen"
        facts = [("comes from", source), *self._of_option(name, value), ("for", self._names(indices))]
        found = self._findings.get(f"npu.{name}", ())
        facts += [(finding.severity, f"{finding.what}: {finding.cure}") for finding in found]
        known = tuple((heading, said) for heading, said in facts if said)
        return ExplainedLine(name, _plain(value), option.meaning, known, None, RESTART)

    def _of_option(self, name: str, value: object) -> Iterator[tuple[str, Any]]:
        option = session_options().get(name)
        if option is None:
            yield "the adapter", "silently ignores it"
            return
        here = next((_plain(each) for when, each in option.defaults.items() if _SCENE in when), option_default(option))
        yield "default", f"{here}, as here" if here and here == _plain(value) else here
        if isinstance(value, LimitedCache):
            yield "in config.cfg", f"{name} {{ {attr_value(name, value.directory)} }}"
            yield "in its directory", "op_cache.ini, with the limits"
        elif isinstance(value, (bool, int, str)):
            yield "in config.cfg", f"{name} {{ {attr_value(name, value)} }}"
        else:
            yield "in config.cfg", "the path of the file that its content is written into"
        yield "the adapter", self._reading_of(name)
        yield "counts for", option_reach(option)
        yield "how the adapter behaves", option.adapter

    def _reading_of(self, name: str) -> str:
        """What the adapter that is found does with the option."""
        kinds = {kind_in(session_options()[name], release) for release, _ in candidates(self._release)}
        if name in self._unknown:
            return "does not have its name, and silently ignores it"
        if kinds == {NOT_READ}:
            return "does not read it: it is silently ignored"
        meant = " or ".join(KINDS[kind][0] for kind in sorted(kinds - {NOT_READ}))
        return f"reads it as {meant}" + ("" if NOT_READ not in kinds else ", but not in every release")

    def _models_of(self, name: str, index: int | None) -> list[tuple[str, Any]]:
        """For which models a line counts; `index` is the model that it stands under."""
        place = f"npu.{name}" if index is None else f"models.{index}.npu.{name}"
        note = precision_note(self._written, self._deployment)
        if name == NEWER and note:
            return [("in its place", note)]
        indices = [
            number
            for number, options in enumerate(self._options)
            if options is not None and name in options and option_place(self._written, number, name) == place
        ]
        return [("for", self._names(indices) or "no model: each has its own, or is served by the CPU")]

    @property
    def _on_npu(self) -> list[int]:
        return [number for number, options in enumerate(self._options) if options is not None]

    def _names(self, indices: Sequence[int]) -> str:
        if list(indices) == self._on_npu and len(indices) > 1:
            return "every model on the NPU"
        return ", ".join(self._written.models[index].name for index in indices)

    def _of_server(self, path: _Path) -> Iterator[tuple[str, Any]]:
        name = str(path[-1])
        section = getattr(DeploymentFile, str(path[0]))  # the default is the class's attribute
        default = getattr(section, name, None) if len(path) == 2 else None
        if isinstance(default, (bool, int, str)):
            same = default == getattr(getattr(self._written, str(path[0])), name)
            yield "default", f"{_plain(default)}, as here" if same else _plain(default)
        flags = server_flags_of(self._deployment, Path())
        if path[0] == "server" and len(path) == 2 and name in flags:
            yield "becomes", f"the flag --{name}={flags[name]}"

    def _found(self) -> dict[str, list[Finding]]:
        """What the rules find, by the key path of the line that it is about."""
        found: dict[str, list[Finding]] = {}
        for index, options in enumerate(self._options):
            if options is None:
                continue
            for finding in check_options(options, self._release, environment=self._environment, directory=None):
                place = option_place(self._written, index, finding.where)
                if finding not in found.setdefault(place, []):
                    found[place].append(finding)
        return found

    def _not_in_the_adapter(self) -> frozenset[str]:
        """The options that do not stand in the adapter's file."""
        names = {name for options in self._options for name in (options or {})}
        try:
            adapter = self._cann.adapter_if_installed if self._cann is not None else None
            return frozenset(unknown_words(adapter.path, names)) if adapter is not None else frozenset()
        except NpuServingError:
            return frozenset()


def told_besides(
    options: Sequence[Mapping[str, object] | None], written: DeploymentFile, told: set[str]
) -> dict[str, list[int]]:
    """The options that no line is, each with the models that get it."""
    found: dict[str, list[int]] = {}
    for index, of_model in enumerate(options):
        for name in of_model or {}:
            if option_place(written, index, name) not in told:
                found.setdefault(name, []).append(index)
    return found


def _cann(settings: Settings, deployment: DeploymentFile) -> Cann | None:
    try:
        found = cann_of(with_sample(with_its_cann(settings, deployment)))
        return found if found.installation is not None else None
    except NpuServingError:
        return None


def _leaves(value: object, path: _Path) -> Iterator[tuple[_Path, object]]:
    """What is explained on its own: an option whole, a list whole but for models and presets, else each scalar."""
    if isinstance(value, dict) and value and not (len(path) > 1 and path[-2] == "npu"):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and path[-1:] in (("models",), ("presets",)):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    elif value is not None:
        yield path, value


@functools.cache
def _schema() -> dict[str, Any]:
    return json_schema(DeploymentFile)


def _described(path: _Path) -> str:
    """What the type of that key says of it; "" where it says nothing."""
    said = ""
    nodes = [_schema()]
    for part in path:
        nodes = [found for node in nodes for found in _below(node, part)]
        said = next((str(node["description"]) for node in nodes if "description" in node), said)
    return f"{said[:1].upper()}{said[1:]}." if said else "One of its values."


def _below(node: dict[str, Any], part: str | int) -> Iterator[dict[str, Any]]:
    if "$ref" in node:
        yield from _below(_schema()["$defs"][node["$ref"].rpartition("/")[2]], part)
    for other in node.get("anyOf", ()):
        yield from _below(other, part)
    if isinstance(part, int) and isinstance(node.get("items"), dict):
        yield node["items"]
    elif part in node.get("properties", {}):
        yield node["properties"][part]
    elif isinstance(node.get("additionalProperties"), dict):
        yield node["additionalProperties"]


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(path: _Path, value: object) -> str:
    """The value as the file has it, but for secrets."""
    plain = json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else _plain(value)
    if path[0] == "environment" and len(path) > 1:
        return masked_variable(str(path[1]), plain)
    return masked(plain) if HIDDEN not in plain else plain

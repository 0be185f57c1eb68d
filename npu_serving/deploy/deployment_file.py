"""deployment.yaml: what one server is deployed with, and every mistake that its sections show together.

What becomes of it: platforms.py, rendering.py. Which session options go together is judged in options/.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from npu_serving.deploy.deployed_options import problems_of_options
from npu_serving.deploy.deployed_presets import expanded, options_of, problems_of_presets
from npu_serving.deploy.deployed_values import AbsolutePath, NpuOptions, PresetName, VariableName, VariableValue
from npu_serving.deploy.deployment_sections import (
    BatchingOptions,
    CpuOptions,
    DeployedModel,
    Problem,
    ServerOptions,
    more_threads,
)
from npu_serving.documents import Rule, read_layers
from npu_serving.options.auxiliary_files import WRITTEN_FILES, AuxiliaryContent, LimitedCache, auxiliary_text
from npu_serving.options.catalogue import OptionValue
from npu_serving.options.server_environment import known_variables

SCHEMA = Path("docs/deployment.schema.json")
"""Within the project; made from the classes here."""
NAMED_LISTS: Mapping[tuple[str | int, ...], str] = {("models",): "name"}
"""The lists that are merged by a name of their items where one file is merged onto another."""

_PRECISION = ("precision_mode", "precision_mode_v2")


@dataclass(frozen=True)
class DeploymentFile:
    """What one server is deployed with."""

    version: Literal[1] = field(metadata={"help": "of this format"})
    models: Annotated[tuple[DeployedModel, ...], Rule(fewest=1)] = field(metadata={"help": "what is served"})
    server: ServerOptions = field(default=ServerOptions(), metadata={"help": "the server itself"})
    npu: NpuOptions | None = field(
        default=None,
        metadata={"help": "session options of NpuOptimizer; {} has the defaults; without it the CPU serves"},
    )
    presets: tuple[PresetName, ...] = field(
        default=(),
        metadata={"help": "session options under one name, such as mixed-precision; ./inv explain NAME shows them"},
    )
    environment: Mapping[VariableName, VariableValue] = field(
        default_factory=dict, metadata={"help": "environment variables of the server"}
    )
    cpu: CpuOptions = field(default=CpuOptions(), metadata={"help": "CPU and memory"})
    cann: AbsolutePath | None = field(
        default=None, metadata={"help": "where CANN and the driver are installed; found by itself without it"}
    )
    golden: AbsolutePath | None = field(
        default=None, metadata={"help": "the directory of its golden requests; golden/ beside the builds without it"}
    )

    def problems(self) -> Iterator[Problem]:
        """What only shows in several parts together."""
        seen: set[str] = set()
        for index, model in enumerate(self.models):
            if model.name in seen:
                yield ("models", index, "name"), f"{model.name} is there twice"
            seen.add(model.name)
        yield from self._problems_of_variables()
        of_presets = [*problems_of_presets(self)]
        yield from of_presets or problems_of_options(self)

    def _problems_of_variables(self) -> Iterator[Problem]:
        of_cpu = {
            "OMP_NUM_THREADS": ("omp_threads", self.cpu.omp_threads),
            "LD_PRELOAD": ("allocator", self.cpu.allocator),
        }
        for name in self.environment:
            key, value = of_cpu.get(name, ("", None))
            if value is not None:
                yield ("environment", name), f"is set by cpu.{key} as well: keep one of the two"
            elif key == "omp_threads" and self.cpu.cpus is not None:
                stated, most = str(self.environment[name]), len(self.cpu.processors)
                if stated.isdecimal() and int(stated) > most:
                    yield ("environment", name), more_threads(int(stated), most)
            known = next((line for line in known_variables() if line.fits(name)), None)
            if known is not None and not known.passed:
                yield ("environment", name), f"must not be set: {known.instead or 'the server does not read it'}"

    def uses_npu(self) -> bool:
        """Whether a model is meant for the NPU."""
        return any(self.npu_of(model) is not None for model in self.models)

    def npu_of(self, model: DeployedModel, directory: Path = Path("/")) -> dict[str, bool | int | str] | None:
        """The session options of a model, files of ours being in `directory`; None where the CPU serves it."""
        if model.npu is False or (model.npu is self.npu is None and not self.presets and not model.presets):
            return None
        names = self._names_of_files
        of_deployment = _replaced_by(self.options_of_presets, self.npu or {})
        own: Mapping[str, OptionValue | AuxiliaryContent] = model.npu or {}
        if model.presets:
            own = _replaced_by(options_of(model.presets), own)
        return {name: _value(name, value, names, directory) for name, value in _replaced_by(of_deployment, own).items()}

    @functools.cached_property
    def options_of_presets(self) -> dict[str, OptionValue]:
        """What the presets for all models set where nothing else is written."""
        return options_of(self.presets)

    def auxiliary_files(self) -> dict[str, str]:
        """The texts of the files that session options name and whose content stands here, by the files' names."""
        names = self._names_of_files
        return {names[option, repr(content)]: auxiliary_text(option, content) for option, content in self._contents()}

    def cache_limits(self) -> dict[Path, str]:
        """The limits of caches of compiled operators by the files in which they count: in the caches' directories."""
        return {
            Path(content.directory) / WRITTEN_FILES[option].name: auxiliary_text(option, content)
            for option, content in self._contents()
            if isinstance(content, LimitedCache)
        }

    @functools.cached_property
    def _names_of_files(self) -> dict[tuple[str, str], str]:
        """By the option and the content: ops_info.json, and for another content ops_info_2.json."""
        names: dict[tuple[str, str], str] = {}
        counts: dict[str, int] = {}
        for option, content in self._contents():
            if (option, repr(content)) not in names:
                counts[option] = counts.get(option, 0) + 1
                name = Path(WRITTEN_FILES[option].name)
                number = f"_{counts[option]}" if counts[option] > 1 else ""
                names[option, repr(content)] = f"{name.stem}{number}{name.suffix}"
        return names

    def _contents(self) -> Iterator[tuple[str, AuxiliaryContent]]:
        for options in (self.npu, *(model.npu for model in self.models)):
            for option, value in (options or {}).items():
                if not isinstance(value, (bool, int, str)):
                    yield option, value

    def expanded_presets(self) -> dict[str, tuple[str, ...]]:
        """What became of the options of each preset, a text for each; a model's own is called NAME of MODEL."""
        names = self._names_of_files
        written = {
            name: _value(name, value, names, Path())
            for name, value in _replaced_by(self.options_of_presets, self.npu or {}).items()
        }
        found = expanded(self.presets, written)
        for model in self.models:
            if model.presets:
                of_model = expanded(model.presets, self.npu_of(model, Path()) or {})
                found.update({f"{name} of {model.name}": options for name, options in of_model.items()})
        return found

    def batching_of(self, model: DeployedModel) -> BatchingOptions | None:
        """How a model's requests are put together; None for each on its own."""
        if model.batching is None:
            return self.server.batching
        return model.batching or None


def read_deployment(path: Path, overlays: Sequence[Path] = (), values: Sequence[str] = ()) -> DeploymentFile:
    """The deployment of that file, with others merged onto it and then single values (KEY.KEY=VALUE).

    Raises DocumentError with every mistake, each with its place, RequestError for a value that can't be set, and
    FileAccessError.
    """
    return read_layers(path, DeploymentFile, overlays=overlays, values=values, named_lists=NAMED_LISTS)


def _value(
    option: str, value: OptionValue | AuxiliaryContent, names: Mapping[tuple[str, str], str], directory: Path
) -> OptionValue:
    """What an option is written as: a file's content as the path of that file, which stands in `directory`."""
    if isinstance(value, LimitedCache):
        return value.directory
    return value if isinstance(value, (bool, int, str)) else str(directory / names[option, repr(value)])


def _replaced_by(
    base: Mapping[str, OptionValue | AuxiliaryContent], own: Mapping[str, OptionValue | AuxiliaryContent]
) -> Mapping[str, OptionValue | AuxiliaryContent]:
    """Both; of the same name the second's, and of the two options for the precision one replaces the other."""
    if not base or not own:
        return own or base
    if any(name in own for name in _PRECISION):
        base = {name: value for name, value in base.items() if name not in _PRECISION}
    return {**base, **own}

"""The text-format files a server is given: the platform config (NpuOptimizer's options) and the list of models.

What each session option means and which ones go together is judged in options/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from npu_serving import fsutil
from npu_serving.documents.text_format import TextField, TextFormatError, last_text, read_text_format
from npu_serving.errors import RequestError
from npu_serving.models.layout import check_model_name
from npu_serving.options.npu_optimizer import OPTIMIZER, OptimizerParameter, asks_for_npu
from npu_serving.options.session_options import OptionValue, complete_options
from npu_serving.templating import render
from npu_serving.writers.text_proto import attr_value

if TYPE_CHECKING:
    from npu_serving.deploy.deployment_sections import BatchingOptions


@dataclass(frozen=True)
class PlatformEntry:
    """What models of one platform have in common: all that a server reads of a platform config only.

    Without `npu` the CPU runs them. A count of None is the server's own.
    """

    npu: Mapping[str, OptionValue] | None = None
    batching: BatchingOptions | None = None
    intra_op_threads: int | None = None
    inter_op_threads: int | None = None
    saved_model_tags: tuple[str, ...] = ("serve",)
    warm_up: bool = True
    warm_up_iterations: int | None = None
    remove_unused_fields: bool = True


@dataclass(frozen=True)
class ServedModel:
    """One model of a models.config: its name, where its version directories are, and its entry of the platform config.

    `versions` are "all" of them, a list of them, or how many of the highest.
    """

    name: str
    base_path: str
    platform: str = "tensorflow"
    versions: int | tuple[int, ...] | Literal["all"] = 1
    labels: Mapping[str, int] = field(default_factory=dict)


def render_platform_config(entries: Mapping[str, PlatformEntry]) -> str:
    """The platform config with these entries, by name; NpuOptimizer is in those that have options for the NPU.

    `use_off_line`, `graph_run_mode` and a precision are always there; remapping and memory optimisation are always
    off. For the latter the guide writes RewriterConfig.OFF, a name of another enumeration, which no server reads in
    text format and which means MANUAL in Python; NO_MEM_OPT is what switches it off (TensorFlow 1.15:
    rewriter_config.proto, MemoryOptimizerEnabled()). The kind of a value (bool, int, str) decides the field of the
    AttrValue it is written to. What a server with a platform config reads nowhere else, such as whether models are
    warmed up, is always written: without it false would count, other than for a server without a platform config.

    Raises RequestError for names and values that can't be written, and for options that don't work on an NPU.
    """
    written = {
        name: (
            entry,
            None
            if entry.npu is None
            else [(option, attr_value(option, value)) for option, value in complete_options(entry.npu).items()],
        )
        for name, entry in entries.items()
    }
    return render("templates/config.cfg.j2", entries=written)


def render_models_config(models: Sequence[ServedModel]) -> str:
    """The list of models for --model_config_file. Raises RequestError for names twice and for relative paths."""
    if not models:
        raise RequestError("The list of models is empty.", cure="name at least one model")
    seen: set[str] = set()
    for model in models:
        check_model_name(model.name)
        if model.name in seen:
            raise RequestError(f"The model {model.name!r} is listed twice.", cure="give each model its own name")
        if not (model.base_path.startswith("/") or fsutil.is_remote(model.base_path)):
            raise RequestError(
                f"The path of the model {model.name!r} must be absolute, not {model.base_path!r}.",
                cause="a server looks for it in its own working directory, not beside this file",
                cure="write the whole path, beginning with /",
            )
        seen.add(model.name)
    return render("templates/models.config.j2", models=models)


@dataclass(frozen=True)
class PlatformConfigFile:
    """A platform config as a server would read it: whether a model may run on the NPU by it.

    `trouble` is FILE:LINE:COLUMN and what is wrong where it is not in text format, "" otherwise; then nothing else is
    known of it, and the server refuses it when it starts.
    """

    asks_for_npu: bool
    trouble: str = ""
    optimizers: tuple[Mapping[str, OptimizerParameter], ...] = field(default=(), compare=False)
    """The options of each NpuOptimizer, be it switched on or off."""


def read_platform_config(path: Path, text: str | None = None) -> PlatformConfigFile:
    """What that file asks for. RequestError for what a server or its adapter would misread in silence.

    A message that stands there as bytes (`type_url` and `value`, as a program prints one whose type it does not know)
    asks for the NPU where the optimizer's name is in it; its options are not read.

    With `text`, that is what stands there.
    """
    try:
        fields = read_text_format(fsutil.read_text(path) if text is None else text)
    except TextFormatError as error:
        return PlatformConfigFile(asks_for_npu=False, trouble=f"{path}:{error}")
    optimizers = [found for top in fields for found in top.walk() if found.name == "custom_optimizers"]
    read = [(last_text(one.fields, "name"), f"{path}:{one.line}", _parameters(one, path)) for one in optimizers]
    asked = [asks_for_npu(*each) for each in read]
    asked += [
        part.is_string and part.name == "value" and OPTIMIZER in part.text for top in fields for part in top.walk()
    ]
    return PlatformConfigFile(any(asked), optimizers=tuple(found for name, _, found in read if name == OPTIMIZER))


def _parameters(optimizer: TextField, path: Path) -> dict[str, OptimizerParameter]:
    """The options of a custom optimizer; of an entry that stands twice the last counts, as in any map."""
    parameters = {}
    for entry in optimizer.fields:
        if entry.name != "parameter_map":
            continue
        values = [field for value in entry.fields if value.name == "value" for field in value.fields]
        last = values[-1] if values else TextField("", "", entry.line)
        text = f'"{last.text}"' if last.is_string else last.text
        parameters[last_text(entry.fields, "key")] = OptimizerParameter(last.name, text, f"{path}:{last.line}")
    return parameters

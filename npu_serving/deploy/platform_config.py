"""The text-format files a server is given: the platform config (NpuOptimizer's options) and the list of models.

What each session option means and which ones go together is not judged here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from npu_serving.errors import RequestError
from npu_serving.models.layout import check_model_name
from npu_serving.templating import render
from npu_serving.writers.text_proto import textproto_string

OptionValue = Union[bool, int, str]

# Written whatever else is asked for: some samples of the guide leave them out, and graph_run_mode's own default is
# training (guide, chapter 3).
FIXED_OPTIONS: Mapping[str, OptionValue] = {"use_off_line": True, "graph_run_mode": 0}
# The guide recommends this one of the two options for the precision; fp16 is its default for online inference.
DEFAULT_PRECISION: Mapping[str, OptionValue] = {"precision_mode_v2": "fp16"}

INT64_RANGE = range(-(2**63), 2**63)
_OPTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True)
class ServedModel:
    """One model of a models.config: its name, and the directory that holds its version directories."""

    name: str
    base_path: Path


def render_platform_config(options: Mapping[str, OptionValue]) -> str:
    """The platform config that makes a server run its models through NpuOptimizer with these session options.

    `use_off_line`, `graph_run_mode` and a precision are always there; remapping and memory optimisation are always
    off. For the latter the guide writes RewriterConfig.OFF, a name of another enumeration, which no server reads in
    text format and which means MANUAL in Python; NO_MEM_OPT is what switches it off (TensorFlow 1.15:
    rewriter_config.proto, MemoryOptimizerEnabled()). The kind of a value (bool, int, str) decides the field of the
    AttrValue it is written to.

    Raises RequestError for names and values that can't be written, and for options that don't work on an NPU.
    """
    _refuse_conflicts(options)
    precision = {} if {"precision_mode", "precision_mode_v2"} & set(options) else DEFAULT_PRECISION
    whole = {**FIXED_OPTIONS, **precision, **options}
    attributes = [(_option_name(name), _attribute(name, value)) for name, value in whole.items()]
    return render("templates/config.cfg.j2", options=attributes)


def render_models_config(models: Sequence[ServedModel]) -> str:
    """The list of models for --model_config_file. Raises RequestError for names twice and for relative paths."""
    if not models:
        raise RequestError("The list of models is empty.", cure="name at least one model")
    seen: set[str] = set()
    for model in models:
        check_model_name(model.name)
        if model.name in seen:
            raise RequestError(f"The model {model.name!r} is listed twice.", cure="give each model its own name")
        if not model.base_path.is_absolute():
            raise RequestError(
                f"The path of the model {model.name!r} must be absolute, not {str(model.base_path)!r}.",
                cause="a server looks for it in its own working directory, not beside this file",
                cure="write the whole path, beginning with /",
            )
        seen.add(model.name)
    return render("templates/models.config.j2", models=models)


def _refuse_conflicts(options: Mapping[str, OptionValue]) -> None:
    for name, value in FIXED_OPTIONS.items():
        if name in options and (type(options[name]), options[name]) != (type(value), value):
            raise RequestError(
                f"{name} can't be {options[name]!r}.",
                cause=f"a server on the NPU needs {name} {_attribute(name, value)}, which is always written",
                cure="leave it out",
            )
    if {"precision_mode", "precision_mode_v2"} <= set(options):
        raise RequestError(
            "precision_mode and precision_mode_v2 cannot be combined.",
            cause="they set the same thing",
            cure="keep precision_mode_v2, the newer of the two",
        )


def _option_name(name: str) -> str:
    if not _OPTION_NAME.match(name):
        raise RequestError(
            f"{name!r} is not a valid name of a session option.", cure="use the name that the guide gives it"
        )
    return name


def _attribute(name: str, value: OptionValue) -> str:
    """The field of tensorflow.AttrValue that holds the value."""
    if isinstance(value, bool):  # before int: a bool is one
        return f"b: {'true' if value else 'false'}"
    if isinstance(value, int):
        if value not in INT64_RANGE:
            raise RequestError(f"{name} can't be {value}: it does not fit into 64 bits.", cure="use a smaller number")
        return f"i: {value}"
    if isinstance(value, str):
        return f"s: {textproto_string(value)}"
    raise RequestError(
        f"{name} must be true or false, a whole number or a string, not {value!r}.", cure="correct its value"
    )

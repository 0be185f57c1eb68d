"""The session options of NpuOptimizer: those always written, and which go together. Any other is written as given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Union

from npu_serving.errors import RequestError
from npu_serving.writers.text_proto import attr_value

OptionValue = Union[bool, int, str]

# Written whatever else is asked for: some samples of the guide leave them out, and graph_run_mode's own default is
# training (guide, chapter 3).
FIXED_OPTIONS: Mapping[str, OptionValue] = {"use_off_line": True, "graph_run_mode": 0}
# The guide recommends this one of the two options for the precision; fp16 is its default for online inference.
DEFAULT_PRECISION: Mapping[str, OptionValue] = {"precision_mode_v2": "fp16"}

_OPTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def complete_options(options: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """The options with those that a server on the NPU always needs before them, and a precision where none is chosen.

    Raises RequestError for an invalid name, and for options that don't work on an NPU or with each other.
    """
    for name in options:
        _check_name(name)
    _refuse_conflicts(options)
    precision = {} if {"precision_mode", "precision_mode_v2"} & set(options) else DEFAULT_PRECISION
    return {**FIXED_OPTIONS, **precision, **options}


def _refuse_conflicts(options: Mapping[str, OptionValue]) -> None:
    for name, value in FIXED_OPTIONS.items():
        if name in options and (type(options[name]), options[name]) != (type(value), value):
            raise RequestError(
                f"{name} can't be {options[name]!r}.",
                cause=f"a server on the NPU needs {name} {attr_value(name, value)}, which is always written",
                cure="leave it out",
            )
    if {"precision_mode", "precision_mode_v2"} <= set(options):
        raise RequestError(
            "precision_mode and precision_mode_v2 cannot be combined.",
            cause="they set the same thing",
            cure="keep precision_mode_v2, the newer of the two",
        )


def _check_name(name: str) -> None:
    if not _OPTION_NAME.match(name):
        raise RequestError(
            f"{name!r} is not a valid name of a session option.", cure="use the name that the guide gives it"
        )

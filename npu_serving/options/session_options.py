"""The session options that a platform config is written with: the caller's, and those that a server always needs.

Which those are, and what conflicts with them, stands in the catalogue. Any other option is written as given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from npu_serving.errors import RequestError
from npu_serving.options.catalogue import OptionValue, session_options
from npu_serving.writers.text_proto import attr_value

__all__ = ["OPTION_NAME", "OptionValue", "complete_options"]

OPTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def complete_options(options: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """The options with those that a server on the NPU always needs before them, and a precision where none is chosen.

    Some samples of the guide leave them out, and graph_run_mode's own default is training (guide, chapter 3). Raises
    RequestError for an invalid name, and for options that don't work on an NPU or with each other.
    """
    for name in options:
        _check_name(name)
    known = session_options().values()
    always = {option.name: option.always for option in known if option.always is not None}
    _refuse_conflicts(options, always)
    written = {
        option.name: option.written
        for option in known
        if option.written is not None and not {option.name, *option.conflicts} & set(options)
    }
    return {**always, **written, **options}


def _refuse_conflicts(options: Mapping[str, OptionValue], always: Mapping[str, OptionValue]) -> None:
    for name, value in always.items():
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
    if not OPTION_NAME.match(name):
        raise RequestError(
            f"{name!r} is not a valid name of a session option.", cure="use the name that the guide gives it"
        )

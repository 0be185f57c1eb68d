"""What the guide says of profiling's JSON, of the option and of the variable; TF Adapter hands it on as it is."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Iterator

from npu_serving.findings import Finding
from npu_serving.options import catalogue
from npu_serving.options.asked_options import AskedOptions, forbidden
from npu_serving.options.catalogue import session_options

_OPTION, _VARIABLE = "profiling_options", "PROFILING_OPTIONS"
_LOWEST_LIMIT, _HIGHEST_LIMIT = 200, 4294967296  # MB
_LOWEST_REGISTER, _HIGHEST_REGISTER = 0x1, 0x6E
_MOST_REGISTERS = 8
_CUSTOM = "Custom:"

_Trouble = tuple[str, str]
"""What is wrong, and the cure."""


def _on_profiling(asked: AskedOptions) -> Iterator[Finding]:
    option = session_options()[_OPTION]
    if asked.is_on("profiling_mode"):
        for what, cure in _troubles(_OPTION, asked.text(_OPTION)):
            yield forbidden(option, what, cure)
    elif asked.environment.get("PROFILING_MODE") == "true":
        for what, cure in _troubles(_VARIABLE, asked.environment.get(_VARIABLE, "")):
            section = catalogue.environment_variables()[_VARIABLE].section
            yield dataclasses.replace(
                forbidden(dataclasses.replace(option, section=section), what, cure), where=_VARIABLE
            )


def _troubles(name: str, text: str) -> Iterator[_Trouble]:
    if not text:
        return
    try:
        keys = json.loads(text)
    except (ValueError, RecursionError):
        keys = None
    if not isinstance(keys, dict):
        yield f"{name} is not a JSON object", f"write it as ./inv explain {name} says"
        return
    known = catalogue.profiling_keys()
    for key, value in keys.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            cure = f"write {near[0]}" if near else "leave it out, or look it up: ./inv explain Profiling"
            yield f"{name} has the unknown key {key!r}", cure
            continue
        excluded = sorted(set(known[key].conflicts) & set(keys))
        if key == "instr_profiling_freq" and excluded:
            yield f"{key} stands beside {', '.join(excluded)}", f"leave {key} out"
        if known[key].online_inference.startswith("no"):
            yield f"{key} is not supported in online inference", f"leave {key} out"
        yield from _of_value(key, value)
    if "output" not in keys:
        yield f"{name} has no output", "add output, a directory that exists"


def _of_value(key: str, value: object) -> Iterator[_Trouble]:
    known = catalogue.profiling_keys()[key]
    low, high = known.lowest, known.highest
    if not isinstance(value, str):
        yield f"{key} is not a text", f'write it in quotes, such as "{known.example}"'
    elif key == "storage_limit":
        yield from _of_storage_limit(value)
    elif key == "aic_metrics" and value.startswith(_CUSTOM):
        yield from _of_registers(value)
    elif low is not None and high is not None:
        if not (re.fullmatch("[0-9]{1,9}", value) and low <= int(value) <= high):
            yield f"{key} is {value!r}", f"write a number from {low} to {high}"
    elif known.values and (key == "aic_metrics" or not known.form) and value not in known.values:
        yield f"{key} is {value!r}", f"write one of {', '.join(known.values)}"


def _of_storage_limit(value: str) -> Iterator[_Trouble]:
    number = re.fullmatch("([0-9]{1,12})MB", value, re.ASCII)
    if number is None or not _LOWEST_LIMIT <= int(number[1]) <= _HIGHEST_LIMIT:
        cure = f"write {_LOWEST_LIMIT}MB to {_HIGHEST_LIMIT}MB, with the unit"
        yield f"storage_limit is {value!r}", cure


def _of_registers(value: str) -> Iterator[_Trouble]:
    """Those of a custom aic_metrics (7.1.2, and 7.4.3 for the range)."""
    registers = value[len(_CUSTOM) :].split(",")
    wrong = [text for text in registers if not _LOWEST_REGISTER <= _number(text) <= _HIGHEST_REGISTER]
    cure = f"write registers from {_LOWEST_REGISTER:#x} to {_HIGHEST_REGISTER:#x}, such as {_CUSTOM}0x8,0xA"
    if wrong:
        yield f"aic_metrics has the register {wrong[0]!r}", cure
    elif len(registers) > _MOST_REGISTERS:
        yield f"aic_metrics has {len(registers)} registers", f"keep {_MOST_REGISTERS} of them at the most"


def _number(text: str) -> int:
    """A register, hexadecimal or decimal; 0 for anything else."""
    if re.fullmatch("0[xX][0-9a-fA-F]{1,8}", text, re.ASCII):
        return int(text, 16)
    return int(text) if re.fullmatch("[0-9]{1,8}", text, re.ASCII) else 0


PROFILING_RULES = (_on_profiling,)

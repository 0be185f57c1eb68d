"""The operators that TensorFlow 1.15.0 registers, and what later releases added to them: data, with its types.

Read from the registry of TensorFlow 1.15.0 with all of its contrib libraries (operator_definitions.json) and of 2.21.0
(later_operators.json). Which of them the server at hand has is another question: checking/server_operators.py.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

_DEFINED = Path(__file__).with_name("operator_definitions.json")
_LATER = Path(__file__).with_name("later_operators.json")

DefaultValue = Union[bool, int, float, str, "list[Any]", "dict[str, Any]"]
"""As JSON has it: a type by TensorFlow's name, a shape as {"shape": [sizes]}, a function as {"func": name}."""


@dataclass(frozen=True)
class OperatorArgument:
    """An input or an output of an operator: one tensor, `number` tensors of a type, or one of each type of a list.

    `data_type` is a type's name, or the attribute that has it; `number` the attribute with how many there are, "" for
    one; `type_list` the attribute with the types, "" for none.
    """

    name: str
    data_type: str
    number: str = ""
    type_list: str = ""
    is_reference: bool = False


@dataclass(frozen=True)
class OperatorAttribute:
    """An attribute of an operator; `kind` is such as int, type or list(shape). Without a default it has to be there."""

    name: str
    kind: str
    has_default: bool
    default: DefaultValue | None = None
    allowed: tuple[Any, ...] = ()


@dataclass(frozen=True)
class OperatorDefinition:
    """An operator as it is registered: OpDef of op_def.proto."""

    name: str
    inputs: tuple[OperatorArgument, ...]
    outputs: tuple[OperatorArgument, ...]
    attributes: Mapping[str, OperatorAttribute]
    is_stateful: bool = False
    is_contrib: bool = False
    """Whether it is registered only once a library of tensorflow.contrib is loaded."""


def operator_definition(name: str) -> OperatorDefinition | None:
    """The operator of that name; None for one that TensorFlow 1.15.0 does not know."""
    return _definition(name) if name in _all() else None


def later_attributes(operator: str) -> Mapping[str, OperatorAttribute]:
    """The attributes that releases after 1.15.0 gave to an operator that 1.15.0 has; 1.15.0 refuses to run them."""
    return _attributes(_later()["attributes"].get(operator, {}))


def is_later_operator(name: str) -> bool:
    """Whether a release after 1.15.0 has it, and 1.15.0 has not."""
    return name in _later()["operators"]


@functools.cache
def _definition(name: str) -> OperatorDefinition:
    entry = _all()[name]
    inputs, outputs = (tuple(_argument(*argument) for argument in entry[side]) for side in ("in", "out"))
    return OperatorDefinition(
        name,
        inputs,
        outputs,
        _attributes(entry["attr"]),
        is_stateful=entry.get("stateful", False),
        is_contrib=entry.get("contrib", False),
    )


def _argument(name: str, written: str) -> OperatorArgument:
    """`T`, `N*T`, `*types` of a list; with & for a reference to a variable."""
    text = written.rstrip("&")
    number, times, data_type = text.rpartition("*")
    is_list = bool(times) and not number
    return OperatorArgument(
        name,
        "" if is_list else data_type,
        number,
        data_type if is_list else "",
        is_reference=text != written,
    )


def _attributes(entries: Mapping[str, Any]) -> Mapping[str, OperatorAttribute]:
    found = {}
    for name, (kind, *more) in entries.items():
        extra = more[0] if more else {}
        allowed = tuple(extra.get("allowed", ()))
        found[name] = OperatorAttribute(name, kind, "default" in extra, extra.get("default"), allowed)
    return found


@functools.cache
def _all() -> dict[str, Any]:
    return json.loads(_DEFINED.read_bytes())  # type: ignore[no-any-return]


@functools.cache
def _later() -> dict[str, Any]:
    found = json.loads(_LATER.read_bytes())
    return {**found, "operators": frozenset(found["operators"])}

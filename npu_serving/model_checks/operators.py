"""The operators and attributes of a graph against those that TensorFlow 1.15.0 registers, in functions as well.

A server that does not know an operator of the graph refuses the model. Attributes it compares only when a node is to
run: the model is AVAILABLE, and each request fails (tests/support/faulty_models.py has TensorFlow 1.15.0 say so).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from npu_serving.documents import read_document
from npu_serving.findings import NOTE, PROBLEM, WARNING, Finding
from npu_serving.model_checks.examined import ExaminedGraph, named
from npu_serving.model_checks.naming import conversion_of, listed
from npu_serving.models.attribute_values import AttributeValue, Extent
from npu_serving.models.freezing import HANDLE, REFERENCE_VARIABLES
from npu_serving.models.graph_def import NodeDef
from npu_serving.models.operator_definitions import (
    OperatorAttribute,
    OperatorDefinition,
    is_later_operator,
    later_attributes,
    operator_definition,
)
from npu_serving.shown_text import in_a_line

UNKNOWN_OPERATOR, ATTRIBUTE = "unknown-operator", "attribute"
_TABLE = Path(__file__).with_name("adapter_operators.yaml")
_NOT_LOADED = "the server could not load the model (Op type not registered)"
_EXPORT_AGAIN = "export the model again with TensorFlow 1.15"


@dataclass(frozen=True)
class AdapterOperators:
    """adapter_operators.yaml."""

    operators: tuple[str, ...]


@dataclass(frozen=True)
class AttributeTrouble:
    """What is wrong with an attribute of nodes of one operator."""

    operator: str
    attribute: str
    what: str
    is_cured_by_stripping: bool = False
    is_cured_by_freezing: bool = False
    """Whether the node is a variable, of which convert-pb makes a constant."""
    keeps_it_out: bool = False
    ends_the_server: bool = False


@functools.cache
def adapter_operators() -> frozenset[str]:
    """The operators that the TF Adapter registers."""
    return frozenset(read_document(_TABLE, AdapterOperators).operators)


def check_operators(model: ExaminedGraph) -> Iterator[Finding]:
    """Operators that TensorFlow 1.15.0 does not register; a finding's `found` is the name."""
    found: dict[str, list[tuple[str, NodeDef]]] = {}
    known = model.graph.functions.keys()
    for where, nodes_of in model.all_operators():
        for operator, there in nodes_of.items():
            if operator not in known and operator_definition(operator) is None:
                found.setdefault(operator, []).extend((where, node) for node in there)
    for operator, nodes in sorted(found.items()):
        severity, effect = PROBLEM, _NOT_LOADED
        if all(where for where, _ in nodes):
            severity, effect = model.effect(functions=[where for where, _ in nodes])
        who, cure = _about(operator)
        if operator in adapter_operators() and severity == PROBLEM:
            severity, effect = WARNING, "a server without the adapter could not load the model"
        what = f"TensorFlow 1.15.0 does not know the operator {in_a_line(operator)}{who}: {effect}."
        cure = "" if severity == NOTE else cure
        yield replace(model.finding(what, cure, severity, UNKNOWN_OPERATOR, named(nodes)), found=operator)


def _about(operator: str) -> tuple[str, str]:
    if operator in adapter_operators():
        return ", which the TF Adapter registers", ""
    if is_later_operator(operator):
        return ", which a later release has", f"{_EXPORT_AGAIN}, or without this operator"
    return "", "export it without the operator, or build a server into which its operator is linked"


def check_attributes(model: ExaminedGraph) -> Iterator[Finding]:
    """Attributes that TensorFlow 1.15.0 does not know, that are missing, or have a value that it refuses."""
    judged: dict[tuple[str, int], tuple[AttributeTrouble, ...]] = {}
    found: dict[AttributeTrouble, list[tuple[str, NodeDef]]] = {}
    for where, node in model.all_nodes():
        if node.op in model.graph.functions:
            continue
        key = (node.op, id(node.attributes))  # which nodes share where they have the same
        troubles = judged.get(key)
        if troubles is None:
            definition = operator_definition(node.op)
            troubles = judged[key] = () if definition is None else tuple(_troubles(node, definition))
        for trouble in troubles:
            found.setdefault(trouble, []).append((where, node))
    for trouble, nodes in found.items():
        names = named(nodes)
        severity, effect = model.effect(
            [node.name for where, node in nodes if not where], [where for where, _ in nodes if where]
        )
        if trouble.keeps_it_out and any(not where for where, _ in nodes):
            severity, effect = PROBLEM, "the server could not load the model"
        elif trouble.ends_the_server and severity == PROBLEM:
            effect = "the first request would end the server"
        count = f"{len(names)} nodes, such as {names[0]}," if len(names) > 1 else f"The node {names[0]}"
        what = f"{count} ({in_a_line(trouble.operator)}) {trouble.what}: {effect}."
        if trouble.is_cured_by_stripping:
            what += " It has its default value, so that it can be removed."
        cure = f"{_EXPORT_AGAIN}, or without it"
        if trouble.is_cured_by_stripping or trouble.is_cured_by_freezing:
            cure = conversion_of(model.directory)
        yield model.finding(what, "" if severity == NOTE else cure, severity, ATTRIBUTE, names)


def _troubles(node: NodeDef, definition: OperatorDefinition) -> Iterator[AttributeTrouble]:
    for name in node.attributes:
        if name.startswith("_"):  # which no operator has: TensorFlow's own, for graphs on their way
            continue
        defined = definition.attributes.get(name)
        if defined is None:
            yield _unknown(node, name)
        else:
            trouble = _refused(node, defined)
            if trouble:
                yield AttributeTrouble(node.op, name, trouble)
    for name, defined in definition.attributes.items():
        if name not in node.attributes and not defined.has_default:
            yield AttributeTrouble(
                node.op,
                name,
                f"lacks the attribute {name}",
                keeps_it_out=_decides_types(definition, name),
                ends_the_server=(node.op, name) == ("Const", "value"),
            )


def _unknown(node: NodeDef, name: str) -> AttributeTrouble:
    later = later_attributes(node.op).get(name)
    value = node.value(name)
    is_default = later is not None and later.has_default and value is not None and is_value(value, later.default)
    shown = in_a_line(name)
    what = f"has the attribute {shown}, which TensorFlow 1.15.0 does not know (NodeDef mentions attr '{shown}')"
    is_variable = node.op in (*REFERENCE_VARIABLES, HANDLE)
    return AttributeTrouble(
        node.op, name, what, is_cured_by_stripping=is_default, is_cured_by_freezing=is_variable and not is_default
    )


def _decides_types(definition: OperatorDefinition, name: str) -> bool:
    """Whether the types or the number of inputs or outputs follow from the attribute: these are needed at the load."""
    return any(
        name in (argument.data_type, argument.number, argument.type_list)
        for argument in (*definition.inputs, *definition.outputs)
    )


def _refused(node: NodeDef, defined: OperatorAttribute) -> str:
    """Why TensorFlow refuses the value of an attribute that the operator has; "" where it takes it."""
    written = node.attributes[defined.name]
    if isinstance(written, Extent):
        is_tensor, wants_tensor = written.tensor is not None, defined.kind == "tensor"
        return f"has a {'' if wants_tensor else 'tensor'} attribute {defined.name}" if is_tensor != wants_tensor else ""
    value = node.value(defined.name)
    assert value is not None
    if value.kind == "placeholder":
        return ""
    if value.kind != defined.kind and not (value.kind == "list" and defined.kind.startswith("list(")):
        return f"has the attribute {defined.name} of the kind {value.kind}, and {defined.kind} is needed"
    if defined.allowed:
        given = value.value if isinstance(value.value, tuple) else (value.value,)
        texts = [each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in given]
        wrong = [str(each) for each in texts if each not in defined.allowed]
        if wrong:
            there = listed([str(each) for each in defined.allowed])
            return f"has {in_a_line(wrong[0])} as its attribute {defined.name}, which may be {there}"
    return ""


def is_value(value: AttributeValue, default: object) -> bool:
    """Whether an attribute has the value that operator_definitions.py has as a default."""
    given = value.value
    if isinstance(default, list):
        return isinstance(given, tuple) and [_plain(each) for each in given] == [_plain(each) for each in default]
    return bool(_plain(given) == _plain(default)) and isinstance(given, bool) == isinstance(default, bool)


def _plain(value: object) -> object:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value

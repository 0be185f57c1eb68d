"""The types of a graph's tensors, NODE:NUMBER, by the operators that make them, and how many a node has.

What TensorFlow 1.15.0 works out when it imports the graph (NameRangesForNode, OutputTypesForNode of
core/framework/node_def_util.cc); shapes are in tensor_shapes.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from npu_serving.errors import ModelFileError, RequestError
from npu_serving.models.graph_def import FunctionDef, GraphDef, NodeDef
from npu_serving.models.operator_definitions import (
    OperatorArgument,
    OperatorDefinition,
    is_later_operator,
    operator_definition,
)
from npu_serving.writers.shell import shell_word

MOST_TENSORS = 1 << 20
"""Of one node; a number in a damaged file may be any."""
_SHOWN = 3


@dataclass(frozen=True)
class TensorRun:
    """Tensors that follow each other among a node's outputs or inputs: all of `types`, `times` over."""

    types: tuple[str, ...]
    times: int = 1
    is_reference: bool = False

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.types) * self.times


Runs = tuple[TensorRun, ...]
Operator = Union[OperatorDefinition, FunctionDef]


class TensorTypes:
    """The types of one graph's tensors."""

    def __init__(self, graph: GraphDef) -> None:
        self._graph = graph

    def node_of(self, tensor: str) -> NodeDef:
        """The node that a tensor NODE or NODE:NUMBER comes from. RequestError with the names that are near."""
        name = split_tensor(tensor)[0]
        node = self._graph.by_name.get(name)
        if node is None:
            raise unknown_node(name, self._graph.by_name, self._graph.file)
        return node

    def type_of(self, tensor: str) -> str:
        """The type of a tensor of the graph; that of the variable where it is a reference.

        RequestError where the graph has no such tensor, or has it from an operator that TensorFlow 1.15.0 does not
        know; ModelFileError where the node lacks an attribute that says it.
        """
        node, number = self.node_of(tensor), split_tensor(tensor)[1]
        runs = output_runs(node, self._graph.functions)
        if runs is None:
            later = ", a later one than TensorFlow 1.15.0 has" if is_later_operator(node.op) else ""
            raise RequestError(
                f"The type of {tensor} is not known: {node.name} is of the operator {node.op}{later}.",
                cause="TensorFlow 1.15.0 does not have that operator",
                cure="name a different tensor, or export the model by TensorFlow 1.15",
            )
        found = _at(runs, number)
        if found is None:
            there = count_of(runs)
            outputs = "no output" if not there else f"one output, {node.name}:0" if there == 1 else f"{there} outputs"
            raise RequestError(
                f"{tensor} does not exist: {node.name} ({node.op}) has {outputs}.",
                cure=f"name {node.name}:0" if there else "name a different node",
            )
        return found


def split_tensor(tensor: str) -> tuple[str, int]:
    """NODE:NUMBER as its parts; NODE alone is its first output."""
    name, colon, number = tensor.rpartition(":")
    return (name, int(number)) if colon and number.isdecimal() else (tensor, 0)


def unknown_node(name: str, names: Mapping[str, object], file: Path) -> RequestError:
    """The error for a node that the graph of `file` lacks, with those whose names are near."""
    inside = [each for each in names if name and (each.endswith(f"/{name}") or each.startswith(f"{name}/"))]
    near = list(dict.fromkeys([*difflib.get_close_matches(name, names, _SHOWN), *inside]))[:_SHOWN]
    return RequestError(
        f"The graph has no node {name!r}.",
        cause=f"did you mean {' or '.join(near)}?" if near else "the name was mistyped, or is of another graph",
        cure=f"name {near[0]}:0" if near else f"./inv graph-nodes {shell_word(file)} --nodes shows all names",
    )


def output_runs(node: NodeDef, functions: Mapping[str, FunctionDef]) -> Runs | None:
    """The outputs of a node; None where TensorFlow 1.15.0 does not know its operator. ModelFileError."""
    operator = operator_of(node.op, functions)
    return None if operator is None else _runs(node, operator, operator.outputs)


def input_runs(node: NodeDef, functions: Mapping[str, FunctionDef]) -> Runs | None:
    """The inputs of a node, those aside that it only waits for; None as for the outputs. ModelFileError."""
    operator = operator_of(node.op, functions)
    return None if operator is None else _runs(node, operator, operator.inputs)


def operator_of(name: str, functions: Mapping[str, FunctionDef]) -> Operator | None:
    """What a node of that operator calls: an operator of TensorFlow 1.15.0, or a function of the graph."""
    return functions.get(name) or operator_definition(name)


def deciding_attributes(name: str, functions: Mapping[str, FunctionDef]) -> frozenset[str]:
    """The names that stand for types and numbers of the operator's inputs and outputs; other attributes decide none."""
    operator = operator_of(name, functions)
    if operator is None:
        return frozenset()
    if isinstance(operator, FunctionDef):
        written = (text for _, text in (*operator.inputs, *operator.outputs))
        return frozenset(part for text in written for part in text.split("*") if part)
    arguments = (*operator.inputs, *operator.outputs)
    return frozenset(
        part
        for each in arguments
        for part in (each.data_type, each.number, each.type_list)
        if part in operator.attributes
    )


def count_of(runs: Runs) -> int:
    """How many tensors they are."""
    return sum(run.count for run in runs)


def _at(runs: Runs, number: int) -> str | None:
    for run in runs:
        if number < run.count:
            return run.types[number % len(run.types)]
        number -= run.count
    return None


def _runs(node: NodeDef, operator: Operator, arguments: tuple[Any, ...]) -> Runs:
    if isinstance(operator, FunctionDef):
        return tuple(_function_run(node, written) for _, written in arguments)
    found = tuple(_run(node, operator, argument) for argument in arguments)
    if count_of(found) > MOST_TENSORS:
        raise _damaged(node, f"it would have {count_of(found)} tensors, which no node has")
    return found


def _run(node: NodeDef, operator: OperatorDefinition, argument: OperatorArgument) -> TensorRun:
    if argument.type_list:
        return TensorRun(_types(node, operator, argument.type_list), is_reference=argument.is_reference)
    times = _number(node, operator, argument.number) if argument.number else 1
    kind = argument.data_type
    if kind in operator.attributes:
        kind = _one_type(node, operator, kind)
    return TensorRun((kind,), times, argument.is_reference)


def _function_run(node: NodeDef, written: str) -> TensorRun:
    """An argument of a function, whose type is written out, or stands in an attribute of the node that calls it."""
    number, times, kind = written.rpartition("*")
    if times and not number:
        return TensorRun(_listed(node, kind))
    return TensorRun((_plain(node, kind),), _whole(node, number) if times else 1)


def _one_type(node: NodeDef, operator: OperatorDefinition, attribute: str) -> str:
    if attribute not in node.attributes and (default := operator.attributes[attribute].default) is not None:
        return str(default)
    value = node.value(attribute)
    if value is None or value.kind != "type":
        raise _lacks(node, attribute, "type")
    return str(value.value)


def _types(node: NodeDef, operator: OperatorDefinition, attribute: str) -> tuple[str, ...]:
    if attribute not in node.attributes and operator.attributes[attribute].has_default:
        default = operator.attributes[attribute].default
        return tuple(str(each) for each in default) if isinstance(default, list) else ()
    return _listed(node, attribute)


def _listed(node: NodeDef, attribute: str) -> tuple[str, ...]:
    value = node.value(attribute)
    if value is None or value.kind not in ("list", "list(type)"):
        raise _lacks(node, attribute, "list of types")
    return tuple(value.value)


def _number(node: NodeDef, operator: OperatorDefinition, attribute: str) -> int:
    default = operator.attributes[attribute].default
    if attribute not in node.attributes and isinstance(default, int):
        return default
    return _whole(node, attribute)


def _whole(node: NodeDef, attribute: str) -> int:
    value = node.value(attribute)
    if value is None or value.kind != "int" or not 0 <= value.value <= MOST_TENSORS:
        raise _lacks(node, attribute, "number")
    return int(value.value)


def _plain(node: NodeDef, kind: str) -> str:
    value = node.value(kind)
    return str(value.value) if value is not None and value.kind == "type" else kind


def _lacks(node: NodeDef, attribute: str, kind: str) -> ModelFileError:
    return _damaged(node, f"its attribute {attribute}, a {kind}, is missing or is something else")


def _damaged(node: NodeDef, why: str) -> ModelFileError:
    return ModelFileError(
        f"The node {node.name} ({node.op}) is damaged: {why}.",
        cause="the graph was not written by TensorFlow, or is of another release",
        cure="export the model again, by TensorFlow 1.15",
    )

"""Placeholders that have one value for all requests, such as is_training=false, and the branches that never run then.

A graph that was frozen with its training branch has operators there that update variables which are constants now, and
TensorFlow does not import it. With the condition fixed, Switch and Merge go, and the branch with them.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Mapping

from npu_serving.conversion.needed_nodes import input_node
from npu_serving.errors import RequestError
from npu_serving.models.attribute_values import AttributeValue, encode, type_number
from npu_serving.models.graph_def import GraphDef, NodeDef
from npu_serving.models.tensor_types import split_tensor, unknown_node
from npu_serving.wire_bytes import FIXED32, FIXED64, bytes_field, number_field, tag, varint

_SWITCHES, _MERGES = ("Switch", "RefSwitch"), ("Merge", "RefMerge")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_PLACEHOLDERS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")


def with_constants(graph: GraphDef, constants: Mapping[str, str]) -> GraphDef:
    """The graph with these placeholders as constants. RequestError for another node, or a value that it can't have."""
    if not constants:
        return graph
    changed: dict[str, NodeDef] = {}
    truths: dict[str, bool] = {}
    for name, value in constants.items():
        node = graph.by_name.get(name)
        if node is None:
            raise unknown_node(name, graph.by_name, graph.file)
        changed[name] = _constant(node, value)
        if value.lower() in _TRUTH:
            truths[f"{name}:0"] = _TRUTH[value.lower()]
    nodes = [changed.get(node.name, node) for node in graph.nodes]
    return graph.with_nodes(_without_dead(nodes, truths), graph.functions)


def _constant(node: NodeDef, value: str) -> NodeDef:
    data_type = node.value("dtype")
    if node.op not in _PLACEHOLDERS or data_type is None:
        raise RequestError(
            f"--constant {node.name}={value} can't be: {node.name} is a {node.op}, not a placeholder.",
            cure="name a placeholder; ./inv graph-nodes shows them",
        )
    name = str(data_type.value)
    content = _scalar(name, value)
    if content is None:
        raise RequestError(
            f"--constant {node.name}={value} can't be: {node.name} is of the type {name}.",
            cure=f"--constant {node.name}={'true' if name == 'bool' else '1'}",
        )
    kind = encode(AttributeValue("type", name))
    tensor = number_field(1, type_number(name)) + bytes_field(2, b"") + content
    return NodeDef(node.name, "Const", (), node.device, {"dtype": kind, "value": bytes_field(8, tensor)})


def _scalar(data_type: str, value: str) -> bytes | None:
    """The field of a TensorProto with one value; None where it is not one of that type."""
    try:
        if data_type == "bool":
            return number_field(11, _TRUTH[value.lower()])
        if data_type in ("int32", "int16", "int8", "uint8"):
            return number_field(7, int(value))
        if data_type == "int64":
            return number_field(10, int(value))
        if data_type == "float32":
            return varint(tag(5, FIXED32)) + struct.pack("<f", float(value))
        if data_type == "float64":
            return varint(tag(6, FIXED64)) + struct.pack("<d", float(value))
    except (ValueError, KeyError, OverflowError):
        return None
    return bytes_field(8, value.encode()) if data_type == "string" else None


def _without_dead(nodes: list[NodeDef], truths: Mapping[str, bool]) -> list[NodeDef]:
    """The nodes without those that never run, and with what a Switch or Merge passes on in its place."""
    branches = _Branches(nodes, dict(truths))
    branches.follow()
    return branches.living()


class _Branches:
    """Which tensors never are there, and which are another one."""

    def __init__(self, nodes: list[NodeDef], truths: dict[str, bool]) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._truths = truths
        self._takers: dict[str, list[str]] = defaultdict(list)
        for node in nodes:
            for each in node.inputs:
                self._takers[input_node(each)].append(node.name)
        self._dead: set[str] = set()
        self._dead_tensors: set[str] = set()
        self._same: dict[str, str] = {}

    def follow(self) -> None:
        """Goes from what is known forward, until nothing new follows."""
        waiting = [taker for tensor in self._truths for taker in self._takers[split_tensor(tensor)[0]]]
        while waiting:
            node = self._nodes[waiting.pop()]
            if self._learnt(node):
                waiting += self._takers[node.name]

    def living(self) -> list[NodeDef]:
        """The nodes that may run."""
        gone = self._dead | {split_tensor(tensor)[0] for tensor in self._same}
        return [self._rewritten(node) for node in self._nodes.values() if node.name not in gone]

    def _learnt(self, node: NodeDef) -> bool:
        """Looks at a node; True where something about its outputs became known."""
        if node.name in self._dead or f"{node.name}:0" in self._same or f"{node.name}:1" in self._same:
            return False
        inputs = [_full(each) for each in node.inputs if not each.startswith("^")]
        dead = [each for each in inputs if each in self._dead_tensors or split_tensor(each)[0] in self._dead]
        waits_for_dead = any(each[1:] in self._dead for each in node.inputs if each.startswith("^"))
        if node.op in _MERGES:
            left = [each for each in inputs if each not in dead]
            if left and len(left) == 1 and dead and not self._takes_second(node.name):
                self._same[f"{node.name}:0"] = left[0]
                return True
            if left:
                return False
        if dead or waits_for_dead:
            self._dead.add(node.name)
            return True
        return self._decided(node, inputs)

    def _decided(self, node: NodeDef, inputs: list[str]) -> bool:
        truth = self._truths.get(inputs[-1]) if inputs else None
        if truth is None:
            return False
        if node.op in _SWITCHES:
            if len(inputs) != 2:
                return False
            self._same[f"{node.name}:{int(truth)}"] = inputs[0]
            self._dead_tensors.add(f"{node.name}:{int(not truth)}")
            if inputs[0] in self._truths:
                self._truths[f"{node.name}:{int(truth)}"] = self._truths[inputs[0]]
            return True
        if node.op in ("Identity", "LogicalNot"):
            self._truths[f"{node.name}:0"] = truth if node.op == "Identity" else not truth
            return True
        return False

    def _takes_second(self, name: str) -> bool:
        """Whether something takes the number of the branch that a Merge took: then it stays."""
        return any(f"{name}:1" in self._nodes[taker].inputs for taker in self._takers[name])

    def _rewritten(self, node: NodeDef) -> NodeDef:
        inputs = tuple(each for written in node.inputs if (each := self._input(written)))
        if inputs == node.inputs:
            return node
        return NodeDef(node.name, node.op, inputs, node.device, node.attributes)

    def _input(self, written: str) -> str:
        """What an input is now; "" for what only had to run before, and never does."""
        if written.startswith("^"):
            name = written[1:]
            same = self._same.get(f"{name}:0") or self._same.get(f"{name}:1")
            return "" if name in self._dead else f"^{split_tensor(self._last(same))[0]}" if same else written
        full = _full(written)
        return _short(self._last(full)) if full in self._same else written

    def _last(self, tensor: str) -> str:
        seen = set()
        while tensor in self._same and tensor not in seen:
            seen.add(tensor)
            tensor = self._same[tensor]
        return tensor


def _full(written: str) -> str:
    name, number = split_tensor(written)
    return f"{name}:{number}"


def _short(tensor: str) -> str:
    return tensor[: -len(":0")] if tensor.endswith(":0") else tensor

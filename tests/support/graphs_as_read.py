"""A graph that was read, in the form that tensorflow_graphs.py gives what protobuf reads."""

from __future__ import annotations

import struct
from typing import Any

from npu_serving.models.attribute_values import AttributeBytes, AttributeValue, Extent, decode, type_number
from npu_serving.models.graph_def import GraphDef, NodeDef
from npu_serving.models.wire_format import WireFile

_FIELDS = {"string": "s", "int": "i", "float": "f", "bool": "b"}


def as_read(graph: GraphDef) -> list[Any]:
    with graph.opened() as file:
        functions = {
            name: [
                [argument for argument, _ in function.inputs],
                [argument for argument, _ in function.outputs],
                [_node(node, file) for node in function.nodes],
                dict(function.returns),
            ]
            for name, function in graph.functions.items()
        }
        return [[_node(node, file) for node in graph.nodes], functions]


def _node(node: NodeDef, file: WireFile) -> list[Any]:
    attributes = {name: _attribute(value, file) for name, value in node.attributes.items()}
    return [node.name, node.op, list(node.inputs), node.device, attributes]


def _attribute(value: AttributeBytes, file: WireFile) -> list[Any] | None:
    if isinstance(value, Extent):
        whole = decode(file.read(value.start, value.end))
        if value.tensor is not None:  # what was noted while the contents were stepped over
            assert (value.tensor.data_type, value.tensor.shape) == (whole.value.data_type, whole.value.shape)
            content = value.tensor.content
            held = file.read(content.start, content.end) if isinstance(content, Extent) else content
            assert held == whole.value.content
        return _value(whole)
    return _value(decode(value))


def _value(value: AttributeValue) -> list[Any] | None:
    if value.kind == "none":
        return None
    if value.kind == "list":
        return ["list", {}]
    if value.kind.startswith("list("):
        kind = value.kind[len("list(") : -1]
        return ["list", {_FIELDS.get(kind, kind): [_plain(kind, each) for each in value.value]}]
    return [_FIELDS.get(value.kind, value.kind), _plain(value.kind, value.value)]


def _plain(kind: str, value: Any) -> Any:
    if kind == "string":
        return value.hex()
    if kind == "float":
        return struct.pack("<f", value).hex()
    if kind == "type":
        return type_number(value)
    if kind == "shape":
        return None if value is None else list(value)
    if kind == "tensor":
        shape = None if value.shape is None else list(value.shape)
        return [type_number(value.data_type), shape, value.content.hex()]
    if kind == "func":
        return [value.name, {name: _value(each) for name, each in value.attributes.items()}]
    return value

"""The texts that a graph has as constants: names of variables to restore, paths of files."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from npu_serving.models.attribute_values import Extent
from npu_serving.models.graph_def import FunctionDef, GraphDef, NodeDef, node_of
from npu_serving.wire_bytes import BYTES, MalformedMessageError, fields, tag

_LARGEST_BYTES = 64 << 20  # of a list of texts; larger ones are not looked into
_PASSED_ON = ("Identity", "StopGradient", "PlaceholderWithDefault", "EnsureShape")
_MOST_STEPS = 100


def constant_texts(graph: GraphDef, node: NodeDef) -> list[bytes] | None:
    """The texts of a Const, row by row; None for what is not a constant of texts."""
    value = node.attributes.get("value")
    if node.op != "Const" or value is None:
        return None
    if isinstance(value, Extent):
        if value.tensor is None or value.tensor.data_type != "string" or value.end - value.start > _LARGEST_BYTES:
            return None
        with graph.opened() as file:
            value = file.read(value.start, value.end)
    header = node.value("value")
    if header is not None and (header.kind != "tensor" or header.value.data_type != "string"):
        return None
    try:
        return [
            bytes(text)
            for key, _, tensor in fields(memoryview(value))
            if key == tag(8, BYTES)
            for of_tensor, _, text in fields(tensor)
            if of_tensor == tag(8, BYTES)
        ]
    except MalformedMessageError:
        return None


def constant_source(tensor: str, among: Mapping[str, NodeDef], given: Collection[str] = ()) -> NodeDef | None:
    """The constant that a tensor has its value from, through nodes that only pass it on.

    None for what is computed, and for what comes from one of the nodes `given`, whose values the loader sets.
    """
    for _ in range(_MOST_STEPS):
        node = among.get(node_of(tensor))
        if node is None or node.name in given:
            return None
        if node.op == "Const":
            return node
        if node.op not in _PASSED_ON or not node.inputs:
            return None
        tensor = node.inputs[0]
    return None


def nodes_within(function: FunctionDef) -> dict[str, NodeDef]:
    """The nodes of a function by their names."""
    return {node.name: node for node in function.nodes}

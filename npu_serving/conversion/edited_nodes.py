"""Changes to the nodes of a graph on its way to a server: device placements, attributes of later releases, shapes.

A node that is not changed stays the object that was read, so that its bytes are copied from the file.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace

from npu_serving.errors import ModelFileError
from npu_serving.models.attribute_values import AttributeBytes, AttributeValue, Shape, decode, encode
from npu_serving.models.graph_def import FunctionDef, NodeDef
from npu_serving.models.operator_definitions import DefaultValue, later_attributes, operator_definition

_NOTED_SHAPES = "_output_shapes"


@dataclass
class Edits:
    """What is done to each node, and, once it was done, how often."""

    keep_devices: bool = False
    drop_noted_shapes: bool = False
    """Whether the shapes that an export noted go: those of inputs were changed, and the importer compares."""
    devices: Counter[str] = field(default_factory=Counter)
    later: Counter[str] = field(default_factory=Counter)
    _strippable: dict[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)

    def edited(self, node: NodeDef, function: str = "") -> NodeDef:
        """The node as it is written: itself where nothing changes.

        ModelFileError where it has an attribute that TensorFlow 1.15.0 does not know, whose value is not the
        default, which is what 1.15.0 does anyway.
        """
        gone = self._later_attributes(node, function)
        if self.drop_noted_shapes and _NOTED_SHAPES in node.attributes:
            gone = (*gone, _NOTED_SHAPES)
        device = node.device if self.keep_devices else ""
        if not gone and device == node.device:
            return node
        if device != node.device:
            self.devices[node.device] += 1
        attributes = {name: value for name, value in node.attributes.items() if name not in gone} if gone else None
        return NodeDef(node.name, node.op, node.inputs, device, node.attributes if attributes is None else attributes)

    def edited_function(self, function: FunctionDef) -> FunctionDef:
        """The function with its nodes edited; itself where nothing changes."""
        nodes = [self.edited(node, function.name) for node in function.nodes]
        if all(new is old for new, old in zip(nodes, function.nodes)):
            return function
        return replace(function, nodes=nodes)

    def _later_attributes(self, node: NodeDef, function: str) -> tuple[str, ...]:
        """The attributes to leave out. Nodes that were read share them where they are the same, so a look is enough."""
        key = (node.op, id(node.attributes))
        found = self._strippable.get(key)
        if found is None:
            found = self._strippable[key] = _later_at_default(node, function)
        for name in found:
            self.later[f"{node.op}.{name}"] += 1
        return found


def with_shape(node: NodeDef, shape: Shape) -> NodeDef:
    """A placeholder of that shape."""
    attributes = {**node.attributes, "shape": encode(AttributeValue("shape", shape))}
    attributes.pop(_NOTED_SHAPES, None)
    return NodeDef(node.name, node.op, node.inputs, node.device, attributes)


def placeholder(name: str, data_type: str, shape: Shape) -> NodeDef:
    """A placeholder, in place of a node that clients give the value of."""
    attributes = {"dtype": encode(AttributeValue("type", data_type)), "shape": encode(AttributeValue("shape", shape))}
    return NodeDef(name, "Placeholder", (), "", attributes)


def _later_at_default(node: NodeDef, function: str) -> tuple[str, ...]:
    definition = operator_definition(node.op)
    if definition is None:
        return ()
    unknown = [name for name in node.attributes if name not in definition.attributes and not name.startswith("_")]
    if not unknown:
        return ()
    later = later_attributes(node.op)
    for name in unknown:
        value = node.attributes[name]
        if name in later and later[name].has_default and _is_default(value, later[name].kind, later[name].default):
            continue
        where = f"The node {node.name}{f' in the function {function}' if function else ''} ({node.op})"
        raise ModelFileError(
            f"{where} has the attribute {name}{_shown(value)}, which TensorFlow 1.15.0 does not know.",
            cause="a later release of TensorFlow wrote it, and it is set to what 1.15.0 does not do"
            if name in later
            else "the graph was changed by hand, or the operator is one of another library",
            cure="export the model by TensorFlow 1.15"
            if name not in later
            else f"build the model with {name} at its default, {json.dumps(later[name].default)}, and export it again",
        )
    return tuple(unknown)


def _is_default(value: AttributeBytes, kind: str, default: DefaultValue | None) -> bool:
    if not isinstance(value, bytes):
        return False
    found = decode(value)
    if found.kind == "list":
        return default == []
    if found.kind == "none":
        return not default
    return found.kind == kind and _as_json(found.kind, found.value) == default


def _as_json(kind: str, value: object) -> object:
    """A value as the table of operators has it."""
    if isinstance(value, tuple) and kind.startswith("list("):
        return [_as_json(kind[5:-1], each) for each in value]
    if kind == "shape":
        return {"shape": list(value) if isinstance(value, tuple) else None}
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _shown(value: AttributeBytes) -> str:
    if not isinstance(value, bytes):
        return ""
    found = decode(value)
    return "" if found.kind in ("tensor", "func", "none") else f" = {json.dumps(_as_json(found.kind, found.value))}"

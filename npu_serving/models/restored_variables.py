"""Which value of a checkpoint each variable of a graph is restored from: what its restore operators say.

A variable's name in the checkpoint need not be its node's: a Saver may rename it, and the parts of a partitioned one
are slices of one name there. TensorFlow 2 restores within a function.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from npu_serving.models.attribute_values import Extent, tensor_header
from npu_serving.models.checkpoint_slices import VariableSlice, parsed_specification
from npu_serving.models.graph_def import GraphDef, NodeDef
from npu_serving.models.wire_format import WireFile
from npu_serving.wire_bytes import BYTES, fields, lenient_text_of, tag

_RESTORE = "RestoreV2"
_RESTORE_INPUTS = 3  # the checkpoint's prefix, the names, the slices
_ASSIGNS = ("Assign", "AssignVariableOp")
_PASSED = ("Identity", "Reshape", "Cast", "NoOp", "RefIdentity", "ReadVariableOp")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_DEEPEST = 20  # functions within functions
_MOST_CALLS, _MOST_PASSED = 10_000, 1000  # more than any model has
_TENSOR, _TEXT = tag(8, BYTES), tag(8, BYTES)


@dataclass(frozen=True)
class RestoredValue:
    """A value of a checkpoint: the variable's name there, and the part of it; None for the whole."""

    name: str
    part: VariableSlice | None = None


def restored_variables(graph: GraphDef) -> dict[str, RestoredValue]:
    """What each variable is restored from, by the names of its nodes; those that nothing restores are not there."""
    found: dict[str, RestoredValue] = {}
    with graph.opened() as file:
        reading = _Reading(graph, file)
        for variable, value in reading.assigned(graph.by_name, {}, 0):
            found.setdefault(variable, value)
    return found


class _Reading:
    def __init__(self, graph: GraphDef, file: WireFile) -> None:
        self._functions, self._file = graph.functions, file
        self._texts: dict[int, list[str]] = {}
        self._calls = 0

    def assigned(
        self, nodes: Mapping[str, NodeDef], arguments: Mapping[str, str], depth: int
    ) -> Iterator[tuple[str, RestoredValue]]:
        """The variables that these nodes restore; `arguments` are variables, where the nodes are a function's."""
        for node in nodes.values():
            if node.op in _ASSIGNS and len(node.inputs) > 1:
                variable = _origin(node.inputs[0], nodes)[0]
                restore, number = _origin(node.inputs[1], nodes)
                variable = arguments.get(variable, variable) if depth else variable
                source = nodes.get(restore)
                if source is not None and source.op == _RESTORE:
                    yield from ((variable, value) for value in self._value(source, number, nodes))
            elif node.op in _CALLS and depth < _DEEPEST and self._calls < _MOST_CALLS:
                self._calls += 1
                call = node.value("f")
                function = self._functions.get(call.value.name) if call is not None and call.kind == "func" else None
                if function is None or not _may_restore(function.nodes):
                    continue
                given = [_origin(each, nodes)[0] for each in node.inputs if not each.startswith("^")]
                inner = {
                    name: arguments.get(each, each) if depth else each
                    for (name, _), each in zip(function.inputs, given)
                }
                yield from self.assigned({each.name: each for each in function.nodes}, inner, depth + 1)

    def _value(self, restore: NodeDef, number: int, nodes: Mapping[str, NodeDef]) -> Iterator[RestoredValue]:
        """What that output of a restore operator is, where its names are constants; nothing where it lacks inputs."""
        if len(restore.inputs) < _RESTORE_INPUTS:
            return
        names, parts = (self._constant(name, nodes) for name in restore.inputs[1:_RESTORE_INPUTS])
        if number >= len(names):
            return
        specification = parsed_specification(parts[number]) if number < len(parts) and parts[number] else None
        yield RestoredValue(names[number], specification[1] if specification else None)

    def _constant(self, name: str, nodes: Mapping[str, NodeDef]) -> list[str]:
        node = nodes.get(_origin(name, nodes)[0])
        value = node.attributes.get("value") if node is not None and node.op == "Const" else None
        if value is None:
            return []
        if id(value) not in self._texts:
            header = tensor_header(value)
            data = self._file.read(value.start, value.end) if isinstance(value, Extent) else value
            texts = [
                lenient_text_of(content)
                for key, _, tensor in fields(memoryview(data))
                if key == _TENSOR
                for inner, _, content in fields(tensor)
                if inner == _TEXT
            ]
            missing = (header.elements if header is not None else 0) - len(texts)
            self._texts[id(value)] = texts + texts[-1:] * min(max(missing, 0), 1 << 20)
        return self._texts[id(value)]


def _may_restore(nodes: list[NodeDef]) -> bool:
    return any(node.op == _RESTORE or node.op in _CALLS for node in nodes)


def _origin(written: str, nodes: Mapping[str, NodeDef]) -> tuple[str, int]:
    """The node that an input comes from, and the number of the output, past operators that hand a value on."""
    for _ in range(_MOST_PASSED):
        name, _, output = written.lstrip("^").partition(":")
        number = output.rpartition(":")[2]
        node = nodes.get(name)
        if node is None or node.op not in _PASSED or not node.inputs:
            return name, int(number) if number.isdecimal() else 0
        written = node.inputs[0]
    return written, 0

"""Large constants made variables, whose values stand in a checkpoint: the way out where a graph has a gigabyte.

Each gets the nodes that tf.train.Saver adds, so that a loader restores it; its name is still that of its value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from npu_serving.conversion.graph_pieces import GraphPieces
from npu_serving.models.attribute_values import (
    ELEMENT_BYTES,
    AttributeValue,
    ElsewhereExtent,
    Extent,
    TensorHeader,
    encode,
    encoded_shape,
    tensor_header,
    type_number,
)
from npu_serving.models.checkpoint_writer import NewVariable
from npu_serving.models.graph_def import NodeDef
from npu_serving.models.pieces import Piece, piece_chunks, pieces_size
from npu_serving.models.saved_model_writer import SaverNames
from npu_serving.wire_bytes import bytes_field, number_field

SMALLEST_VARIABLE = 64 << 10
"""Bytes. What is smaller may be an axis or a shape, which has to be a constant; it also hardly counts."""
_SUFFIX, _SAVER = "/variable", "save_weights"


@dataclass(frozen=True)
class Weights:
    """The constants that became variables, by the variables' names, and the nodes that restore them."""

    constants: Mapping[str, NodeDef]
    saver: SaverNames

    def variables(self, parts: GraphPieces) -> Iterator[NewVariable]:
        """What the checkpoint is to hold; the values are read when they are written."""
        for name, node in sorted(self.constants.items()):
            header = tensor_header(node.attributes["value"])
            assert header is not None and header.shape is not None
            yield NewVariable(name, header.data_type, header.shape, piece_chunks(_content(node, header, parts)))

    @property
    def size_bytes(self) -> int:
        """What the values take."""
        headers = (tensor_header(node.attributes["value"]) for node in self.constants.values())
        return sum(header.size_bytes for header in headers if header is not None)


def with_variables(nodes: Mapping[str, NodeDef]) -> tuple[dict[str, NodeDef], Weights | None]:
    """The nodes with their large constants as variables; those as they are, and None, where there is none."""
    out = dict(nodes)
    constants: dict[str, NodeDef] = {}
    for node in nodes.values():
        header = _movable(node)
        if header is None:
            continue
        variable = _free(f"{node.name}{_SUFFIX}", out)
        kind = encode(AttributeValue("type", header.data_type))
        shape = encode(AttributeValue("shape", header.shape))
        out[variable] = NodeDef(variable, "VariableV2", (), node.device, {"dtype": kind, "shape": shape})
        out[node.name] = NodeDef(node.name, "Identity", (variable, *node.inputs), node.device, {"T": kind})
        constants[variable] = node
    if not constants:
        return out, None
    prefix = _free(_SAVER, {name.partition("/")[0]: True for name in out})
    for node in _saver_nodes(prefix, constants):
        out[node.name] = node
    saver = SaverNames(f"{prefix}/Const:0", f"{prefix}/control_dependency:0", f"{prefix}/restore_all")
    return out, Weights(constants, saver)


def _movable(node: NodeDef) -> TensorHeader | None:
    """The header of a constant whose values stand in one place, and that is worth it."""
    if node.op != "Const" or "value" not in node.attributes:
        return None
    value = node.attributes["value"]
    header = tensor_header(value)
    if header is None or header.shape is None or header.data_type not in ELEMENT_BYTES:
        return None
    if header.size_bytes < SMALLEST_VARIABLE:
        return None
    if isinstance(value, ElsewhereExtent):
        size = pieces_size(value.pieces[2:])
    else:
        size = sum(end - start for start, end in _places(header))
    return header if size == header.size_bytes else None


def _places(header: TensorHeader) -> Sequence[tuple[int, int]]:
    content = header.content
    return [(content.start, content.end)] if isinstance(content, Extent) else []


def _content(node: NodeDef, header: TensorHeader, parts: GraphPieces) -> Sequence[Piece]:
    """The bytes of a constant's elements; of one from a checkpoint they follow its head and that of its tensor."""
    value = node.attributes["value"]
    if isinstance(value, ElsewhereExtent):
        return value.pieces[2:]
    return [parts.at(start, end) for start, end in _places(header)]


def _saver_nodes(prefix: str, constants: Mapping[str, NodeDef]) -> Iterator[NodeDef]:
    """As tf.train.Saver makes them for one file: format V2."""
    variables = sorted(constants)
    kinds = []
    for variable in variables:
        header = tensor_header(constants[variable].attributes["value"])
        assert header is not None
        kinds.append(header.data_type)
    dtypes = {"dtypes": encode(AttributeValue("list(type)", tuple(kinds)))}
    texts = {"tensor_names": variables, "shape_and_slices": [""] * len(variables)}
    yield _text_constant(f"{prefix}/Const", ["model"], scalar=True)
    for word, values in texts.items():
        yield _text_constant(f"{prefix}/{word}", values)
    arguments = (f"{prefix}/Const", *(f"{prefix}/{word}" for word in texts))
    yield NodeDef(f"{prefix}/SaveV2", "SaveV2", (*arguments, *variables), "", dtypes)
    text = {"T": encode(AttributeValue("type", "string"))}
    control = (f"{prefix}/Const", f"^{prefix}/SaveV2")
    yield NodeDef(f"{prefix}/control_dependency", "Identity", control, "", text)
    yield NodeDef(f"{prefix}/RestoreV2", "RestoreV2", arguments, "", dtypes)
    assigned = []
    for number, (variable, kind) in enumerate(zip(variables, kinds)):
        restored = f"{prefix}/RestoreV2" + (f":{number}" if number else "")
        attribute = {"T": encode(AttributeValue("type", kind))}
        assigned.append(f"{prefix}/Assign_{number}")
        yield NodeDef(assigned[-1], "Assign", (variable, restored), "", attribute)
    yield NodeDef(f"{prefix}/restore_all", "NoOp", tuple(f"^{name}" for name in assigned))


def _text_constant(name: str, values: Sequence[str], *, scalar: bool = False) -> NodeDef:
    shape = () if scalar else (len(values),)
    tensor = number_field(1, type_number("string")) + bytes_field(2, encoded_shape(shape))
    tensor += b"".join(bytes_field(8, value.encode()) for value in values)
    attributes = {"dtype": encode(AttributeValue("type", "string")), "value": bytes_field(8, tensor)}
    return NodeDef(name, "Const", (), "", attributes)


def _free(name: str, taken: Iterable[str]) -> str:
    """The name, with a number where it is taken."""
    names = taken if isinstance(taken, Mapping) else set(taken)
    number, found = 0, name
    while found in names:
        number += 1
        found = f"{name}_{number}"
    return found

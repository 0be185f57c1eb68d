"""Variables of a graph made constants, with the values of a checkpoint: what TensorFlow's freeze_graph does.

Reads of variables, and functions that get a variable's handle, become reads of the constant; large values stay in the
checkpoint's files until the graph is written. What would change a variable can't be frozen, and is named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from npu_serving.errors import ModelFileError
from npu_serving.models.attribute_values import (
    AttributeBytes,
    AttributeValue,
    ElsewhereExtent,
    TensorHeader,
    encode,
    encoded_shape,
    type_number,
)
from npu_serving.models.checkpoint import Checkpoint, CheckpointVariable
from npu_serving.models.checkpoint_slices import VariableSlice
from npu_serving.models.graph_def import LARGEST_KEPT, FunctionDef, GraphDef, NodeDef
from npu_serving.models.handle_values import HandleRewriting, HeldValue, Library
from npu_serving.models.pieces import Piece, piece_chunks, pieces_size
from npu_serving.models.restored_variables import RestoredValue, restored_variables
from npu_serving.wire_bytes import BYTES, bytes_field, number_field, tag, varint

REFERENCE_VARIABLES = ("VariableV2", "Variable")
HANDLE = "VarHandleOp"
_COLOCATION, _COLOCATED = "_class", b"loc:@"
_SHOWN = 5


def variables_of(graph: GraphDef, names: Iterable[str]) -> list[NodeDef]:
    """Those of the named nodes that are variables, in the order of the graph."""
    wanted = set(names)
    return [node for node in graph.nodes if node.name in wanted and node.op in (*REFERENCE_VARIABLES, HANDLE)]


def frozen_graph(
    graph: GraphDef, outputs: Iterable[str], checkpoint: Checkpoint, *, fed: Collection[str] = ()
) -> GraphDef:
    """The nodes that the outputs need, with constants in place of variables; the graph itself where there are none.

    `outputs` and `fed` are names of nodes; what only computes a fed one is left out. Whether a node that is needed
    comes from a checkpoint is what the graph's restore operators say, or else its own name. ModelFileError for a
    variable that the checkpoint lacks or has in another form, and for nodes that would change one.
    """
    needed = _needed(graph.by_name, outputs, fed)
    variables = variables_of(graph, needed)
    if not variables:
        return graph
    sources = restored_variables(graph)
    constants = {
        node.name: _constant(node, checkpoint, sources.get(node.name) or _by_its_name(node, checkpoint))
        for node in variables
    }
    library = Library(graph.functions)
    rewriting = HandleRewriting(library, [node for node in graph.nodes if node.name in needed])
    for node in variables:
        rewriting.replace(node, constants[node.name].node, constants[node.name].held)
    nodes = rewriting.rewritten()
    _refuse_changes(library.changes)
    by_name = {node.name: node for node in nodes}
    left = _needed(by_name, (name for name in outputs if name in by_name), fed)
    kept = [_without_lost_places(node, left) for node in nodes if node.name in left]
    return graph.with_nodes(kept, _called(kept, library.functions))


@dataclass(frozen=True)
class _Constant:
    node: NodeDef
    held: HeldValue


def tensor_message(dtype: str, shape: tuple[int, ...], pieces: Iterable[Piece]) -> list[Piece]:
    """TensorProto with these bytes as its contents: little-endian, row by row."""
    content = list(pieces)
    size = pieces_size(content)
    head = number_field(1, type_number(dtype)) + bytes_field(2, encoded_shape(shape))
    return [head + varint(tag(4, BYTES)) + varint(size), *content] if size else [head]


def constant_node(name: str, dtype: str, shape: tuple[int, ...], pieces: Iterable[Piece]) -> NodeDef:
    """A Const with these bytes as its contents; small ones are read, so that what they say can be looked at."""
    tensor = tensor_message(dtype, shape, pieces)
    value: list[Piece] = [varint(tag(8, BYTES)) + varint(pieces_size(tensor)), *tensor]
    size = pieces_size(value)
    attribute: AttributeBytes
    if size <= LARGEST_KEPT:
        attribute = b"".join(piece_chunks(value))
    else:
        attribute = ElsewhereExtent(0, size, TensorHeader(dtype, shape), tuple(value))
    return NodeDef(name, "Const", (), "", {"dtype": encode(AttributeValue("type", dtype)), "value": attribute})


def _constant(node: NodeDef, checkpoint: Checkpoint, source: RestoredValue) -> _Constant:
    variable = checkpoint.variables.get(source.name)
    if variable is None:
        raise ModelFileError(
            f"The variable {node.name} is not in the checkpoint {checkpoint.prefix}"
            + (f", where it would be named {source.name}." if source.name != node.name else "."),
            cause="the checkpoint is of another model, or of before the variable was added",
            cure=f"name the checkpoint that belongs to the graph; this one has {_shown(sorted(checkpoint.variables))}",
        )
    shape = variable.shape
    if source.part is not None:
        shape = tuple(length for _, length in source.part.resolved(variable.shape))
    _check_form(node, checkpoint, variable, shape)
    checkpoint.check(source.name)  # what is copied from the files later has been seen whole
    held = HeldValue(variable.dtype, shape)
    if variable.dtype == "string":
        texts = checkpoint.read(source.name, source.part)
        tensor = number_field(1, type_number("string")) + bytes_field(2, encoded_shape(shape))
        tensor += b"".join(bytes_field(8, text) for text in texts)
        attributes = {"dtype": encode(AttributeValue("type", "string")), "value": bytes_field(8, tensor)}
        return _Constant(NodeDef(node.name, "Const", (), "", attributes), held)
    pieces = _pieces(checkpoint, source.name, source.part)
    return _Constant(constant_node(node.name, variable.dtype, shape, pieces), held)


def _pieces(checkpoint: Checkpoint, name: str, part: VariableSlice | None) -> list[Piece]:
    """The bytes of a value: where they are, or, where they are in many places, themselves."""
    places = checkpoint.extents_of(name, part)
    if places is not None:
        return list(places)
    values = checkpoint.read(name, part)
    assert not isinstance(values, list)
    return [values.tobytes()]


def _check_form(node: NodeDef, checkpoint: Checkpoint, variable: CheckpointVariable, shape: tuple[int, ...]) -> None:
    dtype, wanted = node.value("dtype"), node.value("shape")
    sizes = wanted.value if wanted is not None and wanted.kind == "shape" else None
    fits = sizes is None or (len(sizes) == len(shape) and all(a in (b, -1) for a, b in zip(sizes, shape)))
    if node.op == "Variable" and sizes == ():  # an operator of before 2016, for which that is an unknown shape
        fits = True
    if not fits or (dtype is not None and dtype.value != variable.dtype):
        raise ModelFileError(
            f"The variable {node.name} is {dtype.value if dtype else '?'} {list(sizes or ())} in the graph, and "
            f"{variable.dtype} {list(shape)} in the checkpoint {checkpoint.prefix}.",
            cause="the checkpoint is of another version of the model",
            cure="name the checkpoint that was saved with this graph",
        )


def _by_its_name(node: NodeDef, checkpoint: Checkpoint) -> RestoredValue:
    """What a variable is taken from that no operator restores: what has its name, or the one it is shared by."""
    shared = node.value("shared_name")
    name = shared.value.decode("utf-8", "replace") if shared is not None and shared.kind == "string" else ""
    by_object = f"{node.name}/.ATTRIBUTES/VARIABLE_VALUE"
    return RestoredValue(
        next((each for each in (node.name, name, by_object) if each in checkpoint.variables), node.name)
    )


def _needed(nodes: Mapping[str, NodeDef], outputs: Iterable[str], fed: Collection[str]) -> set[str]:
    waiting = list(outputs)
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in found or name not in nodes:
            continue
        found.add(name)
        if name not in fed:
            waiting += [each.lstrip("^").partition(":")[0] for each in nodes[name].inputs]
    return found


def _called(nodes: Iterable[NodeDef], functions: Mapping[str, FunctionDef]) -> dict[str, FunctionDef]:
    """The functions that these nodes call, and those that these call."""
    found: set[str] = set()
    waiting = list(nodes) if functions else []
    while waiting:
        node = waiting.pop()
        for name in {node.op, *node.calls} & functions.keys() - found:
            found.add(name)
            waiting += functions[name].nodes
    return {name: function for name, function in functions.items() if name in found}


def _refuse_changes(changes: Mapping[str, str]) -> None:
    """`changes` has the nodes, and what each would do, that can't be done to a constant."""
    if not changes:
        return
    raise ModelFileError(
        f"The variables can't become constants: {_shown([f'{name} ({op})' for name, op in changes.items()])} "
        f"{'needs' if len(changes) == 1 else 'need'} a variable, and the outputs depend on it.",
        cause="the graph was made for training, such as batch normalisation that updates its averages",
        cure="fix the placeholder that chooses training (--constant is_training=false), or name outputs that don't "
        "depend on these nodes",
    )


def _without_lost_places(node: NodeDef, kept: Collection[str]) -> NodeDef:
    """The node without the wish to be beside a node that is gone, which TensorFlow's importer refuses."""
    found = node.value(_COLOCATION) if _COLOCATION in node.attributes else None
    if found is None or found.kind != "list(string)":
        return node
    places = tuple(
        each
        for each in found.value
        if not each.startswith(_COLOCATED) or each[len(_COLOCATED) :].decode("utf-8", "replace") in kept
    )
    if places == found.value:
        return node
    attributes = {name: value for name, value in node.attributes.items() if name != _COLOCATION}
    if places:
        attributes[_COLOCATION] = encode(AttributeValue("list(string)", places))
    return NodeDef(node.name, node.op, node.inputs, node.device, attributes)


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "no variable") + more

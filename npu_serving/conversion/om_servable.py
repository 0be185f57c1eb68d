"""The servable that loads an om: a SavedModel of one operator, LoadAndExecuteOm, with the om as a variable of it.

The operator is TF Adapter's (ops/npu_ops.cc): `inputs`, then `model_data`, a string with the whole om; in CANN 6.0 it
was the path of a file, `om_path`, which a servable that is copied from place to place can't have. Its kernel reads
model_data at the first request. As a variable the om stands in variables/, where there is no limit of 2 GiB, and is
read once, when the servable is loaded; that is what the guide's saved_model2om.py writes as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import ModelFileError
from npu_serving.models.attribute_values import AttributeValue, encode
from npu_serving.models.checkpoint_writer import NewVariable, write_checkpoint
from npu_serving.models.om_file import OmFile, OmTensor
from npu_serving.models.pieces import Piece
from npu_serving.models.saved_model import ModelSignature, TensorSpec
from npu_serving.models.saved_model_writer import (
    SERVE_TAG,
    VARIABLES,
    SaverNames,
    ServableGraph,
    node_pieces,
    write_saved_model,
)
from npu_serving.wire_bytes import bytes_field, number_field

OPERATOR = "LoadAndExecuteOm"

OM_NODE, OM_VARIABLE = "load_and_execute_om", "om"
_PREFIX = "save"
_STRING = 7  # DT_STRING of types.proto
FITTING, GIVEN_BACK = "as_the_om_was_compiled", "given_back"


@dataclass(frozen=True)
class OmInput:
    """An input of the servable: its name in the signature, its node, its type, and the shape that the om has for it.

    -1 is a size that a gear gives, None a shape that is not known. One that `is_used` by no output is not an input of
    the om; a client sends it all the same, as before.
    """

    name: str
    node: str
    data_type: str
    shape: tuple[int, ...] | None
    is_used: bool = True


@dataclass(frozen=True)
class OmOutput:
    """An output of the servable: its name in the signature, the tensor of the graph that it was, and its type.

    `of_input` is the node of the input that it is, where a model gives one back unchanged: the om has no part in it.
    """

    name: str
    tensor: str
    data_type: str
    shape: tuple[int, ...] | None = None
    of_input: str = ""


@dataclass(frozen=True)
class OmSignature:
    """What the servable takes and gives."""

    inputs: tuple[OmInput, ...]
    outputs: tuple[OmOutput, ...]
    method_name: str
    name: str
    tags: tuple[str, ...] = (SERVE_TAG,)

    @property
    def fed(self) -> tuple[OmInput, ...]:
        """The inputs of the om, in their order."""
        return tuple(each for each in self.inputs if each.is_used)

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors that the om gives, in their order, each once."""
        return tuple(dict.fromkeys(each.tensor for each in self.outputs if not each.of_input))


def fitted_to(om: OmFile, signature: OmSignature) -> tuple[OmSignature, tuple[str, ...]]:
    """The signature with its inputs in the order that the om has them in, and what could not be made sure of.

    ModelFileError where the om takes or gives other tensors, or other types: a server would fail at each request,
    or answer nonsense.
    """
    if om.inputs is None or om.outputs is None:
        return signature, (f"{om.path.name} does not show what it takes and gives: it was not compared",)
    fed, doubts = list(signature.fed), []
    if len(om.inputs) != len(fed):
        raise _misfit(om, f"takes {_names(om.inputs)}", f"the model has the inputs {', '.join(e.node for e in fed)}")
    if len(om.outputs) != len(signature.tensors):
        raise _misfit(om, f"gives {len(om.outputs)} tensors", f"the model gives {', '.join(signature.tensors)}")
    by_node = {each.node: each for each in fed}
    if set(by_node) == {each.name for each in om.inputs}:
        fed = [by_node[each.name] for each in om.inputs]
    else:
        doubts.append(
            f"the inputs of the om are called {_names(om.inputs)}: that they are {', '.join(by_node)} in this order "
            "was not made sure of"
        )
    for own, there in zip(fed, om.inputs):
        _check_type(om, f"the input {own.node}", own.data_type, there)
    types = {each.tensor: each.data_type for each in signature.outputs}
    for tensor, there in zip(signature.tensors, om.outputs):
        _check_type(om, f"the output {tensor}", types[tensor], there)
    unused = [each for each in signature.inputs if not each.is_used]
    return OmSignature(
        (*fed, *unused), signature.outputs, signature.method_name, signature.name, signature.tags
    ), tuple(doubts)


def write_om_servable(directory: Path, om: OmFile, signature: OmSignature) -> None:
    """Writes the SavedModel into a version's directory: the om as variables/, then saved_model.pb."""
    fsutil.make_directory(directory / VARIABLES)
    with fsutil.explained(om.path, doing="read"):
        content = om.path.read_bytes()
    write_checkpoint(directory / VARIABLES / VARIABLES, [NewVariable(OM_VARIABLE, "string", (), [content])])
    write_saved_model(directory, [om_graph(signature)])


def om_graph(signature: OmSignature) -> ServableGraph:
    """The graph of the servable.

    Each input passes an EnsureShape: the kernel copies what it is sent over what the om has, so that a batch that is
    too small would be answered with what was left of an earlier request.
    """
    names = _node_names(signature)
    nodes: list[Piece] = []
    sources = []
    for each in signature.inputs:
        nodes += node_pieces(each.node, "Placeholder", (), _typed(dtype=each.data_type, shape=each.shape))
        source = each.node
        if each.is_used and each.shape is not None:
            source = names[each.node, FITTING]
            nodes += node_pieces(source, "EnsureShape", (each.node,), _typed(T=each.data_type, shape=each.shape))
        if (each.node, GIVEN_BACK) in names:
            nodes += node_pieces(names[each.node, GIVEN_BACK], "Identity", (source,), _typed(T=each.data_type))
        sources += [source] if each.is_used else []
    types = {each.tensor: each.data_type for each in signature.outputs}
    variable, prefix = names["", OM_VARIABLE], names["", _PREFIX]
    nodes += _variable(variable, prefix)
    nodes += node_pieces(
        names["", OM_NODE],
        OPERATOR,
        (*sources, f"{variable}/read"),
        {
            "Tin": _encoded("list(type)", tuple(each.data_type for each in signature.fed)),
            "output_dtypes": _encoded("list(type)", tuple(types[tensor] for tensor in signature.tensors)),
            "executor_type": _encoded("string", b""),
        },
    )
    saver = SaverNames(f"{prefix}/Const:0", f"{prefix}/control_dependency:0", f"{prefix}/restore_all")
    return ServableGraph(nodes, {signature.name: served_signature(signature)}, signature.tags, saver=saver)


def _node_names(signature: OmSignature) -> dict[tuple[str, str], str]:
    """The names of the servable's own nodes, which no input has: by the input's node ("" for none), and its use."""
    taken = {each.node for each in signature.inputs}
    names = {("", name): _free(name, taken) for name in (OM_NODE, OM_VARIABLE, _PREFIX)}
    for each in signature.inputs:
        names[each.node, FITTING] = _free(f"{each.node}_{FITTING}", taken)
    for node in sorted({each.of_input for each in signature.outputs if each.of_input}):
        names[node, GIVEN_BACK] = _free(f"{node}_{GIVEN_BACK}", taken)
    return names


def served_signature(signature: OmSignature) -> ModelSignature:
    """The signature as the servable has it: the names of before, and the shapes that the om takes.

    An output that is an input passes an Identity: TensorFlow refuses to give back the very tensor that it is fed.
    """
    names = _node_names(signature)
    node = names["", OM_NODE]
    numbers = {tensor: index for index, tensor in enumerate(signature.tensors)}
    inputs = {each.name: TensorSpec(f"{each.node}:0", each.data_type, each.shape) for each in signature.inputs}
    outputs = {
        each.name: TensorSpec(
            f"{names[each.of_input, GIVEN_BACK]}:0" if each.of_input else f"{node}:{numbers[each.tensor]}",
            each.data_type,
            each.shape,
        )
        for each in signature.outputs
    }
    return ModelSignature(method_name=signature.method_name, inputs=inputs, outputs=outputs)


def _variable(name: str, prefix: str) -> list[Piece]:
    """The variable with the om, and the nodes that restore it: what Saver makes for a variable of TensorFlow 1."""
    scalar: tuple[int, ...] = ()
    where = {"_class": _encoded("list(string)", (f"loc:@{name}".encode(),))}
    names = {"dtype": _encoded("type", "string")}
    text = _encoded("list(type)", ("string",))
    return [
        *node_pieces(
            name,
            "VariableV2",
            (),
            {
                **_typed(dtype="string", shape=scalar),
                "container": _encoded("string", b""),
                "shared_name": _encoded("string", b""),
            },
        ),
        *node_pieces(f"{name}/read", "Identity", (name,), {**_typed(T="string"), **where}),
        *node_pieces(f"{prefix}/Const", "Const", (), {**names, "value": _texts((), b"model")}),
        *node_pieces(f"{prefix}/SaveV2/tensor_names", "Const", (), {**names, "value": _texts((1,), name.encode())}),
        *node_pieces(f"{prefix}/SaveV2/shape_and_slices", "Const", (), {**names, "value": _texts((1,), b"")}),
        *node_pieces(
            f"{prefix}/SaveV2",
            "SaveV2",
            (f"{prefix}/Const", f"{prefix}/SaveV2/tensor_names", f"{prefix}/SaveV2/shape_and_slices", name),
            {"dtypes": text},
        ),
        *node_pieces(
            f"{prefix}/control_dependency",
            "Identity",
            (f"{prefix}/Const", f"^{prefix}/SaveV2"),
            {**_typed(T="string"), "_class": _encoded("list(string)", (f"loc:@{prefix}/Const".encode(),))},
        ),
        *node_pieces(f"{prefix}/RestoreV2/tensor_names", "Const", (), {**names, "value": _texts((1,), name.encode())}),
        *node_pieces(f"{prefix}/RestoreV2/shape_and_slices", "Const", (), {**names, "value": _texts((1,), b"")}),
        *node_pieces(
            f"{prefix}/RestoreV2",
            "RestoreV2",
            (f"{prefix}/Const", f"{prefix}/RestoreV2/tensor_names", f"{prefix}/RestoreV2/shape_and_slices"),
            {"dtypes": text},
        ),
        *node_pieces(
            f"{prefix}/Assign",
            "Assign",
            (name, f"{prefix}/RestoreV2"),
            {
                **_typed(T="string"),
                **where,
                "use_locking": _encoded("bool", True),
                "validate_shape": _encoded("bool", True),
            },
        ),
        *node_pieces(f"{prefix}/restore_all", "NoOp", (f"^{prefix}/Assign",)),
    ]


def _typed(shape: tuple[int, ...] | str | None = "", **types: str) -> dict[str, Piece]:
    """Attributes that are types, and a shape where one is given."""
    out: dict[str, Piece] = {name: _encoded("type", value) for name, value in types.items()}
    return out if isinstance(shape, str) else {**out, "shape": _encoded("shape", shape)}


def _encoded(kind: str, value: object) -> bytes:
    return encode(AttributeValue(kind, value))


def _texts(shape: tuple[int, ...], text: bytes) -> bytes:
    """A tensor with one text: TensorProto's string_val, as a constant's AttrValue."""
    sizes = b"".join(bytes_field(2, number_field(1, size)) for size in shape)
    return bytes_field(8, number_field(1, _STRING) + bytes_field(2, sizes) + bytes_field(8, text))


def _free(name: str, taken: set[str]) -> str:
    """The name, or with a number where an input has it; taken from now on, and what is below it is free too."""
    number, found = 0, name
    while any(each == found or each.startswith(f"{found}/") for each in taken):
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found


def _check_type(om: OmFile, what: str, wanted: str, there: OmTensor) -> None:
    if there.data_type and there.data_type != wanted:
        raise _misfit(om, f"has {what} as {there.data_type}", f"the signature has it as {wanted}")


def _misfit(om: OmFile, there: str, here: str) -> ModelFileError:
    return ModelFileError(
        f"The om does not fit the model: it {there}, and {here}.",
        cause="the compiler changed it, by the options that were passed on or by itself",
        cure="leave those options out; --output-type and --input-fp16-nodes change types on both sides",
    )


def _names(tensors: Sequence[OmTensor]) -> str:
    return ", ".join(each.name for each in tensors) or "nothing"

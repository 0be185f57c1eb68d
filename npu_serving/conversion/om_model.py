"""What of a SavedModel is compiled: its graph and signature, or inputs and outputs chosen in their place."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving.conversion.om_graph import PartOfGraph, part_of_graph
from npu_serving.conversion.om_request import (
    TYPE_NAMES,
    ChosenTensor,
    OmRequest,
    new_inputs,
    new_outputs,
    om_options,
    output_types,
)
from npu_serving.conversion.om_servable import OmInput, OmOutput, OmSignature
from npu_serving.conversion.om_shapes import CompiledShapes, OpenInput, compiled_shapes, gears_of
from npu_serving.errors import ModelFileError, RequestError
from npu_serving.models.checkpoint import index_of, open_checkpoint
from npu_serving.models.chosen_graph import chosen_graph
from npu_serving.models.freezing import frozen_graph, variables_of
from npu_serving.models.graph_def import GraphDef
from npu_serving.models.layout import model_name_of, version_directories
from npu_serving.models.saved_model import (
    SAVED_MODEL,
    SAVED_MODEL_TEXT,
    ModelSignature,
    SavedGraph,
    TensorSpec,
    read_saved_model_graphs,
)
from npu_serving.models.saved_model_writer import SERVE_TAG, VARIABLES
from npu_serving.models.tensor_shapes import TensorShapes
from npu_serving.models.tensor_types import TensorTypes, split_tensor
from npu_serving.writers.shell import shell_word

_DEFAULT = "serving_default"
_RANGE = "input_shape_range"
_ANSWERED = frozenset(om_options().output_types.values()) | {"bool"}
"""What TF Adapter's kernel can give back (om_executor.cc), strings aside, which no NPU computes."""


@dataclass(frozen=True)
class ModelToCompile:
    """A SavedModel's graph with what is compiled of it."""

    directory: Path
    file: Path
    tags: tuple[str, ...]
    signature: OmSignature
    part: PartOfGraph
    shapes: CompiledShapes | None
    """None where an option that is passed on says the shapes."""
    left_out: tuple[str, ...]
    """The other signatures of the model, which the servable does not have."""


def model_to_compile(
    model: Path, request: OmRequest, *, signature: str = "", tags: Sequence[str] = (), passed: Mapping[str, str]
) -> ModelToCompile:
    """What the request would compile of the model at `model`, a SavedModel or a directory of versions.

    `passed` are the options for the compiler, by name. RequestError for inputs, outputs, types and shapes that the
    model or the compiler can't have; ModelFileError, FileAccessError for a model that can't be read.
    """
    directory, file = saved_model_at(model)
    saved = chosen_graph(file, read_saved_model_graphs(file), tags)
    name, found = _signature_named(saved, signature, file)
    chosen_inputs = new_inputs(request.new_input_nodes) if request.new_input_nodes else _inputs_of(found)
    chosen_outputs = new_outputs(request.new_output_nodes) if request.new_output_nodes else _outputs_of(found)
    types = TensorTypes(saved.graph)
    inputs = tuple(_with_type(each, types, "--new-input-nodes") for each in chosen_inputs)
    outputs = tuple(_with_type(each, types, "--new-output-nodes") for each in chosen_outputs)
    tensors = [each.tensor for each in outputs]
    known = _known_shapes(saved, found, [*(each.tensor for each in inputs), *tensors])
    part = part_of_graph(saved.graph, inputs, tensors, {each.tensor: known.get(each.tensor) for each in inputs})
    if len(part.unused) == len(inputs) or len(part.given_back) == len(set(tensors)):
        raise RequestError(
            "Nothing is left to compile: no output depends on an input by any operator.",
            cause="the inputs and outputs that were chosen are not of one part of the graph",
            cure="./inv graph-nodes shows the graph; choose other --new-input-nodes or --new-output-nodes",
        )
    half = _half_inputs(request.input_fp16_nodes, inputs, part)
    of_outputs = output_types(request.output_type, [tensor for tensor in tensors if tensor not in part.given_back])
    used = [each for each in inputs if each.tensor not in part.unused]
    opened = [OpenInput(part.nodes_of[each.tensor], each.name, known.get(each.tensor)) for each in used]
    shapes = None
    if _RANGE not in passed:
        shapes = compiled_shapes(opened, request.input_shape, gears_of(request), passed.get("input_format", ""))
    elif request.input_shape or gears_of(request).option:
        raise RequestError(
            f"--{_RANGE} and --input-shape or gears exclude each other.",
            cause="ATC takes one of them (E10009)",
            cure="leave one out",
        )
    om_inputs = tuple(_om_input(each, part, shapes, half, known) for each in inputs)
    for each in om_inputs:
        _check_input(each)
    om_outputs = tuple(
        OmOutput(
            each.name,
            each.tensor,
            of_outputs.of(each.tensor) or each.data_type,
            known.get(each.tensor),
            part.given_back.get(each.tensor, ""),
        )
        for each in outputs
    )
    for output in om_outputs:
        _check_output(output)
    method = request.method_name or (found.method_name if found is not None else "")
    if not method:
        raise RequestError(
            f"The signature {name} of {file} has no method name.",
            cause="it was not written for serving",
            cure="--method-name tensorflow/serving/predict",
        )
    own = OmSignature(om_inputs, om_outputs, method, name, tuple(sorted(saved.tags)) or (SERVE_TAG,))
    others = tuple(sorted(each for each, other in saved.signatures.items() if each != name and other.is_for_requests))
    final = part_of_graph(
        saved.graph, inputs, tensors, {each.tensor: _shape_in_graph(each, om_inputs) for each in inputs}
    )
    return ModelToCompile(directory, file, own.tags, own, final, shapes, others)


def saved_model_at(model: Path) -> tuple[Path, Path]:
    """The version's directory and its saved_model.pb: of the directory that is named, or of its highest version."""
    places = [model]
    if model.is_dir():
        places += [path for _, path in sorted(version_directories(model).items(), reverse=True)[:1]]
    for place in places:
        for name in (SAVED_MODEL, SAVED_MODEL_TEXT):
            if (place / name).is_file():
                return place, place / name
    if model.is_file() and model.name in (SAVED_MODEL, SAVED_MODEL_TEXT):
        return model.parent, model
    is_graph = model.is_file()
    raise RequestError(
        f"{model} is not a SavedModel." if model.exists() else f"{model} does not exist.",
        cause="a SavedModel is a directory with saved_model.pb, or NAME/VERSION/saved_model.pb",
        cure=f"make one of the graph: ./inv convert-pb {shell_word(model)} --output models/{model_name_of(model)}"
        if is_graph
        else "check the path",
    )


def _signature_named(saved: SavedGraph, asked: str, file: Path) -> tuple[str, ModelSignature]:
    for_requests = {name: each for name, each in saved.signatures.items() if each.is_for_requests}
    if asked in saved.signatures:
        return asked, saved.signatures[asked]
    if not asked and _DEFAULT in saved.signatures:
        return _DEFAULT, saved.signatures[_DEFAULT]
    if not asked and len(for_requests) == 1:
        return next(iter(for_requests.items()))
    if not saved.signatures:
        return _DEFAULT, ModelSignature({}, {}, "")
    names = sorted(for_requests or saved.signatures)
    near = difflib.get_close_matches(asked, names, n=1, cutoff=0.0) or names[:1]
    raise RequestError(
        f"{file} has no signature {asked!r}." if asked else f"{file} has several signatures, and none is {_DEFAULT}.",
        cause=f"its signatures are {', '.join(names)}",
        cure=f"--signature {near[0]}",
    )


def _inputs_of(signature: ModelSignature) -> tuple[ChosenTensor, ...]:
    if not signature.inputs:
        raise RequestError(
            "The model's signature has no inputs.",
            cause="it has no signature, or computes something without being sent anything",
            cure="--new-input-nodes NAME:TYPE:TENSOR",
        )
    return _chosen(signature.inputs, "--new-input-nodes")


def _outputs_of(signature: ModelSignature) -> tuple[ChosenTensor, ...]:
    if not signature.outputs:
        raise RequestError(
            "The model's signature has no outputs.", cause="it has no signature", cure="--new-output-nodes NAME:TENSOR"
        )
    return _chosen(signature.outputs, "--new-output-nodes")


def _chosen(side: Mapping[str, TensorSpec], flag: str) -> tuple[ChosenTensor, ...]:
    sparse = next((name for name, spec in side.items() if spec.others), "")
    if sparse:
        raise RequestError(
            f"{sparse} is a sparse tensor, which no om takes or gives.",
            cause="it is three tensors in one",
            cure=f"name dense tensors instead: {flag}",
        )
    return tuple(ChosenTensor(name, spec.name, spec.data_type) for name, spec in sorted(side.items()))


def _with_type(each: ChosenTensor, types: TensorTypes, flag: str) -> ChosenTensor:
    """The tensor with its type by the graph. RequestError where that is another than was said."""
    found = types.type_of(each.tensor)
    if each.data_type and each.data_type != found:
        spelled = next((name for name, plain in TYPE_NAMES.items() if plain == found), found)
        raise RequestError(
            f"{each.tensor} is of the type {found}, and {flag} says {each.data_type}."
            if flag == "--new-input-nodes"
            else f"{each.tensor} is of the type {found}, and the signature says {each.data_type}.",
            cause="the graph says what a tensor is; another type needs an operator that changes it",
            cure=f"{each.name}:{spelled}:{each.tensor}",
        )
    return dataclasses.replace(each, data_type=found)


def _known_shapes(
    saved: SavedGraph, signature: ModelSignature, tensors: Iterable[str]
) -> dict[str, tuple[int, ...] | None]:
    """The shapes of these tensors, by the signature, or else by the graph; None for an unknown rank."""
    of_graph = TensorShapes(saved.graph)
    said = {spec.name: spec.shape for spec in (*signature.inputs.values(), *signature.outputs.values())}
    return {tensor: said[tensor] if said.get(tensor) is not None else of_graph.shape_of(tensor) for tensor in tensors}


def _half_inputs(text: str, inputs: Sequence[ChosenTensor], part: PartOfGraph) -> frozenset[str]:
    """The tensors that --input-fp16-nodes names, by the name of their node or in the signature."""
    found = set()
    for name in (part_ for each in text.split(";") if (part_ := each.strip())):
        plain = name[:-2] if name.endswith(":0") else name
        own = [each for each in inputs if plain in (part.nodes_of[each.tensor], each.name)]
        if not own:
            nodes = [part.nodes_of[each.tensor] for each in inputs]
            near = difflib.get_close_matches(plain, nodes, n=1, cutoff=0.0)
            raise RequestError(
                f"--input-fp16-nodes names {name!r}, which is not an input of the model.",
                cause=f"its inputs are {', '.join(nodes)}",
                cure=f"--input-fp16-nodes {near[0]}",
            )
        found.add(own[0].tensor)
    return frozenset(found)


def _om_input(
    each: ChosenTensor,
    part: PartOfGraph,
    shapes: CompiledShapes | None,
    half: frozenset[str],
    known: Mapping[str, tuple[int, ...] | None],
) -> OmInput:
    node, is_used = part.nodes_of[each.tensor], each.tensor not in part.unused
    shape = shapes.shapes[node] if shapes is not None and is_used else known.get(each.tensor)
    return OmInput(each.name, node, "float16" if each.tensor in half else each.data_type, shape, is_used)


def _shape_in_graph(each: ChosenTensor, inputs: Sequence[OmInput]) -> tuple[int, ...] | None:
    return next((own.shape for own in inputs if own.name == each.name), None)


def _check_input(each: OmInput) -> None:
    known = om_options().input_types
    if each.is_used and each.data_type not in known:
        raise RequestError(
            f"The input {each.node} is of the type {each.data_type}, which no om takes.",
            cause=f"the compilers take {', '.join(known)}",
            cure="have the om begin behind it: --new-input-nodes NAME:TYPE:TENSOR with what is made of it first; "
            "the client then sends that",
        )


def _check_output(each: OmOutput) -> None:
    if not each.of_input and each.data_type not in _ANSWERED:
        raise RequestError(
            f"The output {each.tensor} is of the type {each.data_type}, which no om gives.",
            cause="TF Adapter hands numbers and truth values from an om to TensorFlow",
            cure="have the om end before it: --new-output-nodes NAME:TENSOR; the client then does the rest",
        )


def frozen_here(model: ModelToCompile, nodes: Sequence[str]) -> GraphDef:
    """The model's graph with constants in place of its variables, by our own reading of its checkpoint.

    ModelFileError where these `nodes`, which the outputs come from, need what can't be a constant.
    """
    graph, prefix = model.part.graph, model.directory / VARIABLES / VARIABLES
    if not index_of(prefix).exists():
        lost = variables_of(graph, [node.name for node in model.part.nodes if node.name in graph.by_name])
        if lost:
            raise ModelFileError(
                f"{model.directory} has no {VARIABLES}/, and its graph has variables, such as {lost[0].name}.",
                cause="it was copied without it",
                cure="copy the whole directory of the version",
            )
        return graph
    fed = {node for tensor, node in model.part.nodes_of.items() if split_tensor(tensor)[0] == node}
    try:
        return frozen_graph(graph, nodes, open_checkpoint(prefix), fed=fed)
    except ModelFileError as error:
        instead = "or have TensorFlow do it: --tensorflow-python PYTHON, a Python 3.7 with tensorflow 1.15"
        raise ModelFileError(error.what, cause=error.cause, cure=f"{error.cure}; {instead}") from error


def variable_files(directory: Path) -> tuple[Path, ...]:
    """The files of a version's variables; none where it has no variables."""
    prefix = directory / VARIABLES / VARIABLES
    index = index_of(prefix)
    return (index, *open_checkpoint(prefix).data_files()) if index.exists() else ()


def part_of_frozen(model: ModelToCompile, graph: GraphDef) -> PartOfGraph:
    """The part of the frozen graph that is compiled."""
    fed = [each for each in model.signature.inputs if each.is_used]
    tensors = {node: tensor for tensor, node in model.part.nodes_of.items()}
    inputs = [ChosenTensor(each.name, tensors[each.node], each.data_type) for each in fed]
    shapes = {tensors[each.node]: each.shape for each in fed}
    return part_of_graph(graph, inputs, model.signature.tensors, shapes, names=model.part.nodes_of)

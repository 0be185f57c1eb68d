"""The inputs and outputs of a graph that is converted: typed, taken from a SavedModel, or found where there is one way.

Types and shapes come from the graph; the shape of an input may be given, and then goes into its placeholder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from npu_serving.conversion.edited_nodes import placeholder, with_shape
from npu_serving.conversion.needed_nodes import needed_names
from npu_serving.conversion.sources import ConversionSource
from npu_serving.conversion.tensor_list import NamedTensor, named_tensors, shape_text
from npu_serving.errors import RequestError
from npu_serving.models.attribute_values import Shape
from npu_serving.models.graph_def import GraphDef, NodeDef
from npu_serving.models.likely_tensors import likely_outputs, placeholders
from npu_serving.models.saved_model import ModelSignature, TensorSpec
from npu_serving.models.tensor_shapes import TensorShapes
from npu_serving.models.tensor_types import TensorTypes, count_of, output_runs, split_tensor, unknown_node

_WITH_SHAPE = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")
_METHOD = "tensorflow/serving/"
METHODS = ("predict", "classify", "regress")
_NOT_FOR_CLIENTS = ("resource", "variant")
_SHOWN = 8


@dataclass(frozen=True)
class SignatureEnds:
    """The graph with placeholders where its inputs are, and the tensors of its signature.

    `cut` has the nodes that became placeholders; `shapes` those that were given to inputs.
    """

    graph: GraphDef
    inputs: tuple[NamedTensor, ...] = ()
    outputs: tuple[NamedTensor, ...] = ()
    cut: frozenset[str] = frozenset()
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    signatures: Mapping[str, ModelSignature] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_from_source: bool = False

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes of all inputs and outputs."""
        return tuple(dict.fromkeys(split_tensor(tensor)[0] for tensor in (*self.fed, *self.fetched)))

    @property
    def fed(self) -> tuple[str, ...]:
        """The tensors that clients give."""
        return _tensors([each.tensor for each in self.inputs], (each.inputs for each in self.signatures.values()))

    @property
    def fetched(self) -> tuple[str, ...]:
        """The tensors that clients get."""
        return _tensors([each.tensor for each in self.outputs], (each.outputs for each in self.signatures.values()))

    def refuse_unfed(self, nodes: Mapping[str, NodeDef]) -> None:
        """RequestError where an output needs a placeholder that stands in no signature."""
        fed = {split_tensor(each)[0] for each in self.fed}
        needed = needed_names(self.graph, (split_tensor(each)[0] for each in self.fetched), self.cut | fed)
        missing = [name for name in nodes if name in needed and name not in fed]
        unfed = [node.name for node in placeholders(nodes[name] for name in missing)]
        if unfed:
            typed = ";".join([*(f"{_typed(each)}" for each in self.inputs), *(f"{name}:0" for name in unfed)])
            raise RequestError(
                f"The outputs need the placeholder {', '.join(unfed[:_SHOWN])}, which is not an input.",
                cause="no request could give it a value",
                cure=f'--inputs "{typed}", or --constant {unfed[0]}=VALUE where it is the same for all requests',
            )


def chosen_ends(
    source: ConversionSource, graph: GraphDef, inputs: Iterable[str], outputs: Iterable[str], batch_size: int = 0
) -> SignatureEnds:
    """What the inputs and outputs of the source's `graph` are. RequestError where they are not found in it."""
    typed_inputs, typed_outputs = named_tensors(inputs, "--inputs"), named_tensors(outputs, "--outputs")
    if source.signatures and not typed_inputs and not typed_outputs:
        if batch_size:
            raise RequestError(
                "--batch-size needs --inputs and --outputs here.",
                cause="the SavedModel has signatures of its own, whose shapes stay as they are",
                cure='add --inputs "NODE:0" --outputs "NODE:0"; ./inv graph-nodes shows the names',
            )
        return _checked(SignatureEnds(graph, signatures=dict(source.signatures), is_from_source=True))
    notes = []
    if not typed_outputs:
        typed_outputs = _likely(source.graph)
        notes.append(f"output found: {', '.join(each.tensor for each in typed_outputs)}")
    for each in (*typed_inputs, *typed_outputs):
        TensorTypes(graph).type_of(each.tensor)
    if not typed_inputs:
        typed_inputs = _needed_placeholders(graph, typed_outputs)
        notes.append(f"input found: {', '.join(each.tensor for each in typed_inputs)}")
    return _with_placeholders(SignatureEnds(graph, typed_inputs, typed_outputs, notes=tuple(notes)), batch_size)


def made_signature(ends: SignatureEnds, method: str) -> ModelSignature:
    """The signature of what was typed or found. RequestError for a tensor that no client could send or get."""
    types = TensorTypes(ends.graph)
    shapes = TensorShapes(ends.graph, ends.shapes)
    inputs = {each.key: _spec(each, types, shapes, "--inputs") for each in ends.inputs}
    outputs = {each.key: _spec(each, types, shapes, "--outputs") for each in ends.outputs}
    signature = ModelSignature(inputs, outputs, method_name(method))
    _check_method(signature)
    return signature


def method_name(text: str) -> str:
    """The name of a method as the server knows it. RequestError for one that it does not."""
    short = text.replace(_METHOD, "", 1) or METHODS[0]
    if short not in METHODS:
        raise RequestError(
            f"--method-name can't be {text}.",
            cause="the server answers predict, classify and regress",
            cure=f"use {', '.join(METHODS[:-1])} or {METHODS[-1]}",
        )
    return _METHOD + short


def _check_method(signature: ModelSignature) -> None:
    """RequestError for keys by which the server would not find the tensors (signature_constants.h)."""
    method = signature.method_name.replace(_METHOD, "", 1)
    wanted = {"classify": {"classes", "scores"}, "regress": {"outputs"}}.get(method)
    if wanted is None:
        return
    if set(signature.inputs) != {"inputs"} or not set(signature.outputs) <= wanted:
        raise RequestError(
            f"For {method} the input has to have the key inputs, and the outputs {' and '.join(sorted(wanted))}.",
            cause="the server finds them by these keys",
            cure=f'give the keys before "=": --inputs "inputs=NODE:0" --outputs "{sorted(wanted)[0]}=NODE:0"',
        )


def _spec(named: NamedTensor, types: TensorTypes, shapes: TensorShapes, flag: str) -> TensorSpec:
    data_type = types.type_of(named.tensor)
    if data_type in _NOT_FOR_CLIENTS:
        raise RequestError(
            f"{named.tensor} is a {data_type}, which stays within the server.",
            cause="it is a handle of a table, a variable or a list, not numbers or texts",
            cure=f"name another tensor among {flag}",
        )
    shape = shapes.shape_of(named.tensor)
    if named.has_shape and flag == "--outputs":
        _refuse_other_shape(named, shape)
        shape = named.shape
    return TensorSpec(named.tensor, data_type, shape)


def _refuse_other_shape(named: NamedTensor, shape: Shape) -> None:
    """RequestError where the shape that was typed for an output is not the graph's."""
    if shape is None or named.shape is None:
        return
    sizes = zip(shape, named.shape)
    if len(shape) != len(named.shape) or any(-1 not in pair and len(set(pair)) > 1 for pair in sizes):
        raise RequestError(
            f"{named.tensor} has the shape {shape_text(shape)} in the graph, not {shape_text(named.shape)}.",
            cause="the shape of an output follows from the graph; it can be said where the graph does not",
            cure=f'--outputs "{named.key}={named.tensor}{shape_text(shape)}"',
        )


def _with_placeholders(ends: SignatureEnds, batch_size: int) -> SignatureEnds:
    """The graph with the inputs as placeholders, of the shapes that were asked for."""
    graph = ends.graph
    types, shapes = TensorTypes(graph), TensorShapes(graph)
    changed: dict[str, NodeDef] = {}
    given: dict[str, Shape] = {}
    cut: set[str] = set()
    for each in ends.inputs:
        node = types.node_of(each.tensor)
        shape = shapes.shape_of(each.tensor)
        wanted = _wanted_shape(each, shape, batch_size)
        if node.op not in _WITH_SHAPE:
            if count_of(output_runs(node, graph.functions) or ()) != 1:
                continue
            changed[node.name] = placeholder(node.name, types.type_of(each.tensor), wanted)
            cut.add(node.name)
        elif wanted != shape:
            changed[node.name] = with_shape(node, wanted)
        if wanted != shape:
            given[each.tensor] = wanted
    if not changed:
        return ends
    nodes = [changed.get(node.name, node) for node in graph.nodes]
    new = graph.with_nodes(nodes, graph.functions)
    made = SignatureEnds(new, ends.inputs, ends.outputs, frozenset(cut), given, notes=ends.notes)
    _refuse_built_in_batch(made, batch_size)
    return made


def _wanted_shape(named: NamedTensor, shape: Shape, batch_size: int) -> Shape:
    """The shape that was typed, or the graph's with the batch size that was asked for."""
    if named.has_shape:
        if shape is not None and named.shape is not None and len(shape) != len(named.shape):
            raise RequestError(
                f"{named.tensor} has {len(shape)} dimensions in the graph, {shape_text(shape)}, and "
                f"{shape_text(named.shape)} has {len(named.shape)}.",
                cause="the operators after it are for that many",
                cure=f'--inputs "{named.key}={named.tensor}{shape_text(shape)}", with other sizes where you need them',
            )
        return named.shape
    if not batch_size or shape == ():
        return shape
    if shape is None:
        raise RequestError(
            f"--batch-size can't be set for {named.tensor}: the graph does not say how many dimensions it has.",
            cure=f'--inputs "{named.key}={named.tensor}[{batch_size},224,224,3]", with its own sizes after the first',
        )
    return (batch_size, *shape[1:])


def _refuse_built_in_batch(ends: SignatureEnds, batch_size: int) -> None:
    """RequestError where an operator of the graph is for the number of rows that the inputs had before."""
    shapes = TensorShapes(ends.graph, ends.shapes)
    cut = ends.cut | {split_tensor(each)[0] for each in ends.fed}
    for name in needed_names(ends.graph, (split_tensor(each)[0] for each in ends.fetched), cut):
        node = ends.graph.by_name[name]
        if node.op != "Reshape" or name in cut:
            continue
        before, after = shapes.shape_of(node.inputs[0]), shapes.values_of(node.inputs[1])
        if before is None or after is None or -1 in before or -1 in after:
            continue
        if _elements(before) != _elements(after):
            raise RequestError(
                f"The inputs can't have these sizes: {name} would reshape {shape_text(before)} to {shape_text(after)}.",
                cause="the graph was frozen for one batch size",
                cure="leave out --batch-size and the shape, or convert the .meta of the checkpoint of a graph "
                f"that was made for {f'{batch_size} rows' if batch_size else 'these sizes'}",
            )


def _elements(shape: tuple[int, ...]) -> int:
    number = 1
    for size in shape:
        number *= size
    return number


def _checked(ends: SignatureEnds) -> SignatureEnds:
    """The ends, whose nodes are in the graph. RequestError where a signature names another."""
    for tensor in (*ends.fed, *ends.fetched):
        name = split_tensor(tensor)[0]
        if name not in ends.graph.by_name:
            raise unknown_node(name, ends.graph.by_name, ends.graph.file)
    return ends


def _likely(graph: GraphDef) -> tuple[NamedTensor, ...]:
    found = likely_outputs(graph)
    nodes = {split_tensor(each)[0] for each in found}
    if len(nodes) != 1:
        shown = ";".join(found[:_SHOWN])
        raise RequestError(
            "Which tensors are the outputs does not follow from the graph: "
            + (f"{len(found)} are taken by nothing in it." if found else "each is taken by another node."),
            cause=f"they are {', '.join(found[:_SHOWN])}{', ...' if len(found) > _SHOWN else ''}" if found else "",
            cure=f'--outputs "{shown}", without those that clients don\'t need' if found else '--outputs "NODE:0"',
        )
    name = next(iter(nodes))
    return tuple(NamedTensor(name if len(found) == 1 else each, each) for each in found)


def _needed_placeholders(graph: GraphDef, outputs: Iterable[NamedTensor]) -> tuple[NamedTensor, ...]:
    needed = needed_names(graph, (split_tensor(each.tensor)[0] for each in outputs))
    found = placeholders(node for node in graph.nodes if node.name in needed)
    if not found:
        raise RequestError(
            "The outputs need no placeholder, so what a request would give is not known.",
            cause="the graph reads its inputs itself, from a queue or a dataset, or --outputs names another part of it",
            cure='--inputs "NODE:0", with the tensor that requests are to give in place of what the graph reads',
        )
    return tuple(NamedTensor(node.name, f"{node.name}:0") for node in found)


def _typed(named: NamedTensor) -> str:
    key = "" if named.key in (named.tensor, split_tensor(named.tensor)[0]) else f"{named.key}="
    return f"{key}{named.tensor}{shape_text(named.shape) if named.has_shape else ''}"


def _tensors(named: Iterable[str], sides: Iterable[Mapping[str, TensorSpec]]) -> tuple[str, ...]:
    of_signatures = (tensor for side in sides for spec in side.values() for tensor in (spec.name, *spec.others))
    return tuple(dict.fromkeys((*named, *of_signatures)))

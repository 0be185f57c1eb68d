"""The signatures of a model: whether requests can name its inputs and outputs, and whether the graph has these.

What a server says only to the first request (predict_util.cc, classifier.cc, regressor.cc of TensorFlow Serving 1.15).
"""

from __future__ import annotations

from collections.abc import Iterator

from npu_serving.errors import ModelFileError, RequestError
from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.model_checks.examined import ExaminedGraph
from npu_serving.model_checks.naming import SIGNATURES, listed
from npu_serving.models.graph_def import GraphDef, node_of
from npu_serving.models.saved_model import ModelSignature, TensorSpec
from npu_serving.models.tensor_types import TensorTypes, operator_of
from npu_serving.shown_text import in_a_line

_PREDICT, _CLASSIFY, _REGRESS = (f"tensorflow/serving/{kind}" for kind in ("predict", "classify", "regress"))
_METHODS = (_PREDICT, _CLASSIFY, _REGRESS)
_EXAMPLES = "inputs"  # by which Classify and Regress name their one input
_RESULTS = {_CLASSIFY: ("classes", "scores"), _REGRESS: ("outputs",)}
_OPEN = ("Placeholder", "PlaceholderV2")


def check_signatures(model: ExaminedGraph) -> Iterator[Finding]:
    """What is wrong with them; a problem where every request fails."""
    if not any(signature.is_for_requests for signature in model.signatures.values()):
        what = f"{model.directory} has no signature, so no request can name its inputs and outputs."
        yield Finding(what, "export it again with a signature", WARNING, SIGNATURES, str(model.directory))
    for name, signature in model.signatures.items():
        if signature.is_for_requests:
            yield from _check_method(model, name, signature)
            of_tensors = list(_check_tensors(model, name, signature))
            yield from of_tensors
            if not any(finding.needs_action for finding in of_tensors):
                yield from _check_open_inputs(model, name, signature)
        elif signature.outputs:
            what = f"The signature {in_a_line(name)} has no method, so no request can ask for it."
            yield model.finding(what, f"export it again with the method {_PREDICT}", WARNING, SIGNATURES)


def _check_method(model: ExaminedGraph, name: str, signature: ModelSignature) -> Iterator[Finding]:
    method, shown = signature.method_name, in_a_line(name)
    if method not in _METHODS:
        what = (
            f"The signature {shown} has the method {in_a_line(method)}, which no server knows: its requests would fail."
        )
        cure = f"export it again with one of these: {', '.join(_METHODS)}"
        yield model.finding(what, cure, PROBLEM, SIGNATURES)
    results = _RESULTS.get(method, ())
    lacks = ""
    if results and set(signature.inputs) != {_EXAMPLES}:
        lacks = f"just one input, with the name {_EXAMPLES}"
    elif results and not set(results) & set(signature.outputs):
        lacks = f"an output with the name {' or '.join(results)}"
    if lacks:
        kind = "Classify" if method == _CLASSIFY else "Regress"
        what = (
            f"The signature {shown} has the method {method}, for which {kind} needs {lacks}: only Predict can ask it."
        )
        yield model.finding(what, f"export it again with the method {_PREDICT}", WARNING, SIGNATURES)


def _check_tensors(model: ExaminedGraph, name: str, signature: ModelSignature) -> Iterator[Finding]:
    types, is_predicted = TensorTypes(model.graph), signature.method_name not in _RESULTS
    for side, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for alias, spec in sorted(specs.items()):
            about = f"The {side} {in_a_line(alias)} of the signature {in_a_line(name)}"
            for tensor in (spec.name, *spec.others):
                trouble = _trouble(model.graph, types, tensor)
                if trouble:
                    what = f"{about} is {in_a_line(tensor)}, {trouble}: requests of it would fail."
                    yield model.finding(what, "export it again with the tensors of its graph", PROBLEM, SIGNATURES)
                elif tensor == spec.name and not spec.others:
                    yield from _check_type(
                        model, types, about, spec, is_input=side == "input", is_predicted=is_predicted
                    )


def _trouble(graph: GraphDef, types: TensorTypes, tensor: str) -> str:
    """Why a server could not feed or fetch it; "" where it can, as far as is known."""
    try:
        node = types.node_of(tensor)
    except RequestError:
        return "and the graph has no such node"
    if operator_of(node.op, graph.functions) is None:
        return ""  # one of the adapter's, such as LoadAndExecuteOm, or of a custom library: its outputs are not known
    try:
        types.type_of(tensor)
    except ModelFileError:
        return ""
    except RequestError:
        return f"and {in_a_line(node.name)} ({in_a_line(node.op)}) has no such output" if ":" in tensor else ""
    return ""


def _check_type(
    model: ExaminedGraph, types: TensorTypes, about: str, spec: TensorSpec, *, is_input: bool, is_predicted: bool
) -> Iterator[Finding]:
    """The type and shape that clients read in it, against those of the graph.

    Classify and Regress feed texts, whatever the signature says.
    """
    try:
        there = types.type_of(spec.name)
    except (RequestError, ModelFileError):
        return
    if there != spec.data_type:
        what = f"{about} says {spec.data_type}, and {in_a_line(spec.name)} is {there}"
        if is_input and is_predicted:
            what += ": requests with what it says would fail"
        severity = PROBLEM if is_input and is_predicted else WARNING
        yield model.finding(f"{what}.", "export it again", severity, SIGNATURES)
    of_graph = model.content.graph.placeholders.get(node_of(spec.name))
    if is_input and of_graph is not None and not _fits(spec.shape, of_graph.shape):
        what = f"{about} says {spec.describe()}, and the graph takes {of_graph.describe()}: requests would fail."
        yield model.finding(what, "export it again", PROBLEM, SIGNATURES)


def _fits(said: tuple[int, ...] | None, taken: tuple[int, ...] | None) -> bool:
    """Whether a tensor of the shape that is said may be one that is taken."""
    if said is None or taken is None or not taken:  # a placeholder without a shape says [] in old graphs
        return True
    return len(said) == len(taken) and all(one < 0 or other < 0 or one == other for one, other in zip(said, taken))


def _check_open_inputs(model: ExaminedGraph, name: str, signature: ModelSignature) -> Iterator[Finding]:
    """Placeholders that a request would have to feed, and that the signature does not name."""
    reached = model.by_signature[name].nodes
    nodes = model.graph.by_name
    there = {node.name for operator in _OPEN for node in model.graph.by_operator.get(operator, ())}
    open_inputs = sorted(each for each in there & reached if nodes[each].op in _OPEN)
    if open_inputs:
        names = listed([in_a_line(each) for each in open_inputs])
        what = f"Requests of the signature {in_a_line(name)} would fail: it does not name the input {names}"
        always = not any(nodes[each].inputs for each in open_inputs)
        yield model.finding(
            f"{what} of the graph, which its outputs need.",
            "export it again with all inputs in its signature",
            PROBLEM if always else WARNING,
            SIGNATURES,
            open_inputs,
        )

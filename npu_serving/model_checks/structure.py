"""Whether the nodes of a graph fit together: names, inputs, their types, loops. A server refuses a graph where not.

The rules are those by which TensorFlow 1.15.0 takes a graph into a session (graph_constructor.cc, graph.cc); each was
tried there (tests/support/faulty_models.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from npu_serving.errors import ModelFileError
from npu_serving.findings import NOTE, PROBLEM, WARNING, Finding
from npu_serving.model_checks.examined import ExaminedGraph, named
from npu_serving.model_checks.naming import listed
from npu_serving.models.attribute_values import AttributeBytes
from npu_serving.models.graph_def import FunctionDef, GraphDef, NodeDef, node_of
from npu_serving.models.tensor_types import Runs, count_of, deciding_attributes, input_runs, output_runs
from npu_serving.shown_text import in_a_line
from npu_serving.wire_bytes import BYTES, VARINT, fields, signed, tag, varints

STRUCTURE = "graph-structure"
_CONSUMER = 134  # TF_GRAPH_DEF_VERSION of TensorFlow 1.15.0 (version.h)
_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_./-]*")
_OTHER_CHARACTERS, _NO_FIRST = re.compile(r"[^A-Za-z0-9_./-]"), frozenset(("", "_", "/", "-"))
_BACK_EDGES = ("NextIteration", "RefNextIteration")
_EXPORT_AGAIN = "export the model again with TensorFlow 1.15"
_NOT_LOADED = "the server could not load the model"
_ENDED = "the first request would end the server"
_MOST = 20  # findings of one kind: a graph that is wrong throughout is wrong in one way


def check_structure(model: ExaminedGraph) -> Iterator[Finding]:
    """What of the graph TensorFlow 1.15.0 would refuse."""
    yield from _check_versions(model)
    yield from _check_names(model)
    found = list(_check_inputs(model))
    yield from found[:_MOST]
    if len(found) > _MOST:
        yield model.finding(f"{len(found) - _MOST} more inputs of nodes are wrong.", "", PROBLEM, STRUCTURE)
    yield from _check_functions(model)
    cycle = _cycle(model.graph)
    if cycle:
        what = (
            f"The nodes {listed([in_a_line(name) for name in cycle])} wait for each other in a circle: {_NOT_LOADED}."
        )
        yield model.finding(what, _EXPORT_AGAIN, PROBLEM, STRUCTURE, cycle)


def _check_versions(model: ExaminedGraph) -> Iterator[Finding]:
    """VersionDef of versions.proto: the oldest TensorFlow that may read the graph, and those that may not."""
    needed, refused = 0, []
    for key, number, content in fields(memoryview(model.graph.versions)):
        if key == tag(2, VARINT):
            needed = signed(number)
        elif key == tag(3, VARINT):
            refused.append(signed(number))
        elif key == tag(3, BYTES):
            refused += map(signed, varints(content))
    if needed > _CONSUMER:
        what = f"The graph needs a reader of the version {needed}, and TensorFlow 1.15.0 is one of {_CONSUMER}"
        yield model.finding(f"{what}: {_NOT_LOADED}.", _EXPORT_AGAIN, PROBLEM, STRUCTURE)
    if _CONSUMER in refused:
        what = f"The graph refuses readers of the version {_CONSUMER}, such as TensorFlow 1.15.0: {_NOT_LOADED}."
        yield model.finding(what, _EXPORT_AGAIN, PROBLEM, STRUCTURE)


def _check_names(model: ExaminedGraph) -> Iterator[Finding]:
    names = model.graph.by_name.keys()
    if len(names) < len(model.graph.nodes):
        counted = Counter(node.name for node in model.graph.nodes)
        twice = [name for name, count in counted.items() if count > 1]
        what = f"Several nodes have the name {listed([in_a_line(name) for name in twice])}: {_NOT_LOADED}."
        yield model.finding(what, _EXPORT_AGAIN, PROBLEM, STRUCTURE, twice)
    if _OTHER_CHARACTERS.search("".join(names)) or _NO_FIRST & {name[:1] for name in names}:
        wrong = [name for name in names if not _NAME.fullmatch(name)]
        shown = listed([repr(in_a_line(name)) for name in wrong])
        what = f"TensorFlow takes no node of the name {shown}: {_NOT_LOADED}."
        yield model.finding(what, _EXPORT_AGAIN, PROBLEM, STRUCTURE, wrong)


def _check_inputs(model: ExaminedGraph) -> Iterator[Finding]:
    """Each input: whether there is such an output, and whether it has the type that the operator takes."""
    tensors = _Tensors(model.graph.functions)
    of_nodes = [tensors.kind(node) for node in model.graph.nodes]
    kinds = dict(zip([node.name for node in model.graph.nodes], of_nodes))
    for name in model.graph.sources.misnamed:
        del kinds[name]
    fitting: set[tuple[int, ...]] = set()  # kinds of nodes, each with those of the nodes whose first outputs it takes
    for node, kind in zip(model.graph.nodes, of_nodes):
        try:
            together = (kind, *[kinds[tensor] for tensor in node.inputs])
        except KeyError:  # NODE:NUMBER, ^NODE, or a node that is not there
            yield from _check_inputs_of(model, node, tensors)
            continue
        if together not in fitting:
            found = list(_check_inputs_of(model, node, tensors))
            yield from found
            if not found:
                fitting.add(together)


def _check_inputs_of(model: ExaminedGraph, node: NodeDef, tensors: _Tensors) -> Iterator[Finding]:
    wanted, sources = tensors.of(node)[0], model.graph.sources
    before = [tensor.startswith("^") for tensor in node.inputs]
    data = before.count(False)
    if not all(before[data:]):
        yield _wrong(model, node, "has an input after one that only runs before it (^NODE)")
    for at, tensor in enumerate(node.inputs):
        source = sources[tensor]
        if source is None:
            yield _wrong(model, node, f"has the input {in_a_line(tensor)}, and there is no such node")
        elif not before[at]:
            trouble = _trouble(tensor, tensor.partition(":")[2], tensors.of(source)[1], _nth(wanted, at))
            if trouble:
                yield _wrong(model, node, trouble)
    yield from _check_count(model, node, wanted, data)


class _Tensors:
    """The types of the inputs and the outputs of nodes, worked out once for each kind: those of which all is alike."""

    def __init__(self, functions: Mapping[str, FunctionDef]) -> None:
        self._functions = functions
        self._deciding: dict[str, list[str]] = {}
        self._kinds: dict[tuple[AttributeBytes | str | None, ...], int] = {}
        self._types: list[tuple[Runs | None, Runs | None]] = []

    def kind(self, node: NodeDef) -> int:
        """A number that nodes share which take and give the same types."""
        deciding = self._deciding.get(node.op)
        if deciding is None:
            deciding = self._deciding[node.op] = list(deciding_attributes(node.op, self._functions))
        key = (node.op, *[node.attributes.get(name) for name in deciding])
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = len(self._types)
            try:
                self._types.append((input_runs(node, self._functions), output_runs(node, self._functions)))
            except ModelFileError:
                self._types.append((None, None))
        return kind

    def of(self, node: NodeDef) -> tuple[Runs | None, Runs | None]:
        """None where the operator is not known, or an attribute is missing that says it, which is found elsewhere."""
        return self._types[self.kind(node)]


def _nth(runs: Runs | None, number: int) -> str:
    """The type of the input or output with that number, with & for a reference; "" where it is not known."""
    for run in runs or ():
        if number < run.count:
            return run.types[number % len(run.types)] + ("&" if run.is_reference else "")
        number -= run.count
    return ""


def _trouble(tensor: str, number: str, there: Runs | None, wanted: str) -> str:
    """What is wrong with an input, an output NODE:NUMBER of the types `there`; "" where nothing is."""
    if there is None:
        return ""
    if number and not (number.isascii() and number.isdigit()):
        return f"has the input {in_a_line(tensor)}, which is not of the form NODE:NUMBER"
    index = int(number[:10]) if number else 0
    given = _nth(there, index)
    if not given:
        return f"has the input {in_a_line(tensor)}, and that node has {count_of(there)} outputs"
    if wanted in ("", given, given.rstrip("&")):
        return ""
    return f"takes {_typed(wanted)}, and its input {in_a_line(tensor)} is {_typed(given)}"


def _typed(name: str) -> str:
    return f"a reference to {name.rstrip('&')}" if name.endswith("&") else name


def _check_count(model: ExaminedGraph, node: NodeDef, wanted: Runs | None, there: int) -> Iterator[Finding]:
    """How many inputs a node has: those that are too many it refuses, for one that lacks it ends the process."""
    if wanted is None or there == count_of(wanted):
        return
    what = f"has {there} inputs, and its operator {in_a_line(node.op)} takes {count_of(wanted)}"
    if there > count_of(wanted):
        yield _wrong(model, node, what)
    elif model.effect([node.name])[0] == PROBLEM:
        yield _wrong(model, node, what, _ENDED)
    else:
        yield _wrong(model, node, what, "no request reaches it", NOTE)


def _wrong(
    model: ExaminedGraph, node: NodeDef, what: str, effect: str = _NOT_LOADED, severity: str = PROBLEM
) -> Finding:
    return model.finding(f"The node {in_a_line(node.name)} {what}: {effect}.", _EXPORT_AGAIN, severity, STRUCTURE)


def _check_functions(model: ExaminedGraph) -> Iterator[Finding]:
    """Functions that are called and missing, and what their nodes take that is not there."""
    without: set[int] = set()  # attributes that name none, which nodes share where they have the same
    for where, node in model.all_nodes():
        if id(node.attributes) in without:
            continue
        calls = node.calls
        if not calls:
            without.add(id(node.attributes))
            continue
        missing = [in_a_line(name) for name in calls if name not in model.graph.functions]
        if missing and node.op != "SymbolicGradient":  # which may name an operator
            severity, effect = model.effect(functions=[where]) if where else (PROBLEM, _NOT_LOADED)
            what = f"The node {named([(where, node)])[0]} calls the function {listed(missing)}"
            yield model.finding(f"{what}, which the graph does not have: {effect}.", _EXPORT_AGAIN, severity, STRUCTURE)
    for name, function in model.graph.functions.items():
        trouble = _trouble_within(function)
        if trouble:
            severity, effect = model.effect(functions=[name])
            severity = WARNING if severity == NOTE else severity
            what = f"The function {in_a_line(name)} is not whole: {trouble}: {effect}."
            yield model.finding(what, _EXPORT_AGAIN, severity, STRUCTURE)


def _trouble_within(function: FunctionDef) -> str:
    """The first input or result of a function that is neither an argument of it nor one of its nodes; "" for none."""
    there = {name for name, _ in function.inputs} | {node.name for node in function.nodes}
    for node in function.nodes:
        for tensor in node.inputs:
            if node_of(tensor) not in there:
                return f"its node {in_a_line(node.name)} has the input {in_a_line(tensor)}, which is not there"
    for output, _ in function.outputs:
        result = function.returns.get(output)
        if result is None or node_of(result) not in there:
            return f"its result {in_a_line(output)} comes from {in_a_line(result or 'nothing')}, which is not there"
    return ""


def _cycle(graph: GraphDef) -> list[str]:
    """Nodes that wait for each other, in order; none where a session could run the graph.

    A loop of TensorFlow 1 runs through a NextIteration, whose value comes from the round before.
    """
    sources = graph.sources
    done = {name for name, node in graph.by_name.items() if not node.inputs or node.op in _BACK_EDGES}
    done -= sources.misnamed

    def first_need(node: NodeDef) -> str | None:
        """The first node that it waits for."""
        for source in map(sources.__getitem__, node.inputs):
            if source is not None and source.name not in done:
                return source.name
        return None

    waiting: dict[str, list[NodeDef]] = {}  # each for one of its needs only: TensorFlow writes most nodes after all
    for name, first in graph.by_name.items():
        if name in sources.misnamed:
            continue
        if name not in waiting and done.issuperset(first.inputs):
            done.add(name)
            continue
        ready = [first]
        while ready:
            node = ready.pop()
            need = first_need(node)
            if need is None:
                done.add(node.name)
                ready += waiting.pop(node.name, ())
            else:
                waiting.setdefault(need, []).append(node)
    stuck = next((node for nodes in waiting.values() for node in nodes), None)
    walked: dict[str, int] = {}
    while stuck is not None and stuck.name not in walked:
        walked[stuck.name] = len(walked)
        stuck = graph.by_name.get(first_need(stuck) or "")
    return [] if stuck is None else list(walked)[walked[stuck.name] :][::-1]

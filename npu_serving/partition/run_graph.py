"""The graph that a session runs for a request, as TF Adapter gets to see it: nodes by number, and what leads where.

TensorFlow leaves out what the outputs don't need, puts an _Arg in place of what is fed, and puts the nodes of a
function in place of its call: NODE of the function that CALL calls becomes CALL/NODE (core/graph/subgraph.cc;
core/grappler/optimizers/function_optimizer.cc). What else its optimizers change is not foreseen here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from npu_serving.errors import ModelFileError
from npu_serving.models.graph_def import FunctionDef, GraphDef, NodeDef
from npu_serving.models.tensor_types import input_runs, output_runs, split_tensor, unknown_node

FED = -1
"""The number of what a request feeds."""
CALLS = frozenset(("PartitionedCall", "StatefulPartitionedCall"))
TURN = frozenset(("NextIteration", "RefNextIteration"))

_MOST_NODES = 1_000_000
_DEEPEST_CALLS = 100


@dataclass(frozen=True)
class RunInput:
    """An input of a node: the number of the node that it comes from, and its type; "" for one that is only an order."""

    node: int
    data_type: str
    is_control: bool = False
    is_reference: bool = False


@dataclass(frozen=True)
class RunGraph:
    """Nodes with the names that they have when they run, and the inputs of each."""

    names: Sequence[str]
    nodes: Sequence[NodeDef]
    inputs: Sequence[Sequence[RunInput]]
    fetched: frozenset[int]
    functions: Mapping[str, FunctionDef]

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """The numbers of the nodes, by name."""
        return {name: number for number, name in enumerate(self.names)}

    @cached_property
    def after(self) -> Sequence[Sequence[int]]:
        """The nodes that each leads to, once for each edge."""
        found: list[list[int]] = [[] for _ in self.names]
        for number, inputs in enumerate(self.inputs):
            for each in inputs:
                if each.node != FED:
                    found[each.node].append(number)
        return found

    @cached_property
    def turns(self) -> frozenset[int]:
        """The nodes that end a round of a loop."""
        return frozenset(number for number, node in enumerate(self.nodes) if node.op in TURN)

    def output_types(self, number: int) -> tuple[str, ...]:
        """The types of a node's outputs; none where they aren't known."""
        node = self.nodes[number]
        known, key = self._output_types, (node.op, id(node.attributes))
        if key not in known:
            try:
                runs = output_runs(node, self.functions) or ()
            except ModelFileError:
                runs = ()
            known[key] = tuple(kind for run in runs for kind in run.types)
        return known[key]

    @cached_property
    def _output_types(self) -> dict[tuple[str, int], tuple[str, ...]]:
        """Those that were asked for: nodes of one operator often share their attributes."""
        return {}


def run_graph(graph: GraphDef, *, feeds: Iterable[str], fetches: Iterable[str]) -> RunGraph:
    """What runs when these tensors (NODE or NODE:NUMBER) are fed and those are asked for.

    RequestError for a node that the graph lacks; ModelFileError for inputs that name nothing.
    """
    reading = _RunReading(graph, {split_tensor(name) for name in feeds})
    fetched = [reading.fetched(name) for name in fetches]
    return reading.finished({each for each in fetched if each != FED})


@dataclass(frozen=True, eq=False)
class _CallScope:
    """Where names of nodes count: the graph, or a function that a node calls; with the nodes that it has."""

    prefix: str
    nodes: Mapping[str, NodeDef]
    function: FunctionDef | None = None
    call: NodeDef | None = None
    outer: _CallScope | None = None
    depth: int = 0

    @property
    def arguments(self) -> Sequence[str]:
        return [name for name, _ in self.function.inputs] if self.function is not None else ()


class _RunReading:
    """The graph on the way; nodes get their numbers as they are found to be needed."""

    def __init__(self, graph: GraphDef, feeds: set[tuple[str, int]]) -> None:
        self._graph, self._feeds = graph, feeds
        self._outermost = _CallScope("", graph.by_name)
        self._numbers: dict[str, int] = {}
        self._found: list[tuple[_CallScope, NodeDef]] = []
        self._called: dict[str, _CallScope | None] = {}
        self._types: dict[tuple[str, int], Sequence[tuple[str, bool]]] = {}

    def fetched(self, tensor: str) -> int:
        """The number of the node that an output comes from."""
        name = split_tensor(tensor)[0]
        if name not in self._outermost.nodes:
            raise unknown_node(name, self._outermost.nodes, self._graph.file)
        return self._source(self._outermost, tensor)

    def finished(self, fetched: set[int]) -> RunGraph:
        """With all that the nodes so far need."""
        inputs: list[list[RunInput]] = []
        while len(inputs) < len(self._found):
            scope, node = self._found[len(inputs)]
            types = self._input_types(node)
            found = []
            for place, text in enumerate(node.inputs):
                if text.startswith("^"):
                    found += [RunInput(number, "", is_control=True) for number in self._waited_for(scope, text[1:])]
                else:
                    kind, is_reference = types[place] if place < len(types) else ("", False)
                    found.append(RunInput(self._source(scope, text), kind, is_reference=is_reference))
            inputs.append(found)
            if len(self._found) > _MOST_NODES:
                raise ModelFileError(
                    f"{self._graph.file} has over {_MOST_NODES} nodes once functions are put in place of their calls.",
                    cause="its functions call each other very often",
                    cure="export the model again, by TensorFlow 1.15",
                )
        names = [scope.prefix + node.name for scope, node in self._found]
        nodes = [node for _, node in self._found]
        return RunGraph(names, nodes, inputs, frozenset(fetched), self._graph.functions)

    def _input_types(self, node: NodeDef) -> Sequence[tuple[str, bool]]:
        key = (node.op, id(node.attributes))
        if key not in self._types:
            try:
                runs = input_runs(node, self._graph.functions) or ()
            except ModelFileError:  # an operator of another release, or the body of a function with types of its call
                runs = ()
            self._types[key] = [
                (kind, run.is_reference) for run in runs for _ in range(run.times) for kind in run.types
            ]
        return self._types[key]

    def _source(self, scope: _CallScope, text: str) -> int:
        """The number of the node that an input comes from, or FED."""
        at: _CallScope = scope
        for _ in range(_DEEPEST_CALLS * 2):
            name, _, rest = text.partition(":")
            if at.function is not None and name in at.arguments and at.outer is not None and at.call is not None:
                data = [each for each in at.call.inputs if not each.startswith("^")]
                place = at.arguments.index(name)
                if place >= len(data):
                    raise self._damaged(at, text)
                text, at = data[place], at.outer
                continue
            node = at.nodes.get(name)
            if node is None:
                raise self._damaged(at, text)
            if at.outer is None and ((name, int(rest) if rest.isdecimal() else 0) in self._feeds):
                return FED
            inner = self._inlined(at, node)
            if inner is None or inner.function is None:
                return self._number(at, node)
            last = rest.rpartition(":")[2]
            place = int(last) if last.isdecimal() else 0
            outputs = inner.function.outputs
            if place >= len(outputs) or outputs[place][0] not in inner.function.returns:
                raise self._damaged(at, text)
            text, at = inner.function.returns[outputs[place][0]], inner
        raise self._damaged(at, text)

    def _waited_for(self, scope: _CallScope, name: str) -> list[int]:
        """The numbers of the nodes that are waited for where one waits for `name`."""
        if scope.function is not None and name in scope.arguments:
            sources = [self._source(scope, name)]
        else:
            node = scope.nodes.get(name)
            if node is None:
                raise self._damaged(scope, f"^{name}")
            if scope.outer is None and (name, 0) in self._feeds:
                return []
            inner = self._inlined(scope, node)
            if inner is None or inner.function is None:
                sources = [self._number(scope, node)]
            else:
                sources = [self._source(inner, text) for text in inner.function.returns.values()]
        return [each for each in dict.fromkeys(sources) if each != FED]

    def _number(self, scope: _CallScope, node: NodeDef) -> int:
        name = scope.prefix + node.name
        if name not in self._numbers:
            self._numbers[name] = len(self._found)
            self._found.append((scope, node))
        return self._numbers[name]

    def _inlined(self, scope: _CallScope, node: NodeDef) -> _CallScope | None:
        """The function that is put in place of the node; None where the node stays."""
        if node.op not in CALLS and node.op not in self._graph.functions:
            return None
        name = scope.prefix + node.name
        if name not in self._called:
            value = node.value("f")
            called = value.value.name if value is not None and value.kind == "func" else node.op
            function = self._graph.functions.get(called)
            is_plain = function is not None and not any("*" in kind for _, kind in function.inputs + function.outputs)
            if function is None or not is_plain or not function.outputs or scope.depth >= _DEEPEST_CALLS:
                self._called[name] = None
            else:
                nodes = {each.name: each for each in function.nodes}
                self._called[name] = _CallScope(f"{name}/", nodes, function, node, scope, scope.depth + 1)
        return self._called[name]

    def _damaged(self, scope: _CallScope, text: str) -> ModelFileError:
        where = f"the function {scope.function.name}" if scope.function is not None else "the graph"
        return ModelFileError(
            f"{self._graph.file} is damaged: a node of {where} needs {text}, which is not there.",
            cause="the graph was cut to a part of its nodes, or not written by TensorFlow",
            cure="export the model again",
        )

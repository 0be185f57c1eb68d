"""The part of a graph that is compiled: from the inputs that a client sends to the outputs that it gets, and no more.

An input need not be a placeholder of the graph: what comes before it is left out, as for the guide's --new_input_nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from npu_serving.conversion.graph_pieces import graph_message, pieces_of
from npu_serving.conversion.om_request import ChosenTensor
from npu_serving.errors import RequestError
from npu_serving.models.attribute_values import AttributeBytes, AttributeValue, encode
from npu_serving.models.graph_def import GraphDef, NodeDef
from npu_serving.models.pieces import Piece
from npu_serving.models.tensor_types import split_tensor

_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")
_WITH_DEFAULT = "PlaceholderWithDefault"
_MOST_SHOWN = 5


@dataclass(frozen=True)
class PartOfGraph:
    """The nodes of a part, in the graph's order, the placeholders first; `nodes_of` has those by the inputs' tensors.

    `unused` are the inputs that no output depends on, `given_back` the outputs that are an input themselves.
    """

    graph: GraphDef
    nodes: tuple[NodeDef, ...]
    nodes_of: Mapping[str, str]
    unused: frozenset[str]
    given_back: Mapping[str, str]
    functions: frozenset[str]


def part_of_graph(
    graph: GraphDef,
    inputs: Sequence[ChosenTensor],
    outputs: Iterable[str],
    shapes: Mapping[str, tuple[int, ...] | None],
    names: Mapping[str, str] | None = None,
) -> PartOfGraph:
    """The part between these inputs and outputs. `shapes` and, where they are chosen already, the `names` of the nodes
    that stand for them are the inputs', by their tensors.

    RequestError for an output that the graph lacks, and for a placeholder that an output depends on and no input is.
    """
    nodes_of = dict(names) if names is not None else _names_of_inputs(graph, inputs)
    given_back = {tensor: nodes_of[tensor] for tensor in outputs if tensor in nodes_of}
    wanted = [split_tensor(tensor)[0] for tensor in outputs if tensor not in given_back]
    needed, used = _needed(graph, wanted, nodes_of)
    _refuse_other_placeholders(graph, needed, [each.tensor for each in inputs])
    placeholders = [
        NodeDef(nodes_of[each.tensor], "Placeholder", (), "", _placeholder(each.data_type, shapes.get(each.tensor)))
        for each in inputs
        if each.tensor in used
    ]
    # In the graph's order, in which ATC numbers the inputs that --input_shape does not name.
    rest = [_rewired(node, nodes_of) for node in graph.nodes if node.name in needed]
    called = frozenset(_functions(graph, rest))
    unused = frozenset(each.tensor for each in inputs if each.tensor not in used)
    return PartOfGraph(graph, (*placeholders, *rest), nodes_of, unused, given_back, called)


def graph_pieces(part: PartOfGraph) -> list[Piece]:
    """The GraphDef with that part, without devices, which the compiler places itself."""
    graph = part.graph
    with pieces_of(graph) as parts:
        nodes = [piece for node in part.nodes for piece in parts.node(node)]
        called = parts.functions((graph.functions[name] for name in sorted(part.functions)), graph.functions)
    return graph_message([*nodes, *called], graph.versions)


def _names_of_inputs(graph: GraphDef, inputs: Sequence[ChosenTensor]) -> dict[str, str]:
    """The node that stands for each input: its own, or a new one where that has outputs beside this one."""
    numbers: dict[str, set[int]] = {}
    for node in graph.nodes:
        for name, number in _sources(node):
            numbers.setdefault(name, set()).add(number)
    found: dict[str, str] = {}
    for each in inputs:
        name, number = split_tensor(each.tensor)
        others = numbers.get(name, set()) - {number, _CONTROL}
        found[each.tensor] = name if not number and not others else _free(f"{name}_{number}", graph)
    return found


_CONTROL = -1


def _sources(node: NodeDef) -> Iterator[tuple[str, int]]:
    """The nodes that it waits for, and the number of the output; _CONTROL for none."""
    for each in node.inputs:
        if each.startswith("^"):
            yield each[1:], _CONTROL
        else:
            yield split_tensor(each)


def _free(name: str, graph: GraphDef) -> str:
    number, found = 0, name
    while found in graph.by_name:
        number += 1
        found = f"{name}_{number}"
    return found


def _needed(graph: GraphDef, wanted: Sequence[str], nodes_of: Mapping[str, str]) -> tuple[set[str], set[str]]:
    """The nodes that these need, and the inputs (by their tensors) that they use; loops are gone through once."""
    tensors = {split_tensor(tensor): tensor for tensor in nodes_of}
    replaced = {split_tensor(tensor)[0] for tensor, node in nodes_of.items() if split_tensor(tensor)[0] == node}
    needed: set[str] = set()
    used: set[str] = set()
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        node = graph.by_name.get(name)
        if node is None:
            raise RequestError(
                f"The graph has no node {name!r}, which an output depends on.",
                cause="the model was cut off, or is another one",
                cure="./inv graph-nodes shows the names; export the model again",
            )
        needed.add(name)
        if node.op == _WITH_DEFAULT:
            node = _as_identity(node)
        for source, number in _sources(node):
            tensor = tensors.get((source, number if number != _CONTROL else 0))
            if tensor is not None and (number != _CONTROL or source in replaced):
                used.add(tensor)
            elif source not in needed:
                waiting.append(source)
    return needed - replaced, used


def _as_identity(node: NodeDef) -> NodeDef:
    """A placeholder with a default that nobody feeds gives the default."""
    kind = node.attributes.get("dtype", encode(AttributeValue("type", "float32")))
    return NodeDef(node.name, "Identity", node.inputs, "", {"T": kind})


def _refuse_other_placeholders(graph: GraphDef, needed: set[str], inputs: Sequence[str]) -> None:
    others = sorted(name for name in needed if graph.by_name[name].op in _PLACEHOLDERS)
    if not others:
        return
    shown = ", ".join(others[:_MOST_SHOWN]) + (
        f" and {len(others) - _MOST_SHOWN} more" if len(others) > _MOST_SHOWN else ""
    )
    raise RequestError(
        f"The outputs depend on {shown}, which {'is' if len(others) == 1 else 'are'} not among the inputs.",
        cause=f"the inputs are {', '.join(inputs) or 'none'}; a placeholder has no value of its own",
        cure=f'add it to the inputs: --new-input-nodes "…;{others[0].rpartition("/")[2]}:TYPE:{others[0]}:0"',
    )


def _rewired(node: NodeDef, nodes_of: Mapping[str, str]) -> NodeDef:
    """The node, fed by the placeholders of the inputs, and without a device."""
    whole = _as_identity(node) if node.op == _WITH_DEFAULT else node
    inputs = tuple(_rewired_input(each, nodes_of) for each in whole.inputs)
    return NodeDef(whole.name, whole.op, inputs, "", whole.attributes)


def _rewired_input(text: str, nodes_of: Mapping[str, str]) -> str:
    if text.startswith("^"):
        return text
    name, number = split_tensor(text)
    return nodes_of.get(f"{name}:{number}", text)


def _placeholder(data_type: str, shape: tuple[int, ...] | None) -> dict[str, AttributeBytes]:
    return {
        "dtype": encode(AttributeValue("type", data_type)),
        "shape": encode(AttributeValue("shape", shape)),
    }


def _functions(graph: GraphDef, nodes: Iterable[NodeDef]) -> Iterator[str]:
    """The functions that these nodes call, and those that they call."""
    found: set[str] = set()
    waiting = [name for node in nodes for name in (node.op, *node.calls)]
    while waiting:
        name = waiting.pop()
        if name in graph.functions and name not in found:
            found.add(name)
            yield name
            waiting += [called for node in graph.functions[name].nodes for called in (node.op, *node.calls)]

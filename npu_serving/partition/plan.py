"""How a model's graph is divided between the NPU and the CPU: which nodes where, why, and the in_out_pair for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npu_serving.cann.operator_list import COMPUTES_NOTHING, OperatorLists
from npu_serving.options.in_out_pair import InOutPair
from npu_serving.partition.best_part import BestPart, WeighedGraph, best_part, loops_and_nodes, pieces
from npu_serving.partition.npu_rules import CONSTANT, VARIABLES, Sides, sides_of
from npu_serving.partition.ranges import RangeGraph, ranges_of, taken_in
from npu_serving.partition.run_graph import FED, RunGraph

FLEETING = COMPUTES_NOTHING | {"StopGradient", "PreventGradient", "Snapshot"}
"""Nodes that only pass a value on: TensorFlow's optimizers may take them out before the adapter sees the graph."""


@dataclass(frozen=True)
class Part:
    """Nodes that the NPU computes in one go, the ranges that say so, and the values that cross its border."""

    nodes: frozenset[int]
    pairs: tuple[InOutPair, ...]
    values_in: int
    values_out: int
    is_best: bool = True


@dataclass(frozen=True)
class Division:
    """A graph divided. `parts` are in the order of their worth.

    `rest` is what one part more would compute; 0 also where the search for the parts was cut short. `by_itself` says
    how often the adapter would go over to the NPU if it were not told, at least.
    """

    graph: RunGraph
    sides: Sides
    parts: tuple[Part, ...]
    rest: int
    by_itself: int

    @property
    def on_npu(self) -> frozenset[int]:
        """All nodes of the parts."""
        return frozenset().union(*(part.nodes for part in self.parts))

    @property
    def able(self) -> frozenset[int]:
        """The nodes, constants aside, that the adapter could give to the NPU."""
        numbers = range(len(self.graph.nodes))
        return frozenset(
            number for number in numbers if number not in self.sides.hindrances and number not in self.sides.constants
        )

    @property
    def counted(self) -> int:
        """How many nodes there are, constants aside: these go along with who reads them."""
        return len(self.graph.nodes) - len(self.sides.constants)

    @property
    def pairs(self) -> tuple[InOutPair, ...]:
        """The ranges of all parts: those of one node first, as they keep the others' ways short."""
        found = [pair for part in self.parts for pair in part.pairs]
        return tuple(sorted(found, key=lambda pair: pair.firsts != pair.lasts))

    @property
    def needs_mixed(self) -> bool:
        """Whether anything stays on the CPU that computes something."""
        return any(self.graph.nodes[number].op not in COMPUTES_NOTHING for number in self.sides.hindrances)

    @property
    def needs_pair(self) -> bool:
        """Whether the adapter would divide the graph in another way by itself."""
        left = (self.graph.nodes[number].op for number in self.able - self.on_npu)
        return any(operator not in FLEETING for operator in left)

    def variables_apart(self) -> tuple[tuple[str, str], ...]:
        """Variables that a node on the CPU uses, with that node; the adapter fails each run for one.

        CopyVarsBetweenGeOp() of its om_partition_subgraphs_pass.cc.
        """
        on_npu = self.on_npu
        return tuple(
            (self.graph.names[each.node], self.graph.names[number])
            for number, inputs in enumerate(self.graph.inputs)
            if number not in on_npu
            for each in inputs
            if each.node != FED
            and self.graph.nodes[each.node].op in VARIABLES
            and (each.is_reference or each.data_type == "resource")
        )


def divided(graph: RunGraph, lists: OperatorLists, *, parts: int = 1, variables_on_host: bool = False) -> Division:
    """The best division with at most so many parts: the first is the best there is, each further one of what is left.

    The worth of a part is the heavy operators in it (CANN's isHeavy); of equals, all that compute something; then all.
    More parts compute more on the NPU, and each costs a request one more way there and back; so does what the adapter
    does by itself, which takes in all that it can.
    """
    sides = sides_of(graph, lists, variables_on_host=variables_on_host)
    numbers, edges = _without_constants(graph, sides)
    worth = _worth(graph, sides, lists, numbers)
    after = _with_loops(edges, sides, numbers)
    by_itself = _levels(after, worth)
    found: list[Part] = []
    while True:
        is_exact = all(part.is_best for part in found)
        chosen = best_part(WeighedGraph(after, worth)) if is_exact or len(found) < parts else BestPart(frozenset())
        nodes = _trimmed({numbers[each] for each in chosen.nodes}, graph)
        if not nodes or len(found) == parts:
            rest = sum(graph.nodes[node].op not in FLEETING for node in nodes)
            return Division(graph, sides, tuple(found), rest, by_itself)
        found.append(_part(nodes, graph, chosen.is_best))
        # What is in one part already is one node that no other part may lead around.
        members = [*chosen.nodes]
        for node, following in zip(members, members[1:] + members[:1]):
            worth[node] = None
            after[node] = [*after[node], following]


def _without_constants(graph: RunGraph, sides: Sides) -> tuple[list[int], list[list[int]]]:
    """The nodes that have a place of their own, and what leads where among them.

    A constant is copied to wherever it is read, unless it waits for something: then it stands in a loop or a branch.
    """
    numbers = [
        number
        for number in range(len(graph.nodes))
        if number not in sides.constants or any(each.node != FED for each in graph.inputs[number])
    ]
    place = {number: at for at, number in enumerate(numbers)}
    return numbers, [[place[other] for other in graph.after[number] if other in place] for number in numbers]


def _worth(graph: RunGraph, sides: Sides, lists: OperatorLists, numbers: Sequence[int]) -> list[int | None]:
    unit = len(numbers) + 1
    found: list[int | None] = []
    for number in numbers:
        operator = graph.nodes[number].op
        computes = operator not in FLEETING and operator != CONSTANT
        worth = 1 + unit * computes + unit * unit * (operator in lists.heavy)
        found.append(None if number in sides.hindrances else worth)
    return found


def _with_loops(after: Sequence[Sequence[int]], sides: Sides, numbers: Sequence[int]) -> list[Sequence[int]]:
    """With the nodes of a loop tied to each other: it is computed on one side as a whole."""
    tied: dict[str, list[int]] = {}
    for at, number in enumerate(numbers):
        if number in sides.loops:
            tied.setdefault(sides.loops[number], []).append(at)
    found: list[Sequence[int]] = [*after]
    for members in tied.values():
        for node, following in zip(members, members[1:] + members[:1]):
            found[node] = [*found[node], following]
    return found


def _levels(after: Sequence[Sequence[int]], worth: Sequence[int | None]) -> int:
    """How often the longest way through the graph comes to the NPU: at least so many parts are needed for all of it."""
    level = [0] * len(after)
    on_npu = [each is not None for each in worth]
    for group in loops_and_nodes(after):
        is_on = all(on_npu[node] for node in group)
        highest = max(*(level[node] for node in group), int(is_on))
        for node in group:
            on_npu[node], level[node] = is_on, highest
            for other in after[node]:
                level[other] = max(level[other], highest + (on_npu[other] and not is_on))
    return max(level, default=0)


def _trimmed(nodes: set[int], graph: RunGraph) -> set[int]:
    """Without what only passes a value on at the beginnings and the ends, and without pieces that compute nothing."""
    before: dict[int, int] = dict.fromkeys(nodes, 0)
    behind: dict[int, int] = dict.fromkeys(nodes, 0)
    for node in nodes:
        for other in graph.after[node]:
            if other in nodes:
                before[other] += 1
                behind[node] += 1
    left = set(nodes)
    passing = FLEETING | {CONSTANT}
    waiting = [node for node in nodes if not (before[node] and behind[node]) and graph.nodes[node].op in passing]
    while waiting:
        node = waiting.pop()
        if node not in left:
            continue
        left.discard(node)
        for other in graph.after[node]:
            if other in left:
                before[other] -= 1
                if not before[other] and graph.nodes[other].op in passing:
                    waiting.append(other)
        for each in graph.inputs[node]:
            if each.node in left:
                behind[each.node] -= 1
                if not behind[each.node] and graph.nodes[each.node].op in passing:
                    waiting.append(each.node)
    return {
        node
        for piece in pieces(left, graph.after)
        if any(graph.nodes[each].op not in passing for each in piece)
        for node in piece
    }


def _part(nodes: set[int], graph: RunGraph, is_best: bool) -> Part:
    fleeting = frozenset(node for node in nodes if graph.nodes[node].op in FLEETING and node not in graph.fetched)
    pairs = ranges_of(nodes, RangeGraph(graph.names, graph.after, graph.turns, graph.fetched, fleeting))
    into = {
        (each.node, number if each.node == FED else -1)
        for number in nodes
        for each in graph.inputs[number]
        if not each.is_control and each.node not in nodes and not _is_constant(graph, each.node)
    }
    out_of = {
        each.node
        for number, inputs in enumerate(graph.inputs)
        if number not in nodes
        for each in inputs
        if not each.is_control and each.node in nodes
    }
    return Part(frozenset(nodes), pairs, len(into), len(out_of | (graph.fetched & nodes)), is_best)


def _is_constant(graph: RunGraph, number: int) -> bool:
    return number != FED and graph.nodes[number].op == CONSTANT


def taken_by(graph: RunGraph, pairs: Sequence[InOutPair]) -> set[int]:
    """The nodes that ranges take in of another graph, such as that of another signature."""
    return taken_in(pairs, graph.numbers, graph.after)


def hindered_operators(division: Division) -> Mapping[tuple[str, str], int]:
    """How many nodes of each operator stay on the CPU for each reason, the most frequent first."""
    counts = Counter(
        (division.graph.nodes[number].op, hindrance.why) for number, hindrance in division.sides.hindrances.items()
    )
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

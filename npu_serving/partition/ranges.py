"""A part of a graph as ranges for in_out_pair, from first nodes to last ones, and which nodes such ranges take in.

The adapter goes from each first node along every way, and takes in all nodes of a way that comes to a last node or to
one that it has taken already; there the way ends (FindNodesInPaths() of its om_partition_subgraphs_pass.cc). It does
not remember the ways that come to neither: behind a node of which a way leads past the last ones it can go on for
hours. Hence the form that is written here: each node of which a way leads out of the part is a last one, and each
node that only last ones lead to is a first one. Then no way leaves the part, and each node is gone through once.

A first node that the graph lacks costs nothing, but for one last node that it lacks the adapter drops the whole pair,
silently. TensorFlow's optimizers, which run before the adapter, take out nodes that only pass a value on. Where such a
node has to be a last one, it is a pair by itself, before the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from npu_serving.options.in_out_pair import InOutPair
from npu_serving.partition.best_part import pieces


@dataclass(frozen=True)
class RangeGraph:
    """What of a graph the ranges depend on: nodes by number.

    `turns` are those that end a round of a loop, `fetched` those whose values are answered, `fleeting` those that may
    be gone before the adapter sees the graph.
    """

    names: Sequence[str]
    after: Sequence[Sequence[int]]
    turns: Set[int] = frozenset()
    fetched: Set[int] = frozenset()
    fleeting: Set[int] = frozenset()


def ranges_of(part: Iterable[int], graph: RangeGraph) -> tuple[InOutPair, ...]:
    """The pairs that take in exactly the nodes of a convex part: one for each of its pieces, the largest first."""
    alone: list[InOutPair] = []
    found: list[InOutPair] = []
    for piece in sorted(pieces(part, graph.after), key=lambda each: (-len(each), each)):
        firsts, lasts = _ends(piece, graph)
        kept = [node for node in lasts if node not in graph.fleeting]
        if kept:
            alone += [_pair(graph, [node], [node]) for node in lasts if node in graph.fleeting]
            lasts = kept
        found.append(_pair(graph, firsts, lasts))
    return (*alone, *found)


def _ends(piece: Sequence[int], graph: RangeGraph) -> tuple[list[int], list[int]]:
    """The first nodes and the last ones; where one may be gone, those too that would be in its place."""
    within = set(piece)
    before: dict[int, list[int]] = {node: [] for node in piece}
    for node in piece:
        for other in graph.after[node]:
            if other in within:
                before[other].append(node)
    lasts = {
        node
        for node in piece
        if node in graph.turns
        or node in graph.fetched
        or not graph.after[node]
        or not within.issuperset(graph.after[node])
    }
    _add_beside(lasts, graph.fleeting, before)
    passed_on = {other for node in piece if node not in lasts for other in graph.after[node]}
    firsts = within - passed_on
    _add_beside(firsts, graph.fleeting, {node: [o for o in graph.after[node] if o in within] for node in piece})
    return sorted(firsts), sorted(lasts)


def _add_beside(ends: set[int], fleeting: Set[int], neighbours: Mapping[int, Sequence[int]]) -> None:
    """Adds to the ends what comes in the place of those that may be gone."""
    waiting = [node for node in ends if node in fleeting]
    while waiting:
        for node in neighbours[waiting.pop()]:
            if node not in ends:
                ends.add(node)
                if node in fleeting:
                    waiting.append(node)


def _pair(graph: RangeGraph, firsts: Iterable[int], lasts: Iterable[int]) -> InOutPair:
    return InOutPair(tuple(graph.names[node] for node in firsts), tuple(graph.names[node] for node in lasts))


def taken_in(pairs: Iterable[InOutPair], names: Mapping[str, int], after: Sequence[Sequence[int]]) -> set[int]:
    """The nodes that these ranges take in of a graph, by the adapter's rule; `names` has the numbers of the nodes."""
    taken: set[int] = set()
    for pair in pairs:
        if any(name not in names for name in pair.lasts):
            continue
        lasts = {names[name] for name in pair.lasts}
        for first in (names[name] for name in pair.firsts if name in names):
            taken |= _on_the_way(first, lasts | taken, after)
    return taken


def _on_the_way(first: int, ends: Set[int], after: Sequence[Sequence[int]]) -> set[int]:
    before: dict[int, list[int]] = {first: []}
    waiting, reached = [first], []
    while waiting:
        node = waiting.pop()
        if node in ends:
            reached.append(node)
            continue
        for other in after[node]:
            if other not in before:
                before[other] = []
                waiting.append(other)
            before[other].append(node)
    found = set(reached)
    while reached:
        for node in before[reached.pop()]:
            if node not in found:
                found.add(node)
                reached.append(node)
    return found

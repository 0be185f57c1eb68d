"""Which nodes of a graph the NPU is to compute in one go: the best part that has no way out of itself and back.

A part is *convex* when no way between two of its nodes leads over a node that is not in it. Only then can it be
computed as one operator: were there such a way, the part would wait for a node that waits for the part.

Of all convex parts of the nodes that the NPU can compute, `best_part` finds one with the most weight; of those with the
same weight, one with the fewest crossings. A crossing is an edge that goes into the part or comes out of it; an edge
that goes past it, from a node that runs before to one that runs after, counts as both: its value waits meanwhile.

This is a cut: each node runs before the part (0), in it (1) or after it (2), no node earlier than one that it needs,
and what the NPU can't compute is 0 or 2. With a variable for "at least 1" and one for "2", the gain is linear in them
and each need an implication: the closure of most gain, found by the largest flow (Picard 1976). Nodes that the same
others run before and after are one node of the cut, so a model's graph, which has few places where the NPU stops,
becomes a small one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

_MOST_STEPS = 1_500_000  # arcs looked at: a second or two
_UNBOUNDED = 1 << 200


@dataclass(frozen=True)
class WeighedGraph:
    """Nodes by number: what needs each, what the NPU's computing it is worth, or None where it can't.

    `after` has the nodes that each leads to; those in a loop stay together, on one side.
    """

    after: Sequence[Sequence[int]]
    worth: Sequence[int | None]


@dataclass(frozen=True)
class BestPart:
    """The nodes of the part; `is_best` is False where the search was cut short, and a better one may be there."""

    nodes: frozenset[int]
    is_best: bool = True


def best_part(graph: WeighedGraph) -> BestPart:
    """The convex part of most worth; no nodes where the NPU can compute none."""
    condensed = _condensed(graph)
    mids = _between(condensed)
    before, behind = _reach(condensed, mids)
    classes, members = _classes(condensed, before, behind)
    cut = _Cut(condensed, classes, len(members))
    chosen = cut.part(cut.exact_worth())
    if chosen is not None:
        chosen = cut.part(cut.worth_and_crossings()) or chosen
    numbers = _quick(condensed, [*mids]) if chosen is None else [part for each in chosen for part in members[each]]
    nodes = (node for number in numbers for node in condensed.groups[number])
    return BestPart(frozenset(nodes), is_best=chosen is not None)


@dataclass(frozen=True)
class _Condensed:
    """The graph with each loop as one node, in an order in which no edge leads back."""

    groups: Sequence[Sequence[int]]
    after: Sequence[Sequence[int]]
    """With one entry for each edge, so twice where there are two."""
    worth: Sequence[int | None]


def _condensed(graph: WeighedGraph) -> _Condensed:
    groups = [*loops_and_nodes(graph.after)]
    of = [0] * len(graph.after)
    for number, group in enumerate(groups):
        for node in group:
            of[node] = number
    after: list[list[int]] = []
    worth: list[int | None] = []
    for number, group in enumerate(groups):
        after.append([of[other] for node in group for other in graph.after[node] if of[other] != number])
        worths = [graph.worth[node] for node in group]
        worth.append(None if None in worths else sum(each or 0 for each in worths))
    return _Condensed(groups, after, worth)


def loops_and_nodes(after: Sequence[Sequence[int]]) -> list[list[int]]:
    """The strongly connected components, each after those that lead to it (Tarjan 1972, without recursion)."""
    count = len(after)
    order, low = [-1] * count, [0] * count
    on_stack = bytearray(count)
    stack: list[int] = []
    found: list[list[int]] = []
    at = 0
    for root in range(count):
        if order[root] >= 0:
            continue
        waiting: list[tuple[int, Iterator[int]]] = [(root, iter(after[root]))]
        order[root] = low[root] = at
        at += 1
        stack.append(root)
        on_stack[root] = 1
        while waiting:
            node, others = waiting[-1]
            for other in others:
                if order[other] < 0:
                    order[other] = low[other] = at
                    at += 1
                    stack.append(other)
                    on_stack[other] = 1
                    waiting.append((other, iter(after[other])))
                    break
                if on_stack[other] and order[other] < low[node]:
                    low[node] = order[other]
            else:
                waiting.pop()
                if waiting and low[node] < low[waiting[-1][0]]:
                    low[waiting[-1][0]] = low[node]
                if low[node] == order[node]:
                    group: list[int] = []
                    while not group or group[-1] != node:
                        group.append(stack.pop())
                        on_stack[group[-1]] = 0
                    found.append(group)
    found.reverse()
    return found


def _between(graph: _Condensed) -> dict[int, int]:
    """The nodes that the NPU can't compute and that stand between some that it can, numbered.

    Only these make it choose: all others may run before everything, or after.
    """
    has_before, has_behind = bytearray(len(graph.after)), bytearray(len(graph.after))
    for node, others in enumerate(graph.after):
        leads = graph.worth[node] is not None or has_before[node]
        for other in others:
            has_before[other] |= leads
    for node in range(len(graph.after) - 1, -1, -1):
        has_behind[node] = any(graph.worth[other] is not None or has_behind[other] for other in graph.after[node])
    both = (node for node, worth in enumerate(graph.worth) if worth is None and has_before[node] and has_behind[node])
    return {node: number for number, node in enumerate(both)}


def _reach(graph: _Condensed, mids: dict[int, int]) -> tuple[list[int], list[int]]:
    """Which of `mids` are before each node and which behind it: the same number for the same ones."""
    count = len(graph.after)
    sets, numbers = [0] * count, [0] * count
    before, behind = _Sets(), _Sets()
    for node, others in enumerate(graph.after):
        numbers[node], sets[node] = before.same(sets[node])
        passed = sets[node] | (1 << mids[node]) if node in mids else sets[node]
        for other in others:
            if sets[other] is not passed:
                sets[other] |= passed
    backward = [0] * count
    for node in range(count - 1, -1, -1):
        found = 0
        for other in graph.after[node]:
            if sets_of := backward[other]:
                found = found if found is sets_of else found | sets_of
            if other in mids:
                found |= 1 << mids[other]
        sets[node], backward[node] = behind.same(found)
    return numbers, sets


class _Sets:
    """Sets as the bits of a number, numbered; equal ones are one object, as many nodes have the same."""

    def __init__(self) -> None:
        # By their bytes: the hashes of numbers are the same for too many of those that have all of their lower bits.
        self._known: dict[bytes, tuple[int, int]] = {}

    def same(self, bits: int) -> tuple[int, int]:
        """The number of the set, and the object that was first seen for it."""
        key = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
        return self._known.setdefault(key, (len(self._known), bits))


def _classes(graph: _Condensed, before: list[int], behind: list[int]) -> tuple[list[int], list[list[int]]]:
    """The class of each node, and the nodes of each class: those that the NPU can compute and the same ones limit.

    Of two such nodes no best part has one alone: what keeps the other out would keep out both.
    """
    classes: list[int] = []
    members: list[list[int]] = []
    known: dict[tuple[int, int, int], int] = {}
    for node, worth in enumerate(graph.worth):
        key = (-1 if worth is not None else node, before[node], behind[node])
        number = known.setdefault(key, len(members))
        if number == len(members):
            members.append([])
        classes.append(number)
        members[number].append(node)
    return classes, members


def _quick(graph: _Condensed, mids: Sequence[int]) -> list[int]:
    """A good part where the best one takes too long: the best of those for which the first of `mids` run before it.

    `mids` are in order, so that none of the first is behind one of the others. With the first N before it, a node is
    in the part if none of the others leads to it and it leads to none of the first: for a range of N.
    """
    count = len(graph.after)
    last_before, first_behind = [-1] * count, [len(mids)] * count
    for at, node in enumerate(mids):
        last_before[node] = first_behind[node] = at
    for node, others in enumerate(graph.after):
        at = last_before[node]
        for other in others:
            last_before[other] = max(last_before[other], at)
    for node in range(count - 1, -1, -1):
        at = first_behind[node]
        for other in graph.after[node]:
            at = min(at, first_behind[other])
        first_behind[node] = at
    gains = [0] * (len(mids) + 2)
    for worth, low, high in zip(graph.worth, last_before, first_behind):
        if worth and low < high:
            gains[low + 1] += worth
            gains[high + 1] -= worth
    totals = list(accumulate(gains[:-1]))
    number = totals.index(max(totals))
    able = (node for node, worth in enumerate(graph.worth) if worth is not None)
    return [node for node in able if last_before[node] < number <= first_behind[node]]


class _Cut:
    """The classes as a network: variables 2k ("at least in the part") and 2k + 1 ("after it") for the class k."""

    def __init__(self, graph: _Condensed, classes: list[int], count: int) -> None:
        self._worth: list[int | None] = [None] * count
        self._edges: dict[tuple[int, int], int] = {}
        for node, worth in enumerate(graph.worth):
            number = classes[node]
            if worth is not None:
                self._worth[number] = (self._worth[number] or 0) + worth
            for other in graph.after[node]:
                if classes[other] != number:
                    edge = (number, classes[other])
                    self._edges[edge] = self._edges.get(edge, 0) + 1

    def exact_worth(self) -> _Network:
        """The network whose smallest cut leaves out as little worth as possible."""
        return self._network(1, 0)

    def worth_and_crossings(self) -> _Network:
        """The same, and of equal ones the fewest crossings: all together weigh less than the least worth."""
        return self._network(2 * sum(self._edges.values()) + 1, 1)

    def _network(self, unit: int, crossing: int) -> _Network:
        network = _Network(2 * len(self._worth))
        for number, worth in enumerate(self._worth):
            low, high = 2 * number, 2 * number + 1
            network.arc(high, low, _UNBOUNDED)
            if worth is None:
                network.arc(low, high, _UNBOUNDED)
            elif worth:
                network.gain(low, worth * unit)
                network.gain(high, -worth * unit)
        for (first, second), count in self._edges.items():
            for half in (0, 1):
                network.arc(2 * first + half, 2 * second + half, _UNBOUNDED, count * crossing)
        return network

    def part(self, network: _Network) -> list[int] | None:
        """The classes of the part by the smallest cut; None where it took too long."""
        chosen = network.closure()
        if chosen is None:
            return None
        numbers = range(len(self._worth))
        return [k for k in numbers if chosen[2 * k] and not chosen[2 * k + 1] and self._worth[k] is not None]


class _Network:
    """Variables with gains and implications; `closure` says which are true for the most gain (Dinic's largest flow)."""

    def __init__(self, variables: int) -> None:
        self._source, self._sink = variables, variables + 1
        self._arcs: list[list[int]] = [[] for _ in range(variables + 2)]
        self._to: list[int] = []
        self._left: list[int] = []
        self._steps = 0

    def arc(self, first: int, second: int, capacity: int, back: int = 0) -> None:
        """The price of `first` true and `second` false; `back`, of the opposite."""
        self._arcs[first].append(len(self._to))
        self._to.append(second)
        self._left.append(capacity)
        self._arcs[second].append(len(self._to))
        self._to.append(first)
        self._left.append(back)

    def gain(self, variable: int, gain: int) -> None:
        """What is gained where the variable is true; lost, where it is below 0."""
        if gain > 0:
            self.arc(self._source, variable, gain)
        else:
            self.arc(variable, self._sink, -gain)

    def closure(self) -> Sequence[bool] | None:
        """Which variables are true; None where the search took too long."""
        while True:
            depth = self._depths()
            if depth[self._sink] < 0:
                return [each >= 0 for each in depth]
            self._block(depth)
            if self._steps > _MOST_STEPS:
                return None

    def _depths(self) -> list[int]:
        arcs, to, left = self._arcs, self._to, self._left
        depth = [-1] * len(arcs)
        depth[self._source] = 0
        waiting = [self._source]
        for node in waiting:  # which grows meanwhile
            further = depth[node] + 1
            for arc in arcs[node]:
                if left[arc] and depth[(other := to[arc])] < 0:
                    depth[other] = further
                    waiting.append(other)
            self._steps += len(arcs[node])
        return depth

    def _block(self, depth: list[int]) -> None:
        """Flow along the shortest ways until each of them is full."""
        following = [0] * len(self._arcs)
        way: list[int] = []
        node = self._source
        while self._steps <= _MOST_STEPS:
            self._steps += 1
            if node == self._sink:
                node = self._push(way)
                continue
            arcs = self._arcs[node]
            while following[node] < len(arcs):
                arc = arcs[following[node]]
                if self._left[arc] and depth[self._to[arc]] == depth[node] + 1:
                    break
                following[node] += 1
                self._steps += 1
            else:
                if not way:
                    return
                depth[node] = -1
                node = self._to[way.pop() ^ 1]
                continue
            way.append(arc)
            node = self._to[arc]

    def _push(self, way: list[int]) -> int:
        """Fills the way, and shortens it to its first full arc; where that one begins."""
        self._steps += 2 * len(way)
        amount = min(self._left[arc] for arc in way)
        for arc in way:
            self._left[arc] -= amount
            self._left[arc ^ 1] += amount
        full = next(place for place, arc in enumerate(way) if not self._left[arc])
        node = self._to[way[full] ^ 1]
        del way[full:]
        return node


def pieces(nodes: Iterable[int], after: Sequence[Sequence[int]]) -> list[list[int]]:
    """The nodes in groups that edges connect, each in order, the group with the lowest node first."""
    within = set(nodes)
    leader = {node: node for node in within}

    def root(node: int) -> int:
        while leader[node] != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for node in within:
        for other in after[node]:
            if other in within:
                first, second = sorted((root(node), root(other)))
                leader[second] = first
    found: dict[int, list[int]] = {}
    for node in sorted(within):
        found.setdefault(root(node), []).append(node)
    return [*found.values()]

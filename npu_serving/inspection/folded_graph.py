"""A graph folded by the scopes of its names, to as many boxes as a person can look at.

TensorFlow names a node SCOPE/SCOPE/NAME. The outer scopes are opened first, as long as the boxes are few enough; what
stands in one scope without scopes of its own is put together by operator where it is much.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

MOST_BOXES = 200
_MOST_OF_ONE_OPERATOR = 4  # in one scope, before they share a box
_LAST_NUMBER = re.compile(r"[0-9]+(?=[^0-9]*\Z)")


@dataclass(frozen=True)
class PictureNode:
    """A node as a picture needs it: `inputs` as NODE, NODE:OUTPUT or ^NODE; `kind` is what its colour says."""

    name: str
    operator: str
    inputs: Sequence[str]
    kind: str


@dataclass(frozen=True)
class Box:
    """One node, or several: those of a scope, or of one operator in a scope. `scope` is where it stands, "" outside."""

    name: str
    scope: str
    nodes: int
    operators: Mapping[str, int]
    """How many of each: the most frequent first, those of quiet nodes last."""
    kinds: Mapping[str, int]


@dataclass(frozen=True)
class FoldedEdge:
    """What goes from one box to another, by their places in the list: how many inputs, or an order alone."""

    source: int
    target: int
    inputs: int
    is_control: bool


@dataclass(frozen=True)
class FoldedGraph:
    """The boxes, in the order of the graph's nodes, and what goes between them, but not within one."""

    boxes: tuple[Box, ...]
    edges: tuple[FoldedEdge, ...]
    nodes: int


@dataclass
class _Scope:
    """A part of the tree of names: the scopes below, and the nodes that stand in it."""

    name: str
    size: int = 0
    below: dict[str, _Scope] = field(default_factory=dict)
    own: list[int] = field(default_factory=list)
    is_quiet: bool = True


def folded(nodes: Iterable[PictureNode], *, most_boxes: int = MOST_BOXES, quiet: Collection[str] = ()) -> FoldedGraph:
    """The graph with no more boxes than `most_boxes`, in time that grows as the graph does.

    A scope in which all nodes are of one of the `quiet` kinds stays closed: a picture is about the others.
    """
    listed, are_quiet = list(nodes), frozenset(quiet)
    groups = _groups(_tree(listed, are_quiet), listed, most_boxes)
    groups.sort(key=lambda group: min(group[2]))
    box_of = [0] * len(listed)
    for number, (_, _, members) in enumerate(groups):
        for index in members:
            box_of[index] = number
    return FoldedGraph(
        tuple(_box(name, scope, [listed[index] for index in members], are_quiet) for name, scope, members in groups),
        _edges(listed, box_of),
        len(listed),
    )


_Group = tuple[str, str, list[int]]  # a box's name, its scope, and its nodes by their places


def _tree(nodes: Sequence[PictureNode], quiet: frozenset[str]) -> _Scope:
    top = _Scope("", is_quiet=False)
    scopes = {node.name.rpartition("/")[0] for node in nodes}
    for index, node in enumerate(nodes):
        at = top
        at.size += 1
        # A variable stands with what belongs to it: kernel with kernel/read, kernel/Assign.
        parts = node.name.split("/") if node.name in scopes else node.name.split("/")[:-1]
        is_quiet = node.kind in quiet
        for part in parts:
            found = at.below.get(part)
            if found is None:
                found = at.below[part] = _Scope(f"{at.name}/{part}" if at.name else part)
            at = found
            at.size += 1
            at.is_quiet &= is_quiet
        at.own.append(index)
    return top


def _groups(top: _Scope, nodes: Sequence[PictureNode], most: int) -> list[_Group]:
    """The boxes: scopes are opened as long as what they hold fits, outer ones before inner, and large ones first."""
    closed: list[_Group] = []
    waiting = [(0, -top.size, 0, top, "")]
    count, pushed = 1, 1
    while waiting:
        depth, _, _, scope, parent = heapq.heappop(waiting)
        if scope.size == 1 or scope.is_quiet:
            members = _all_in(scope)
            closed.append((nodes[members[0]].name if scope.size == 1 else f"{scope.name}/", parent, members))
            continue
        own = _own_groups(scope, nodes)
        more = len(own) + len(scope.below) - 1
        if count + more > most:
            put_together = _put_together(scope, own, most - count + 1)
            if put_together is None:
                closed.append((f"{scope.name}/", parent, _all_in(scope)))
                continue
            own, below = put_together
            more = len(own) + len(below) - 1
        else:
            below = list(scope.below.values())
        count += more
        closed += own
        for child in below:
            heapq.heappush(waiting, (depth + 1, -child.size, pushed, child, scope.name))
            pushed += 1
    return closed


def _own_groups(scope: _Scope, nodes: Sequence[PictureNode]) -> list[_Group]:
    """The nodes that stand in a scope itself; many of one operator share a box."""
    of_operator: dict[str, list[int]] = {}
    for index in scope.own:
        of_operator.setdefault(nodes[index].operator, []).append(index)
    found: list[_Group] = []
    for operator, members in of_operator.items():
        if len(members) > _MOST_OF_ONE_OPERATOR:
            found.append((f"{scope.name}/{operator}" if scope.name else operator, scope.name, members))
        else:
            found += [(nodes[index].name, scope.name, [index]) for index in members]
    return found


def _put_together(scope: _Scope, own: list[_Group], room: int) -> tuple[list[_Group], list[_Scope]] | None:
    """What a scope with too much in it becomes in so many boxes: alike names share one; None where it stays closed.

    First those that differ in their last number alone, then in the last two, and so on. Only the outermost is opened at
    any price: a picture with one box shows nothing.
    """
    parts = {part: [child] for part, child in scope.below.items()}
    merged: list[_Group] = []
    single: list[_Scope] = []
    while True:
        alike: dict[str, list[_Scope]] = {}
        for part, children in parts.items():
            alike.setdefault(_LAST_NUMBER.sub("*", part), []).extend(children)
        is_last, parts = alike.keys() == parts.keys(), alike
        prefix = f"{scope.name}/" if scope.name else ""
        several = [(part, children) for part, children in parts.items() if len(children) > 1]
        merged = [
            (f"{prefix}{part}/", scope.name, [index for child in children for index in _all_in(child)])
            for part, children in several
        ]
        single = [children[0] for children in parts.values() if len(children) == 1]
        if len(own) + len(parts) <= room:
            return [*own, *merged], single
        if is_last:
            break
    if scope.name:
        return None
    all_parts: list[_Group] = [*own, *merged, *((f"{child.name}/", "", _all_in(child)) for child in single)]
    all_parts.sort(key=lambda group: -len(group[2]))
    kept, rest = all_parts[: max(room - 1, 0)], all_parts[max(room - 1, 0) :]
    return [*kept, (f"{len(rest)} more", "", [index for group in rest for index in group[2]])], []


def _all_in(scope: _Scope) -> list[int]:
    found: list[int] = []
    waiting = [scope]
    while waiting:  # names may be nested deeper than Python's stack
        each = waiting.pop()
        found += each.own
        waiting += each.below.values()
    return found


def _box(name: str, scope: str, members: Sequence[PictureNode], quiet: frozenset[str]) -> Box:
    operators = Counter(node.operator for node in members)
    telling = {node.operator for node in members if node.kind not in quiet}
    ordered = sorted(operators.items(), key=lambda item: (item[0] not in telling, -item[1], item[0]))
    kinds = Counter(node.kind for node in members)
    return Box(name, scope, len(members), dict(ordered), dict(sorted(kinds.items())))


def _edges(nodes: Sequence[PictureNode], box_of: Sequence[int]) -> tuple[FoldedEdge, ...]:
    at = {node.name: index for index, node in enumerate(nodes)}
    found: Counter[tuple[int, int, bool]] = Counter()
    for index, node in enumerate(nodes):
        for written in node.inputs:
            is_control = written.startswith("^")
            source = at.get(written[1:] if is_control else written.partition(":")[0])
            if source is not None and box_of[source] != box_of[index]:
                found[box_of[source], box_of[index], is_control] += 1
    return tuple(
        FoldedEdge(source, target, count, is_control)
        for (source, target, is_control), count in sorted(found.items())
        if not (is_control and (source, target, False) in found)
    )

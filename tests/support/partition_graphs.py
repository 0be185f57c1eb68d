"""Small graphs for the tests of partition/, random ones and some by hand, and the slow ways to the same answers."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import model_messages as wire

from npu_serving.cann.operator_list import OperatorLists
from npu_serving.options.in_out_pair import InOutPair

After = Sequence[Sequence[int]]
Worth = Sequence["int | None"]


@dataclass(frozen=True)
class RealModels:
    """A directory of models, and the nodes that TensorFlow ran of each signature, with operators and inputs."""

    directory: Path
    ran: dict[str, dict[str, dict[str, tuple[str, list[str]]]]]


def lists(*names: str, gray: Iterable[str] = (), heavy: Iterable[str] = ()) -> OperatorLists:
    """A list of the NPU's operators."""
    return OperatorLists(
        Path("/list"), len(names), 0, "", names=frozenset(names), gray=frozenset(gray), heavy=frozenset(heavy)
    )


def random_graph(chance: random.Random, most: int) -> tuple[list[list[int]], list[int | None]]:
    """A graph of up to `most` nodes, now and then with a loop, and what each node is worth."""
    count = chance.randint(1, most)
    after = [
        [other for other in range(node + 1, count) if chance.random() < 0.4 for _ in range(chance.choice((1, 1, 2)))]
        for node in range(count)
    ]
    if count > 2 and chance.random() < 0.3:
        last = chance.randrange(1, count)
        after[last].append(chance.randrange(last))
    worth = [None if chance.random() < 0.4 else chance.choice((1, 1, 1, 2, 5)) for _ in range(count)]
    return after, worth


def best_by_trying_all(after: After, worth: Worth) -> tuple[int, int]:
    """The most worth that a convex part can have, and the fewest crossings of such a one."""
    edges = [(first, second) for first, others in enumerate(after) for second in others]
    found = (0, 0)
    for sides in itertools.product(*((0, 2) if each is None else (0, 1, 2) for each in worth)):
        if all(sides[first] <= sides[second] for first, second in edges):
            total = sum(each or 0 for each, side in zip(worth, sides) if side == 1)
            found = min(found, (-total, sum(sides[second] - sides[first] for first, second in edges)))
    return -found[0], found[1]


def crossings(after: After, part: frozenset[int]) -> int:
    """The fewest crossings that the part can have; that it is convex is seen by that there are any sides for it."""
    edges = [(first, second) for first, others in enumerate(after) for second in others]
    sides_of = ((1,) if node in part else (0, 2) for node in range(len(after)))
    return min(
        sum(sides[second] - sides[first] for first, second in edges)
        for sides in itertools.product(*sides_of)
        if all(sides[first] <= sides[second] for first, second in edges)
    )


def walked(
    pairs: Iterable[InOutPair], names: dict[str, int], after: After, chance: random.Random, most_steps: int
) -> set[int]:
    """What the adapter takes in by its own walk: each way from a first node, in any order, with no memory of dead ends.

    AssertionError where that takes more steps than `most_steps`.
    """
    taken: set[int] = set()
    steps = 0

    def walk(first: int, lasts: set[int]) -> None:
        nonlocal steps
        below: dict[int, set[int]] = {first: set()}
        no_more: set[int] = set()
        path: list[int] = []
        stack: list[int | None] = [first]
        while stack:
            steps += 1
            assert steps <= most_steps
            node = stack.pop()
            if node is None:
                below.pop(path[-1], None)
                if len(path) > 1:
                    below.setdefault(path[-2], set()).discard(path[-1])
                path.pop()
                continue
            path.append(node)
            if len(path) > 1:
                below.setdefault(path[-2], set()).add(node)
            stack.append(None)
            if node in lasts or node in taken:
                taken.update(path)
                continue
            if node in no_more:
                continue
            others = [*after[node]]
            chance.shuffle(others)
            for other in others:
                if other in taken:
                    taken.update(path)
                ways = max(len(after[other]), 1)  # one to the sink where there is no other
                is_new = other not in below
                below.setdefault(other, set())
                if is_new or len(below[other]) < ways:
                    stack.append(other)
                if len(below[other]) >= ways:
                    no_more.add(other)

    for pair in pairs:
        if all(name in names for name in pair.lasts):
            for first in pair.firsts:
                if first in names:
                    walk(names[first], {names[name] for name in pair.lasts})
    return taken


def chain(*operators: str) -> list[bytes]:
    """x, and a node n0, n1 … of each operator, each reading the one before."""
    nodes = [wire.placeholder("x")]
    for number, operator in enumerate(operators):
        nodes.append(wire.node(f"n{number}", operator, [f"n{number - 1}" if number else "x"], FLOATS))
    return nodes


FLOATS = {"T": wire.number(6, wire.FLOAT)}
Writer = Callable[..., Path]


def written(directory: Path, nodes: Sequence[bytes], output: str, functions: Sequence[bytes] = ()) -> Path:
    """A version of a SavedModel of these nodes, from x to `output`."""
    asked = wire.signature({"x": wire.tensor("x:0", None)}, {"y": wire.tensor(f"{output}:0", None)})
    directory.mkdir(parents=True, exist_ok=True)
    graph = wire.graph(nodes, functions)
    (directory / "saved_model.pb").write_bytes(wire.saved_model(wire.meta_graph(graph, {"serving_default": asked})))
    return directory


def seeds(count: int) -> Iterator[random.Random]:
    """So many sources of chance, the same each time."""
    return (random.Random(number) for number in range(count))

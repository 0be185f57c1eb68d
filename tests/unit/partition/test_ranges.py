"""Ranges for a part, and what the adapter takes in by them: by the rule, and by its own walk."""

from __future__ import annotations

import random

import pytest
from partition_graphs import random_graph, seeds, walked

from npu_serving.options.in_out_pair import InOutPair, pairs_text, read_pairs
from npu_serving.partition.best_part import WeighedGraph, best_part
from npu_serving.partition.ranges import RangeGraph, ranges_of, taken_in


def case(chance: random.Random) -> tuple[RangeGraph, frozenset[int]]:
    """A graph and its best part, with nodes that are fetched and some that may be gone."""
    after, worth = random_graph(chance, 12)
    turns = {node for node, others in enumerate(after) if any(other <= node for other in others)}
    part = best_part(WeighedGraph(after, worth)).nodes
    fetched, fleeting = ({node for node in part if chance.random() < share} for share in (0.1, 0.3))
    return RangeGraph([f"n{node}" for node in range(len(after))], after, turns, fetched, fleeting - fetched), part


def test_the_ranges_of_a_part_take_in_exactly_that_part_by_the_adapters_own_walk_and_soon() -> None:
    for chance in seeds(400):
        graph, part = case(chance)
        pairs = ranges_of(part, graph)
        assert read_pairs(pairs_text(pairs)) == pairs
        names = {name: number for number, name in enumerate(graph.names)}
        size = len(names) + sum(map(len, graph.after))
        assert taken_in(pairs, names, graph.after) == part
        assert walked(pairs, names, graph.after, chance, 5 * size) == part


def test_nodes_that_the_optimizers_take_out_change_nothing_for_the_others() -> None:
    tried = 0
    for chance in seeds(400):
        graph, part = case(chance)
        pairs = ranges_of(part, graph)
        ends = {name for pair in pairs if pair.firsts != pair.lasts or len(pair.firsts) > 1 for name in pair.lasts}
        gone = {node for node in graph.fleeting - graph.turns if chance.random() < 0.5}
        if any(graph.names[node] in ends for node in gone):
            continue  # a piece that ends in nothing else: the task warns of it
        tried += bool(gone)
        after = [[*others] for others in graph.after]
        for node in gone:
            for others in after:
                if node in others:
                    others[:] = [other for other in others if other != node] + [o for o in after[node] if o != node]
        names = {name: number for number, name in enumerate(graph.names) if number not in gone}
        assert taken_in(pairs, names, after) == part - gone
    assert tried > 50


def test_a_way_that_leads_past_the_last_nodes_would_be_walked_for_ever_and_no_range_here_has_one() -> None:
    """A head before 20 diamonds that end nowhere: the adapter walks each of a million ways."""
    after: list[list[int]] = [[1, 2], []]
    for _ in range(20):
        at = len(after)
        after += [[at + 1, at + 2], [at + 3], [at + 3]]
    after.append([])
    names = {f"n{node}": node for node in range(len(after))}
    with pytest.raises(AssertionError):
        walked([InOutPair(("n0",), ("n1",))], names, after, random.Random(0), 20_000)
    pairs = ranges_of({0, 1}, RangeGraph([*names], after))
    assert walked(pairs, names, after, random.Random(0), 20) == {0, 1}


@pytest.mark.parametrize(
    ("pairs", "taken"),
    [
        ([InOutPair(("a",), ("d",))], {"a", "b", "d"}),
        ([InOutPair(("a",), ("gone",))], set()),
        ([InOutPair(("a",), ("d", "gone"))], set()),
        ([InOutPair(("gone", "b"), ("d",))], {"b", "d"}),
        ([InOutPair(("d",), ("a",))], set()),
        ([InOutPair(("a",), ("b", "d"))], {"a", "b"}),
        ([InOutPair(("b",), ("d",)), InOutPair(("a",), ("a",))], {"a", "b", "d"}),
        # What is taken already ends a way, so that `b` comes in although it leads to no last node of its own.
        ([InOutPair(("d",), ("d",)), InOutPair(("b",), ("c",))], {"b", "d"}),
    ],
)
def test_ranges_take_in_what_the_adapter_takes(pairs: list[InOutPair], taken: set[str]) -> None:
    """a -> b -> d, and a -> c."""
    names, after = {"a": 0, "b": 1, "c": 2, "d": 3}, [[1, 2], [3], [], []]
    expected = {names[name] for name in taken}
    assert taken_in(pairs, names, after) == expected
    assert walked(pairs, names, after, random.Random(0), 100) == expected

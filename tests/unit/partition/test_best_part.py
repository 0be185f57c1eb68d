"""The best part of a graph, beside the one that trying all finds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from partition_graphs import best_by_trying_all, crossings, random_graph, seeds

from npu_serving.partition import best_part as module
from npu_serving.partition.best_part import WeighedGraph, best_part, pieces


@pytest.mark.parametrize("block", range(3))
def test_the_best_part_is_as_good_as_the_one_that_trying_all_finds(block: int) -> None:
    for chance in seeds(150):
        chance.seed(f"{block} {chance.random()}")
        check_against_all(chance)


@pytest.mark.long
@given(chance=st.randoms(use_true_random=False))
def test_it_stays_so_for_many_more_graphs(chance: random.Random) -> None:
    check_against_all(chance)


def check_against_all(chance: random.Random) -> None:
    after, worth = random_graph(chance, 7)
    found = best_part(WeighedGraph(after, worth))
    assert found.is_best
    assert all(worth[node] is not None for node in found.nodes), "a node that the NPU can't compute is in the part"
    total = sum(worth[node] or 0 for node in found.nodes)
    assert (total, crossings(after, found.nodes)) == best_by_trying_all(after, worth)


def test_a_part_has_no_way_out_of_itself_and_back() -> None:
    # 0 leads to 1 and, over 2, which the NPU can't compute, to 3; 1 leads to 3 as well.
    assert best_part(WeighedGraph([[1, 2], [3], [3], []], [1, 1, None, 1])).nodes in ({0, 1}, {1, 3})


def test_a_loop_stays_together() -> None:
    after = [[1], [2], [1, 3], []]
    assert best_part(WeighedGraph(after, [1, 1, 1, 1])).nodes == {0, 1, 2, 3}
    assert best_part(WeighedGraph(after, [1, 1, None, 4])).nodes == {3}


def test_of_equal_parts_the_one_with_fewer_crossings_is_taken() -> None:
    # 0 -> CPU -> 1 by two edges, or by one: the part behind is given two values, the one before gives one.
    assert best_part(WeighedGraph([[1], [2, 2], []], [1, None, 1])).nodes == {0}
    assert best_part(WeighedGraph([[1, 1], [2], []], [1, None, 1])).nodes == {2}


@pytest.mark.parametrize("worth", [[], [None], [None, None]])
def test_where_the_npu_computes_nothing_there_is_no_part(worth: list[int | None]) -> None:
    assert best_part(WeighedGraph([[] for _ in worth], worth)).nodes == frozenset()


def test_a_graph_that_changes_sides_at_each_node_ends_the_search_with_a_good_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MOST_STEPS", 2_000)
    chance = random.Random(1)
    count = 3_000
    after = [[node + 1] if node + 1 < count else [] for node in range(count)]
    worth = [None if chance.random() < 0.3 else chance.randint(1, 9) for _ in range(count)]
    found = best_part(WeighedGraph(after, worth))
    assert not found.is_best
    assert max(found.nodes) - min(found.nodes) == len(found.nodes) - 1, "it is not one piece of the chain"
    runs = "".join("-" if each is None else "+" for each in worth).split("-")
    assert len(found.nodes) >= max(map(len, runs)) / 2


def test_the_search_grows_with_the_places_where_the_npu_stops_and_not_with_the_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = []

    def counted(network: module._Network) -> list[bool]:
        steps.append(len(network._to))
        return [False] * len(network._arcs)

    monkeypatch.setattr(module._Network, "closure", counted)
    for length in (100, 10_000):
        after = [[node + 1] if node + 1 < 3 * length else [] for node in range(3 * length)]
        best_part(WeighedGraph(after, [None if node % length == length - 1 else 1 for node in range(3 * length)]))
    assert len(set(steps)) == 1


def test_pieces_are_what_edges_connect() -> None:
    after = [[1], [], [3], [], [1]]
    assert pieces({0, 1, 2, 3, 4}, after) == [[0, 1, 4], [2, 3]]
    assert pieces({0, 4, 3}, after) == [[0], [3], [4]]

"""Windows and seconds made of outcomes: what counts where, and when windows agree."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.load.kinds import KINDS
from npu_serving.load.outcomes import dtype
from npu_serving.load.results import Window
from npu_serving.load.windows import Collected, agree

MS = 1_000_000
SECOND = 1000 * MS


def outcomes(*found: tuple[float, float, str]) -> Any:
    """Outcomes by intended and done in milliseconds, and kind; sent when they were intended."""
    rows = [(int(begun * MS), int(begun * MS), int(done * MS), 0, 0, KINDS.index(kind)) for begun, done, kind in found]
    return numpy.array(rows, dtype=dtype())


def window(throughput: float, mean_ms: float | None) -> Window:
    return Window(0.0, 1.0, 10**9, 10**9, {}, throughput, mean_ms=mean_ms)


def few(*answers: int) -> list[Window]:
    return [Window(0.0, 1.0, ok, ok, {}, float(ok), mean_ms=5.0) for ok in answers]


def test_one_answer_more_or_less_is_no_difference_and_what_chance_does_is_none_either() -> None:
    assert agree(few(2, 3, 2))
    assert not agree(few(2, 5, 2))
    assert not agree(few(100, 125, 80))
    assert agree(few(100, 125, 80), by_chance=True)
    assert not agree(few(10_000, 12_500, 8_000), by_chance=True)


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([(100, 5), (100, 5)], False),
        ([(100, 5), (105, 5.2), (98, 5.1)], True),
        ([(10, 50), (100, 5), (105, 5.2), (98, 5.1)], True),
        ([(100, 5), (100, 5), (130, 5)], False),
        ([(100, 5), (100, 5), (100, 6.5)], False),
        ([(0, None), (0, None), (0, None)], False),
    ],
)
def test_windows_agree_when_throughput_and_latency_of_the_last_three_are_within_a_tenth(
    windows: list[tuple[float, float | None]], expected: bool
) -> None:
    assert agree([window(*each) for each in windows]) is expected


@given(st.lists(st.floats(90, 110), min_size=3, max_size=3), st.floats(0.1, 1000))
def test_windows_agree_or_not_whatever_the_unit_of_their_latency(rates: list[float], scale: float) -> None:
    assert agree([window(rate, rate / 20) for rate in rates]) == agree([window(rate, scale) for rate in rates])


def test_an_answer_belongs_to_the_window_in_which_it_came_and_the_warm_up_is_apart() -> None:
    collected = Collected(0, SECOND)
    collected.add(outcomes((0, 5, ""), (90, 110, "")))
    collected.warmed_up(100 * MS)
    collected.add(outcomes((200, 210, ""), (300, 320, "busy"), (1050, 1150, "")))
    assert collected.close_windows(1100 * MS)
    assert not collected.close_windows(1200 * MS)
    collected.close_windows(2100 * MS)
    collected.finish()
    assert collected.in_warm_up == {"": 1}
    assert [(each.begin_s, each.ok, dict(each.errors)) for each in collected.windows] == [
        (0.1, 2, {"busy": 1}),
        (1.1, 1, {}),
    ]
    assert collected.histogram.count == 3
    assert collected.errors == {"busy": 1}
    assert collected.histogram.max() == pytest.approx(100_000, rel=0.002)


def test_what_comes_after_the_end_and_was_meant_before_it_counts_but_for_the_throughput() -> None:
    """A server that hangs at the end of a run is as slow as it is."""
    collected = Collected(0, SECOND)
    collected.warmed_up(0)
    collected.add(outcomes(*((at, at + 1, "") for at in range(0, 900, 100))))
    collected.close_windows(SECOND)
    collected.add(outcomes((900, 4000, ""), (950, 4000, "timeout"), (1001, 1002, "")))
    collected.finish()
    [only] = collected.windows
    assert (only.ok, only.errors, only.throughput) == (10, {"timeout": 1}, 9.0)
    assert collected.histogram.max() == pytest.approx(3_100_000, rel=0.002)
    assert collected.histogram.count == 10


def test_each_second_has_what_was_sent_and_what_came_in_it_and_empty_ones_are_there() -> None:
    collected = Collected(10 * SECOND, SECOND)
    collected.add(outcomes((10_100, 10_105, ""), (10_200, 12_300, ""), (12_400, 12_450, "failed")))
    assert [(each.at_s, each.sent, each.ok, each.errors) for each in collected.timeline()] == [
        (0, 2, 1, 0),
        (1, 0, 0, 0),
        (2, 1, 1, 1),
    ]
    assert collected.timeline()[1].p99_ms is None
    assert collected.most_in_flight() == 1


def test_the_most_that_were_on_their_way_at_once_are_counted() -> None:
    collected = Collected(0, SECOND)
    collected.add(outcomes((0, 100, ""), (50, 500, ""), (300, 400, ""), (350, 360, "busy")))
    assert collected.most_in_flight() == 3


@given(
    st.lists(
        st.tuples(st.floats(0, 5000), st.floats(0, 3000), st.sampled_from(["", "", "busy", "timeout"])), max_size=60
    ),
    st.lists(st.integers(0, 60), max_size=4),
)
def test_whatever_order_outcomes_come_in_nothing_is_lost_or_counted_twice(
    found: list[tuple[float, float, str]], cuts: list[int]
) -> None:
    rows = outcomes(*((begun, begun + took, kind) for begun, took, kind in found))
    collected = Collected(0, SECOND)
    edges = [0, *sorted(cuts), len(found)]
    collected.warmed_up(SECOND)
    for first, last in zip(edges, edges[1:]):
        collected.add(rows[first:last])
    collected.close_windows(9 * SECOND)
    collected.finish()
    good = [begun + took for begun, took, kind in found if not kind and begun + took >= 1000]
    late_by_rounding = 1
    assert abs(collected.histogram.count - len(good)) <= late_by_rounding
    counted = collected.sent + sum(collected.in_warm_up.values())
    assert counted == len(found)
    assert sum(each.ok for each in collected.windows) == collected.histogram.count

"""The search for the highest rate, against servers that are a function of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from npu_serving.load.results import Window
from npu_serving.load.search import MOST_TRIED, NEAR_ENOUGH, highest_rate, is_beyond


def searched(capacity: float, lowest: float, highest: float | None = None) -> tuple[float | None, list[float]]:
    tried: list[float] = []

    def holds(rate: float) -> bool:
        tried.append(rate)
        return rate <= capacity

    best = highest_rate(holds, lowest, highest)
    return (None if best is None else tried[best]), tried


@given(st.floats(1, 50_000), st.floats(1, 1000))
def test_what_is_found_is_borne_and_at_most_five_percent_below_what_is_not(capacity: float, lowest: float) -> None:
    found, tried = searched(capacity, lowest)
    assert len(tried) <= MOST_TRIED
    assert found is not None
    assert found <= capacity
    if len(tried) < MOST_TRIED:
        assert capacity < found * NEAR_ENOUGH + 0.001


@given(st.floats(1, 50_000), st.floats(1, 100), st.floats(101, 10_000))
def test_no_rate_above_the_highest_that_was_named_is_tried(capacity: float, lowest: float, highest: float) -> None:
    found, tried = searched(capacity, lowest, highest)
    assert max(tried) <= highest
    if capacity >= highest and len(tried) < MOST_TRIED:
        assert found == highest


def test_a_server_that_bears_nothing_ends_the_search_without_a_rate() -> None:
    found, tried = searched(0.0, 100)
    assert found is None
    assert tried == sorted(tried, reverse=True)


def test_a_lowest_rate_that_is_too_much_is_searched_below() -> None:
    found, _ = searched(30.0, 100)
    assert found is not None
    assert 28 < found <= 30


def window(p99_ms: float | None, errors: dict[str, int] | None = None) -> Window:
    return Window(0.0, 1.0, 1, 1, errors or {}, 1.0, p99_ms=p99_ms)


def test_a_level_is_given_up_after_two_windows_on_end_that_are_too_slow_or_fail() -> None:
    assert not is_beyond([window(50)], 0.02)
    assert not is_beyond([window(50), window(10)], 0.02)
    assert is_beyond([window(10), window(50), window(30)], 0.02)
    assert is_beyond([window(10, {"busy": 1}), window(None)], 0.02)

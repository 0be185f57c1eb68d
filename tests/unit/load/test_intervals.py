"""Confidence intervals: against tables, and against what they promise on values of a known distribution."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.load.histogram import LatencyHistogram
from npu_serving.load.intervals import Interval, of_difference, of_means, of_percentile, of_share, student

# From the tables of Student's distribution that every textbook has, for 95%.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize(("freedom", "reach"), TABLE.items())
def test_students_distribution_is_that_of_the_tables(freedom: int, reach: float) -> None:
    assert student(freedom, 0.95) == pytest.approx(reach, abs=6e-4)
    assert student(freedom, 0.99) > student(freedom, 0.95)


def test_the_interval_of_a_mean_holds_it_as_often_as_is_said() -> None:
    chance = random.Random(7)
    held = 0
    for _ in range(1000):
        found = of_means([chance.gauss(50, 5) for _ in range(5)], 0.95)
        assert found is not None
        held += found.low <= 50 <= found.high
    assert 930 <= held <= 970


def test_the_interval_of_a_percentile_holds_it_as_often_as_is_said() -> None:
    chance = random.Random(8)
    held = 0
    for _ in range(300):
        histogram = LatencyHistogram()
        for _ in range(1000):
            histogram.record(chance.uniform(0, 100_000))
        found = of_percentile(histogram, 90, 0.95)
        assert found is not None
        held += found.low <= 90 <= found.high
    assert 275 <= held <= 296


def test_the_interval_of_a_share_is_wilsons() -> None:
    found = of_share(15, 148, 0.95)  # the example of Newcombe, Statistics in Medicine 17, 1998
    assert found is not None
    assert [found.low, found.high] == pytest.approx([0.0624, 0.1605], abs=5e-5)
    assert of_share(0, 0, 0.95) is None
    nothing = of_share(0, 20, 0.95)
    assert nothing is not None
    assert [nothing.value, nothing.low, nothing.high] == pytest.approx([0, 0, 0.1611], abs=5e-5)


def test_the_interval_of_a_difference_is_movers() -> None:
    first, second = of_share(48, 80, 0.95), of_share(56, 70, 0.95)  # Newcombe's own: 56/70 - 48/80
    assert first is not None
    assert second is not None
    found = of_difference(first, second)
    assert found.value == pytest.approx(0.2)
    assert [found.low, found.high] == pytest.approx([0.0524, 0.3339], abs=5e-5)


@given(st.integers(0, 40), st.sampled_from([50.0, 90.0, 99.0]))
def test_too_few_values_have_no_interval(count: int, percent: float) -> None:
    histogram = LatencyHistogram()
    for number in range(count):
        histogram.record(1000 * number)
    found = of_percentile(histogram, percent, 0.95)
    if found is not None:
        assert found.low <= found.value <= found.high
        assert count * (1 - percent / 100) > 1
    assert of_means([1.0][:count], 0.95) is None


def test_the_wider_of_two_intervals_counts_around_the_first_ones_value() -> None:
    assert Interval(10, 9, 11).around(Interval(20, 17, 20.5)) == Interval(10, 7, 11)

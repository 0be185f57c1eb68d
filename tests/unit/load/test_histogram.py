"""The histogram against HdrHistogram's own, on the same values."""

from __future__ import annotations

import base64
import zlib

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_serving.load.histogram import HIGHEST_US, LatencyHistogram

LATENCIES = st.lists(
    st.one_of(st.integers(0, 5000), st.integers(0, HIGHEST_US), st.sampled_from([1023, 1024, 2047, 2048, 4095, 4096])),
    max_size=60,
)
PERCENTS = [10, 50, 75, 90, 95, 99, 99.9, 99.99, 100]


def made(values: list[int]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for value in values:
        histogram.record(value)
    return histogram


def oracle(values: list[int]):
    rival = pytest.importorskip("hdrh.histogram", reason="hdrhistogram has wheels for x86_64 only").HdrHistogram(
        1, HIGHEST_US, 3
    )
    for value in values:
        rival.record_value(value)
    return rival


@settings(deadline=None, max_examples=8)
@given(LATENCIES)
def test_every_figure_is_the_one_that_hdrhistogram_gives(values: list[int]) -> None:
    ours, theirs = made(values), oracle(values)
    assert ours.count == theirs.get_total_count()
    if values:
        assert {p: ours.percentile(p) for p in PERCENTS} == {p: theirs.get_value_at_percentile(p) for p in PERCENTS}
        assert ours.max() == theirs.get_max_value()
    assert ours.mean() == pytest.approx(theirs.get_mean_value())
    assert ours.deviation() == pytest.approx(theirs.get_stddev())


@settings(deadline=None)
@given(LATENCIES)
def test_an_array_counts_as_its_values_one_by_one(values: list[int]) -> None:
    at_once = LatencyHistogram()
    at_once.record_many(numpy.array(values, dtype=numpy.float64))
    assert at_once == made(values)
    assert at_once.count == len(values)


@settings(deadline=None)
@given(LATENCIES, LATENCIES)
def test_merged_ones_are_the_one_of_all_values(some: list[int], others: list[int]) -> None:
    histogram = made(some)
    histogram.merge(made(others))
    assert histogram == made([*some, *others])
    assert histogram.count == len(some) + len(others)


@settings(deadline=None, max_examples=8)
@given(LATENCIES)
def test_its_text_is_read_back_and_by_hdrhistogram(values: list[int]) -> None:
    histogram = made(values)
    assert LatencyHistogram(str(histogram)) == histogram
    theirs = type(oracle([])).decode(str(histogram))
    assert theirs.get_total_count() == len(values)
    assert LatencyHistogram(oracle(values).encode().decode()) == histogram
    if values:
        assert [theirs.get_value_at_percentile(p) for p in PERCENTS] == [histogram.percentile(p) for p in PERCENTS]


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**55), min_size=1, max_size=5))
def test_counts_of_any_size_are_read_back(counts: list[int]) -> None:
    histogram = LatencyHistogram()
    for place, count in enumerate(counts):
        if count:
            histogram._counts[place * 700] = count
    assert LatencyHistogram(str(histogram)) == histogram


def test_what_is_below_zero_or_above_an_hour_counts_at_the_ends() -> None:
    histogram = LatencyHistogram()
    histogram.record(-5)
    histogram.record(2.0 * HIGHEST_US)
    many = LatencyHistogram()
    many.record_many(numpy.array([-5, 2.0 * HIGHEST_US]))
    assert histogram == many
    assert histogram.percentile(50) == 0
    assert histogram.max() >= HIGHEST_US


OTHER = st.binary(min_size=1, max_size=60).map(base64.b64encode).map(bytes.decode)


@settings(deadline=None)
@given(st.one_of(st.text(min_size=1, max_size=40), OTHER))
def test_any_other_text_is_refused_with_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        LatencyHistogram(text)


@pytest.mark.parametrize("cut", [1, 20, 45])
def test_a_histogram_that_is_cut_off_is_refused(cut: int) -> None:
    data = base64.b64decode(str(made([1, 2, 3, 5_000_000])))
    with pytest.raises(ValueError, match=r".+"):
        LatencyHistogram(base64.b64encode(data[:-cut]).decode())


def test_a_text_that_would_unpack_to_gigabytes_is_refused_before_it_does() -> None:
    packed = zlib.compress(bytes(50 << 20), 9)
    text = base64.b64encode((0x1C849314).to_bytes(4, "big") + len(packed).to_bytes(4, "big") + packed).decode()
    with pytest.raises(ValueError, match="too long"):
        LatencyHistogram(text)


def test_an_empty_one_has_figures_of_nothing() -> None:
    empty = LatencyHistogram()
    assert (empty.count, empty.percentile(99), empty.max(), empty.mean(), list(empty.curve())) == (0, 0, 0, 0.0, [])

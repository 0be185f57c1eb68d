"""The percentiles as HdrHistogram prints them."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_serving.load.hgrm import hgrm_text
from npu_serving.load.histogram import HIGHEST_US, LatencyHistogram


@settings(deadline=None, max_examples=8)
@given(st.lists(st.one_of(st.integers(0, 5000), st.integers(0, HIGHEST_US)), min_size=1, max_size=60))
def test_the_file_is_the_one_that_hdrhistograms_own_writer_writes(values: list[int]) -> None:
    theirs = pytest.importorskip("hdrh.histogram", reason="hdrhistogram has wheels for x86_64 only").HdrHistogram(
        1, HIGHEST_US, 3
    )
    ours = LatencyHistogram()
    for value in values:
        theirs.record_value(value)
        ours.record(value)
    out = io.BytesIO()
    theirs.output_percentile_distribution(out, 1000.0)
    # Theirs leaves the deviation in microseconds, where everything else is in milliseconds.
    expected = [line for line in out.getvalue().decode().splitlines() if "StdDeviation" not in line]
    assert [line for line in hgrm_text(ours).splitlines() if "StdDeviation" not in line] == expected

"""Thresholds: read, refused, held against what was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_runs import level, run

from npu_serving.errors import RequestError
from npu_serving.load.histogram import LatencyHistogram
from npu_serving.load.results import KINDS
from npu_serving.load.thresholds import Threshold, hold_against, parse_threshold

LATENCIES = ["p50", "p99", "p99.9", "p100", "mean", "max", "lag"]
WHOLE = [("throughput", ""), ("errors", ""), ("errors", "%"), ("cpu", "%"), *((f"errors.{kind}", "") for kind in KINDS)]
THRESHOLDS = st.builds(
    lambda metric, comparison, limit, blank: (f"{metric[0]}{blank}{comparison}{blank}{limit:.3f}{metric[1]}", limit),
    st.one_of(st.sampled_from([(name, "ms") for name in LATENCIES]), st.sampled_from(WHOLE)),
    st.sampled_from([">", "<", ">=", "<="]),
    st.integers(0, 10**6).map(lambda number: number / 1000),
    st.sampled_from(["", " "]),
)


@given(THRESHOLDS)
def test_whatever_can_be_said_is_read_and_read_again_from_what_it_shows(case: tuple[str, float]) -> None:
    text, limit = case
    threshold = parse_threshold(text)
    assert threshold.limit == pytest.approx(limit)
    assert parse_threshold(str(threshold)) == threshold


@given(st.text(max_size=20))
def test_any_other_text_is_refused_with_what_can_be_said(text: str) -> None:
    try:
        parse_threshold(text)
    except RequestError as error:
        assert "p50, p99, p99.9, mean, max" in error.cure


@pytest.mark.parametrize(
    ("text", "limit_ms"), [("p99>20ms", 20), ("P99 > 0.02s", 20), ("mean>500us", 0.5), ("max<=1s", 1000)]
)
def test_a_time_is_read_in_its_unit(text: str, limit_ms: float) -> None:
    assert parse_threshold(text).limit == pytest.approx(limit_ms)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p99>20", "a time needs its unit: write p99>20ms"),
        ("p99>20min", "'min' is not a unit of time"),
        ("p101>1ms", "p101 is not between p0 and p100"),
        ("p0>1ms", "p0 is not between p0 and p100"),
        ("throughput<10ms", "throughput takes /s or no unit, not 'ms'"),
        ("cpu>0.9", "cpu takes %"),
        ("errors>1ms", "errors takes no unit or %, not 'ms'"),
        ("errors.bussy>0", "did you mean errors.busy?"),
        ("trougput<5", "did you mean throughput?"),
        ("p99=20ms", "it does not have the form WHAT>NUMBER"),
        ("p99>-1ms", "it does not have the form WHAT>NUMBER"),
        ("", "it does not have the form WHAT>NUMBER"),
    ],
)
def test_each_mistake_is_named_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_threshold(text)
    assert said in caught.value.what
    assert caught.value.cure.endswith("--fail-if 'p99>20ms'")


def _measured(text: str) -> tuple[float | None, bool]:
    histogram = LatencyHistogram()
    for latency_us in (1000, 2000, 3000, 10_000):
        histogram.record(latency_us)
    measured = replace(level(windows=1, throughput=50.0), histogram=histogram, errors={"busy": 3, "timeout": 1})
    found = parse_threshold(text).held_against(measured, 0)
    return found.measured, found.exceeded


@pytest.mark.parametrize(
    ("text", "value", "exceeded"),
    [
        ("max>9ms", 10.0, True),
        ("max>10.1ms", 10.0, False),
        ("p50>1ms", 2.0, True),
        ("mean<3ms", 4.0, False),
        ("errors>4", 4, False),
        ("errors>=4", 4, True),
        ("errors.busy>2", 3, True),
        ("errors.expired>0", 0, False),
        ("lag>1ms", 0.6, False),
        ("cpu>40%", 42.0, True),
    ],
)
def test_each_is_held_against_what_it_names(text: str, value: float, exceeded: bool) -> None:
    found, is_exceeded = _measured(text)
    assert found == pytest.approx(value, rel=2e-3)
    assert is_exceeded is exceeded


def test_a_percentage_of_errors_is_of_all_that_was_asked() -> None:
    one = replace(level(windows=1, throughput=48.0), errors={"busy": 1})
    found = parse_threshold("errors>1%").held_against(one, 0)
    assert found.measured == pytest.approx(100 / (one.ok + 1))
    assert "%" in found.shown


def test_what_could_not_be_measured_counts_as_exceeded() -> None:
    nothing = replace(level(windows=0), histogram=LatencyHistogram())
    found = list(hold_against([parse_threshold("p99>20ms"), parse_threshold("errors>1%")], run(nothing)))
    assert [each.exceeded for each in found] == [True, True]
    assert found[0].shown == "nothing was measured"


def test_every_level_is_held_to_them_or_the_one_that_was_searched_for() -> None:
    slow = run(level(middle_ms=5.0), level(middle_ms=50.0))
    threshold = parse_threshold("p99>40ms")
    assert [each.exceeded for each in hold_against([threshold], slow)] == [False, True]
    assert [each.level for each in hold_against([threshold], replace(slow, best=0))] == [0]


def test_an_exceeded_threshold_an_invalid_run_or_an_unstable_level_with_one_ends_with_3() -> None:
    kept = Threshold("p99", ">", 20.0, "ms").held_against(level(), 0)
    assert run(thresholds=(kept,)).exit_code == 0
    assert run(thresholds=(replace(kept, exceeded=True),)).exit_code == 3
    assert run(valid=False).exit_code == 3
    assert run(replace(level(), stable=False)).exit_code == 0
    assert run(replace(level(), stable=False), thresholds=(kept,)).exit_code == 3

"""What is typed of a load, read or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.errors import RequestError
from npu_serving.load import wanted
from npu_serving.load.arrivals import Stage


@pytest.mark.parametrize(
    ("text", "expected"),
    [("20ms", 0.02), ("2s", 2), ("1.5", 1.5), (".5s", 0.5), ("500us", 0.0005), ("2m", 120), ("1h", 3600)],
)
def test_a_time_is_read_with_its_unit_and_is_in_seconds_without_one(text: str, expected: float) -> None:
    assert wanted.seconds_of(text, "--window") == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "0", "-1s", "2 minutes", "1e3", "inf", "nan", "25h", "1s1s"])
def test_what_is_no_time_is_refused_with_the_flag(text: str) -> None:
    with pytest.raises(RequestError, match="--window"):
        wanted.seconds_of(text, "--window")


def test_a_latency_without_a_unit_is_refused_as_it_would_be_in_seconds() -> None:
    assert wanted.seconds_of("20ms", "--p99") == pytest.approx(0.02)
    with pytest.raises(RequestError, match="no unit") as error:
        wanted.seconds_of("20", "--p99")
    assert "--p99 20ms" in error.value.cure


def test_mistyped_arrivals_are_refused_before_the_rate_beside_them() -> None:
    assert [wanted.has_own_rate(text) for text in ("", "constant", "poisson", "step:1@1s", "recorded")] == [
        False, False, False, True, True,
    ]  # fmt: skip
    with pytest.raises(RequestError, match="--arrivals can't be 'poison'"):
        wanted.has_own_rate("poison")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8", (8,)),
        ("1,2,4", (1, 2, 4)),
        ("1:16:x2", (1, 2, 4, 8, 16)),
        ("1:16", (1, 2, 4, 8, 16)),
        ("2:10:4", (2, 6, 10)),
        ("3:20:x2", (3, 6, 12)),
        ("1:1:x2", (1,)),
    ],
)
def test_levels_are_a_number_a_list_or_a_range_to_add_or_multiply_by(text: str, expected: tuple[int, ...]) -> None:
    assert wanted.concurrencies_of(text) == expected
    assert wanted.rates_of(text) == expected


@pytest.mark.parametrize(
    "text", ["", "0", "a", "1:", "4:1", "1:4:x1", "1:4:0", "1:2:3:4", "1,,2", "-1", "1:100000:1", "20000"]
)
def test_what_is_no_level_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="--concurrency"):
        wanted.concurrencies_of(text)


def test_half_a_request_at_once_is_refused_and_half_a_request_a_second_is_not() -> None:
    with pytest.raises(RequestError, match="whole number"):
        wanted.concurrencies_of("0.5")
    assert wanted.rates_of("0.5") == (0.5,)


def test_steps_and_lines_are_read() -> None:
    assert wanted.schedule_of("step:100@10s,500@2m", None).stages == (Stage(10, 100, 100), Stage(120, 500, 500))
    assert wanted.schedule_of("line:10..500@30s", None).stages == (Stage(30, 10, 500),)
    assert wanted.schedule_of("poisson", 7.0).rate == 7.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "steps:1@1s",
        "step",
        "step:",
        "step:100",
        "step:@1s",
        "line:1@1s",
        "line:1..x@1s",
        "step:0@5s",
        "step:0.1@1s",
    ],
)
def test_arrivals_that_say_nothing_are_refused_with_an_example_that_works(text: str) -> None:
    with pytest.raises(RequestError) as refused:
        wanted.schedule_of(text, None)
    assert "step:100@10s,500@10s" in refused.value.cure or "rate" in refused.value.cure


@pytest.mark.parametrize(("text", "expected"), [("100", (100, None)), ("100:2000", (100, 2000))])
def test_a_search_has_one_bound_or_two(text: str, expected: tuple[float, float | None]) -> None:
    assert wanted.bounds_of(text) == expected


@pytest.mark.parametrize("text", ["100,200", "200:100", "1:2:3", ":", "x"])
def test_other_bounds_of_a_search_are_refused(text: str) -> None:
    with pytest.raises(RequestError):
        wanted.bounds_of(text)


@given(st.text(max_size=20))
def test_nothing_that_is_typed_ends_otherwise_than_in_a_value_or_a_refusal(text: str) -> None:
    for read in (
        wanted.concurrencies_of,
        wanted.rates_of,
        wanted.bounds_of,
        lambda each: wanted.seconds_of(each, "--p99"),
        lambda each: wanted.schedule_of(f"step:{each}", None),
        lambda each: wanted.schedule_of(f"line:{each}", None),
    ):
        try:
            assert read(text) is not None
        except RequestError as error:
            assert error.cure

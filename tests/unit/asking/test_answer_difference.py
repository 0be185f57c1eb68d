"""Two answers are compared value by value: the figures are NumPy's, and NaN beside NaN is equal."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.asking.answer_difference import OutputDifference, difference, outputs_by_name
from npu_serving.asking.golden import Tolerance

NEAR = Tolerance(0.01, 0.1)
NUMBERS = st.lists(st.floats(width=32), min_size=1, max_size=12)


def only(first: object, second: object, tolerance: Tolerance = NEAR) -> OutputDifference:
    (found,) = difference((first, second), tolerance, {})
    return found


@given(pairs=st.lists(st.tuples(st.floats(width=32), st.floats(width=32)), min_size=1, max_size=12))
def test_a_value_is_outside_just_where_the_tolerance_does_not_allow_it(pairs: list[tuple[float, float]]) -> None:
    found = only([one for one, _ in pairs], [other for _, other in pairs])
    assert found.outside == sum(not (one == other or NEAR.allows(one, other)) for one, other in pairs)
    assert found.both_nan == sum(math.isnan(one) and math.isnan(other) for one, other in pairs)


@given(pairs=st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=12))
def test_measured_tolerances_allow_what_was_measured(pairs: list[tuple[float, float]]) -> None:
    one, other = [one for one, _ in pairs], [other for _, other in pairs]
    measured = only(one, other).measured
    assert measured is not None
    assert only(one, other, measured).outside == 0


@given(numbers=st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=12))
def test_an_answer_is_like_itself(numbers: list[float]) -> None:
    found = only(numbers, numbers, Tolerance(0, 0))
    assert (found.outside, found.max_absolute, found.max_relative) == (0, 0.0, 0.0)
    assert found.cosine == pytest.approx(1.0)


def test_the_figures_are_those_of_numpy() -> None:
    one, other = np.array([[1.0, -2.0, 0.0], [4.0, 5.0, 6.0]]), np.array([[1.1, -2.0, 0.3], [4.0, 7.0, 6.0]])
    found = only(one.tolist(), other.tolist())
    cosine = float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))
    assert found.cosine == pytest.approx(cosine)
    assert (found.max_absolute, found.max_relative) == (2.0, 0.4)
    assert (found.shape, found.values, found.outside) == ((2, 3), 6, 2)
    assert found.top_1 == 0.5
    assert found.top_5 == 1.0


def test_nan_and_infinities_are_equal_to_themselves_and_left_out_of_the_figures() -> None:
    values = [1.0, math.nan, -math.inf]
    found = only(values, values)
    assert (found.outside, found.both_nan, found.max_absolute, found.note) == (0, 1, 0.0, "")
    found = only(values, [1.0, 2.0, math.inf])
    assert found.outside == 2
    assert "2 values are NaN or infinite" in found.note
    assert found.measured is None


@pytest.mark.parametrize(
    ("first", "second", "outside"),
    [
        (["a", "b"], ["a", "c"], 1),
        (["a"], ["a", "b"], 1),
        ([True, False], [True, True], 1),
        ([True], [1], 1),
        ([{"b64": "aGk="}], [{"b64": "aGk="}], 0),
        ([[1.0], [2.0]], [[1.0, 2.0]], 2),
        ([], [], 0),
        ([1.0], ["a"], 1),
    ],
)
def test_texts_truth_values_and_shapes_are_compared_too(first: object, second: object, outside: int) -> None:
    assert only(first, second).outside == outside


def test_an_output_that_only_one_server_has_is_said() -> None:
    of_a, of_b = difference(({"a": [1.0], "b": [1.0]}, {"a": [1.0]}), NEAR, {})
    assert (of_a.outside, of_b.outside) == (0, 1)
    assert "second server" in of_b.note


def test_outputs_are_told_apart_in_rows_and_by_name() -> None:
    assert outputs_by_name([{"a": 1, "b": [2]}, {"a": 3, "b": [4]}]) == {"a": [1, 3], "b": [[2], [4]]}
    assert outputs_by_name({"a": [1]}) == {"a": [1]}
    assert outputs_by_name([[1], [2]]) == {"": [[1], [2]]}
    assert outputs_by_name([{"b64": "aGk="}]) == {"": [{"b64": "aGk="}]}


def test_the_tolerance_of_an_output_counts_for_it() -> None:
    wide = replace(NEAR, atol=5.0)
    of_a, of_b = difference(({"a": [1.0], "b": [1.0]}, {"a": [3.0], "b": [3.0]}), NEAR, {"b": wide})
    assert (of_a.outside, of_b.outside) == (1, 0)
    (alone,) = difference(([1.0], [3.0]), NEAR, {"b": wide})
    assert alone.outside == 0

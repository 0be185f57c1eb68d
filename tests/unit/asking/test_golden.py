"""When an answer counts as the expected one."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.asking.golden import GoldenRequest, Tolerance
from npu_serving.asking.request import COLUMN, ROW, PredictRequest

GOLDEN = GoldenRequest("g", "m", PredictRequest(ROW, [1.0]), tolerance=Tolerance(0.01, 0.01))
ANSWERS = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=True) | st.integers(-(2**70), 2**70) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


def differs(expected: object, answer: object, tolerance: float = 0.01) -> str:
    return dataclasses.replace(GOLDEN, expected=expected, tolerance=Tolerance(tolerance, tolerance)).difference(answer)


@given(ANSWERS)
def test_every_answer_is_the_same_as_itself_through_json_as_well(answer: object) -> None:
    assert differs(answer, json.loads(json.dumps(answer)), 0.0) == ""


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), st.data())
def test_a_number_that_is_further_off_than_the_tolerance_is_found_with_its_place(
    values: list[float], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    other = list(values)
    other[place] += 0.5 * 0.01 * max(1.0, abs(values[place]))
    assert differs([values], [other]) == ""
    other[place] = values[place] + 3 * 0.01 * max(1.0, abs(values[place]))
    assert differs([values], [other]).startswith(f"predictions[0][{place}] is ")


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        ([1.0], [1.0, 1.0]),
        ({"a": 1}, {"b": 1}),
        ([1.0], [[1.0]]),
        (1.0, "1.0"),
        (1.0, math.nan),
        (math.inf, -math.inf),
        (math.inf, 1e308),
        (True, 1),
        (True, 0),
        (False, 0.005),
        (None, 0.0),
        ("a", "b"),
    ],
)
def test_another_shape_or_kind_is_a_difference(expected: object, answer: object) -> None:
    assert differs(expected, answer)
    assert differs(answer, expected)


def test_an_output_may_have_a_tolerance_of_its_own_row_by_row_and_by_name() -> None:
    wide = {"score": Tolerance(0.0, 1.0)}
    exact = dataclasses.replace(GOLDEN, tolerance=Tolerance(0.0, 0.0), tolerances=wide)
    rows = dataclasses.replace(exact, expected=[{"score": 1.0, "id": 1}])
    assert rows.difference([{"score": 1.9, "id": 1}]) == ""
    assert rows.difference([{"score": 1.9, "id": 2}]) == "predictions[0].id is 2, not 1"
    named = dataclasses.replace(exact, request=PredictRequest(COLUMN, [1]), expected={"score": [1.0], "id": [1]})
    assert named.difference({"score": [1.9], "id": [1]}) == ""
    assert named.difference({"score": [2.1], "id": [1]}) == "outputs.score[0] is 2.1, not 1.0"
    only = dataclasses.replace(exact, expected=[1.0])
    assert only.difference([1.9]) == "", "the values of a single output come without its name"


def test_tolerances_are_those_of_numpy_absolute_and_relative_to_the_expected_value() -> None:
    tolerance = Tolerance(rtol=0.1, atol=0.5)
    assert tolerance.allows(100.0, 110.4)
    assert not tolerance.allows(100.0, 110.6)
    assert tolerance.allows(0.0, 0.5)
    assert not tolerance.allows(0.0, 0.51)


def test_it_is_of_the_model_of_its_name_and_of_its_place_where_both_say_that() -> None:
    there = dataclasses.replace(GOLDEN, model_base_path="/models/m")
    assert there.is_of("m", "/models/m")
    assert there.is_of("m")
    assert not there.is_of("m", "/other/m")
    assert not there.is_of("n", "/models/m")
    assert GOLDEN.is_of("m", "/anywhere")


def test_a_label_is_asked_over_grpc() -> None:
    assert not GOLDEN.needs_grpc
    assert dataclasses.replace(GOLDEN, label="stable").needs_grpc
    assert dataclasses.replace(GOLDEN, api="grpc").needs_grpc

"""The golden request: what is kept of it, and when an answer counts as the expected one."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.client.request import ROW, PredictRequest
from npu_serving.errors import RequestError
from npu_serving.serving.golden_request import FILE, GoldenRequest, asked_for, read_golden, write_golden

GOLDEN = GoldenRequest(
    Path("/models/m"), "m", Path("/c.cfg"), PredictRequest(ROW, [1.0], "s"), [3.5], 0.01, "serving-x"
)
ANSWERS = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=True) | st.integers(-(2**60), 2**60) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


def _differs(expected: object, answer: object, tolerance: float = 0.01) -> str:
    return dataclasses.replace(GOLDEN, expected=expected, tolerance=tolerance).difference(answer)


@given(ANSWERS)
def test_every_answer_is_the_same_as_itself_through_the_file_as_well(answer: object) -> None:
    assert _differs(answer, json.loads(json.dumps(answer)), 0.0) == ""


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), st.data())
def test_a_number_that_is_further_off_than_the_tolerance_is_found_with_its_place(
    values: list[float], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    other = list(values)
    other[place] += 0.5 * 0.01 * max(1.0, abs(values[place]))
    assert _differs([values], [other]) == ""
    other[place] = values[place] + 3 * 0.01 * max(1.0, abs(values[place]))
    assert _differs([values], [other]).startswith(f"predictions[0][{place}] is ")


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        ([1.0], [1.0, 1.0]),
        ({"a": 1}, {"b": 1}),
        ([1.0], [[1.0]]),
        (1.0, "1.0"),
        (1.0, math.nan),
        (True, 0),
        (False, 0.005),
        (None, 0.0),
        ("a", "b"),
    ],
)
def test_another_shape_or_kind_is_a_difference(expected: object, answer: object) -> None:
    assert _differs(expected, answer)
    assert _differs(answer, expected)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_golden(tmp_path) is None
    path = write_golden(tmp_path, GOLDEN)
    assert path == tmp_path / FILE
    assert read_golden(tmp_path) == GOLDEN
    bare = dataclasses.replace(GOLDEN, platform_config_file=None, request=PredictRequest("inputs", {"x": [1]}))
    write_golden(tmp_path, bare)
    assert read_golden(tmp_path) == bare


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "7", "[" * 100_000, '{"format": 9}', '{"format": 1}']
    + [f'{{"{key}": {{}}}}' for key in ("tolerance", "request", "model_base_path", "platform_config_file")],
)
def test_a_file_that_is_no_golden_request_is_refused_with_how_to_record_one(tmp_path: Path, damage: str) -> None:
    path = write_golden(tmp_path, GOLDEN)
    whole = json.loads(path.read_text())
    broken = json.loads(damage) if damage.startswith('{"') and "format" not in damage else None
    path.write_text(json.dumps({**whole, **broken}) if broken is not None else damage)
    with pytest.raises(RequestError, match="not a golden request") as caught:
        read_golden(tmp_path)
    assert "--record" in caught.value.cure


@pytest.mark.parametrize("tolerance", ["", "x", "-1", "1", "nan", "inf"])
def test_a_tolerance_that_makes_no_sense_is_refused(tolerance: str) -> None:
    with pytest.raises(RequestError, match="--tolerance"):
        asked_for("/models/m", "", "[1]", None, tolerance)


def test_recording_takes_a_model_and_a_request() -> None:
    for model, request in ((None, "[1]"), ("/m", None)):
        with pytest.raises(RequestError, match="needs a model and a request"):
            asked_for(model, "", request, None, "0.1")
    asked = asked_for("/models/resnet", "", "[1]", None, "0.1")
    assert (asked.model_name, asked.tolerance) == ("resnet", 0.1)

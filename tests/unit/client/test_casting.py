"""Which arrays become the type that a signature takes, and which are refused: nothing turns into another number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from npu_serving.client.arrays import STORED, WireArray, array_of, from_bfloat16
from npu_serving.client.casting import cast_input, cast_inputs
from npu_serving.client.data_types import BY_NAME
from npu_serving.client.errors import NotSentError
from npu_serving.client.model_types import Signature, TensorInfo
from npu_serving.client.number_rules import holds

NUMBERS = [name for name, kind in BY_NAME.items() if kind.code and kind.code not in ("?", "ff", "dd")]


def info(dtype: str, shape: tuple[int, ...] | None = None) -> TensorInfo:
    return TensorInfo("x", "DT_" + dtype.upper(), shape)


EIGHT: list[tuple[str, Any, str]] = [
    ("float", np.array([[1.0, 2.5], [0.1, 4.0]]), ""),
    ("int32", np.array([1, -2], np.int64), ""),
    ("float", [16777217], "The value 16777217 of the input 'x' at [0] does not fit into DT_FLOAT"),
    ("uint8", [1, 300], "The value 300 of the input 'x' at [1]"),
    ("uint8", [[1, 2], [3, -1]], "The value -1 of the input 'x' at [1, 1]"),
    ("int32", [1.0, 1.5], "The value 1.5 of the input 'x' at [1]"),
    ("float", ["3"], "given as texts"),
    ("float", [True], "given as bool"),
]


@pytest.mark.parametrize(("dtype", "value", "refused"), EIGHT)
def test_what_loses_nothing_is_cast_and_said_and_the_rest_refused_with_its_place(
    dtype: str, value: Any, refused: str
) -> None:
    if refused:
        with pytest.raises(NotSentError) as caught:
            cast_input(info(dtype), value)
        assert refused in caught.value.what
        assert "cast=True (--cast)" in caught.value.cure
        forced, note = cast_input(info(dtype), value, cast=True)
        assert np.asarray(forced).dtype == STORED[BY_NAME["DT_" + dtype.upper()]]
        assert note
    else:
        sent, note = cast_input(info(dtype), value)
        assert np.array_equal(np.asarray(sent), np.asarray(value).astype(np.asarray(sent).dtype))
        assert "is sent as" in note


@given(
    st.sampled_from(NUMBERS),
    st.one_of(
        st.integers(-(2**63), 2**64 - 1),
        st.floats(width=64),
        st.sampled_from([2**24, 2**24 + 1, 65504, 65505, 2**53 + 1, 2**63, -(2**63), 255, 256, 3.4e38, 3.5e38, 1e39]),
    ),
)
@settings(deadline=None)
def test_an_array_is_cast_where_the_rule_for_one_number_allows_it(dtype: str, number: float) -> None:
    kind = BY_NAME[dtype]
    given_as = np.array([number])
    if holds(kind, number):
        sent, _ = cast_input(TensorInfo("x", dtype, None), given_as)
        back = sent.array if isinstance(sent, WireArray) else np.asarray(sent)
        found = from_bfloat16(back)[0] if dtype == "DT_BFLOAT16" and back.dtype == np.uint16 else back[0]
        if math.isnan(number):
            assert math.isnan(found)
        elif isinstance(number, int) or not kind.is_real:
            assert int(found) == number
        else:
            assert math.isinf(found) == math.isinf(number)
    else:
        with pytest.raises(NotSentError, match="does not fit into"):
            cast_input(TensorInfo("x", dtype, None), given_as)


@given(arrays.arrays(arrays.scalar_dtypes(), arrays.array_shapes(min_dims=0, min_side=0)), st.sampled_from(NUMBERS))
@settings(deadline=None)
def test_any_array_is_cast_or_refused_and_nothing_else(array: Any, dtype: str) -> None:
    try:
        sent, note = cast_input(TensorInfo("x", dtype, None), array)
    except NotSentError as error:
        assert "'x'" in error.what
    else:
        whole = sent.array if isinstance(sent, WireArray) else np.asarray(sent)
        assert whole.shape == array.shape
        assert note or array.dtype.newbyteorder("=") == whole.dtype.newbyteorder("=") or array.dtype.name == "bfloat16"


def test_half_and_bfloat16_keep_what_they_can_hold() -> None:
    sent, note = cast_input(info("bfloat16"), [1.0, 3.140625])
    assert isinstance(sent, WireArray)
    assert list(from_bfloat16(sent.array)) == [1.0, 3.140625]
    assert "bfloat16" in note
    same, note = cast_input(info("half"), np.array([65504, 0.5], np.float16))
    assert note == ""
    assert np.asarray(same).dtype.name == "float16"
    with pytest.raises(NotSentError, match="70000"):
        cast_input(info("half"), np.array([70000.0]))


def test_quantised_numbers_are_sent_by_their_own_type() -> None:
    from npu_serving.client.prediction_messages import decode_predict_request, encode_predict

    sent, note = cast_input(info("qint8"), np.array([1, -2], np.int8))
    assert isinstance(sent, WireArray)
    assert note == ""
    _, inputs = decode_predict_request(encode_predict("m", {"x": sent}))
    assert list(inputs["x"]) == [1, -2]
    with pytest.raises(NotSentError, match="was given as DT_QUINT8"):
        cast_input(info("qint8"), WireArray(np.array([1], np.uint8), "DT_QUINT8"))


@pytest.mark.parametrize(
    ("shape", "value", "what"),
    [
        ((-1, 2), [[1.0, 2.0, 3.0]], r"has the shape \[1, 3\]"),
        ((-1, 2), [1.0, 2.0], "without the dimension of the batch"),
        ((2,), [[1.0], [2.0]], r"has the shape \[2, 1\]"),
        (None, [[1.0], [1.0, 2.0]], "is ragged"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(shape: tuple[int, ...] | None, value: Any, what: str) -> None:
    with pytest.raises(NotSentError, match=what):
        cast_input(info("float", shape), value, cast=True)


def test_texts_stay_what_they_are() -> None:
    sent, note = cast_input(info("string", (-1,)), ["a", b"\xff\x00"])
    assert (list(np.asarray(sent)), note) == (["a", b"\xff\x00"], "")
    with pytest.raises(NotSentError, match="takes texts or bytes"):
        cast_input(info("string"), [1])


def test_missing_and_unknown_names_are_listed_with_those_that_were_given() -> None:
    signature = Signature("s", "", (TensorInfo("a", "DT_FLOAT", None), TensorInfo("b", "DT_FLOAT", None)), ())
    with pytest.raises(NotSentError, match="lacks the input 'b'") as caught:
        cast_inputs(signature, {"a": 1.0})
    assert "a: DT_FLOAT of any rank; b: DT_FLOAT of any rank; given: 'a'" in caught.value.cause
    with pytest.raises(NotSentError, match="no input 'c'"):
        cast_inputs(signature, {"a": 1.0, "b": 1.0, "c": 1.0})


def test_masked_values_are_refused_and_not_sent_as_what_is_behind_the_mask() -> None:
    value: Any = np.ma.masked_array([1.0, 2.0], mask=[False, True], dtype=np.float32)
    with pytest.raises(NotSentError, match="masked") as refused:
        cast_input(info("float"), value)
    assert "filled" in refused.value.cure
    with pytest.raises(ValueError, match="masked"):
        array_of(value)
    sent, _ = cast_input(info("float"), np.ma.masked_array([1.0, 2.0], dtype=np.float32))
    assert np.array_equal(np.asarray(sent), [1.0, 2.0])


def test_a_number_of_more_than_64_bits_is_refused() -> None:
    with pytest.raises(NotSentError, match="more than 64 bits"):
        cast_input(info("int64"), [2**70])

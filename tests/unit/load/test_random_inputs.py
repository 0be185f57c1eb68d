"""Random inputs: what a signature says of them, and what a person is asked for before."""

from __future__ import annotations

import re

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.client.data_types import BY_NAME
from npu_serving.client.model_types import Signature, TensorInfo
from npu_serving.errors import RequestError
from npu_serving.load.random_inputs import MOST_VARIANTS, described, random_inputs, read_wishes

IDS_AND_MASK = Signature(
    "serving_default", "", (TensorInfo("ids", "DT_INT64", (-1, -1)), TensorInfo("mask", "DT_INT64", (-1, -1))), ()
)


BOTH_SHAPES, BOTH_RANGES = ("ids:1,4", "mask:1,4"), ("ids:0:9", "mask:0:2")


def signature(*inputs: TensorInfo) -> Signature:
    return Signature("serving_default", "", inputs, ())


def flags_in(cure: str) -> tuple[list[str], list[str]]:
    return re.findall(r"--shape (\S+)", cure), re.findall(r"--range (\S+)", cure)


def test_open_dimensions_and_integers_without_a_range_are_asked_for_and_the_line_that_is_said_works() -> None:
    with pytest.raises(RequestError) as refused:
        random_inputs(IDS_AND_MASK, read_wishes((), (), None))
    assert "ids" in refused.value.cause
    assert "mask" in refused.value.cause
    shapes, ranges = flags_in(refused.value.cure)
    [first, *_] = random_inputs(IDS_AND_MASK, read_wishes(shapes, ranges, None))
    assert {name: array.shape for name, array in first.items()} == {"ids": (1, 16), "mask": (1, 16)}


def test_only_the_first_open_dimension_is_the_batch() -> None:
    image = signature(TensorInfo("image", "DT_FLOAT", (-1, 8, 8, 3)))
    [first, *_] = random_inputs(image, read_wishes((), (), 4))
    assert described(first) == "image float32 [4, 8, 8, 3]"
    with pytest.raises(RequestError, match="Random inputs can't be made"):
        random_inputs(signature(TensorInfo("image", "DT_FLOAT", (-1, -1, 8, 3))), read_wishes((), (), 4))
    with pytest.raises(RequestError, match="--batch-size"):
        random_inputs(signature(TensorInfo("image", "DT_FLOAT", (2, 8))), read_wishes((), (), 4))


def test_ids_are_within_their_range_and_the_same_each_time() -> None:
    wishes = read_wishes(("ids:4,16", "mask:4,16"), ("ids:10:100", "mask:0:2"), None)
    made, again = random_inputs(IDS_AND_MASK, wishes), random_inputs(IDS_AND_MASK, wishes)
    assert len(made) == MOST_VARIANTS
    for one, other in zip(made, again):
        assert 10 <= one["ids"].min() <= one["ids"].max() < 100
        assert set(numpy.unique(one["mask"])) <= {0, 1}
        assert all((one[name] == other[name]).all() for name in one)
    assert (made[0]["ids"] != made[1]["ids"]).any()


@pytest.mark.parametrize(
    ("shapes", "ranges", "word"),
    [
        (("ids:4,16,2", "mask:1,4"), (), "doesn't fit"),
        (("other:4",), (), "not an input"),
        ((), ("other:0:4",), "not an input"),
        (("ids",), (), "--shape"),
        (("ids:a,b",), (), "--shape"),
        ((), ("ids:5:5",), "--range"),
        ((), ("ids:5",), "--range"),
        (("ids:1,4", "mask:1,4"), ("ids:0:99999999999999999999", "mask:0:2"), "beyond"),
    ],
)
def test_wishes_that_fit_nothing_are_refused(shapes: tuple[str, ...], ranges: tuple[str, ...], word: str) -> None:
    wishes = [*shapes, *(() if shapes else BOTH_SHAPES)], [*ranges, *(() if ranges else BOTH_RANGES)]
    with pytest.raises(RequestError, match=word):
        random_inputs(IDS_AND_MASK, read_wishes(*wishes, None))


@given(
    st.sampled_from([name for name, kind in BY_NAME.items() if kind.field]),
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
)
def test_there_are_values_for_every_type_that_a_request_can_have(dtype: str, shape: tuple[int, ...]) -> None:
    made = random_inputs(signature(TensorInfo("x", dtype, shape)), read_wishes((), ("x:0:2",), None))
    assert all(inputs["x"].shape == shape for inputs in made)

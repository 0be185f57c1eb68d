"""The shapes that a model is compiled for, and gears: what ATC would refuse late is refused before it starts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.conversion.om_request import OmRequest
from npu_serving.conversion.om_shapes import CompiledShapes, OpenInput, compiled_shapes, gears_of
from npu_serving.errors import RequestError

X = OpenInput("x", "images", (-1, 224, 224, 3))


def shapes(text: str = "", *inputs: OpenInput, input_format: str = "", **gears: Any) -> CompiledShapes:
    return compiled_shapes(inputs or (X,), text, gears_of(OmRequest(**gears)), input_format)


def refusal(text: str = "", *inputs: OpenInput, **gears: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        shapes(text, *inputs, **gears)
    return caught.value


def test_case_37_a_an_open_size_without_a_shape_is_refused_with_the_flag_that_fixes_it() -> None:
    error = refusal()
    assert error.what == "x (-1,224,224,3): the size to compile for is open."
    assert '--input-shape "x:1,224,224,3"' in error.cure
    assert '--dynamic-batch-size "1,2,4,8"' in error.cure


def test_case_37_b_a_single_gear_is_refused() -> None:
    error = refusal(dynamic_batch_size="4")
    assert "single gear" in error.what
    assert "2 to 100" in error.cause


def test_case_37_c_a_second_open_size_with_batch_gears_is_refused_and_dimension_gears_are_named() -> None:
    error = refusal("x:-1,-1,224,3", OpenInput("x", "x", (-1, -1, 224, 3)), dynamic_batch_size="1,2")
    assert "beside the batch" in error.what
    assert '--dynamic-dims "1,64;8,64"' in error.cure
    made = shapes("x:-1,-1,224,3", OpenInput("x", "x", (-1, -1, 224, 3)), dynamic_dims="1,64;8,64")
    assert made.gears.word == "--dynamic_dims=1,64;8,64"


@pytest.mark.parametrize("text", ["", "x:-1,224,224,3", "images:-1,224,224,3", "x:0:-1,224,224,3"])
def test_case_37_d_batch_gears_pass_with_the_exact_options(text: str) -> None:
    assert shapes(text, dynamic_batch_size="1,2,4,8").words == [
        "--input_shape=x:-1,224,224,3",
        "--dynamic_batch_size=1,2,4,8",
    ]


def test_case_37_e_a_batch_in_second_place_is_sent_to_dimension_gears_which_pass() -> None:
    second = OpenInput("x", "x", (8, -1))
    error = refusal("", second, dynamic_batch_size="1,2")
    assert "not in the first place" in error.what
    typed = re.search(r'--dynamic-dims "([^"]*)"', error.cure)
    assert typed is not None
    assert shapes("", second, dynamic_dims=typed[1]).words == ["--input_shape=x:8,-1", f"--dynamic_dims={typed[1]}"]


def test_case_37_f_more_than_a_hundred_gears_are_refused_and_a_hundred_are_not() -> None:
    def many(count: int) -> str:
        return ",".join(map(str, range(1, count + 1)))

    assert "101 gears" in refusal(dynamic_batch_size=many(101)).what
    assert len(shapes(dynamic_batch_size=many(100)).gears.sizes) == 100


def test_case_37_g_two_kinds_of_gears_are_refused() -> None:
    error = refusal(dynamic_batch_size="1,2", dynamic_image_size="224,224;448,448")
    assert "exclude each other" in error.what
    assert "--dynamic-dims" in error.cure


@pytest.mark.parametrize("text", ["x:?,224,224,3", "x:-1,224,224,3", "x:,224,224,3"])
def test_a_size_that_the_flag_leaves_open_becomes_one_and_is_said(text: str) -> None:
    made = shapes(text)
    assert made.shapes == {"x": (1, 224, 224, 3)}
    assert made.became_one == {"images": (1, 224, 224, 3)}


def test_open_sizes_of_inputs_that_the_flag_does_not_name_become_one() -> None:
    made = shapes("x:2,224,224,3", X, OpenInput("mask", "mask", (-1, 7)), OpenInput("scale", "scale", ()))
    assert made.words == ["--input_shape=x:2,224,224,3;mask:1,7"]
    assert made.became_one == {"mask": (1, 7)}


def test_a_question_mark_becomes_one_beside_gears_too() -> None:
    two = (OpenInput("a", "a", (-1, 4)), OpenInput("b", "b", (-1, 4)))
    assert shapes("a:-1,4;b:?,4", *two, dynamic_batch_size="1,2").shapes == {"a": (-1, 4), "b": (1, 4)}


def test_a_shape_that_the_model_fixes_needs_no_flag() -> None:
    assert shapes("", OpenInput("x", "x", (2, 3))).words == ["--input_shape=x:2,3"]


def test_an_input_without_a_shape_needs_one() -> None:
    error = refusal("", OpenInput("x", "x", None))
    assert '--input-shape "x:1,…"' in error.cure
    assert shapes("x:4,5", OpenInput("x", "x", None)).shapes == {"x": (4, 5)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("y:1,224,224,3", "not an input of the model"),
        ("x:1,224", "2 sizes, and the model's has 4"),
        ("x:1,225,224,3", "the size 225 where the model has 224"),
        ("x:1,-1,224,3", "-1 where the model has 224"),
        ("x", "can't be read"),
        ("x:a,224,224,3", "can't be read"),
        ("x:0,224,224,3", "can't be read"),
        ("x:1~8,224,224,3", "has a range"),
        ("x:1,224,224,3;x:1,224,224,3", "twice"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(text: str, said: str) -> None:
    assert said in refusal(text).what


@pytest.mark.parametrize(
    ("gears", "said"),
    [
        ({"dynamic_batch_size": "1,0"}, "has the gear '0'"),
        ({"dynamic_batch_size": "1,x"}, "has the gear 'x'"),
        ({"dynamic_batch_size": "1,1"}, "the gear 1 twice"),
        ({"dynamic_batch_size": "1,4096"}, "batch size 4096"),
        ({"dynamic_image_size": "224;448"}, "not a height and a width"),
        ({"dynamic_dims": "1,2;3"}, "gears of 1 and of 2 sizes"),
        ({"dynamic_dims": "1,2;3,4"}, "gears of 2 sizes, and the shapes have 1 times -1"),
        ({"dynamic_image_size": "224,224;448,448"}, "x is (-1,224,224,3)"),
    ],
)
def test_gears_that_atc_would_refuse_are_refused(gears: dict[str, str], said: str) -> None:
    assert said in refusal(**gears).what


def test_gears_need_an_open_size() -> None:
    assert "no input has an open size" in refusal("", OpenInput("x", "x", (1, 2)), dynamic_batch_size="1,2").what


def test_image_gears_follow_the_format() -> None:
    first, last = OpenInput("x", "x", (1, -1, -1, 3)), OpenInput("x", "x", (1, 3, -1, -1))
    sizes = "224,224;448,448"
    assert shapes("", first, dynamic_image_size=sizes).gears.word == f"--dynamic_image_size={sizes}"
    assert shapes("", last, input_format="NCHW", dynamic_image_size=sizes).gears.sizes == ((224, 224), (448, 448))
    assert "NHWC" in refusal("", last, dynamic_image_size=sizes).cause


@given(st.text(max_size=30), st.sampled_from(["", "1,2", "1,2;3,4"]), st.text(max_size=12))
def test_whatever_is_typed_is_either_a_shape_without_doubt_or_refused(text: str, dims: str, batch: str) -> None:
    try:
        made = shapes(text, X, OpenInput("y", "y", (-1, -1)), dynamic_dims=dims, dynamic_batch_size=batch)
    except RequestError as error:
        assert error.what
    else:
        assert all(size > 0 or (size == -1 and made.gears.option) for shape in made.shapes.values() for size in shape)

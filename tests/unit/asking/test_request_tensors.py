"""Requests in JSON as the tensors of a signature, and tensors of an answer as the REST API shows them."""

from __future__ import annotations

import json

import pytest

from npu_serving.asking.request import read_request
from npu_serving.asking.request_tensors import answer_values, request_tensors, resized
from npu_serving.asking.tensor import Tensor
from npu_serving.client.data_types import BY_NAME
from npu_serving.client.model_types import Signature, TensorInfo
from npu_serving.errors import RequestError

X = TensorInfo("x", "DT_FLOAT", (-1, 2))
N = TensorInfo("n", "DT_INT64", (-1,))
T = TensorInfo("t", "DT_STRING", (-1,))
B = TensorInfo("b", "DT_BOOL", None)
ANY = TensorInfo("a", "DT_INT32", None)


def signature(*inputs: TensorInfo) -> Signature:
    return Signature("serving_default", "tensorflow/serving/predict", inputs, ())


def tensors(document: object, *inputs: TensorInfo) -> dict[str, tuple[tuple[int, ...], list[object]]]:
    found = request_tensors(read_request(json.dumps(document)), signature(*inputs))
    return {name: (tensor.shape, list(tensor.values)) for name, tensor in found.items()}


@pytest.mark.parametrize(
    ("document", "inputs", "expected"),
    [
        ([[1, 2], [3, 4]], (X,), {"x": ((2, 2), [1, 2, 3, 4])}),
        ({"instances": [{"x": [1, 2.5]}]}, (X,), {"x": ((1, 2), [1, 2.5])}),
        ({"inputs": {"x": [[1, 2]]}}, (X,), {"x": ((1, 2), [1, 2])}),
        ({"inputs": [[1, 2]]}, (X,), {"x": ((1, 2), [1, 2])}),
        ([{"x": [1, 2], "n": 7}, {"x": [3, 4], "n": 8}], (X, N), {"x": ((2, 2), [1, 2, 3, 4]), "n": ((2,), [7, 8])}),
        (["é", {"b64": "/w=="}], (T,), {"t": ((2,), ["é".encode(), b"\xff"])}),
        ({"inputs": True}, (B,), {"b": ((), [True])}),
        ({"inputs": {"a": 5}}, (ANY,), {"a": ((), [5])}),
        ({"inputs": {"x": []}}, (X,), {"x": ((0, 2), [])}),
        ({"inputs": {"a": [[[1], [2]]]}}, (ANY,), {"a": ((1, 2, 1), [1, 2])}),
    ],
)
def test_a_request_becomes_the_tensors_of_the_signature(document, inputs, expected) -> None:
    assert tensors(document, *inputs) == expected


@pytest.mark.parametrize(
    ("document", "inputs", "what"),
    [
        ({"instances": []}, (X,), "at least one instance"),
        ({"instances": {"x": 1}}, (X,), "at least one instance"),
        ([[1, 2], [3]], (X,), "ragged: a list of 2 values has beside it 1 values"),
        ([[1, 2], 3], (X,), "ragged: a list of 2 values has beside it a single value"),
        ([[1, 2, 3]], (X,), r"has the shape \[1, 3\]"),
        ([1, 2], (X,), r"has the shape \[2\]"),
        ({"inputs": []}, (TensorInfo("x", "DT_FLOAT", (3, 2)),), r"has the shape \[0\]"),
        ([["a", 1]], (X,), "Value 1 of the input 'x' is \"a\", not a number"),
        ([[1, True]], (X,), "Value 2 of the input 'x' is true, not a number"),
        ([[1, None]], (X,), "Value 2 of the input 'x' is null, not a number"),
        ([1.5], (N,), "is 1.5, not a whole number"),
        ([2**63], (N,), "DT_INT64 can't hold"),
        ([[1e300, 0]], (X,), "DT_FLOAT can't hold"),
        ([1], (T,), "is 1, not a text"),
        ([{"b64": "%"}], (T,), "not base64"),
        ({"inputs": [1]}, (B,), "is 1, not true or false"),
        ([{"x": [1, 2]}], (X, N), "lacks the input 'n'"),
        ([{"x": [1, 2], "z": 1}], (X,), "has 'z', which is not an input"),
        ({"inputs": {"z": 1}}, (X,), "has 'z', which is not an input"),
        ([{"x": [1, 2]}, 3], (X,), r"instances\[1\] must be an object"),
        ([[1, 2]], (X, N), "has 2 inputs, and the request does not name them"),
        ([1], (TensorInfo("c", "DT_COMPLEX64", None),), "no request in JSON can give"),
        ([1], (TensorInfo("r", "DT_RESOURCE", None),), "no request in JSON can give"),
        ({"inputs": {"a": {"c": 1}}}, (ANY,), 'is {"c": 1}, not a number'),
    ],
)
def test_what_the_signature_does_not_take_is_named_before_anything_is_sent(document, inputs, what) -> None:
    with pytest.raises(RequestError, match=what) as caught:
        tensors(document, *inputs)
    assert caught.value.cure


def test_lists_nested_deeper_than_any_tensor_are_refused() -> None:
    with pytest.raises(RequestError, match="more than 254 dimensions"):
        tensors(json.loads("[" * 300 + "]" * 300), ANY)


def _floats(shape: tuple[int, ...], *values: float) -> Tensor:
    return Tensor(BY_NAME["DT_FLOAT"], shape, values)


def test_an_answer_is_shown_as_the_rest_api_shows_it() -> None:
    y = _floats((2, 1), 1, 2)
    z = _floats((2,), 3, 4)
    assert answer_values("instances", {"y": y}) == [[1], [2]]
    assert answer_values("instances", {"y": y, "z": z}) == [{"y": [1], "z": 3}, {"y": [2], "z": 4}]
    assert answer_values("inputs", {"y": y}) == [[1], [2]]
    assert answer_values("inputs", {"z": z, "y": y}) == {"y": [[1], [2]], "z": [3, 4]}


def test_texts_are_shown_as_the_rest_api_shows_them() -> None:
    texts = Tensor(BY_NAME["DT_STRING"], (2,), (b"a", b"\xff"))
    assert answer_values("instances", {"t": texts}) == ["a", "\udcff"]
    assert answer_values("instances", {"image_bytes": texts}) == [{"b64": "YQ=="}, {"b64": "/w=="}]


@pytest.mark.parametrize("shape", [(), (3,)])
def test_outputs_that_are_no_rows_are_named(shape: tuple[int, ...]) -> None:
    other = _floats(shape, *range(shape[0] if shape else 1))
    with pytest.raises(ValueError, match=r"one row for each instance: s .*, y") as caught:
        answer_values("instances", {"y": _floats((2,), 1, 2), "s": other})
    assert str(list(shape)) in str(caught.value)


def test_a_tensor_is_cut_or_filled_by_its_own_values() -> None:
    tensor = _floats((2, 2), 1, 2, 3, 4)
    assert resized(tensor, (3, 1)).values == [1, 3, 1]
    assert resized(tensor, (1, 3)).values == [1, 2, 1]
    assert list(resized(_floats((), 7), ()).values) == [7]
    assert resized(tensor, (0, 2)).values == []


@pytest.mark.parametrize(
    ("own", "shape", "why"),
    [((2,), (2, 2), "has 1 dimensions, not 2"), ((0,), (1,), "no value"), ((1,), (2**40,), "too large to be sent")],
)
def test_what_can_not_be_made_to_fit_is_said(own: tuple[int, ...], shape: tuple[int, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        resized(_floats(own, *range(own[0])), shape)

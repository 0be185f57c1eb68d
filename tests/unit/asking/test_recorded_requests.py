"""What a recorded request asks is read from its bytes, by gRPC and REST; other bytes are said to be other bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_messages import message_class

from npu_serving.asking.recorded_file import GRPC, REST, RecordedRequest
from npu_serving.asking.recorded_requests import NotUnderstoodError, SeenInput, asked_by, method_of, rest_document
from npu_serving.client.model_spec import ModelSpec
from npu_serving.wire_bytes import bytes_field, number_field, text_field

PATH = "/tensorflow.serving.PredictionService/Predict"
SHAPES = st.lists(st.integers(0, 5), max_size=4)


def of_grpc(body: bytes, method: str = "Predict") -> RecordedRequest:
    return RecordedRequest(0, GRPC, f"/tensorflow.serving.PredictionService/{method}", body)


def of_rest(document: object, path: str = "/v1/models/m:predict") -> RecordedRequest:
    return RecordedRequest(0, REST, path, json.dumps(document).encode())


@given(
    model=st.text(max_size=5),
    version=st.none() | st.integers(0, 2**63 - 1),
    signature=st.text(max_size=5),
    inputs=st.dictionaries(st.text(max_size=5), st.tuples(st.sampled_from([1, 3, 7, 9]), SHAPES), max_size=3),
)
def test_model_signature_and_shapes_are_those_that_protobuf_wrote(
    model: str, version: int | None, signature: str, inputs: dict[str, tuple[int, list[int]]]
) -> None:
    message: Any = message_class("tensorflow.serving.PredictRequest")()
    message.model_spec.name, message.model_spec.signature_name = model, signature
    if version is not None:
        message.model_spec.version.value = version
    else:
        message.model_spec.version_label = "stable"
    for name, (dtype, shape) in inputs.items():
        message.inputs[name].dtype = dtype
        message.inputs[name].tensor_shape.SetInParent()
        for size in shape:
            message.inputs[name].tensor_shape.dim.add(size=size)
    asked = asked_by(of_grpc(message.SerializeToString()))
    assert asked.method == "Predict"
    assert asked.spec == ModelSpec(model, version, "" if version is not None else "stable", signature)
    names = {1: "DT_FLOAT", 3: "DT_INT32", 7: "DT_STRING", 9: "DT_INT64"}
    assert asked.inputs == {name: SeenInput(names[dtype], tuple(shape)) for name, (dtype, shape) in inputs.items()}


@given(body=st.binary(max_size=100), method=st.sampled_from(["Predict", "Classify", "Regress", "MultiInference"]))
def test_other_bytes_are_not_understood_and_nothing_worse(body: bytes, method: str) -> None:
    for request in (of_grpc(body, method), RecordedRequest(0, REST, f"/v1/models/m:{method.lower()}", body)):
        try:
            asked_by(request)
        except NotUnderstoodError as error:
            assert str(error)


def test_examples_are_counted() -> None:
    spec = bytes_field(1, text_field(1, "m") + text_field(3, "classify"))
    listed = bytes_field(1, bytes_field(1, b"") + bytes_field(1, b""))
    with_context = bytes_field(2, bytes_field(1, b"") + bytes_field(2, b"context"))
    for method in ("Classify", "Regress"):
        asked = asked_by(of_grpc(spec + bytes_field(2, listed), method))
        assert (asked.spec.name, asked.spec.signature_name, asked.inputs["examples"].shape) == ("m", "classify", (2,))
    assert asked_by(of_grpc(spec + bytes_field(2, with_context), "Classify")).inputs["examples"].shape == (1,)
    task = bytes_field(1, spec + text_field(2, "tensorflow/serving/classify"))
    other = bytes_field(1, bytes_field(1, text_field(1, "n")))
    asked = asked_by(of_grpc(task + other + bytes_field(2, listed), "MultiInference"))
    assert (asked.spec.name, asked.inputs["examples"].shape) == ("m", (2,))
    assert asked_by(of_rest({"examples": [{"x": 1}, {"x": 2}]}, "/v1/models/m:classify")).inputs["examples"].shape == (
        2,
    )


@pytest.mark.parametrize(
    ("document", "inputs"),
    [
        ({"instances": [[1, 2], [3, 4], [5, 6]]}, {"": (3, 2)}),
        ({"instances": [{"x": [1, 2], "n": 3}]}, {"x": (1, 2), "n": (1,)}),
        ({"instances": [{"b64": "aGk="}]}, {"": (1,)}),
        ({"inputs": {"x": [[1, 2]], "n": [3]}}, {"x": (1, 2), "n": (1,)}),
        ({"inputs": [[1.5]]}, {"": (1, 1)}),
        ({"inputs": {"b64": "aGk="}}, {"": ()}),
        ({"instances": []}, {"": (0,)}),
        ({}, {}),
    ],
)
def test_the_shapes_of_a_rest_call_are_those_of_its_lists(document: object, inputs: dict[str, tuple[int, ...]]) -> None:
    assert {name: seen.shape for name, seen in asked_by(of_rest(document)).inputs.items()} == inputs


def test_a_rest_path_names_model_version_and_label() -> None:
    asked = asked_by(of_rest({"signature_name": "s", "instances": [1]}, "/v1/models/a%20b/versions/12:predict"))
    assert asked.spec == ModelSpec("a b", 12, "", "s")
    assert asked_by(of_rest({}, "/v1/models/m/labels/stable:regress")).spec == ModelSpec("m", label="stable")


@pytest.mark.parametrize(
    ("api", "path", "method"),
    [
        (GRPC, PATH, "Predict"),
        (GRPC, "/tensorflow.serving.PredictionService/GetModelMetadata", ""),
        (GRPC, "/tensorflow.serving.ModelService/GetModelStatus", ""),
        (GRPC, "/grpc.health.v1.Health/Check", ""),
        (REST, "/v1/models/m:predict", "Predict"),
        (REST, "/v1/models/m:classify", "Classify"),
        (REST, "/v1/models/m", ""),
        (REST, "/v1/models/m/metadata", ""),
        (REST, "/", ""),
    ],
)
def test_calls_that_a_model_answers_are_told_from_others(api: str, path: str, method: str) -> None:
    assert method_of(api, path) == method
    if not method:
        with pytest.raises(NotUnderstoodError):
            asked_by(RecordedRequest(0, api, path, b"{}"))


@pytest.mark.parametrize("body", [b"", b"[", b"[1]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_in_json_is_not_understood(body: bytes) -> None:
    with pytest.raises(NotUnderstoodError):
        rest_document(body)


def test_a_negative_number_of_a_shape_stays_one() -> None:
    shape = bytes_field(2, bytes_field(2, number_field(1, -1)))
    body = bytes_field(2, text_field(1, "x") + bytes_field(2, number_field(1, 1) + shape))
    assert asked_by(of_grpc(body)).inputs["x"] == SeenInput("DT_FLOAT", (-1,))

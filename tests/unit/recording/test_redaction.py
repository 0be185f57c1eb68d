"""Redacted inputs have none of their values, and the same types and shapes; all else is as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_messages import message_class

from npu_serving.asking.recorded_file import GRPC, REST, RecordedRequest
from npu_serving.asking.recorded_requests import NotUnderstoodError, asked_by
from npu_serving.recording.redaction import redacted
from npu_serving.wire_bytes import bytes_field, text_field, varint

SERVICE = "/tensorflow.serving.PredictionService/"
SECRET = 1234567
TYPED = {1: "float_val", 2: "double_val", 3: "int_val", 9: "int64_val", 10: "bool_val", 17: "int_val", 23: "uint64_val"}


def of_grpc(body: bytes, method: str = "Predict") -> RecordedRequest:
    return RecordedRequest(0, GRPC, SERVICE + method, body)


@given(
    rows=st.integers(0, 5),
    dtype=st.sampled_from([*TYPED, 7, 19]),
    as_content=st.booleans(),
    other=st.binary(max_size=5),
)
def test_a_tensor_keeps_type_and_shape_and_loses_its_values(
    rows: int, dtype: int, as_content: bool, other: bytes
) -> None:
    message: Any = message_class("tensorflow.serving.PredictRequest")()
    message.model_spec.name = "m"
    for name in ("secret", "open"):
        tensor = message.inputs[name]
        tensor.dtype = dtype
        tensor.tensor_shape.dim.add(size=rows)
        if dtype == 7:
            tensor.string_val.extend([b"1234567"] * rows)
        elif dtype == 19:
            tensor.half_val.extend([12345] * rows)
        elif as_content and dtype == 1:
            tensor.tensor_content = b"1234" * rows
        else:
            getattr(tensor, TYPED[dtype]).extend([dtype == 10 or SECRET] * rows)
    message.output_filter.append("y")
    before = of_grpc(message.SerializeToString())
    after, names = redacted(before, ["secret", "nothing"])
    assert names == {"secret"}
    assert asked_by(after) == asked_by(before)
    read: Any = message_class("tensorflow.serving.PredictRequest").FromString(after.body)
    assert read.inputs["open"] == message.inputs["open"]
    assert (read.model_spec, list(read.output_filter)) == (message.model_spec, ["y"])
    blank = read.inputs["secret"]
    for field in ("float_val", "double_val", "int_val", "int64_val", "bool_val", "uint64_val", "half_val"):
        assert list(getattr(blank, field)) == [0] * len(getattr(message.inputs["secret"], field))
    assert blank.tensor_content == bytes(len(message.inputs["secret"].tensor_content))
    assert list(blank.string_val) == [b""] * len(message.inputs["secret"].string_val)


def feature(name: str, kind: int, values: bytes) -> bytes:
    return bytes_field(1, text_field(1, name) + bytes_field(2, bytes_field(kind, values)))


@pytest.mark.parametrize("method", ["Classify", "Regress", "MultiInference"])
@pytest.mark.parametrize("listed", [1, 2])
def test_features_of_examples_lose_their_values(method: str, listed: int) -> None:
    features = b"".join(
        (
            feature("secret", 1, bytes_field(1, b"SECRET") * 2),
            feature("secret", 2, bytes_field(1, b"SECRETTO")),
            feature("secret", 3, bytes_field(1, varint(SECRET) * 3)),
            feature("open", 1, bytes_field(1, b"open")),
        )
    )
    example = bytes_field(1, features)
    spec = bytes_field(1, text_field(1, "m"))
    body = spec + bytes_field(2, bytes_field(listed, bytes_field(1, example) * 2))
    after, names = redacted(of_grpc(body, method), {"secret"})
    assert names == {"secret"}
    assert b"SECRET" not in after.body
    assert varint(SECRET) not in after.body
    assert after.body.count(b"open") == 4  # name and value, twice
    blank = b"".join(
        (
            feature("secret", 1, bytes_field(1, b"") * 2),
            feature("secret", 2, bytes_field(1, bytes(8))),
            feature("secret", 3, bytes_field(1, bytes(3))),
            feature("open", 1, bytes_field(1, b"open")),
        )
    )
    assert after.body == spec + bytes_field(2, bytes_field(listed, bytes_field(1, bytes_field(1, blank)) * 2))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"instances": [{"x": [1, 2.5], "y": 3}]}, {"instances": [{"x": [0, 0.0], "y": 3}]}),
        ({"inputs": {"x": [["a", {"b64": "aGk="}]], "y": 1}}, {"inputs": {"x": [["", {"b64": ""}]], "y": 1}}),
        ({"instances": [[1, True]]}, {"instances": [[0, False]]}),
        ({"inputs": "a"}, {"inputs": ""}),
        ({"instances": [{"b64": "aGk="}]}, {"instances": [{"b64": ""}]}),
        ({"examples": [{"x": 1, "y": 2}], "context": {"x": 5}}, {"examples": [{"x": 0, "y": 2}], "context": {"x": 0}}),
    ],
)
def test_values_in_json_become_zeros_and_empty_texts(document: object, expected: object) -> None:
    request = RecordedRequest(0, REST, "/v1/models/m:predict", json.dumps(document).encode())
    after, names = redacted(request, {"x"})
    assert json.loads(after.body) == expected
    assert names <= {"x", ""}
    assert names


def test_a_request_without_such_an_input_is_as_it_was() -> None:
    request = RecordedRequest(0, REST, "/v1/models/m:predict", b'{ "inputs" : {"y": 1e400} }')
    assert redacted(request, {"x"}) == (request, frozenset())


@given(body=st.binary(max_size=60))
def test_what_is_not_understood_is_not_kept(body: bytes) -> None:
    for request in (of_grpc(body), of_grpc(body, "Classify"), RecordedRequest(0, REST, "/v1/models/m:predict", body)):
        try:
            redacted(request, {"x"})
        except NotUnderstoodError as error:
            assert str(error)


@pytest.mark.parametrize(
    "body",
    [
        '{"secret": "HUSH", "instances": [{"x": 1}]}',
        '{"secret": ["HUSH"]}',
        '{"instances": [{"x": {"secret": "HUSH"}}]}',
        '{"Instances": [{"secret": {"b64": "HUSH"}}]}',
        '{"instances": [{"secret": "HUSH"}], "instances": [{"x": 1}]}',
        '{"inputs": {"secret": "HUSH", "secret": 1}}',
    ],
)
def test_a_request_that_no_server_takes_keeps_no_value_of_that_name_either(body: str) -> None:
    request = RecordedRequest(0, REST, "/v1/models/m:predict", body.encode(), {})
    try:
        kept, _ = redacted(request, {"secret"})
    except NotUnderstoodError:
        return
    assert b"HUSH" not in kept.body


def test_an_input_that_is_called_as_the_key_of_all_inputs_is_the_only_one_that_is_lost() -> None:
    body = b'{"inputs":{"inputs":[7],"x":[1]}}'
    kept, found = redacted(RecordedRequest(0, REST, "/v1/models/m:predict", body, {}), {"inputs"})
    assert (json.loads(kept.body), set(found)) == ({"inputs": {"inputs": [0], "x": [1]}}, {"inputs"})

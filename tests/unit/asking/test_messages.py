"""The messages of PredictionService by our own writer and reader, held against protobuf."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_messages import message_class

from npu_serving.asking import messages
from npu_serving.asking.messages import (
    read_predict_request,
    read_predict_response,
    read_prediction_log,
    write_predict_request,
    write_prediction_log,
)
from npu_serving.asking.tensor import Tensor
from npu_serving.client import predict_wire
from npu_serving.client.data_types import BY_NAME
from npu_serving.client.model_spec import ModelSpec
from npu_serving.wire_bytes import MalformedMessageError, bytes_field, number_field, text_field

SERVING = "tensorflow.serving."
NAMES = st.text(max_size=8)
ROW = Tensor(BY_NAME["DT_FLOAT"], (1, 2), (1.0, 2.0))
TEXT = Tensor(BY_NAME["DT_STRING"], (1,), (b"\xff",))

specs = st.builds(
    lambda name, version, label, signature: ModelSpec(name, version, "" if version is not None else label, signature),
    NAMES,
    st.none() | st.integers(0, 2**63 - 1),
    NAMES,
    NAMES,
)
inputs = st.dictionaries(NAMES, st.sampled_from([ROW, TEXT]), max_size=3)


@given(specs, inputs)
def test_a_request_is_written_as_protobuf_writes_it_and_read_again(spec: ModelSpec, tensors: dict[str, Tensor]) -> None:
    written = write_predict_request(spec, tensors)
    theirs = message_class(SERVING + "PredictRequest").FromString(written)
    assert theirs.model_spec.name == spec.name
    assert {name: tensor.dtype for name, tensor in theirs.inputs.items()} == {
        name: tensor.data_type.number for name, tensor in tensors.items()
    }
    for whole in (written, theirs.SerializeToString()):
        again, found = read_predict_request(memoryview(whole))
        assert again == spec
        assert {name: tuple(tensor.values) for name, tensor in found.items()} == {
            name: tensor.values for name, tensor in tensors.items()
        }


def test_an_answer_of_protobuf_is_read() -> None:
    answer = message_class(SERVING + "PredictResponse")()
    answer.model_spec.name, answer.model_spec.version.value = "m", 3
    answer.outputs["y"].dtype = 1
    answer.outputs["y"].tensor_shape.dim.add(size=2)
    answer.outputs["y"].float_val.extend([0.5, -1])
    spec, outputs = read_predict_response(memoryview(answer.SerializeToString()))
    assert spec == ModelSpec("m", 3)
    assert list(outputs["y"].values) == [0.5, -1]


@given(specs, inputs)
def test_a_log_of_a_prediction_is_read_by_protobuf_and_by_us(spec: ModelSpec, tensors: dict[str, Tensor]) -> None:
    written = write_prediction_log(spec, tensors)
    theirs = message_class(SERVING + "PredictionLog").FromString(written)
    assert theirs.predict_log.request.SerializeToString(deterministic=True) is not None
    assert set(theirs.predict_log.request.inputs) == set(tensors)
    again, found = read_prediction_log(memoryview(written))
    assert (again, set(found)) == (spec, set(tensors))


def test_a_log_of_another_kind_is_refused() -> None:
    with pytest.raises(MalformedMessageError, match="no request for a prediction"):
        read_prediction_log(memoryview(bytes_field(2, b"")))


def test_more_names_and_values_than_any_model_has_are_not_gathered(monkeypatch) -> None:
    monkeypatch.setattr(predict_wire, "MOST_TENSORS", 2)
    tensors = dict.fromkeys("abc", ROW)
    with pytest.raises(MalformedMessageError, match="more than 2 names"):
        read_predict_request(memoryview(write_predict_request(ModelSpec("m"), tensors)))
    monkeypatch.setattr(predict_wire, "MOST_TENSORS", 3)
    monkeypatch.setattr(messages, "MOST_VALUES", 3)
    with pytest.raises(MalformedMessageError, match="more than 3 values"):
        read_predict_request(memoryview(write_predict_request(ModelSpec("m"), tensors)))


@given(st.binary(max_size=80), st.integers(0, 79))
def test_damaged_answers_are_refused_and_raise_nothing_else(noise: bytes, at: int) -> None:
    whole = text_field(3, "x") + write_predict_request(ModelSpec("m", 1), {"x": ROW, "t": TEXT}) + number_field(9, 1)
    for data in (noise, whole[:at] + noise + whole[at:], whole[:at]):
        for read in (read_predict_response, read_predict_request, read_prediction_log):
            try:
                read(memoryview(data))
            except MalformedMessageError:
                continue

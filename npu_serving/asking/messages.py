"""PredictionService's messages with the tensors of a task's small requests; what is around these is the client's."""

from __future__ import annotations

from collections.abc import Mapping

from npu_serving.asking.tensor import Tensor, read_tensor, write_tensor
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.predict_wire import (
    INPUTS_FIELD,
    join_request,
    prediction_log,
    request_in_log,
    split_request,
    split_response,
)
from npu_serving.client.tensor_message import MOST_ELEMENTS
from npu_serving.wire_bytes import MalformedMessageError, entry_field

MOST_VALUES = 2 * MOST_ELEMENTS  # in all tensors of one message


def write_predict_request(spec: ModelSpec, inputs: Mapping[str, Tensor]) -> bytes:
    """The PredictRequest. RequestError for one of 2 GiB."""
    return join_request(
        spec, [entry_field(INPUTS_FIELD, name, write_tensor(tensor)) for name, tensor in sorted(inputs.items())]
    )


def read_predict_request(message: memoryview) -> tuple[ModelSpec, dict[str, Tensor]]:
    """What a PredictRequest asks. MalformedMessageError for other bytes."""
    spec, tensors = split_request(message)
    return spec, _tensors(tensors)


def read_predict_response(message: memoryview) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Who answered, and the outputs of a PredictResponse. MalformedMessageError for other bytes."""
    spec, tensors = split_response(message)
    return spec, _tensors(tensors)


def write_prediction_log(spec: ModelSpec, inputs: Mapping[str, Tensor]) -> bytes:
    """The PredictionLog of a request, as a warm-up file has it."""
    return prediction_log(write_predict_request(spec, inputs))


def read_prediction_log(message: memoryview) -> tuple[ModelSpec, dict[str, Tensor]]:
    """The request in a PredictionLog. MalformedMessageError for a log of another kind."""
    return read_predict_request(request_in_log(message))


def _tensors(messages: Mapping[str, memoryview]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    values = 0
    for name, message in messages.items():
        found[name] = read_tensor(message)
        values += len(found[name].values)
        if values > MOST_VALUES:
            raise MalformedMessageError(f"it has more than {MOST_VALUES} values")
    return found

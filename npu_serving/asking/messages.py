"""The messages of TensorFlow Serving's PredictionService, written and read in protobuf's wire format.

No generated code and no descriptors: the numbers of the fields are those of predict.proto, model.proto,
get_model_metadata.proto and prediction_log.proto at 1.15.0.
"""

from __future__ import annotations

from collections.abc import Mapping

from npu_serving.asking.tensor import Tensor, read_tensor, write_tensor
from npu_serving.client.data_types import type_name
from npu_serving.client.model_spec import ModelSpec, read_model_spec, write_model_spec
from npu_serving.client.model_types import ModelMetadata, Signature, TensorInfo
from npu_serving.client.tensor_message import MOST_ELEMENTS, read_shape
from npu_serving.wire_bytes import (
    BYTES,
    VARINT,
    MalformedMessageError,
    bytes_field,
    entry_field,
    entry_of,
    fields,
    tag,
    text_field,
    text_of,
)

MOST_VALUES = 2 * MOST_ELEMENTS  # in all tensors of one message
MOST_NAMES = 50_000  # of tensors and signatures in one message: more than any model has
SIGNATURES = "signature_def"
_PREDICT_LOG = 6


def write_predict_request(spec: ModelSpec, inputs: Mapping[str, Tensor]) -> bytes:
    """The PredictRequest."""
    tensors = (entry_field(2, name, write_tensor(tensor)) for name, tensor in sorted(inputs.items()))
    return b"".join((bytes_field(1, write_model_spec(spec)), *tensors))


def read_predict_request(message: memoryview) -> tuple[ModelSpec, dict[str, Tensor]]:
    """What a PredictRequest asks. MalformedMessageError for other bytes."""
    return _spec_and_tensors(message, spec=1, tensors=2)


def read_predict_response(message: memoryview) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Who answered, and the outputs of a PredictResponse. MalformedMessageError for other bytes."""
    return _spec_and_tensors(message, spec=2, tensors=1)


def write_metadata_request(spec: ModelSpec) -> bytes:
    """The GetModelMetadataRequest for the signatures of a model."""
    return bytes_field(1, write_model_spec(spec)) + text_field(2, SIGNATURES)


def read_metadata_response(model: str, message: memoryview) -> ModelMetadata:
    """The signatures in a GetModelMetadataResponse. MalformedMessageError for other bytes."""
    version, signatures, found = 0, {}, False
    for key, _, inner in fields(message):
        if key == tag(1, BYTES):
            version = read_model_spec(inner).version or 0
        elif key == tag(2, BYTES):
            name, value = entry_of(inner)
            if name == SIGNATURES:
                found = True
                signatures = _signatures(_content_of_any(value))
    if not found:
        raise MalformedMessageError(f"it has no {SIGNATURES}")
    return ModelMetadata(model, version, tuple(signatures[name] for name in sorted(signatures)))


def write_prediction_log(spec: ModelSpec, inputs: Mapping[str, Tensor]) -> bytes:
    """The PredictionLog of a request, as a warm-up file has it."""
    return bytes_field(_PREDICT_LOG, bytes_field(1, write_predict_request(spec, inputs)))


def read_prediction_log(message: memoryview) -> tuple[ModelSpec, dict[str, Tensor]]:
    """The request in a PredictionLog. MalformedMessageError for a log of another kind."""
    for key, _, inner in fields(message):
        if key == tag(_PREDICT_LOG, BYTES):
            for of_log, _, request in fields(inner):
                if of_log == tag(1, BYTES):
                    return read_predict_request(request)
    raise MalformedMessageError("it has no request for a prediction")


def _spec_and_tensors(message: memoryview, *, spec: int, tensors: int) -> tuple[ModelSpec, dict[str, Tensor]]:
    model = ModelSpec("")
    found: dict[str, Tensor] = {}
    values = 0
    for key, _, inner in fields(message):
        if key == tag(spec, BYTES):
            model = read_model_spec(inner)
        elif key == tag(tensors, BYTES):
            name, value = entry_of(inner)
            found[name] = read_tensor(value)
            values += len(found[name].values)
            if values > MOST_VALUES:
                raise MalformedMessageError(f"it has more than {MOST_VALUES} values")
            _refuse_too_many(found)
    return model, found


def _content_of_any(message: memoryview) -> memoryview:
    content = message[:0]
    for key, _, inner in fields(message):
        if key == tag(2, BYTES):
            content = inner
    return content


def _signatures(message: memoryview) -> dict[str, Signature]:
    found: dict[str, Signature] = {}
    for key, _, inner in fields(message):
        if key == tag(1, BYTES):
            name, value = entry_of(inner)
            found[name] = _signature(name, value)
            _refuse_too_many(found)
    return found


def _signature(name: str, message: memoryview) -> Signature:
    inputs: dict[str, TensorInfo] = {}
    outputs: dict[str, TensorInfo] = {}
    method = ""
    for key, _, inner in fields(message):
        if key in (tag(1, BYTES), tag(2, BYTES)):
            tensor, value = entry_of(inner)
            of_these = inputs if key == tag(1, BYTES) else outputs
            of_these[tensor] = _tensor_info(tensor, value)
            _refuse_too_many(of_these)
        elif key == tag(3, BYTES):
            method = text_of(inner)
    ordered = (tuple(each[name] for name in sorted(each)) for each in (inputs, outputs))
    return Signature(name, method, *ordered)


def _tensor_info(name: str, message: memoryview) -> TensorInfo:
    number = 0
    shape: tuple[int, ...] | None = ()
    for key, value, inner in fields(message):
        if key == tag(2, VARINT):
            number = value
        elif key == tag(3, BYTES):
            shape = read_shape(inner)
    return TensorInfo(name, type_name(number), shape)


def _refuse_too_many(found: Mapping[str, object]) -> None:
    if len(found) > MOST_NAMES:
        raise MalformedMessageError(f"it has more than {MOST_NAMES} names")

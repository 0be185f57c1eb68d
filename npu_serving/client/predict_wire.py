"""PredictRequest, PredictResponse and PredictionLog around tensors, whatever these are made of, so without NumPy.

The numbers of the fields are those of predict.proto and prediction_log.proto at 1.15.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Union

from npu_serving.client.errors import NotSentError
from npu_serving.client.model_spec import ModelSpec, read_model_spec, write_model_spec
from npu_serving.wire_bytes import BYTES, MalformedMessageError, bytes_field, entry_of, fields, tag, text_field

Piece = Union[bytes, memoryview]
"""What a message is joined from: bytes, and the memory of arrays."""
INPUTS_FIELD = 2
MOST_REQUEST_BYTES = (1 << 31) - 1  # protobuf's own limit, and the server's (it sets SetMaxMessageSize)
MOST_TENSORS = 50_000  # of one message: more than any model has
_PREDICT_LOG = 6


def join_request(spec: ModelSpec, inputs: Iterable[Piece], outputs: Sequence[str] = ()) -> bytes:
    """The PredictRequest with these fields of inputs, for the outputs that are named or else all.

    The pieces are copied once. NotSentError for requests of 2 GiB.
    """
    pieces: list[Piece] = [bytes_field(1, write_model_spec(spec)), *inputs]
    if outputs:
        pieces += [text_field(3, name) for name in outputs]
    refuse_too_large(sum(map(_size, pieces)))
    return b"".join(pieces)


def refuse_too_large(size_bytes: int) -> None:
    """NotSentError for requests that no message may be."""
    if size_bytes > MOST_REQUEST_BYTES:
        raise NotSentError(
            f"The request has {size_bytes} bytes, and no message may have 2 GiB.",
            cause="protobuf, in which it is written, has this limit",
            cure="send fewer instances in one request",
        )


def split_request(message: memoryview) -> tuple[ModelSpec, dict[str, memoryview]]:
    """What a PredictRequest asks: the model, and each input's TensorProto. MalformedMessageError for other bytes."""
    return _split(message, of_spec=tag(1, BYTES), of_tensors=tag(INPUTS_FIELD, BYTES))


def split_response(message: memoryview) -> tuple[ModelSpec, dict[str, memoryview]]:
    """Who answered, and the TensorProto of each output of a PredictResponse. MalformedMessageError for other bytes."""
    return _split(message, of_spec=tag(2, BYTES), of_tensors=tag(1, BYTES))


def prediction_log(request: bytes) -> bytes:
    """The PredictionLog of a PredictRequest, as a warm-up file has it."""
    return bytes_field(_PREDICT_LOG, bytes_field(1, request))


def request_in_log(message: memoryview) -> memoryview:
    """The PredictRequest in a PredictionLog. MalformedMessageError for a log of another kind."""
    for key, _, inner in fields(message):
        if key == tag(_PREDICT_LOG, BYTES):
            for of_log, _, request in fields(inner):
                if of_log == tag(1, BYTES):
                    return request
    raise MalformedMessageError("it has no request for a prediction")


def _split(message: memoryview, *, of_spec: int, of_tensors: int) -> tuple[ModelSpec, dict[str, memoryview]]:
    model = ModelSpec("")
    found: dict[str, memoryview] = {}
    for key, _, inner in fields(message):
        if key == of_tensors:
            name, value = entry_of(inner)
            found[name] = value
            if len(found) > MOST_TENSORS:
                raise MalformedMessageError(f"it has more than {MOST_TENSORS} names")
        elif key == of_spec:
            model = read_model_spec(inner)
    return model, found


def _size(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.nbytes

"""PredictRequest and PredictResponse with NumPy's arrays: a request is made by one copy of its arrays.

The numbers of the fields are those of predict.proto at 1.15.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from npu_serving.client.arrays import Piece, decode_tensor, tensor_pieces
from npu_serving.client.model_spec import ModelSpec, read_model_spec, write_model_spec
from npu_serving.errors import RequestError
from npu_serving.wire_bytes import BYTES, MalformedMessageError, bytes_field, entry_of, fields, tag, text_field, varint

MOST_REQUEST_BYTES = (1 << 31) - 1  # protobuf's own limit, and the server's (it sets SetMaxMessageSize)
MOST_TENSORS = 50_000  # of one message: more than any model has
_INPUTS, _OUTPUTS = tag(2, BYTES), tag(1, BYTES)


def encode_predict(
    model: str,
    inputs: Mapping[str, object],
    *,
    signature: str = "",
    version: int | None = None,
    label: str = "",
    outputs: Sequence[str] = (),
) -> bytes:
    """The PredictRequest for a model: its inputs by name, and the names of the outputs if not all are wanted.

    The arrays are copied once, into the request; one that is not contiguous, or not little endian, twice. RequestError
    for what TensorFlow Serving has no type for (see arrays.py), and for requests of 2 GiB.
    """
    return encode_predict_for(ModelSpec(model, version, label, signature), inputs, outputs)


def encode_predict_for(spec: ModelSpec, inputs: Mapping[str, object], outputs: Sequence[str] = ()) -> bytes:
    """The PredictRequest, as encode_predict() makes it."""
    pieces: list[Piece] = [bytes_field(1, write_model_spec(spec))]
    total = 0
    for name in sorted(inputs):
        tensor, size = tensor_pieces(name, inputs[name])
        key = bytes_field(1, name.encode())
        before = b"".join((key, b"\x12", varint(size)))
        pieces += (b"\x12" + varint(len(before) + size) + before, *tensor)
        total += size
    pieces += (text_field(3, name) for name in outputs)
    if total > MOST_REQUEST_BYTES:
        raise RequestError(
            f"The request has {total} bytes, and no message may have 2 GiB.",
            cause="protobuf, in which it is written, has this limit",
            cure="send fewer instances in one request",
        )
    return b"".join(pieces)


def decode_predict(message: bytes | memoryview) -> tuple[ModelSpec, dict[str, NDArray[Any]]]:
    """Who answered, and the outputs of a PredictResponse by name. MalformedMessageError for other bytes.

    Arrays of floats, doubles and complex numbers are views of the message, which they keep in memory.
    """
    return _decoded(message, tag(2, BYTES), _OUTPUTS)


def decode_predict_request(message: bytes | memoryview) -> tuple[ModelSpec, dict[str, NDArray[Any]]]:
    """What a PredictRequest asks: the model, and the inputs by name. MalformedMessageError for other bytes."""
    return _decoded(message, tag(1, BYTES), _INPUTS)


def _decoded(message: bytes | memoryview, of_spec: int, of_tensors: int) -> tuple[ModelSpec, dict[str, NDArray[Any]]]:
    model = ModelSpec("")
    found: dict[str, NDArray[Any]] = {}
    for key, _, inner in fields(memoryview(message)):
        if key == of_tensors:
            name, value = entry_of(inner)
            found[name] = decode_tensor(value)
            if len(found) > MOST_TENSORS:
                raise MalformedMessageError(f"it has more than {MOST_TENSORS} names")
        elif key == of_spec:
            model = read_model_spec(inner)
    return model, found

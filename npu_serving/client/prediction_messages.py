"""PredictRequest and PredictResponse with NumPy's arrays: a request is made by one copy of its arrays."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from npu_serving.client.arrays import decode_tensor, tensor_content
from npu_serving.client.data_types import CONTENT_FIELD
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.predict_wire import INPUTS_FIELD, Piece, join_request, split_request, split_response
from npu_serving.client.tensor_message import tensor_head
from npu_serving.wire_bytes import BYTES, bytes_field, tag, varint

Arrays = dict[str, NDArray[Any]]


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

    The arrays are copied once, into the request; one that is not contiguous, or not little endian, twice. NotSentError
    for what TensorFlow Serving has no type for (see arrays.py), and for requests of 2 GiB.
    """
    return predict_request(ModelSpec(model, version, label, signature), inputs, outputs)


def predict_request(spec: ModelSpec, inputs: Mapping[str, object], outputs: Sequence[str] = ()) -> bytes:
    """The PredictRequest, as encode_predict() makes it."""
    pieces: list[Piece] = []
    for name in sorted(inputs):
        kind, shape, content = tensor_content(name, inputs[name])
        size = content.nbytes if isinstance(content, memoryview) else len(content)
        pieces.append(_entry_head(name, kind.number, shape, size, kind.is_text))
        if size:
            pieces.append(content)
    return join_request(spec, pieces, outputs)


def decode_predict(message: bytes | memoryview) -> tuple[ModelSpec, Arrays]:
    """Who answered, and the outputs of a PredictResponse by name. MalformedMessageError for other bytes.

    Arrays of floats, doubles and complex numbers are views of the message, which they keep in memory.
    """
    spec, tensors = split_response(memoryview(message))
    return spec, {name: decode_tensor(tensor) for name, tensor in tensors.items()}


def decode_predict_request(message: bytes | memoryview) -> tuple[ModelSpec, Arrays]:
    """What a PredictRequest asks: the model, and the inputs by name. MalformedMessageError for other bytes."""
    spec, tensors = split_request(memoryview(message))
    return spec, {name: decode_tensor(tensor) for name, tensor in tensors.items()}


@functools.lru_cache(maxsize=1024)
def _entry_head(name: str, number: int, shape: tuple[int, ...], size: int, is_text: bool) -> bytes:
    """An input's entry in the map of inputs, up to where its values begin; these are fields already if it has texts."""
    head = tensor_head(number, shape)
    if size and not is_text:
        head += varint(tag(CONTENT_FIELD, BYTES)) + varint(size)
    key = bytes_field(1, name.encode())
    before = b"".join((key, varint(tag(2, BYTES)), varint(len(head) + size), head))
    return b"".join((varint(tag(INPUTS_FIELD, BYTES)), varint(len(before) + size), before))

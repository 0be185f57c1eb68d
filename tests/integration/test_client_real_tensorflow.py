"""What the client writes is read by the real TensorFlow 1.15.0 bit by bit, and what that writes is by the client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import hypothesis
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import strategies
from tensorflow_server import TensorFlowServer

from npu_serving.client import WireArray, decode_predict, encode_predict

NAMES = {
    "float": "f4", "double": "f8", "half": "f2", "int8": "i1", "int16": "i2", "int32": "i4", "int64": "i8",
    "uint8": "u1", "uint16": "u2", "uint32": "u4", "uint64": "u8", "bool": "?", "complex64": "c8", "complex128": "c16",
}  # fmt: skip
QUANTISED = {"qint8": "i1", "quint8": "u1", "qint16": "i2", "quint16": "u2", "qint32": "i4"}
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@pytest.fixture(scope="module")
def echoed(tensorflow_process: TensorFlowServer) -> Iterator[Any]:
    """Sends an array through the model that returns it, by a signature for its type."""
    tensorflow_process.reset()
    with grpc.insecure_channel(tensorflow_process.target) as channel:
        call: Any = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")

        def through(signature: str, value: object) -> np.ndarray[Any, Any]:
            answer = call(encode_predict("echo_all", {"x": value}, signature=signature), timeout=60)
            spec, outputs = decode_predict(answer)
            assert (spec.name, spec.version, spec.signature_name) == ("echo_all", 1, signature)
            return outputs["y"]

        yield through


def same_bits(found: np.ndarray[Any, Any], sent: np.ndarray[Any, Any]) -> bool:
    return (found.dtype, found.shape, found.tobytes()) == (sent.dtype, sent.shape, sent.tobytes())


@hypothesis.given(strategies.data())
def test_arrays_of_every_type_and_shape_come_back_bit_by_bit(echoed: Any, data: strategies.DataObject) -> None:
    name = data.draw(strategies.sampled_from(sorted(NAMES)))
    sent = data.draw(arrays.arrays(NAMES[name], SHAPES))
    view = data.draw(strategies.sampled_from(["as it is", "transposed", "backwards", "big endian", "read only"]))
    if view == "transposed":
        sent = sent.T
    elif view == "backwards":
        sent = sent[::-1] if sent.ndim else sent
    elif view == "big endian":
        sent = sent.astype(sent.dtype.newbyteorder(">"))
    elif view == "read only":
        sent.setflags(write=False)
    assert same_bits(echoed(name, sent), np.ascontiguousarray(sent, sent.dtype.newbyteorder("<")).reshape(sent.shape))


@hypothesis.given(strategies.data())
def test_quantised_types_and_bfloat16_are_sent_by_their_names(echoed: Any, data: strategies.DataObject) -> None:
    name = data.draw(strategies.sampled_from(sorted(QUANTISED)))
    sent = data.draw(arrays.arrays(QUANTISED[name], SHAPES))
    assert same_bits(echoed(name, WireArray(sent, f"DT_{name.upper()}")), sent)
    bits = data.draw(arrays.arrays("u2", SHAPES))
    found = echoed("bfloat16", WireArray(bits, "DT_BFLOAT16"))
    assert same_bits(found, (bits.astype("u4") << 16).view("f4").reshape(bits.shape))


@hypothesis.given(arrays.arrays(object, SHAPES, elements=strategies.binary(max_size=300)))
def test_texts_of_any_bytes_come_back_as_bytes(echoed: Any, sent: np.ndarray[Any, Any]) -> None:
    found = echoed("string", sent)
    assert found.shape == sent.shape
    assert found.ravel().tolist() == sent.ravel().tolist()


def test_texts_are_sent_in_utf_8(echoed: Any) -> None:
    assert echoed("string", ["größe", "模型", ""]).tolist() == ["größe".encode(), "模型".encode(), b""]


def test_not_numbers_and_infinities_keep_their_bits(echoed: Any) -> None:
    bits = np.array([0x7F800001, 0xFFC12345, 0x7F800000, 0xFF800000, 0x80000000, 1], "u4")
    found = echoed("float", bits.view("f4"))
    quiet = bits | np.where((bits & 0x7F800000 == 0x7F800000) & (bits & 0x7FFFFF != 0), 0x400000, 0).astype("u4")
    assert found.view("u4").tolist() in (bits.tolist(), quiet.tolist())

"""Requests and answers of Predict with arrays, held against protobuf."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_messages import message_class

from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.prediction_messages import decode_predict, decode_predict_request, encode_predict
from npu_serving.errors import RequestError
from npu_serving.wire_bytes import MalformedMessageError

REQUEST, RESPONSE = "tensorflow.serving.PredictRequest", "tensorflow.serving.PredictResponse"
NAMES = st.text(max_size=8)


@given(
    NAMES,
    st.dictionaries(NAMES, st.sampled_from([[1.5, -2], [b"a", "\u4e2d"], 3, True, []]), max_size=3),
    NAMES,
    st.none() | st.integers(0, 2**63 - 1),
    st.lists(NAMES.filter(bool), max_size=3),
)
def test_a_request_is_written_as_protobuf_writes_it_and_read_again(
    model: str, inputs: dict[str, object], signature: str, version: int | None, outputs: list[str]
) -> None:
    written = encode_predict(model, inputs, signature=signature, version=version, outputs=outputs)
    theirs = message_class(REQUEST).FromString(written)
    assert (theirs.model_spec.name, theirs.model_spec.signature_name) == (model, signature)
    assert list(theirs.output_filter) == outputs
    for whole in (written, theirs.SerializeToString()):
        spec, found = decode_predict_request(whole)
        assert spec == ModelSpec(model, version, "", signature)
        assert {name: array.tolist() for name, array in found.items()} == {
            name: [item.encode() if isinstance(item, str) else item for item in value]
            if isinstance(value, list)
            else value
            for name, value in inputs.items()
        }


def test_the_same_inputs_are_the_same_request_in_whatever_order() -> None:
    assert encode_predict("m", {"b": 1, "a": 2}) == encode_predict("m", {"a": 2, "b": 1})


def test_a_label_says_which_version_is_asked() -> None:
    theirs = message_class(REQUEST).FromString(encode_predict("m", {}, label="stable"))
    assert theirs.model_spec.version_label == "stable"


def answer() -> Any:
    """An answer with two outputs, as a server gives it."""
    found = message_class(RESPONSE)()
    found.model_spec.name, found.model_spec.version.value = "m", 3
    for name, number in (("y", 1), ("classes", 9)):
        found.outputs[name].dtype = number
        found.outputs[name].tensor_shape.dim.add(size=2)
    found.outputs["y"].float_val.extend([0.5, -1])
    found.outputs["classes"].int64_val.extend([7, -7])
    return found


def test_an_answer_is_read_with_all_its_rows_and_outputs() -> None:
    spec, outputs = decode_predict(answer().SerializeToString())
    assert spec == ModelSpec("m", 3)
    assert {name: (array.dtype.name, array.tolist()) for name, array in outputs.items()} == {
        "y": ("float32", [0.5, -1]),
        "classes": ("int64", [7, -7]),
    }


def test_a_request_is_made_by_one_copy_of_its_arrays() -> None:
    array = np.zeros((8, 1 << 18), np.float32)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        request = encode_predict("m", {"x": array})
        assert tracemalloc.get_traced_memory()[1] - before < 1.01 * len(request)
    finally:
        tracemalloc.stop()


def test_a_request_of_two_gibibytes_is_refused_before_it_is_made() -> None:
    gigabyte = np.memmap("/dev/zero", np.float32, "r", shape=(1 << 28,))
    with pytest.raises(RequestError, match="no message may have 2 GiB"):
        encode_predict("m", {"x": gigabyte, "y": gigabyte})


@given(st.binary(max_size=80), st.integers(0, 79))
def test_damaged_answers_are_refused_and_raise_nothing_else(noise: bytes, at: int) -> None:
    whole = answer().SerializeToString()
    for data in (noise, whole[:at] + noise + whole[at:], whole[:at], whole[:at] + noise + whole[at + len(noise) :]):
        for read in (decode_predict, decode_predict_request):
            try:
                read(data)
            except MalformedMessageError:
                continue


def test_the_library_is_imported_without_numpy_grpc_and_protobuf() -> None:
    script = "import sys, npu_serving.client as client; print(*sys.modules); client.encode_predict; print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    before, after = (set(line.split()) for line in shown)
    assert {"numpy", "grpc", "google.protobuf", "requests"}.isdisjoint(before)
    assert "numpy" in after
    assert {"grpc", "google.protobuf", "requests"}.isdisjoint(after)

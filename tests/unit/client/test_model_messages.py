"""What is asked of a server about its models, held against protobuf."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_messages import message_class

from npu_serving.client import model_messages
from npu_serving.client.model_messages import (
    read_metadata_response,
    read_reload_response,
    read_status_response,
    write_metadata_request,
    write_status_request,
)
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.model_types import VersionStatus
from npu_serving.wire_bytes import MalformedMessageError, bytes_field, entry_field, number_field


def test_the_signatures_are_asked_for_and_read() -> None:
    asked = message_class("tensorflow.serving.GetModelMetadataRequest").FromString(
        write_metadata_request(ModelSpec("m", 2))
    )
    assert (asked.model_spec.name, asked.model_spec.version.value) == ("m", 2)
    assert list(asked.metadata_field) == ["signature_def"]
    found = message_class("tensorflow.serving.SignatureDefMap")()
    signature = found.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    signature.inputs["x"].dtype = 1
    signature.inputs["x"].tensor_shape.dim.add(size=-1)
    signature.outputs["y"].dtype = 7
    signature.outputs["y"].tensor_shape.unknown_rank = True
    answer = message_class("tensorflow.serving.GetModelMetadataResponse")()
    answer.model_spec.version.value = 2
    answer.metadata["signature_def"].Pack(found)
    read = read_metadata_response("m", memoryview(answer.SerializeToString()))
    assert (read.model, read.version) == ("m", 2)
    (of_it,) = read.signatures
    assert (of_it.name, of_it.method_name) == ("serving_default", "tensorflow/serving/predict")
    assert [item.text() for item in of_it.inputs + of_it.outputs] == ["x: DT_FLOAT [-1]", "y: DT_STRING of any rank"]


def test_metadata_without_signatures_is_refused() -> None:
    with pytest.raises(MalformedMessageError, match="signature_def"):
        read_metadata_response("m", memoryview(b""))


def test_the_states_of_versions_are_asked_for_and_read_the_newest_first() -> None:
    asked = message_class("tensorflow.serving.GetModelStatusRequest").FromString(
        write_status_request(ModelSpec("m", 2))
    )
    assert (asked.model_spec.name, asked.model_spec.version.value) == ("m", 2)
    answer = message_class("tensorflow.serving.GetModelStatusResponse")()
    for version, state, code, said in ((1, 30, 0, ""), (3, 50, 11, "no \u6587\u4ef6"), (2, 99, 77, "")):
        entry = answer.model_version_status.add(version=version, state=state)
        entry.status.error_code, entry.status.error_message = code, said
    assert read_status_response("m", memoryview(answer.SerializeToString())).versions == (
        VersionStatus(3, "END", "OUT_OF_RANGE", "no \u6587\u4ef6"),
        VersionStatus(2, "99", "77", ""),
        VersionStatus(1, "AVAILABLE", "OK", ""),
    )


def test_an_error_that_is_not_utf8_is_read_all_the_same() -> None:
    status = bytes_field(3, bytes_field(2, b"\xb2\xbb"))
    (version,) = read_status_response("m", memoryview(bytes_field(1, number_field(1, 1) + status))).versions
    assert version.error_message.encode("utf-8", "surrogateescape") == b"\xb2\xbb"


def test_what_a_server_says_of_a_new_list_is_read() -> None:
    answer = message_class("tensorflow.serving.ReloadConfigResponse")()
    assert read_reload_response(memoryview(b"")) == ("OK", "")
    answer.status.error_code, answer.status.error_message = 2, "1 model(s) did not become available"
    read = read_reload_response(memoryview(answer.SerializeToString()))
    assert read == ("UNKNOWN", "1 model(s) did not become available")


def test_more_names_than_any_model_has_are_not_gathered(monkeypatch) -> None:
    monkeypatch.setattr(model_messages, "MOST_NAMES", 2)
    signature = bytes_field(2, b"".join(entry_field(1, name, b"") for name in "abc"))
    with pytest.raises(MalformedMessageError, match="more than 2 names"):
        read_metadata_response("m", memoryview(entry_field(2, "signature_def", signature)))
    with pytest.raises(MalformedMessageError, match="more than 2 versions"):
        read_status_response("m", memoryview(bytes_field(1, b"") * 3))


@given(st.binary(max_size=80))
def test_damaged_answers_are_refused_and_raise_nothing_else(noise: bytes) -> None:
    for data in (noise, bytes_field(1, noise), bytes_field(1, bytes_field(3, noise))):
        for read in (read_reload_response, lambda answer: read_status_response("m", answer)):
            try:
                read(memoryview(data))
            except MalformedMessageError:
                continue
    for data in (noise, entry_field(2, "signature_def", noise), entry_field(2, "signature_def", bytes_field(2, noise))):
        try:
            read_metadata_response("m", memoryview(data))
        except MalformedMessageError:
            continue

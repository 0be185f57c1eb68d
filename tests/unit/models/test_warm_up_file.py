"""Recorded requests: what a server would read, and what would keep it from loading the model."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.errors import ModelFileError
from npu_serving.models.warm_up_file import framed, records_in, warm_up_trouble

# Two records as TensorFlow 1.15.0 writes them: TFRecordWriter, b"hello" and b"".
BY_TENSORFLOW = bytes.fromhex("0500000000000000eab2043e68656c6c6fbb1f1c19000000000000000029039807d8ea82a2")


def masked_crc(data: bytes) -> int:
    """Bit by bit, apart from the table that is tested."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def trouble(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "tf_serving_warmup_requests"
    path.write_bytes(data)
    return warm_up_trouble(path)


def test_what_tensorflow_has_written_is_read(tmp_path: Path) -> None:
    assert trouble(tmp_path, BY_TENSORFLOW) == ""
    assert record(b"hello") + record(b"") == BY_TENSORFLOW


@pytest.mark.parametrize(("records", "fine"), [(0, True), (1000, True), (1001, False)])
def test_a_thousand_records_are_replayed_and_one_more_keeps_the_model_out(
    tmp_path: Path, records: int, fine: bool
) -> None:
    assert (trouble(tmp_path, record(b"x") * records) == "") == fine


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"instances": [1.0]}', "no record at byte 0"),
        (record(b"a") + b"more than twelve bytes", "no record at byte 17"),
        (record(b"abc")[:-1], "record 1 is cut off"),
        (record(b"abc") + b"\0\0", "record 2 is cut off at byte 19"),
    ],
)
def test_a_file_that_is_not_of_whole_records_is_named_with_the_byte(tmp_path: Path, data: bytes, said: str) -> None:
    assert said in trouble(tmp_path, data)


@given(data=st.binary(max_size=60))
def test_any_bytes_are_answered(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    trouble(tmp_path_factory.mktemp("warm"), data)


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_records_are_written_as_tensorflow_does_and_read_again(tmp_path_factory, records: list[bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / "records"
    path.write_bytes(framed(records))
    assert path.read_bytes() == b"".join(map(record, records))
    assert list(records_in(path)) == records


def test_the_bytes_are_tensorflows_own() -> None:
    assert framed([b"hello", b""]) == BY_TENSORFLOW


@pytest.mark.parametrize("at", range(len(record(b"abc"))))
def test_a_record_with_one_wrong_byte_is_refused(tmp_path: Path, at: int) -> None:
    data = bytearray(framed([b"abc"]))
    data[at] ^= 0x10
    path = tmp_path / "records"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="its record 1"):
        list(records_in(path))


@pytest.mark.parametrize("kept", range(1, len(record(b"abc"))))
def test_a_record_that_is_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "records"
    path.write_bytes(framed([b"abc"])[:kept])
    with pytest.raises(ModelFileError, match="its record 1"):
        list(records_in(path))

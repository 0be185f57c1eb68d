"""Fields of a file in protobuf's wire format: read where they are whole, refused with their byte where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_messages import message, number, varint

from npu_serving.errors import FileAccessError, ModelFileError
from npu_serving.models import wire_format
from npu_serving.models.wire_format import Field, open_wire_file
from npu_serving.wire_bytes import BYTES, FIXED32, FIXED64, VARINT, signed, tag


def fields_of(path: Path, data: bytes) -> list[Field]:
    path.write_bytes(data)
    with open_wire_file(path) as file:
        return list(file.fields(0, file.size))


FIELDS = st.lists(
    st.one_of(
        st.tuples(st.just(VARINT), st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1)),
        st.tuples(st.just(BYTES), st.integers(1, 2**29 - 1), st.binary(max_size=300)),
        st.tuples(st.just(FIXED32), st.integers(1, 15), st.binary(min_size=4, max_size=4)),
        st.tuples(st.just(FIXED64), st.integers(1, 15), st.binary(min_size=8, max_size=8)),
    ),
    max_size=20,
)


@given(written=FIELDS)
def test_every_field_that_was_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[int, int, int | bytes]]
) -> None:
    data = b""
    for kind, field, value in written:
        if isinstance(value, int):
            data += number(field, value)
        elif kind == BYTES:
            data += message(field, value)
        else:
            data += varint(field << 3 | kind) + value
    path = tmp_path_factory.mktemp("wire") / "message"
    found = fields_of(path, data)
    with open_wire_file(path) as file:
        values = [at if key & 7 == VARINT else file.read(at, end) for key, at, end in found]
    assert values == [value for _, _, value in written]
    assert [key for key, _, _ in found] == [tag(field, kind) for kind, field, _ in written]


@pytest.mark.parametrize(
    ("data", "offset", "why"),
    [
        (number(1, 1) + b"\x12\x05abc", 2, "5 bytes, and 3 are left"),
        (b"\x12" + b"\xff" * 9 + b"\x01", 0, "are left"),
        (b"\x08", 1, "before it is whole"),
        (b"\x08\xff\xff", 1, "before it is whole"),
        (b"\x08" + b"\xff" * 11, 1, "more than 64 bits"),
        (b"\x0d\x00\x00", 0, "before it is whole"),
        (b"\x09\x00\x00\x00\x00", 0, "before it is whole"),
        (b"\x0b\x0b\x0b", 0, "of the kind 3"),
        (b"\x00\x00", 0, "0 is not the number of a field"),
    ],
)
def test_what_is_damaged_is_named_with_its_byte(tmp_path: Path, data: bytes, offset: int, why: str) -> None:
    with pytest.raises(ModelFileError, match=f"damaged at byte {offset} of {len(data)}: .*{why}") as caught:
        fields_of(tmp_path / "m", data)
    assert str(tmp_path / "m") in caught.value.what
    assert caught.value.exit_code == 2


def test_contents_that_nobody_asks_for_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large"
    size = 1 << 30
    with path.open("wb") as file:  # a hole: it takes no place on the disk
        file.write(varint(1 << 3 | BYTES) + varint(size))
        file.seek(size, os.SEEK_CUR)
        file.write(number(2, 7))
    count = 0
    pread = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        nonlocal count
        data = pread(descriptor, length, offset)
        count += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    with open_wire_file(path) as wire:
        found = list(wire.fields(0, wire.size))
    assert [(key, at) for key, at, _ in found][1] == (tag(2, VARINT), 7)
    assert count < 1 << 20


@pytest.mark.parametrize("kind", ["directory", "pipe", "device"])
def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = Path("/dev/zero")
    with pytest.raises(ModelFileError, match=r"a directory|a device or a pipe"), open_wire_file(path):
        pass


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="missing"), open_wire_file(tmp_path / "missing"):
        pass


def test_a_file_larger_than_any_message_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with path.open("wb") as file:
        file.truncate(1 << 31)
    with pytest.raises(ModelFileError, match="2147483648 bytes"), open_wire_file(path):
        pass


def test_a_file_of_endless_fields_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_format, "MOST_FIELDS", 1000)
    assert len(fields_of(tmp_path / "m", number(1, 1) * 1000)) == 1000
    with pytest.raises(ModelFileError, match="more than 1000 fields"):
        fields_of(tmp_path / "m", number(1, 1) * 1001)


def test_a_file_that_became_shorter_meanwhile_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(message(1, b"x" * 200_000) + message(2, b"end"))
    with open_wire_file(path) as file:
        fields = file.fields(0, file.size)
        next(fields)
        os.truncate(path, 1000)
        with pytest.raises(ModelFileError, match="became shorter"):
            next(fields)


@pytest.mark.parametrize(("data", "why"), [(b"\xff\xfe", "not UTF-8"), (b"x" * 5000, "a name has 5000 bytes")])
def test_a_text_that_no_name_can_be_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "m"
    path.write_bytes(data)
    with open_wire_file(path) as file, pytest.raises(ModelFileError, match=why):
        file.text(0, file.size)


def test_negative_numbers_are_read_as_such() -> None:
    assert [signed(2**64 - 1), signed(2**63), signed(2**63 - 1)] == [-1, -(2**63), 2**63 - 1]

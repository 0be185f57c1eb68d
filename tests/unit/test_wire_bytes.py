"""Protobuf's wire format in memory, held against protobuf."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_messages import message_class

from npu_serving.wire_bytes import (
    BYTES,
    VARINT,
    MalformedMessageError,
    bytes_field,
    entry_field,
    entry_of,
    fields,
    number_field,
    signed,
    tag,
    text_field,
    varint,
    varints,
)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_number_is_written_and_read_as_protobuf_does(number: int) -> None:
    theirs = message_class("tensorflow.TensorShapeDim")(size=number).SerializeToString()
    ours = number_field(1, number) if number else b""
    assert ours == theirs
    assert [signed(value) for _, value, _ in fields(memoryview(theirs))] == ([number] if number else [])


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_packed_numbers_are_read_one_after_the_other(numbers: list[int]) -> None:
    assert list(varints(memoryview(b"".join(map(varint, numbers))))) == numbers


@given(st.text(), st.binary())
def test_an_entry_of_a_map_is_read_as_it_was_written(key: str, value: bytes) -> None:
    ((found, _, content),) = fields(memoryview(entry_field(3, key, value)))
    assert found == tag(3, BYTES)
    read, of_entry = entry_of(content)
    assert (read, bytes(of_entry)) == (key, value)


def test_a_text_that_is_empty_is_left_out() -> None:
    assert text_field(1, "") == b""
    assert text_field(1, "é") == b"\x0a\x02\xc3\xa9"


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"\x08", "a number ends before it is whole"),
        (b"\x08\xff", "a number ends before it is whole"),
        (b"\x08" + b"\xff" * 11, "more than 64 bits"),
        (b"\x0a\x05abc", "says that it has 5 bytes, and 3 are left"),
        (b"\x0d\x00\x00", "says that it has 4 bytes, and 2 are left"),
        (b"\x0b", "of the kind 3"),
        (b"\x02\x00", "0 is not the number of a field"),
    ],
)
def test_a_damaged_message_is_refused_with_the_reason(message: bytes, why: str) -> None:
    with pytest.raises(MalformedMessageError, match=why):
        list(fields(memoryview(message)))


def test_a_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(MalformedMessageError, match="UTF-8"):
        entry_of(memoryview(bytes_field(1, b"\xff")))


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = list(fields(memoryview(data)))
    except MalformedMessageError:
        return
    assert all(key & 7 == VARINT or not number for key, number, _ in found)

"""Snappy's blocks: what a compressor writes is unpacked, and what is damaged is refused without filling the memory."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.models.snappy import unpacked
from npu_serving.wire_bytes import MalformedMessageError, varint

MOST = 1 << 20


def literal(data: bytes) -> bytes:
    size = len(data) - 1
    if size < 60:
        return bytes([size << 2]) + data
    width = (size.bit_length() + 7) // 8
    return bytes([(59 + width) << 2]) + size.to_bytes(width, "little") + data


def near(offset: int, count: int) -> bytes:
    return bytes([1 | (count - 4) << 2 | offset >> 8 << 5, offset & 0xFF])


def far(offset: int, count: int) -> bytes:
    return bytes([2 | (count - 1) << 2]) + offset.to_bytes(2, "little")


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ([], b""),
        ([literal(b"abc")], b"abc"),
        ([literal(b"x" * 61)], b"x" * 61),
        ([literal(bytes(70_000))], bytes(70_000)),
        ([literal(b"ab"), near(2, 7)], b"ababababa"),
        ([literal(b"abcdefgh"), far(8, 3), far(1, 5)], b"abcdefghabcccccc"),
        ([literal(b"a" * 600 + b"b"), near(600, 4), bytes([3 | 3 << 2]) + (601).to_bytes(4, "little")], b""),
    ],
)
def test_literals_and_repetitions_of_each_width_are_unpacked(parts: list[bytes], content: bytes) -> None:
    if not content and parts:
        content = b"a" * 600 + b"b"
        content += content[1:5]
        content += content[-601:][:4]
    assert unpacked(varint(len(content)) + b"".join(parts), MOST) == content


@pytest.mark.parametrize(
    "block",
    [
        varint(5) + literal(b"abc"),
        varint(2) + literal(b"abc"),
        varint(9) + literal(b"abc")[:-1],
        varint(9) + near(1, 9),
        varint(9) + literal(b"a") + far(0, 8),
        varint(MOST + 1),
        b"",
        b"\xff" * 12,
    ],
)
def test_a_damaged_block_is_refused(block: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        unpacked(block, MOST)


@given(st.binary(max_size=200))
def test_whatever_the_bytes_are_there_is_an_answer(data: bytes) -> None:
    with contextlib.suppress(MalformedMessageError):
        assert len(unpacked(data, 1000)) <= 1000

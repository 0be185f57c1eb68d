"""Packed integers decoded by NumPy, held against the decoder that takes one at a time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.client import varints
from npu_serving.client.varints import decode_varints
from npu_serving.wire_bytes import MalformedMessageError, varint
from npu_serving.wire_bytes import varints as one_by_one

OF_ANY_LENGTH = st.integers(0, 63).flatmap(lambda bits: st.integers(0, (1 << bits + 1) - 1))


def decoded(content: bytes, dtype: Any = np.uint64, most: int = 1000) -> list[Any]:
    into = np.empty(most, dtype)
    return list(into[: decode_varints(memoryview(content), into)].tolist())


@given(st.lists(OF_ANY_LENGTH, max_size=40), st.integers(10, 30))
def test_numbers_of_every_length_are_decoded_wherever_a_piece_of_the_message_ends(
    numbers: list[int], piece: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(varints, "_CHUNK", piece)
        assert decoded(b"".join(map(varint, numbers))) == numbers


def test_the_first_and_the_last_number_of_each_length() -> None:
    edges = sorted(
        {edge for bits in range(0, 64, 7) for edge in (1 << bits, (1 << bits) - 1)} | {(1 << 64) - 1, 1 << 63}
    )
    for pair in itertools.product(edges, edges):
        assert decoded(b"".join(map(varint, pair))) == list(pair)


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=20))
def test_a_negative_number_has_ten_bytes_and_a_narrow_type_takes_what_fits(numbers: list[int]) -> None:
    content = b"".join(map(varint, numbers))
    for dtype in (np.int64, np.uint64, np.int32, np.int16, np.int8, np.uint8, np.uint32):
        assert decoded(content, dtype) == np.array(numbers, np.int64).astype(dtype).tolist()
    assert decoded(content, bool) == [number != 0 for number in numbers]


@given(st.binary(max_size=40), st.integers(10, 30))
def test_any_bytes_are_decoded_as_they_are_one_by_one_or_refused_as_there(content: bytes, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(varints, "_CHUNK", piece)
        try:
            expected = list(one_by_one(memoryview(content)))
        except MalformedMessageError as error:
            with pytest.raises(MalformedMessageError, match=str(error)):
                decoded(content)
        else:
            assert decoded(content) == expected


def test_a_number_that_does_not_end_is_too_long_or_cut_off() -> None:
    for length in (1, 9):
        with pytest.raises(MalformedMessageError, match="before it is whole"):
            decoded(b"\xff" * length)
    for length in (10, 11, 50):
        with pytest.raises(MalformedMessageError, match="more than 64 bits"):
            decoded(b"\xff" * length)


def test_more_numbers_than_were_asked_for_are_refused() -> None:
    with pytest.raises(MalformedMessageError, match="more values than the 2"):
        decoded(b"\1\2\3", most=2)

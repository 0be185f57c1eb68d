"""zlib streams made on several processors: right, in order, and the same whoever makes them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.packaging import parallel_zlib
from npu_serving.packaging.parallel_zlib import BLOCK_BYTES, ParallelZlib, blocks


def streams(contents: list[list[bytes]], workers: int) -> list[bytes]:
    made = [b""]
    with ParallelZlib(workers) as workforce:
        for piece, last in workforce.streams(contents):
            made[-1] += piece
            if last:
                made.append(b"")
    return made[:-1]


PIECES = st.lists(st.lists(st.binary(max_size=300), max_size=6), max_size=6)


@given(contents=PIECES, block=st.integers(1, 200))
def test_each_content_comes_back_out_of_its_stream(contents: list[list[bytes]], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel_zlib, "BLOCK_BYTES", block)
        made = streams(contents, 3)
        assert [zlib.decompress(stream) for stream in made] == [b"".join(pieces) for pieces in contents]


@given(contents=PIECES)
def test_the_bytes_do_not_depend_on_the_number_of_workers(contents: list[list[bytes]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel_zlib, "BLOCK_BYTES", 64)
        assert streams(contents, 1) == streams(contents, 4)


def test_no_more_than_a_few_blocks_wait_in_memory() -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield bytes(BLOCK_BYTES)

    with ParallelZlib(2) as workforce:
        for _ in zip(range(10), workforce.streams([endless()])):
            assert read <= 20


def test_an_error_of_the_reader_ends_it() -> None:
    def fails() -> Iterator[bytes]:
        yield b"some"
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        streams([[b"first"], fails()], 2)  # type: ignore[list-item]


@given(pieces=st.lists(st.binary(max_size=50)), block=st.integers(1, 40))
def test_blocks_are_the_same_bytes_of_a_size_or_more(pieces: list[bytes], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel_zlib, "BLOCK_BYTES", block)
        found = [b"".join(parts) for parts in blocks(pieces)]
    assert b"".join(found) == b"".join(pieces)
    assert all(block <= len(piece) < block + 50 for piece in found[:-1])
    assert all(found)

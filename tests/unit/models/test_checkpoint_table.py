"""Sorted tables: what is written is read back, and what is damaged is refused with its byte."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import examples

from npu_serving.errors import FileAccessError, ModelFileError, NpuServingError
from npu_serving.models import checkpoint_table
from npu_serving.models.checkpoint_table import read_table, table_chunks
from npu_serving.models.checksums import masked_crc32c
from npu_serving.wire_bytes import varint

ENTRIES = st.dictionaries(st.binary(max_size=40), st.binary(max_size=200), max_size=60).map(
    lambda found: sorted(found.items())
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("table") / "t.index"


def block(content: bytes, kind: int = 0) -> bytes:
    return content + bytes([kind]) + masked_crc32c(content + bytes([kind])).to_bytes(4, "little")


def entry(shared: int, own: bytes, value: bytes) -> bytes:
    return varint(shared) + varint(len(own)) + varint(len(value)) + own + value


def table(blocks: list[bytes], *, kind: int = 0, handles: list[bytes] | None = None) -> bytes:
    """A table of blocks whose entries are given as bytes, and whose index says where they are, or what is given."""
    data, own = b"", []
    for each in blocks:
        own.append(varint(len(data)) + varint(len(each) + 8))
        data += block(each + b"\0\0\0\0\1\0\0\0", kind)
    index = b"".join(entry(0, b"%04d" % place, handle) for place, handle in enumerate(handles or own))
    at = len(data)
    index += b"\0\0\0\0\1\0\0\0"
    return data + block(index) + (b"\0\0" + varint(at) + varint(len(index))).ljust(40, b"\0") + checkpoint_table.MAGIC


@given(entries=ENTRIES, small=st.booleans())
def test_every_entry_that_was_written_is_read_back(
    place: Path, entries: list[tuple[bytes, bytes]], small: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_table, "_BLOCK_SIZE", 100 if small else 262144)
        place.write_bytes(b"".join(table_chunks(entries)))
    assert list(read_table(place)) == entries


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "at byte 0: it doesn't end as the index of a checkpoint does"),
        (b"x" * 100, "at byte 52: it doesn't end"),
        (table([entry(0, b"a", b"1")])[1:], "a block would end|the checksum of a block is wrong"),
        (table([entry(0, b"b", b"1") + entry(0, b"a", b"2")]), "the key b'a' is not in its place"),
        (table([entry(0, b"a", b"1") + entry(0, b"a", b"2")]), "the key b'a' is not in its place"),
        (table([entry(2, b"a", b"1")]), "at byte 0: an entry is longer than its block"),
        (table([b"\0\1\x05ab"]), "at byte 0: an entry is longer than its block"),
        (table([b"\0\xff"]), "a number ends before it is whole"),
        (table([entry(0, b"k" * 70_000, b"1")]), "or its key than any name"),
        (table([entry(0, b"a", b"1")], kind=2), "compressed with a method of the number 2, at byte 0"),
        (table([entry(0, b"a", b"1")], kind=1), "compressed with Snappy"),
        (table([entry(0, b"a", b"1")], kind=7), "compressed with a method of the number 7"),
        (table([entry(0, b"a", b"1")], handles=[b"\0\x0d"] * 2), "its blocks are not one after the other"),
        (table([entry(0, b"a", b"1")], handles=[b"\0" + varint(1 << 40)]), "a block would end at byte"),
        (table([entry(0, b"a", b"1")], handles=[b"\xff"]), "the place of a block can't be read"),
    ],
)
def test_a_damaged_table_is_refused_with_its_byte(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "m.index"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=said) as raised:
        list(read_table(path))
    assert str(path) in raised.value.what
    assert raised.value.cure


def test_a_bit_that_flipped_anywhere_in_a_block_is_found(tmp_path: Path) -> None:
    data = b"".join(table_chunks([(b"name/%d" % number, bytes(20)) for number in range(10, 50)]))
    path = tmp_path / "m.index"
    for at in range(len(data) - 48):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        try:
            read = list(read_table(path))
        except ModelFileError:
            continue
        assert len(read) == 40, at  # the metaindex block, which is not read


@settings(max_examples=examples(1000, 100_000))
@given(
    entries=ENTRIES,
    cut=st.integers(0, 400),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
    whole=st.booleans(),
)
def test_a_table_of_any_bytes_is_read_or_refused(
    place: Path, entries: list[tuple[bytes, bytes]], cut: int, changes: list[tuple[int, int]], whole: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if whole:  # the checksum fits whatever there is, so that what it protects is reached
            patch.setattr(checkpoint_table, "masked_crc32c", lambda data: 0)
        data = bytearray(b"".join(table_chunks(entries)))
        for at, byte in changes:
            data[at % len(data)] = byte
        place.write_bytes(data[cut:] if cut < 200 else data)
        try:
            found = list(read_table(place))
        except NpuServingError as error:
            assert error.cure
        else:
            assert found == sorted(found)


def test_keys_that_grow_from_small_entries_do_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_table, "_MOST_BYTES", 4 << 20)
    hostile, length = entry(0, b"a" * 60_000, b""), 60_000
    for number in range(3000):
        hostile += entry(length, bytes([1 + number % 200]), b"")
        length += 1
    path = tmp_path / "m.index"
    path.write_bytes(table([hostile]))
    tracemalloc.start()
    with pytest.raises(ModelFileError, match="more entries up to here than any checkpoint has"):
        for _ in read_table(path):
            pass
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "m.index")
    with pytest.raises(NpuServingError, match="a file is needed"):
        list(read_table(tmp_path / "m.index"))
    with pytest.raises(FileAccessError):
        list(read_table(tmp_path / "none.index"))

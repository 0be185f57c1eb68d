"""An om's header, and the inputs and outputs that it shows."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from om_compiler_stand_in import om

from npu_serving.errors import ModelFileError
from npu_serving.models.om_file import OmTensor, read_om

TWO = om(b"graph", [("b", 7, [1, 4]), ("a", 1, [2])], [("y:0", 1), ("z:1", 2)], half=False)


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "model.om"
    path.write_bytes(content)
    return path


def test_inputs_come_in_the_order_of_their_index_with_types_and_shapes(tmp_path: Path) -> None:
    found = read_om(written(tmp_path, TWO))
    assert found.inputs == (OmTensor("b", "int32", (1, 4)), OmTensor("a", "float32", (2,)))
    assert [tensor.data_type for tensor in found.outputs or ()] == ["float32", "float16"]
    assert found.size_bytes == len(TWO)


def test_a_wide_table_of_partitions_is_read_as_well(tmp_path: Path) -> None:
    header, count = bytearray(TWO[:256]), struct.unpack_from("<I", TWO, 256)[0]
    rows = [struct.unpack_from("<III", TWO, 260 + 12 * index) for index in range(count)]
    table = struct.pack("<I4x", count) + b"".join(struct.pack("<I4xQQ", *row) for row in rows)
    body = table + TWO[260 + 12 * count :]
    struct.pack_into("<I", header, 76, 0)
    struct.pack_into("<Q", header, 184, len(body))
    assert read_om(written(tmp_path, bytes(header) + body)).inputs == read_om(written(tmp_path, TWO)).inputs


def test_the_input_that_says_which_gear_a_request_has_is_not_a_client_s(tmp_path: Path) -> None:
    content = om(b"", [("x", 1, [-1]), ("ascend_mbatch_shape_data", 7, [1])], [("y:0", 1)], half=False)
    assert [tensor.name for tensor in read_om(written(tmp_path, content)).inputs or ()] == ["x"]


def test_an_encrypted_om_shows_nothing(tmp_path: Path) -> None:
    content = bytearray(TWO)
    content[80] = 1
    assert read_om(written(tmp_path, bytes(content))).inputs is None


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is empty"), (b"PK\3\4", "begins with b'PK"), (TWO[:100], "fewer than the header"), (TWO[:400], "cut off")],
)
def test_what_is_no_whole_om_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(ModelFileError, match=said):
        read_om(written(tmp_path, content))


@given(st.data())
def test_a_damaged_om_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(TWO)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.om"
    path.write_bytes(content)
    try:
        read_om(path)
    except ModelFileError as error:
        assert error.cure

"""Arrays in NumPy's files: read as NumPy wrote them, written and read back, and refused where they hold more."""

from __future__ import annotations

import base64
import io
import math
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.asking.npy import json_values, read_npy, read_npz, tensor_of, write_npy, write_npz
from npu_serving.asking.tensor import Tensor, Value
from npu_serving.client.data_types import BY_NAME
from npu_serving.errors import RequestError

# By numpy 2: savez_compressed(x=arange(6, <f4).reshape(2, 3) / 10, n=asfortranarray([[1, 2], [3, 4]], >i8),
# t=["a", "é"], s=[b"\xff\xfe", b"ok"], f=True, h=[1.5] of <f2)
BY_NUMPY = (
    "UEsDBC0AAAAIAAAAIQB7JdIT//////////8FABQAeC5ucHkBABAAmAAAAAAAAABbAAAAAAAAAJvsF+obEMnIUMZQrZ6SWpxcpG6loG6TZqKuo6Ce"
    "ll9UUpSYF59flJIKEndLzClOBYoXZyQWpAL5GkY6CsaaOgq1CmQDLgYgOHvmjO3ZMz52s2bOtAOy7YBC9gBQSwMELQAAAAgAAAAhAHC/9Wn/////"
    "/////wUAFABuLm5weQEAEACgAAAAAAAAAFEAAAAAAAAAm+wX6hsQychQxlCtnpJanFykbqWgbpdpoa6joJ6WX1RSlJgXn1+UkgoSDykqTQUKF2ck"
    "FqQCuRpGOgpGmjoKtQrkAy4GCGCE0sxQmglKswAAUEsDBC0AAAAIAAAAIQCdHrjW//////////8FABQAdC5ucHkBABAAiAAAAAAAAABLAAAAAAAA"
    "AJvsF+obEMnIUMZQrZ6SWpxcpG6loG4Taqiuo6Cell9UUpSYF59flJIKEndLzClOBYoXZyQWpAL5GkY6mjoKtQoUAK5EBgaGl0AMAFBLAwQtAAAA"
    "CAAAACEAaRWyCP//////////BQAUAHMubnB5AQAQAIQAAAAAAAAASAAAAAAAAACb7BfqGxDJyFDGUK2eklqcXKRupaBeE2ykrqOgnpZfVFKUmBef"
    "X5SSChJ3S8wpTgWKF2ckFqQC+RpGOpo6CrUKFACu///yswFQSwMELQAAAAgAAAAhAIIt+NP//////////wUAFABmLm5weQEAEACBAAAAAAAAAEMA"
    "AAAAAAAAm+wX6hsQychQxlCtnpJanFykbqWgXpNkqK6joJ6WX1RSlJgXn1+UkgoSd0vMKU4FihdnJBakAvkamjoKtQoUAS5GAFBLAwQtAAAACAAA"
    "ACEAwxfPdf//////////BQAUAGgubnB5AQAQAIIAAAAAAAAARgAAAAAAAACb7BfqGxDJyFDGUK2eklqcXKRupaBuk2akrqOgnpZfVFKUmBefX5SS"
    "ChJ3S8wpTgWKF2ckFqQC+RqGOpo6CrUKFAAuBjsAUEsBAi0DLQAAAAgAAAAhAHsl0hNbAAAAmAAAAAUAAAAAAAAAAAAAAIABAAAAAHgubnB5UEsB"
    "Ai0DLQAAAAgAAAAhAHC/9WlRAAAAoAAAAAUAAAAAAAAAAAAAAIABkgAAAG4ubnB5UEsBAi0DLQAAAAgAAAAhAJ0euNZLAAAAiAAAAAUAAAAAAAAA"
    "AAAAAIABGgEAAHQubnB5UEsBAi0DLQAAAAgAAAAhAGkVsghIAAAAhAAAAAUAAAAAAAAAAAAAAIABnAEAAHMubnB5UEsBAi0DLQAAAAgAAAAhAIIt"
    "+NNDAAAAgQAAAAUAAAAAAAAAAAAAAIABGwIAAGYubnB5UEsBAi0DLQAAAAgAAAAhAMMXz3VGAAAAggAAAAUAAAAAAAAAAAAAAIABlQIAAGgubnB5"
    "UEsFBgAAAAAGAAYAMgEAABIDAAAAAA=="
)
NUMBERS = ("HALF", "FLOAT", "DOUBLE", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BOOL")
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    length = struct.pack("<H" if version[0] == 1 else "<I", len(header))
    return b"\x93NUMPY" + version + length + header.encode() + data


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    kind = BY_NAME[f"DT_{draw(st.sampled_from(NUMBERS))}"]
    shape = draw(SHAPES)
    numbers: st.SearchStrategy[Value] = st.booleans()
    if kind.is_real:
        numbers = st.floats(width={2: 16, 4: 32, 8: 64}[kind.size])  # type: ignore[arg-type]
    elif kind.code != "?":
        bits = 8 * kind.size
        signed = kind.code.islower()
        numbers = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)
    count = math.prod(shape)
    return Tensor(kind, shape, draw(st.lists(numbers, min_size=count, max_size=count)))


def same(one: Tensor, other: Tensor) -> bool:
    return repr((one.data_type, one.shape, list(one.values))) == repr(
        (other.data_type, other.shape, list(other.values))
    )


def test_what_numpy_has_written_is_read_each_order_of_bytes_and_of_dimensions(tmp_path: Path) -> None:
    path = tmp_path / "numpy.npz"
    path.write_bytes(base64.b64decode(BY_NUMPY))
    read = read_npz(path)
    assert {name: (tensor.data_type.name, tensor.shape) for name, tensor in read.items()} == {
        "x": ("DT_FLOAT", (2, 3)),
        "n": ("DT_INT64", (2, 2)),
        "t": ("DT_STRING", (2,)),
        "s": ("DT_STRING", (2,)),
        "f": ("DT_BOOL", ()),
        "h": ("DT_HALF", (1,)),
    }
    assert {name: json_values(tensor) for name, tensor in read.items()} == {
        "x": [[0.0, 0.1, 0.2], [0.3, 0.4, 0.5]],
        "n": [[1, 2], [3, 4]],
        "t": ["a", "é"],
        "s": [{"b64": "//4="}, "ok"],
        "f": True,
        "h": [1.5],
    }


@given(tensors())
def test_a_tensor_is_read_as_it_was_written(tensor: Tensor) -> None:
    assert same(read_npy(write_npy(tensor)), tensor)


@given(st.dictionaries(st.sampled_from("abc"), tensors(), min_size=1))
def test_a_file_holds_each_by_its_name_and_the_same_arrays_are_the_same_bytes(named: dict[str, Tensor]) -> None:
    data = write_npz(named)
    assert write_npz(dict(reversed(named.items()))) == data
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        read = {name.removesuffix(".npy"): read_npy(packed.read(name)) for name in packed.namelist()}
    assert {name: same(tensor, named[name]) for name, tensor in read.items()} == dict.fromkeys(named, True)


@given(tensors().filter(lambda tensor: tensor.data_type.name in ("DT_DOUBLE", "DT_INT64", "DT_BOOL")))
def test_lists_of_numbers_become_the_tensor_that_they_were(tensor: Tensor) -> None:
    made = tensor_of(json_values(tensor))
    assert made is None if 0 in tensor.shape else made is not None and same(made, tensor)


@pytest.mark.parametrize("value", ["a", None, [1, 2.5], [[1], [2, 3]], [1, [2]], {"a": 1}, [True, 1], 2**63, []])
def test_what_is_not_one_array_of_numbers_stays_json(value: object) -> None:
    assert tensor_of(value) is None


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"PK", "does not begin as a .npy file"),
        (b"\x93NUMPY\x01\x00\xff\xff{}", "header is cut off"),
        (npy("{ "), "header is damaged"),
        (npy("[" * 9000), "header is damaged"),
        (npy("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,)}"), "an array of records"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"), "could run a program"),
        (npy("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,)}"), "its type is '<M8[s]'"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), "no shape"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", b"1234"), "4 bytes of values, not 8"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 4294967296)}"), "larger than any that is read"),
        (npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 300}}}"), "more than 254 dimensions"),
        (npy("{'descr': '<U1', 'fortran_order': False, 'shape': (1,)}", b"\xff\xff\xff\xff"), "codec can't decode"),
    ],
)
def test_what_is_no_array_of_values_is_refused_with_the_array_named(tmp_path: Path, data: bytes, what: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_npy(data)
    assert what in str(caught.value)
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("x.npy", data)
    with pytest.raises(RequestError, match="the array 'x': ") as refused:
        read_npz(path)
    assert "numpy.savez" in refused.value.cure


def test_a_damaged_file_one_with_something_else_and_one_with_nothing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    whole = base64.b64decode(BY_NUMPY)
    for data in (whole[:500], b"", whole[:80] + b"!" + whole[81:]):
        path.write_bytes(data)
        with pytest.raises(RequestError, match="Could not read") as caught:
            read_npz(path)
        assert "fetch" not in caught.value.cure
    for member in ((), ("notes.txt",)):
        with zipfile.ZipFile(path, "w") as packed:
            for name in member:
                packed.writestr(name, b"x")
        with pytest.raises(RequestError, match="no array" if not member else "no .npy file"):
            read_npz(path)


@given(st.binary(max_size=200), st.integers(0, 60), st.binary(max_size=3))
def test_whatever_stands_there_is_an_array_or_a_value_error(data: bytes, at: int, other: bytes) -> None:
    good = npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2)}", b"12345678")
    for spoiled in (b"\x93NUMPY\x01\x00" + data, good[:at] + other + good[at + len(other) :]):
        try:
            read_npy(spoiled)
        except ValueError:
            continue

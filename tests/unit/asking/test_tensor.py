"""TensorProto by our own writer and reader, held against protobuf and the bits of the numbers."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_messages import message_class

from npu_serving.asking.tensor import Tensor, nested, packed, read_tensor, shown_values, write_tensor
from npu_serving.client.data_types import BY_NAME, DataType, type_name
from npu_serving.client.tensor_message import MOST_ELEMENTS
from npu_serving.wire_bytes import MalformedMessageError, bytes_field, fields, number_field, varint

TENSOR = "tensorflow.TensorProto"
SENT = [kind for kind in BY_NAME.values() if kind.field]
FIELDS = {
    5: "float_val",
    6: "double_val",
    7: "int_val",
    8: "string_val",
    9: "scomplex_val",
    10: "int64_val",
    11: "bool_val",
    12: "dcomplex_val",
    13: "half_val",
    16: "uint32_val",
    17: "uint64_val",
}
BOUNDS = {"i": 31, "h": 15, "b": 7, "q": 63, "B": 8, "H": 16, "I": 32, "Q": 64}


def values_of(kind: DataType) -> st.SearchStrategy[Any]:
    if kind.is_text:
        return st.binary(max_size=20)
    if kind.code == "?":
        return st.booleans()
    if kind.is_complex:
        return st.complex_numbers(width=64 if kind.code == "ff" else 128, allow_nan=False)
    if kind.is_real:
        width = {"f": 32, "d": 64, "e": 16, "bfloat16": 16}[kind.code]
        numbers = st.floats(width=width, allow_nan=False)  # type: ignore[arg-type]
        return numbers.map(as_bfloat16) if kind.code == "bfloat16" else numbers
    bits = BOUNDS[kind.code]
    return st.integers(0, 2**bits - 1) if kind.code.isupper() else st.integers(-(2**bits), 2**bits - 1)


def as_bfloat16(value: float) -> float:
    """The upper half of the float alone."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return float(struct.unpack("<f", struct.pack("<I", bits & 0xFFFF0000))[0])


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    kind = draw(st.sampled_from(SENT))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4)))
    count = math.prod(shape)
    return Tensor(kind, shape, tuple(draw(st.lists(values_of(kind), min_size=count, max_size=count))))


@given(tensors())
def test_protobuf_reads_the_tensor_that_is_written(tensor: Tensor) -> None:
    read = message_class(TENSOR).FromString(write_tensor(tensor))
    assert (read.dtype, tuple(dim.size for dim in read.tensor_shape.dim)) == (tensor.data_type.number, tensor.shape)
    if tensor.data_type.is_text:
        assert tuple(read.string_val) == tensor.values
    else:
        assert len(read.tensor_content) == len(tensor.values) * tensor.data_type.size
    assert read.SerializeToString(deterministic=True) == write_tensor(tensor)


@given(tensors())
def test_a_tensor_is_read_as_it_was_written(tensor: Tensor) -> None:
    read = read_tensor(memoryview(write_tensor(tensor)))
    assert (read.data_type, read.shape, tuple(read.values)) == (tensor.data_type, tensor.shape, tuple(tensor.values))


@given(tensors())
def test_the_typed_fields_in_which_a_server_answers_are_read(tensor: Tensor) -> None:
    kind = tensor.data_type
    theirs = message_class(TENSOR)(dtype=kind.number)
    for size in tensor.shape:
        theirs.tensor_shape.dim.add(size=size)
    values: list[Any] = list(tensor.values)
    if kind.is_complex:
        values = [part for value in values for part in (value.real, value.imag)]
    elif kind.field == 13:  # the bits of each
        values = [struct.unpack("<H", packed(kind, (value,)))[0] for value in values]
    getattr(theirs, FIELDS[kind.field]).extend(values)
    read = read_tensor(memoryview(theirs.SerializeToString()))
    assert (read.data_type, read.shape, tuple(read.values)) == (kind, tensor.shape, tuple(tensor.values))


def test_numbers_that_stand_each_in_a_field_of_its_own_are_read() -> None:
    shape = bytes_field(2, bytes_field(2, number_field(1, 3)))
    message = number_field(1, BY_NAME["DT_INT32"].number) + b"".join(number_field(7, n) for n in (5, -6, 7)) + shape
    assert list(read_tensor(memoryview(message)).values) == [5, -6, 7]


def test_the_last_value_counts_for_those_that_are_left_out_and_zero_where_there_is_none() -> None:
    head = number_field(1, BY_NAME["DT_INT64"].number) + bytes_field(2, bytes_field(2, number_field(1, 3)))
    assert list(read_tensor(memoryview(head + number_field(10, 4))).values) == [4, 4, 4]
    assert list(read_tensor(memoryview(head)).values) == [0, 0, 0]


@pytest.mark.parametrize("value", [0.1, 1 / 3, 16777217.0, 3.4028234e38, 1e-45, -0.0])
def test_a_float_is_shown_with_no_more_digits_than_it_has(value: float) -> None:
    single = struct.unpack("<f", struct.pack("<f", value))[0]
    (shown,) = shown_values(Tensor(BY_NAME["DT_FLOAT"], (1,), (single,)))
    assert struct.unpack("<f", struct.pack("<f", shown))[0] == single
    assert len(repr(shown)) <= len(repr(single))


def test_a_tenth_is_a_tenth() -> None:
    single = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    assert shown_values(Tensor(BY_NAME["DT_FLOAT"], (), (single,))) == [0.1]


@pytest.mark.parametrize(
    ("value", "bits"), [(1.0, 0x3F80), (1.00390625, 0x3F80), (1.01171875, 0x3F82), (math.inf, 0x7F80), (-2.0, 0xC000)]
)
def test_bfloat16_is_rounded_to_the_nearest_and_to_even_in_the_middle(value: float, bits: int) -> None:
    assert packed(BY_NAME["DT_BFLOAT16"], (value,)) == struct.pack("<H", bits)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DT_UINT8", 256),
        ("DT_INT8", -129),
        ("DT_INT32", 2**31),
        ("DT_INT64", 2**63),
        ("DT_FLOAT", 1e39),
        ("DT_HALF", 1e5),
        ("DT_BFLOAT16", 1e39),
        ("DT_DOUBLE", 10**400),
        ("DT_INT32", 1.5),
    ],
)
def test_a_value_that_the_type_can_not_hold_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name + " can't hold") as caught:
        packed(BY_NAME[name], (1, value))
    assert str(value) in str(caught.value)


def test_values_are_nested_by_the_shape() -> None:
    assert nested((2, 3), [1, 2, 3, 4, 5, 6]) == [[1, 2, 3], [4, 5, 6]]
    assert nested((), [1]) == 1
    assert nested((2, 0), []) == [[], []]
    assert nested((0, 2), []) == []


def test_a_type_is_named_by_its_number() -> None:
    assert (type_name(1), type_name(23), type_name(99)) == ("DT_FLOAT", "DT_UINT64", "DT_INVALID")


def _message(number: int, shape: tuple[int, ...], rest: bytes = b"") -> bytes:
    sizes = b"".join(bytes_field(2, number_field(1, size)) for size in shape)
    return number_field(1, number) + bytes_field(2, sizes) + rest


@pytest.mark.parametrize(
    "message",
    [
        b"",
        _message(0, (1,)),
        _message(20, (1,)),
        _message(777, (1,)),
        _message(1, (2,), bytes_field(4, b"123")),
        _message(1, (1,), bytes_field(5, b"123")),
        _message(1, (1,), bytes_field(5, b"12345678")),
        _message(3, (1,), bytes_field(7, b"\x01\x02")),
        _message(3, (1,), bytes_field(7, b"\xff")),
        _message(7, (1,), bytes_field(8, b"a") * 2),
        _message(7, (1,), bytes_field(4, b"a")),
        _message(1, (-1,)),
        _message(1, (1,) * 255),
        number_field(1, 1) + bytes_field(2, number_field(3, 1)),
    ],
)
def test_what_is_no_whole_tensor_is_refused(message: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        read_tensor(memoryview(message))


@pytest.mark.parametrize(
    "shape", [(2**62, 2**62), (MOST_ELEMENTS, 4, 0), (2**40,), (1 << 21,), (MOST_ELEMENTS, 1, 1, 1)]
)
def test_a_few_bytes_do_not_fill_the_memory(shape: tuple[int, ...]) -> None:
    with pytest.raises(MalformedMessageError):
        read_tensor(memoryview(_message(3, shape, number_field(7, 1))))


@given(tensors(), st.data())
def test_a_damaged_tensor_is_read_or_refused_and_never_anything_else(tensor: Tensor, data: st.DataObject) -> None:
    message = bytearray(write_tensor(tensor))
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] = data.draw(st.integers(0, 255))
    try:
        read = read_tensor(memoryview(bytes(message[: data.draw(st.integers(0, len(message)))])))
    except MalformedMessageError:
        return
    nested(read.shape, shown_values(read))
    assert list(fields(memoryview(write_tensor(read))))


def test_varints_of_a_narrow_type_are_cut_to_it_as_tensorflow_does() -> None:
    message = _message(BY_NAME["DT_INT8"].number, (2,), bytes_field(7, varint(-1) + varint(127)))
    assert list(read_tensor(memoryview(message)).values) == [-1, 127]

"""NumPy's arrays to and from TensorProto, held against protobuf."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_messages import message_class

from npu_serving.client import tensor_message
from npu_serving.client.arrays import STORED, WireArray, decode_tensor, from_bfloat16, to_bfloat16
from npu_serving.client.data_types import BFLOAT16, BY_NAME, DataType
from npu_serving.client.prediction_messages import encode_predict
from npu_serving.client.tensor_message import MOST_ELEMENTS, MOST_FILLED
from npu_serving.errors import RequestError
from npu_serving.wire_bytes import MalformedMessageError, bytes_field, number_field, varint

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
UNSENT_BY_NUMPY = {kind.name for kind in SENT if kind.name.startswith(("DT_Q", "DT_BF"))}


@st.composite
def arrays(draw: st.DrawFn) -> tuple[DataType, Any]:
    """A type, and an array as it is stored: any bits, in any order of dimensions, steps and bytes."""
    kind = draw(st.sampled_from(SENT))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4)))
    count = int(np.prod(shape, dtype=int))
    if kind.is_text:
        array: Any = np.empty(count, object)
        array[:] = draw(st.lists(st.binary(max_size=20), min_size=count, max_size=count))
        array = array.reshape(shape)
    elif kind.code == "?":
        array = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool).reshape(shape)
    else:
        size = count * kind.size
        array = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), STORED[kind]).reshape(shape)
    return kind, array


@st.composite
def laid_out(draw: st.DrawFn, array: Any) -> Any:
    """The same values otherwise in memory."""
    how = draw(st.sampled_from(["as it is", "by columns", "with steps", "backwards", "big endian"]))
    if how == "by columns":
        return np.asfortranarray(array) if array.ndim else array
    if how == "with steps" and array.ndim:
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if how == "backwards" and array.ndim:
        return array[::-1].copy()[::-1]
    if how == "big endian" and array.dtype.kind != "O":
        return array.astype(array.dtype.newbyteorder(">"))
    return array


def same(one: Any, other: Any) -> bool:
    """Whether the arrays are the same in type, shape and every bit."""
    return (one.dtype, one.shape, one.tolist() if one.dtype == object else one.tobytes()) == (
        other.dtype,
        other.shape,
        other.tolist() if other.dtype == object else other.tobytes(),
    )


def as_read(kind: DataType, array: Any) -> Any:
    return from_bfloat16(array) if kind.code == BFLOAT16 else array


@given(arrays(), st.data())
def test_protobuf_reads_the_array_that_is_written_wherever_its_values_are_in_memory(
    found: tuple[DataType, Any], data: st.DataObject
) -> None:
    kind, array = found
    given_array = data.draw(laid_out(array))
    value = WireArray(given_array, kind.name) if kind.name in UNSENT_BY_NUMPY else given_array
    written = encode_predict("m", {"x": value})
    request = message_class("tensorflow.serving.PredictRequest").FromString(written)
    theirs = request.inputs["x"]
    assert (theirs.dtype, tuple(dim.size for dim in theirs.tensor_shape.dim)) == (kind.number, array.shape)
    if kind.is_text:
        assert list(theirs.string_val) == array.reshape(-1).tolist()
    else:
        assert theirs.tensor_content == array.tobytes()
    assert request.SerializeToString(deterministic=True) == written
    assert same(decode_tensor(theirs.SerializeToString()), as_read(kind, array))


def in_typed_field(kind: DataType, array: Any) -> Any:
    """The message as a server answers."""
    theirs = message_class(TENSOR)(dtype=kind.number)
    for size in array.shape:
        theirs.tensor_shape.dim.add(size=size)
    values = array.reshape(-1)
    if kind.is_complex:
        values = values.view(values.real.dtype)
    elif kind.field == 13:
        values = values.view("<u2")
    getattr(theirs, FIELDS[kind.field]).extend(values.tolist())
    return theirs


@given(arrays())
def test_the_typed_fields_in_which_a_server_answers_are_read(found: tuple[DataType, Any]) -> None:
    kind, array = found
    if kind.is_in_place:  # protobuf's Python takes a signalling NaN for a quiet one
        array = np.where(np.isnan(array), np.zeros((), array.dtype), array).astype(array.dtype)
    assert same(decode_tensor(in_typed_field(kind, array).SerializeToString()), as_read(kind, array))


def test_an_answer_of_floats_is_read_where_it_is() -> None:
    message = in_typed_field(BY_NAME["DT_FLOAT"], np.arange(5, dtype="<f4")).SerializeToString()
    found = decode_tensor(message)
    assert np.shares_memory(found, np.frombuffer(message, np.uint8))
    assert not found.flags.writeable


def sent(value: object) -> Any:
    """The TensorProto of an input, read by protobuf."""
    return message_class("tensorflow.serving.PredictRequest").FromString(encode_predict("m", {"x": value})).inputs["x"]


def test_texts_keep_zero_bytes_and_letters_of_any_language() -> None:
    assert list(sent([b"a\0", b"\0\xff"]).string_val) == [b"a\0", b"\0\xff"]
    assert list(sent(b"image\0\0").string_val) == [b"image\0\0"]
    assert not sent(b"image").tensor_shape.dim
    assert list(sent(["\u4e2d", "b\0"]).string_val) == ["\u4e2d".encode(), b"b\0"]
    assert list(sent(np.array(["\u4e2d", "ab"])).string_val) == ["\u4e2d".encode(), b"ab"]
    assert list(sent(np.array([b"a", b"bcd"])).string_val) == [b"a", b"bcd"]
    assert list(sent(np.array([["a", b"\xff"]], object)).string_val) == [b"a", b"\xff"]
    assert sent(WireArray([], "DT_STRING")).dtype == sent(np.array([], object)).dtype == BY_NAME["DT_STRING"].number


def test_what_is_no_array_becomes_the_one_that_numpy_makes_of_it() -> None:
    assert sent([[1, 2]]).dtype == BY_NAME["DT_INT64"].number
    assert sent(1.5).tensor_content == struct.pack("<d", 1.5)
    assert sent([True, False]).tensor_content == b"\1\0"
    assert sent(np.float32(2)).tensor_content == struct.pack("<f", 2)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1, "a"], "int"),
        ([[1, 2], [3]], "inhomogeneous"),
        (np.array([None]), "NoneType"),
        (["\udc80"], "surrogates"),
        (np.array(["2026-01-01"], "datetime64[D]"), "datetime64"),
        (np.zeros(1, "i4,f4"), "no type"),
        (np.zeros(1, np.longdouble), "no type"),
        ({"a": 1}, "dict"),
        (1 << 70, "int"),
        (WireArray([1], "DT_QINT8"), "int8, not of int64"),
        (WireArray([1], "DT_RESOURCE"), "DT_RESOURCE"),
        (WireArray([1], "int8"), "'int8'"),
        (WireArray([1], "DT_STRING"), "no texts"),
        (WireArray([1j], "DT_BFLOAT16"), "complex128"),
        (WireArray([1e39], "DT_BFLOAT16"), "can't hold"),
    ],
)
def test_what_tensorflow_has_no_type_for_is_refused_with_the_name_of_the_input(value: object, said: str) -> None:
    with pytest.raises(RequestError, match="The input 'x' can't be sent") as caught:
        encode_predict("m", {"x": value})
    assert said in caught.value.what


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1.0, 0x3F80),
        (1.00390625, 0x3F80),
        (1.01171875, 0x3F82),
        (np.inf, 0x7F80),
        (-2.0, 0xC000),
        (3.4e38, 0x7F80),
        (np.nan, 0x7FC0),
    ],
)
def test_bfloat16_is_rounded_to_the_nearest_and_to_even_in_the_middle(value: float, bits: int) -> None:
    assert to_bfloat16(np.array(value, "<f4")) == bits
    assert sent(WireArray(np.array([value]), "DT_BFLOAT16")).tensor_content == struct.pack("<H", bits)


@pytest.mark.parametrize("bits", [0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0xFF800001])
def test_whatever_is_not_a_number_is_none_as_bfloat16(bits: int) -> None:
    assert to_bfloat16(np.array(bits, "<u4").view("<f4")) == 0x7FC0


def test_bfloat16_of_those_who_have_ml_dtypes_is_sent_as_it_is() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="only who has ml_dtypes can send its arrays")
    array = np.array([[1.5, -2, 3.25], [1, 2, 3]], ml_dtypes.bfloat16)
    for value in (array, array.T, array[:, ::2], array[::-1], array[:0], array[0, 0], WireArray(array, "DT_BFLOAT16")):
        expected = (value.array if isinstance(value, WireArray) else value).view(np.uint16)
        found = sent(value)
        assert (found.dtype, found.tensor_content) == (BY_NAME["DT_BFLOAT16"].number, expected.tobytes())


@given(st.integers(0, 0xFFFF))
def test_bfloat16_there_and_back_is_the_same(bits: int) -> None:
    value = from_bfloat16(np.array([bits], "<u2"))
    again = to_bfloat16(value)[0]
    assert again == bits or (np.isnan(value[0]) and again == 0x7FC0)


def test_fewer_values_than_the_shape_has_are_filled_as_tensorflow_does() -> None:
    three = bytes_field(2, bytes_field(2, number_field(1, 3)))
    for name, one, field in (
        ("DT_INT64", number_field(10, 4), 4),
        ("DT_FLOAT", bytes_field(5, struct.pack("<f", 4)), 4),
    ):
        head = number_field(1, BY_NAME[name].number) + three
        assert decode_tensor(head + one).tolist() == [field] * 3
        assert decode_tensor(head).tolist() == [0] * 3
    head = number_field(1, BY_NAME["DT_STRING"].number) + three
    assert decode_tensor(head + bytes_field(8, b"a")).tolist() == [b"a"] * 3
    assert decode_tensor(head).tolist() == [b""] * 3


def test_numbers_that_stand_each_in_a_field_of_its_own_are_read() -> None:
    shape = bytes_field(2, bytes_field(2, number_field(1, 3)))
    head = number_field(1, BY_NAME["DT_INT32"].number) + shape
    assert decode_tensor(head + b"".join(number_field(7, n) for n in (5, -6, 7))).tolist() == [5, -6, 7]
    single = b"".join(varint(5 << 3 | 5) + struct.pack("<f", n) for n in (5, -6))
    mixed = number_field(1, 1) + single + bytes_field(5, struct.pack("<f", 0.5)) + shape
    assert decode_tensor(mixed).tolist() == [5, -6, 0.5]


@given(st.lists(st.binary(max_size=300), max_size=5), st.data())
def test_texts_in_the_usual_order_of_fields_are_read_as_in_any_other(texts: list[bytes], data: st.DataObject) -> None:
    written = [number_field(1, BY_NAME["DT_STRING"].number), _shape((len(texts),))]
    written += [bytes_field(8, text) for text in texts]
    for message in (b"".join(written), b"".join([*written[2:], *written[:2]])):
        assert decode_tensor(message).tolist() == texts
    cut = b"".join(written)[: data.draw(st.integers(1, sum(map(len, written)) - 1))]
    assert _read_or_refused(cut) == _read_or_refused(number_field(3, 0) + cut)


def _read_or_refused(message: bytes) -> object:
    try:
        return decode_tensor(message).tolist()
    except MalformedMessageError as error:
        return str(error)


def test_any_byte_but_zero_is_true() -> None:
    number = BY_NAME["DT_BOOL"].number
    for values in (bytes_field(4, b"\0\2\1"), bytes_field(11, varint(0) + varint(256) + varint(1))):
        found = decode_tensor(_message(number, (3,), values))
        assert (found.dtype.name, found.tobytes()) == ("bool", b"\0\1\1")


def _shape(sizes: tuple[int, ...]) -> bytes:
    return bytes_field(2, b"".join(bytes_field(2, number_field(1, size)) for size in sizes))


def _message(number: int, shape: tuple[int, ...], rest: bytes = b"") -> bytes:
    return number_field(1, number) + _shape(shape) + rest


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"", "of the type 0"),
        (_message(0, (1,)), "of the type 0"),
        (_message(20, (1,)), "of the type DT_RESOURCE"),
        (_message(777, (1,)), "of the type 777"),
        (_message(1, (2,), bytes_field(4, b"123")), "2 values of DT_FLOAT has 3 bytes"),
        (_message(1, (1,), bytes_field(5, b"123")), "3 bytes are not a whole number of values"),
        (_message(1, (1,), bytes_field(5, b"12345678")), "more values than the 1"),
        (_message(3, (1,), bytes_field(7, b"\x01\x02")), "more values than the 1"),
        (_message(3, (1,), bytes_field(7, b"\xff")), "before it is whole"),
        (_message(3, (1,), bytes_field(7, b"\xff" * 11 + b"\x01")), "more than 64 bits"),
        (_message(7, (1,), bytes_field(8, b"a") * 2), "more values than the 1"),
        (_message(7, (1,), bytes_field(4, b"a")), "texts has numbers"),
        (_message(1, (-1,)), "no whole shape"),
        (_message(1, (1,) * 255), "more than 254 dimensions"),
        (_message(1, (1,) * 200, bytes_field(5, b"1234")), "can't be read"),  # more dimensions than NumPy has
        (_message(1, (1 << 62, 0, 1 << 62)), "can't be read"),
        (number_field(1, 1) + bytes_field(2, number_field(3, 1)), "no whole shape"),
    ],
)
def test_what_is_no_whole_tensor_is_refused(message: bytes, said: str) -> None:
    with pytest.raises(MalformedMessageError, match=said):
        decode_tensor(message)


@pytest.mark.parametrize("shape", [(2**62, 2**62), (MOST_ELEMENTS, 4), (2**40,), (MOST_FILLED + 1,)])
@pytest.mark.parametrize("values", [b"", number_field(7, 1), bytes_field(7, b"\1" * 100)])
def test_a_few_bytes_do_not_fill_the_memory(shape: tuple[int, ...], values: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessageError):
            decode_tensor(_message(3, shape, values))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_values_that_are_each_an_object_of_pythons_are_counted(monkeypatch) -> None:
    monkeypatch.setattr(tensor_message, "MOST_CHUNKS", 2)
    monkeypatch.setattr(tensor_message, "MOST_ELEMENTS", 3)
    assert decode_tensor(_message(3, (2,), number_field(7, 1) * 2)).tolist() == [1, 1]
    with pytest.raises(MalformedMessageError, match="more than 2 values that are not packed"):
        decode_tensor(_message(3, (3,), number_field(7, 1) * 3))
    assert decode_tensor(_message(7, (3,), bytes_field(8, b"a") * 3)).tolist() == [b"a"] * 3
    with pytest.raises(MalformedMessageError, match="more than 3 texts"):
        decode_tensor(_message(7, (4,), bytes_field(8, b"a") * 4))


@given(arrays(), st.data())
def test_a_damaged_tensor_is_read_or_refused_and_never_anything_else(
    found: tuple[DataType, Any], data: st.DataObject
) -> None:
    message = bytearray(in_typed_field(*found).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(0, len(message) - 1)))
        message[at : at + 1] = data.draw(st.binary(max_size=3))
    try:
        read = decode_tensor(bytes(message[: data.draw(st.integers(0, len(message)))]))
    except MalformedMessageError:
        return
    assert read.tobytes() is not None

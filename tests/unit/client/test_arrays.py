"""NumPy's arrays to and from TensorProto, held against protobuf."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from serving_messages import message_class

from npu_serving.client.arrays import STORED, WireArray, decode_tensor, encode_tensor, from_bfloat16
from npu_serving.client.data_types import BFLOAT16, BY_NAME, DataType

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
        array = np.empty(count, object)
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
    written = encode_tensor(WireArray(given_array, kind.name) if kind.name in UNSENT_BY_NUMPY else given_array)
    theirs = message_class(TENSOR).FromString(written)
    assert (theirs.dtype, tuple(dim.size for dim in theirs.tensor_shape.dim)) == (kind.number, array.shape)
    if kind.is_text:
        assert list(theirs.string_val) == array.reshape(-1).tolist()
    else:
        assert theirs.tensor_content == array.tobytes()
    assert theirs.SerializeToString(deterministic=True) == written
    assert same(decode_tensor(written), as_read(kind, array))


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

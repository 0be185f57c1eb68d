"""Values of attributes: what is written is read back; any bytes are read, or refused in one way."""

from __future__ import annotations

import struct
from typing import Any

import model_messages as wire
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npu_serving.models.attribute_values import (
    DATA_TYPES,
    AttributeValue,
    FunctionCall,
    TensorHeader,
    decode,
    encode,
    tensor_header,
    type_name,
    type_number,
)
from npu_serving.wire_bytes import MalformedMessageError

TYPES = st.sampled_from([*DATA_TYPES.values(), "float32_ref", "resource_ref", "type 77"])
SHAPES = st.none() | st.lists(st.integers(-1, 2**40), max_size=5).map(tuple)
FLOATS = st.floats(width=32, allow_nan=False)
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": FLOATS,
    "bool": st.booleans(),
    "string": st.binary(max_size=300),
    "type": TYPES,
    "shape": SHAPES,
}
SINGLE = st.one_of(*(st.builds(AttributeValue, st.just(kind), of) for kind, of in PLAIN.items()))
LISTS = st.one_of(
    *(
        st.builds(AttributeValue, st.just(f"list({kind})"), st.lists(of, min_size=1, max_size=4).map(tuple))
        for kind, of in PLAIN.items()
    )
)
CALLS = st.builds(
    FunctionCall, st.text(min_size=1, max_size=8), st.dictionaries(st.text(max_size=5), SINGLE, max_size=3)
)
VALUES = st.one_of(
    SINGLE,
    LISTS,
    st.builds(AttributeValue, st.just("func"), CALLS),
    st.builds(AttributeValue, st.just("list(func)"), st.lists(CALLS, min_size=1, max_size=3).map(tuple)),
    st.builds(AttributeValue, st.just("placeholder"), st.text(max_size=8)),
    st.sampled_from([AttributeValue("none"), AttributeValue("list", ())]),
)


@given(value=VALUES)
def test_a_value_that_was_written_is_read_back(value: AttributeValue) -> None:
    assert decode(encode(value)) == value


@given(data=st.binary(max_size=60))
@example(wire.message(8, wire.number(1, 1) + wire.message(2, b"\x12\x01")))
def test_any_bytes_are_a_value_or_refused_in_one_way(data: bytes) -> None:
    try:
        decode(data)
    except MalformedMessageError as error:
        assert str(error)


@given(
    kind=st.sampled_from(sorted(DATA_TYPES)),
    shape=st.lists(st.integers(0, 300), max_size=4),
    content=st.binary(max_size=300),
    field=st.sampled_from([4, 5, 7, 10]),
    unknown=st.binary(max_size=3),
)
def test_a_tensor_is_read_the_same_by_the_short_way_and_the_long_one(
    kind: int, shape: list[int], content: bytes, field: int, unknown: bytes
) -> None:
    tensor = wire.number(1, kind) + wire.message(2, wire.shape(shape)) + wire.message(field, content)
    expected = TensorHeader(DATA_TYPES[kind], tuple(shape), content if field == 4 else b"")
    assert tensor_header(wire.message(8, tensor)) == expected
    assert tensor_header(wire.message(8, tensor + wire.message(99, unknown))) == expected
    assert tensor_header(wire.message(99, unknown) + wire.message(8, tensor)) == expected


@pytest.mark.parametrize("name", [*DATA_TYPES.values(), "type 77", "int32_ref"])
def test_a_type_has_one_name_and_one_number(name: str) -> None:
    assert type_name(type_number(name)) == name
    assert type_number("float32_ref") == 101


def test_of_several_kinds_in_one_value_the_last_counts_as_in_protobuf() -> None:
    assert decode(wire.number(3, 5) + wire.message(2, "text")) == AttributeValue("string", b"text")
    both = wire.message(7, wire.shape([2])) + wire.message(7, wire.shape([3]))
    assert decode(both) == AttributeValue("shape", (2, 3))
    half = wire.varint(4 << 3 | 5) + struct.pack("<f", 0.5)
    assert decode(half + wire.number(99, 1)) == AttributeValue("float", 0.5)


def test_the_size_of_a_tensor_follows_from_its_type_and_shape() -> None:
    assert TensorHeader("float32", (2, 3)).size_bytes == 24
    assert TensorHeader("string", (2, 3)).size_bytes == 0
    assert TensorHeader("int64", None).elements == 0
    assert TensorHeader("bfloat16", ()).size_bytes == 2

"""The parts of a TensorProto: its type, its shape, and where its values are; what becomes of them is not known here.

Arrays (arrays.py) and plain lists of numbers are read from what this finds. NumPy is not needed here.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from npu_serving.client.data_types import BY_NUMBER, CONTENT_FIELD, TEXTS_FIELD, DataType
from npu_serving.wire_bytes import (
    BYTES,
    VARINT,
    MalformedMessageError,
    bytes_field,
    fields,
    number_field,
    signed,
    tag,
    varint,
    varint_at,
)

MOST_DIMENSIONS = 254  # TensorShape::MaxDimensions()
MOST_ELEMENTS = 1 << 25  # of Python's objects: texts, or numbers in lists
MOST_CHUNKS = 1 << 20  # of numbers: a server sends one, and other programs a field for each number
MOST_FILLED = 1 << 20  # values of a tensor with fewer than its shape has, which no server sends
_STRING = 7
_BEGINS_AS_TEXTS = number_field(1, _STRING)
_MOST_KNOWN_BYTES = 100  # of a shape that is read once for all answers that have it
_DTYPE, _SHAPE, _CONTENT, _TEXTS = tag(1, VARINT), tag(2, BYTES), tag(CONTENT_FIELD, BYTES), tag(TEXTS_FIELD, BYTES)


@dataclass(frozen=True)
class TensorParts:
    """A tensor as its message has it: `content` in TensorFlow's own layout, or else chunks of its typed field."""

    data_type: DataType
    shape: tuple[int, ...]
    content: memoryview
    chunks: Sequence[memoryview]
    """Each a packed run of numbers."""
    texts: Sequence[bytes]


def split_tensor(message: memoryview) -> TensorParts:
    """The parts of a TensorProto; nothing is copied. MalformedMessageError for others, and for types without values."""
    if message[:2] == _BEGINS_AS_TEXTS:
        parts = _plain_texts(bytes(message))
        if parts is not None:
            return parts
    number = 0
    shape: tuple[int, ...] = ()
    content = message[:0]
    texts: list[bytes] = []
    by_field: dict[int, list[memoryview]] = {}
    for key, value, inner in fields(message):
        if key == _TEXTS:
            texts.append(bytes(inner))
            if len(texts) > MOST_ELEMENTS:
                raise MalformedMessageError(f"a tensor has more than {MOST_ELEMENTS} texts")
        elif key == _DTYPE:
            number = value
        elif key == _SHAPE:
            shape = _known_shape(bytes(inner)) if len(inner) <= _MOST_KNOWN_BYTES else _whole_shape(inner)
        elif key == _CONTENT:
            content = inner
        else:  # a number alone is a packed field with one number
            chunks = by_field.setdefault(key >> 3, [])
            chunks.append(memoryview(varint(value)) if key & 7 == VARINT else inner)
            if len(chunks) > MOST_CHUNKS:
                raise MalformedMessageError(f"a tensor has more than {MOST_CHUNKS} values that are not packed")
    kind = BY_NUMBER.get(number)
    if kind is None or not kind.field:
        raise MalformedMessageError(f"a tensor is of the type {number if kind is None else kind.name}")
    return TensorParts(kind, shape, content, by_field.get(kind.field, ()), texts if kind.is_text else ())


@functools.lru_cache(maxsize=1024)
def tensor_head(number: int, shape: tuple[int, ...]) -> bytes:
    """What a TensorProto of the type with that number begins with."""
    sizes = b"".join(bytes_field(2, number_field(1, size) if size else b"") for size in shape)
    return number_field(1, number) + bytes_field(2, sizes)


def read_shape(message: memoryview) -> tuple[int, ...] | None:
    """The sizes in a TensorShapeProto, -1 for each that is unknown; None where the rank is."""
    sizes: list[int] = []
    for key, number, inner in fields(message):
        if key == tag(3, VARINT) and number:
            return None
        if key == tag(2, BYTES):
            size = 0
            for of_size, value, _ in fields(inner):
                if of_size == tag(1, VARINT):
                    size = signed(value)
            sizes.append(size)
            if len(sizes) > MOST_DIMENSIONS:
                raise MalformedMessageError(f"a shape has more than {MOST_DIMENSIONS} dimensions")
    return tuple(sizes)


def _plain_texts(message: bytes) -> TensorParts | None:
    """The parts of a tensor of texts in the order in which everybody writes them; None for any other message.

    Through fields(), each text would take five times as long.
    """
    texts: list[bytes] = []
    try:
        if message[2] != _SHAPE or message[3] > _MOST_KNOWN_BYTES:
            return None
        position, end = 4 + message[3], len(message)
        if position > end:
            return None
        shape = _known_shape(message[4:position])
        while position < end:
            size = message[position + 1]
            begin = position + 2
            if size > 0x7F:
                size, begin = varint_at(memoryview(message), position + 1)
            if message[position] != _TEXTS or size > end - begin or len(texts) == MOST_ELEMENTS:
                return None
            position = begin + size
            texts.append(message[begin:position])
    except IndexError:
        return None
    return TensorParts(BY_NUMBER[_STRING], shape, memoryview(b""), (), texts)


@functools.lru_cache(maxsize=1024)
def _known_shape(message: bytes) -> tuple[int, ...]:
    return _whole_shape(memoryview(message))


def _whole_shape(message: memoryview) -> tuple[int, ...]:
    shape = read_shape(message)
    if shape is None or any(size < 0 for size in shape):
        raise MalformedMessageError("a tensor has no whole shape")
    return shape

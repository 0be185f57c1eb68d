"""TensorProto, as requests and answers carry it, in protobuf's wire format: neither TensorFlow nor NumPy is needed.

Numbers are written as `tensor_content`, in one piece; TensorFlow Serving 1.15 answers in the typed fields, such as
float_val, and both are read. The numbers of fields and types are those of TensorFlow 1.15's tensor.proto.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

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
    varints,
)

MOST_DIMENSIONS = 254  # TensorShape::MaxDimensions()
MOST_ELEMENTS = 1 << 25  # of a tensor that is read: a gigabyte of Python's numbers
_MOST_FILLED = 1 << 20  # of one with fewer values than its shape has, which no server sends: a few bytes would be many
BFLOAT16 = "bfloat16"
_CONTENT = 4
_HALVES, _TEXTS = 13, 8

Value = Union[bool, int, float, complex, bytes]


@dataclass(frozen=True)
class DataType:
    """A type of TensorFlow: the code that `struct` has for a value of it, and the field that has values one by one."""

    name: str
    number: int
    code: str = ""
    field: int = 0

    @property
    def size(self) -> int:
        """The bytes of a value; 0 where values differ in length."""
        if self.code == BFLOAT16:
            return 2
        return struct.calcsize("<" + self.code) if self.code else 0

    @property
    def is_text(self) -> bool:
        """Whether its values are bytes."""
        return self.field == _TEXTS

    @property
    def is_complex(self) -> bool:
        """Whether its values are pairs of numbers."""
        return len(self.code) == 2

    @property
    def is_real(self) -> bool:
        """Whether its values are numbers with a fraction."""
        return self.code in ("f", "d", "e", BFLOAT16)


_TYPES = (
    DataType("DT_FLOAT", 1, "f", 5),
    DataType("DT_DOUBLE", 2, "d", 6),
    DataType("DT_INT32", 3, "i", 7),
    DataType("DT_UINT8", 4, "B", 7),
    DataType("DT_INT16", 5, "h", 7),
    DataType("DT_INT8", 6, "b", 7),
    DataType("DT_STRING", 7, "", _TEXTS),
    DataType("DT_COMPLEX64", 8, "ff", 9),
    DataType("DT_INT64", 9, "q", 10),
    DataType("DT_BOOL", 10, "?", 11),
    DataType("DT_QINT8", 11, "b", 7),
    DataType("DT_QUINT8", 12, "B", 7),
    DataType("DT_QINT32", 13, "i", 7),
    DataType("DT_BFLOAT16", 14, BFLOAT16, _HALVES),
    DataType("DT_QINT16", 15, "h", 7),
    DataType("DT_QUINT16", 16, "H", 7),
    DataType("DT_UINT16", 17, "H", 7),
    DataType("DT_COMPLEX128", 18, "dd", 12),
    DataType("DT_HALF", 19, "e", _HALVES),
    DataType("DT_RESOURCE", 20),
    DataType("DT_VARIANT", 21),
    DataType("DT_UINT32", 22, "I", 16),
    DataType("DT_UINT64", 23, "Q", 17),
)
BY_NAME: Mapping[str, DataType] = {item.name: item for item in _TYPES}
BY_NUMBER: Mapping[int, DataType] = {item.number: item for item in _TYPES}
UNKNOWN = "DT_INVALID"


@dataclass(frozen=True)
class Tensor:
    """A tensor: its values one after the other, the last dimension first to change."""

    data_type: DataType
    shape: tuple[int, ...]
    values: Sequence[Value]


def type_name(number: int) -> str:
    """The name of the type with that number in a message."""
    found = BY_NUMBER.get(number)
    return found.name if found is not None else UNKNOWN


def write_tensor(tensor: Tensor) -> bytes:
    """The TensorProto. ValueError for values that its type can't hold (see packed())."""
    kind = tensor.data_type
    shape = b"".join(bytes_field(2, number_field(1, size) if size else b"") for size in tensor.shape)
    head = number_field(1, kind.number) + bytes_field(2, shape)
    if kind.is_text:
        return head + b"".join(bytes_field(_TEXTS, value) for value in tensor.values if isinstance(value, bytes))
    content = packed(kind, tensor.values)
    return head + (bytes_field(_CONTENT, content) if content else b"")


def packed(kind: DataType, values: Sequence[Value]) -> bytes:
    """The numbers in TensorFlow's own layout, little endian. ValueError for the first that the type can't hold."""
    numbers: Sequence[Any] = values
    code = kind.code
    if kind.is_complex:
        numbers = [part for value in numbers for part in (value.real, value.imag)]
        code = code[0]
    if not code:
        raise ValueError(f"{kind.name} can't be sent")
    try:
        return _packed(code, numbers)
    except (struct.error, OverflowError):
        bad = next((number for number in numbers if not _holds(code, number)), numbers[:1])
        raise ValueError(f"{kind.name} can't hold {bad}") from None


def read_tensor(message: memoryview) -> Tensor:
    """The tensor in a TensorProto. MalformedMessageError for other bytes, and for more than is read here."""
    number = 0
    shape: tuple[int, ...] = ()
    content = message[:0]
    by_field: dict[int, list[memoryview]] = {}
    for key, value, inner in fields(message):
        if key == tag(1, VARINT):
            number = value
        elif key == tag(2, BYTES):
            shape = _read_shape(inner)
        elif key == tag(_CONTENT, BYTES):
            content = inner
        else:  # a number alone is a packed field with one number
            chunks = by_field.setdefault(key >> 3, [])
            chunks.append(memoryview(varint(value)) if key & 7 == VARINT else inner)
            if len(chunks) > MOST_ELEMENTS:
                raise MalformedMessageError(f"a tensor has more than {MOST_ELEMENTS} values")
    kind = BY_NUMBER.get(number)
    if kind is None or not kind.field:
        raise MalformedMessageError(f"a tensor is of the type {number if kind is None else kind.name}")
    count = element_count(shape)
    if content:
        if kind.is_text or len(content) != count * kind.size:
            raise MalformedMessageError(
                f"a tensor of {count} values of {kind.name} has {len(content)} bytes of content"
            )
        return Tensor(kind, shape, _unpacked(kind, bytes(content)))
    return Tensor(kind, shape, _filled(kind, _values(kind, by_field.get(kind.field, []), count), count))


def element_count(shape: tuple[int, ...]) -> int:
    """How many values a tensor of that shape has. MalformedMessageError where their lists would fill the memory."""
    count, in_all = 1, 0
    for size in shape:
        count *= size
        in_all += count
        if in_all > 2 * MOST_ELEMENTS:
            raise MalformedMessageError(f"a tensor of the shape {list(shape)[:8]} is larger than any that is read")
        if not size:
            break
    return count


def nested(shape: tuple[int, ...], values: list[object]) -> object:
    """Values that stand one after the other as lists within lists."""
    for at in range(len(shape) - 1, -1, -1):
        size, count = shape[at], math.prod(shape[:at])
        values = [values[first * size : (first + 1) * size] for first in range(count)]
    return values[0]


def shown_values(tensor: Tensor) -> list[object]:
    """The values for JSON, but for bytes: the parts of a complex number, no more digits than a float32 has."""
    if tensor.data_type.is_complex:
        return [[value.real, value.imag] for value in tensor.values if isinstance(value, complex)]
    return [_shortest(value) for value in tensor.values] if tensor.data_type.code == "f" else list(tensor.values)


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


def _read_shape(message: memoryview) -> tuple[int, ...]:
    shape = read_shape(message)
    if shape is None or any(size < 0 for size in shape):
        raise MalformedMessageError("a tensor has no whole shape")
    return shape


def _values(kind: DataType, chunks: Sequence[memoryview], most: int) -> list[Value]:
    """The values in a typed field, of which there may be `most`."""
    if kind.is_text:
        found: list[Value] = [bytes(chunk) for chunk in chunks]
    elif kind.code in ("f", "d") or kind.is_complex:
        content = b"".join(chunks)
        if len(content) % kind.size:
            raise MalformedMessageError(f"{len(content)} bytes are not a whole number of values of {kind.name}")
        if len(content) > most * kind.size:
            raise MalformedMessageError(f"a tensor has more values than the {most} of its shape")
        found = list(_unpacked(kind, content))
    else:
        found = []
        for chunk in chunks:
            for number in varints(chunk):
                if len(found) == most:
                    break
                found.append(_from_varint(kind, number))
            else:
                continue
            raise MalformedMessageError(f"a tensor has more values than the {most} of its shape")
    if len(found) > most:
        raise MalformedMessageError(f"a tensor has more values than the {most} of its shape")
    return found


def _filled(kind: DataType, values: list[Value], count: int) -> Sequence[Value]:
    """As TensorFlow reads fewer values than the shape has: the last stands for the rest, or else zero."""
    if len(values) < count:
        if count > _MOST_FILLED:
            raise MalformedMessageError(f"a tensor of {count} values has only {len(values)}")
        zero: Value = b"" if kind.is_text else 0j if kind.is_complex else 0.0 if kind.is_real else 0
        if kind.code == "?":
            zero = False
        values += [values[-1] if values else zero] * (count - len(values))
    return values


def _from_varint(kind: DataType, number: int) -> Value:
    if kind.field == _HALVES:
        return _unpacked(kind, struct.pack("<H", number & 0xFFFF))[0]
    if kind.code == "?":
        return bool(number)
    # Into a narrow type TensorFlow takes what fits of the field's 32 bits.
    content = struct.pack("<Q", number)[: kind.size]
    return int(_unpacked(kind, content)[0].real)  # type: ignore[union-attr]


def _unpacked(kind: DataType, content: bytes) -> tuple[Value, ...]:
    count = len(content) // kind.size
    if kind.code == BFLOAT16:
        bits = struct.unpack(f"<{count}H", content)
        return struct.unpack(f"<{count}f", struct.pack(f"<{count}I", *(half << 16 for half in bits)))
    if kind.is_complex:
        parts = iter(struct.unpack(f"<{2 * count}{kind.code[0]}", content))
        return tuple(complex(real, imaginary) for real, imaginary in zip(parts, parts))
    return struct.unpack(f"<{count}{kind.code}", content)


def _packed(code: str, numbers: Sequence[Any]) -> bytes:
    if code == BFLOAT16:
        return struct.pack(f"<{len(numbers)}H", *map(_to_bfloat16, numbers))
    return struct.pack(f"<{len(numbers)}{code}", *numbers)


def _holds(code: str, number: Any) -> bool:
    try:
        return bool(_packed(code, (number,)))
    except (struct.error, OverflowError):
        return False


def _to_bfloat16(value: float) -> int:
    """The upper half of a float, rounded to the nearest, and to even in the middle, as TensorFlow does."""
    if math.isnan(value):
        return 0x7FC0
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return int((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)


def _shortest(value: object) -> object:
    """A float32 with no more digits than it has: 0.1, where Python's double would be 0.10000000149011612."""
    if not isinstance(value, float) or not math.isfinite(value) or value.is_integer():
        return value
    for digits in (6, 7, 8):
        text = float(f"{value:.{digits}g}")
        try:
            if struct.unpack("<f", struct.pack("<f", text))[0] == value:
                return text
        except OverflowError:
            continue
    return float(f"{value:.9g}")

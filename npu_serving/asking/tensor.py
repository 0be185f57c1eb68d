"""Tensors as Python's own numbers, for the small requests and answers of a task: to import NumPy would take longer.

Numbers are written as `tensor_content`, in one piece; TensorFlow Serving 1.15 answers in the typed fields, such as
float_val, and both are read. Arrays, for whatever is large, are in client/arrays.py.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Union

from npu_serving.client.data_types import BFLOAT16, CONTENT_FIELD, HALVES_FIELD, TEXTS_FIELD, DataType
from npu_serving.client.tensor_message import MOST_ELEMENTS, MOST_FILLED, TensorParts, split_tensor, tensor_head
from npu_serving.wire_bytes import MalformedMessageError, bytes_field, varints

Value = Union[bool, int, float, complex, bytes]


@dataclass(frozen=True)
class Tensor:
    """A tensor: its values one after the other, the last dimension first to change."""

    data_type: DataType
    shape: tuple[int, ...]
    values: Sequence[Value]


def write_tensor(tensor: Tensor) -> bytes:
    """The TensorProto. ValueError for values that its type can't hold (see packed())."""
    kind = tensor.data_type
    head = tensor_head(kind.number, tensor.shape)
    if kind.is_text:
        return head + b"".join(bytes_field(TEXTS_FIELD, value) for value in tensor.values if isinstance(value, bytes))
    content = packed(kind, tensor.values)
    return head + (bytes_field(CONTENT_FIELD, content) if content else b"")


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
    parts = split_tensor(message)
    kind, shape, content = parts.data_type, parts.shape, parts.content
    count = element_count(shape)
    if content:
        if kind.is_text or len(content) != count * kind.size:
            raise MalformedMessageError(
                f"a tensor of {count} values of {kind.name} has {len(content)} bytes of content"
            )
        return Tensor(kind, shape, _unpacked(kind, bytes(content)))
    return Tensor(kind, shape, _filled(kind, _values(parts, count), count))


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


def _values(parts: TensorParts, most: int) -> list[Value]:
    """The values in a typed field, of which there may be `most`."""
    kind = parts.data_type
    if kind.is_text:
        found: list[Value] = [*parts.texts]
    elif kind.is_in_place:
        content = b"".join(parts.chunks)
        if len(content) % kind.size:
            raise MalformedMessageError(f"{len(content)} bytes are not a whole number of values of {kind.name}")
        if len(content) > most * kind.size:
            raise MalformedMessageError(f"a tensor has more values than the {most} of its shape")
        found = list(_unpacked(kind, content))
    else:
        found = []
        for chunk in parts.chunks:
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
        if count > MOST_FILLED:
            raise MalformedMessageError(f"a tensor of {count} values has only {len(values)}")
        zero: Value = b"" if kind.is_text else 0j if kind.is_complex else 0.0 if kind.is_real else 0
        if kind.code == "?":
            zero = False
        values += [values[-1] if values else zero] * (count - len(values))
    return values


def _from_varint(kind: DataType, number: int) -> Value:
    if kind.field == HALVES_FIELD:
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

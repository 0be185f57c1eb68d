"""Which part of a variable a checkpoint, or an operator that saves or restores, means: TensorSliceProto and its texts.

A partitioned variable is saved in parts, each under a key of its own in the index, which says where the part begins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from npu_serving.wire_bytes import (
    BYTES,
    VARINT,
    MalformedMessageError,
    bytes_field,
    fields,
    number_field,
    signed,
    tag,
)

_FULL = -1  # the length of a dimension that is there as a whole (tensor_slice.h)
_ESCAPED = re.compile(rb"[\0\xff]")  # each is followed by the other one, so that a name's end can't be in it
_SPECIFICATION = re.compile(r"((?:[0-9]{1,18} )*)((?:-|[0-9]{1,18},[0-9]{1,18})(?::(?:-|[0-9]{1,18},[0-9]{1,18}))*)")


@dataclass(frozen=True)
class VariableSlice:
    """A part of a variable: where it begins in each dimension, and its length there; -1 for all of a dimension."""

    extents: tuple[tuple[int, int], ...]

    def resolved(self, shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Where it begins and how long it is, in each dimension of a variable of that shape.

        MalformedMessageError where it does not lie within the shape.
        """
        if len(self.extents) != len(shape):
            raise MalformedMessageError(f"a part has {len(self.extents)} dimensions, and its variable {len(shape)}")
        found = tuple(
            (0, size) if length == _FULL else (start, length) for (start, length), size in zip(self.extents, shape)
        )
        if any(start < 0 or length < 0 or start + length > size for (start, length), size in zip(found, shape)):
            raise MalformedMessageError(f"a part {list(found)} does not lie within the shape {list(shape)}")
        return found

    def key(self, name: str) -> bytes:
        """The key of that part of the variable `name` in the index: ordered_code.cc and saved_tensor_slice_util.cc."""
        escaped = _ESCAPED.sub(
            lambda found: found[0] + bytes([0xFF ^ found[0][0]]), name.encode("utf-8", "surrogateescape")
        )
        out = [_ordered(0), escaped, b"\0\1", _ordered(len(self.extents))]
        out += [_ordered_signed(number) for extent in self.extents for number in extent]
        return b"".join(out)

    def message(self) -> bytes:
        """It as TensorSliceProto."""
        return b"".join(
            bytes_field(
                1,
                b"" if length == _FULL else (number_field(1, start) if start else b"") + number_field(2, length),
            )
            for start, length in self.extents
        )


def slice_of(message: memoryview) -> VariableSlice:
    """The part that a TensorSliceProto means. MalformedMessageError where it is damaged."""
    extents = []
    for key, _, content in fields(message):
        if key != tag(1, BYTES):
            continue
        start, length = 0, _FULL
        for inner, number, _ in fields(content):
            if inner == tag(1, VARINT):
                start = signed(number)
            elif inner == tag(2, VARINT):
                length = signed(number)
        extents.append((start, length))
    return VariableSlice(tuple(extents))


def parsed_specification(text: str) -> tuple[tuple[int, ...], VariableSlice] | None:
    """The whole shape and the part that an operator's `shape_and_slice` means, such as `10 4 0,5:-`; None for neither.

    The form is that of checkpoint::ParseShapeAndSlice. An empty text means the whole variable.
    """
    found = _SPECIFICATION.fullmatch(text)
    if found is None:
        return None
    shape = tuple(int(size) for size in found.group(1).split())
    extents = tuple(
        (0, _FULL) if each == "-" else (int(each.split(",")[0]), int(each.split(",")[1]))
        for each in found.group(2).split(":")
    )
    return (shape, VariableSlice(extents)) if len(shape) == len(extents) else None


def _ordered(number: int) -> bytes:
    """A number that is not negative, in bytes that sort as it does: OrderedCode::WriteNumIncreasing."""
    digits = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes([len(digits)]) + digits


def _ordered_signed(number: int) -> bytes:
    """Any number, in bytes that sort as it does: OrderedCode::WriteSignedNumIncreasing.

    It begins with a bit for each of its bytes and one of the other kind, which show the length and the sign.
    """
    value = number if number >= 0 else ~number
    length = value.bit_length() // 7 + 1
    bits = 8 * length
    positive = value | ((1 << length) - 1) << (bits - length)
    return (positive if number >= 0 else positive ^ ((1 << bits) - 1)).to_bytes(length, "big")

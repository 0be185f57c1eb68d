"""The elements of small constants: whole numbers, such as axes and shapes, and texts, such as the paths of files."""

from __future__ import annotations

import struct
from typing import Optional

from npu_serving.models.attribute_values import tensor_header
from npu_serving.wire_bytes import BYTES, VARINT, fields, signed, tag, varints

WholeNumbers = Optional["tuple[int, ...]"]
MOST_NUMBERS = 254  # of a shape, or of axes
_TENSOR = tag(8, BYTES)
_FIELDS = {"int32": 7, "int64": 10}
_TEXT = tag(8, BYTES)


def whole_numbers(attribute: bytes) -> WholeNumbers:
    """The elements of a tensor of int32 or int64, from the bytes of an AttrValue; None for another or a larger one."""
    header = tensor_header(attribute)
    if header is None or header.data_type not in _FIELDS or header.shape is None or header.elements > MOST_NUMBERS:
        return None
    wanted = header.elements
    if isinstance(header.content, bytes) and header.content:
        form = f"<{wanted}{'i' if header.data_type == 'int32' else 'q'}"
        return struct.unpack(form, header.content) if len(header.content) == struct.calcsize(form) else None
    number = _FIELDS[header.data_type]
    found: list[int] = []
    for key, value, content in _of_tensor(attribute):
        if key == tag(number, BYTES):
            found += map(signed, varints(content))
        elif key == tag(number, VARINT):
            found.append(signed(value))
    found = found or [0]
    return tuple((found + found[-1:] * max(0, wanted - len(found)))[:wanted])


def texts(attribute: bytes) -> list[bytes]:
    """The texts of a tensor of strings, from the bytes of an AttrValue; the last stands for all that follow."""
    return [bytes(content) for key, _, content in _of_tensor(attribute) if key == _TEXT]


def _of_tensor(attribute: bytes) -> list[tuple[int, int, memoryview]]:
    found = fields(memoryview(attribute))
    return [field for key, _, tensor in found if key == _TENSOR for field in fields(tensor)]

"""The types of TensorFlow's tensors: their names, their numbers in messages, and how a value of each is stored.

The numbers of fields and types are those of types.proto and tensor.proto at TensorFlow 1.15. NumPy is not needed here.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

BFLOAT16 = "bfloat16"
CONTENT_FIELD = 4
TEXTS_FIELD, HALVES_FIELD = 8, 13
UNKNOWN = "DT_INVALID"


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
        return self.field == TEXTS_FIELD

    @property
    def is_complex(self) -> bool:
        """Whether its values are pairs of numbers."""
        return len(self.code) == 2

    @property
    def is_real(self) -> bool:
        """Whether its values are numbers with a fraction."""
        return self.code in ("f", "d", "e", BFLOAT16)

    @property
    def is_in_place(self) -> bool:
        """Whether its typed field has the values as memory has them, so that they can be read where they are."""
        return self.code in ("f", "d") or self.is_complex


_TYPES = (
    DataType("DT_FLOAT", 1, "f", 5),
    DataType("DT_DOUBLE", 2, "d", 6),
    DataType("DT_INT32", 3, "i", 7),
    DataType("DT_UINT8", 4, "B", 7),
    DataType("DT_INT16", 5, "h", 7),
    DataType("DT_INT8", 6, "b", 7),
    DataType("DT_STRING", 7, "", TEXTS_FIELD),
    DataType("DT_COMPLEX64", 8, "ff", 9),
    DataType("DT_INT64", 9, "q", 10),
    DataType("DT_BOOL", 10, "?", 11),
    DataType("DT_QINT8", 11, "b", 7),
    DataType("DT_QUINT8", 12, "B", 7),
    DataType("DT_QINT32", 13, "i", 7),
    DataType("DT_BFLOAT16", 14, BFLOAT16, HALVES_FIELD),
    DataType("DT_QINT16", 15, "h", 7),
    DataType("DT_QUINT16", 16, "H", 7),
    DataType("DT_UINT16", 17, "H", 7),
    DataType("DT_COMPLEX128", 18, "dd", 12),
    DataType("DT_HALF", 19, "e", HALVES_FIELD),
    DataType("DT_RESOURCE", 20),
    DataType("DT_VARIANT", 21),
    DataType("DT_UINT32", 22, "I", 16),
    DataType("DT_UINT64", 23, "Q", 17),
)
BY_NAME: Mapping[str, DataType] = {item.name: item for item in _TYPES}
BY_NUMBER: Mapping[int, DataType] = {item.number: item for item in _TYPES}


def type_name(number: int) -> str:
    """The name of the type with that number in a message."""
    found = BY_NUMBER.get(number)
    return found.name if found is not None else UNKNOWN

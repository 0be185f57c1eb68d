"""Which numbers a type of TensorFlow holds: the rule for one number of Python's, as casting.py has it for arrays.

It is the rule of TensorFlow Serving's JSON (util/json_tensor.cc at 1.15.0), made whole: a fraction is rounded to the
nearest number that the type has; a whole number is never changed, and nothing turns into infinity or wraps around.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping

from npu_serving.client.data_types import BFLOAT16, DataType

PRECISION_BITS: Mapping[str, int] = {"e": 11, "f": 24, "d": 53, "ff": 24, "dd": 53, BFLOAT16: 8}
"""Bits of a whole number that each type of real numbers has, by DataType.code."""
LARGEST: Mapping[str, float] = {
    "e": 65504.0,
    "f": 3.4028234663852886e38,
    BFLOAT16: 3.3895313892515355e38,
    "ff": 3.4028234663852886e38,
}
"""The largest number of each type that is smaller than a double."""


def whole_range(kind: DataType) -> tuple[int, int]:
    """The lowest and the highest number of a type of whole numbers."""
    bits = 8 * struct.calcsize("<" + kind.code)
    return (0, (1 << bits) - 1) if kind.code.isupper() else (-(1 << bits - 1), (1 << bits - 1) - 1)


def holds(kind: DataType, number: float) -> bool:
    """Whether a number (not a bool) can be sent as that type without becoming another number."""
    if kind.code in PRECISION_BITS:
        if isinstance(number, int):
            return _is_exact(abs(number), PRECISION_BITS[kind.code], LARGEST.get(kind.code, 1.7976931348623157e308))
        return not math.isfinite(number) or abs(number) <= LARGEST.get(kind.code, math.inf)
    if not kind.code or kind.code == "?":
        return False
    lowest, highest = whole_range(kind)
    return math.isfinite(number) and number == int(number) and lowest <= int(number) <= highest


def _is_exact(number: int, bits: int, largest: float) -> bool:
    if number > largest:
        return False
    return not number or number // (number & -number) < 1 << bits

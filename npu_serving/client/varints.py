"""Many varints at once: protobuf's packed fields of integers, decoded by NumPy without a loop over values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_serving.wire_bytes import MalformedMessageError

_CHUNK = 1 << 17  # bytes of a message: what is made of them at once stays in a processor's cache
_LONGEST = 10  # bytes of a varint, which has 64 bits
_WORD = 8
_STEPS = ((1, 0x007F007F007F007F), (2, 0x00003FFF00003FFF), (4, 0x000000000FFFFFFF))
"""How the sevens of bits come together: neighbours by one bit, pairs by two, fours by four, and which are the lower."""


def decode_varints(content: memoryview, into: NDArray[np.generic]) -> int:
    """Writes the numbers of a packed field to the front of an array, and returns how many they are.

    Each is cut to the array's own size, as C does; a number that is not 0 is True. MalformedMessageError where the last
    is not whole, where one has more than ten bytes, and where there are more than the array takes.
    """
    data = np.frombuffer(content, np.uint8)
    is_narrow = into.dtype.kind in "iu" and into.dtype.itemsize < _WORD
    at = found = 0
    while at < len(data):
        piece = data[at : at + _CHUNK]
        ends = np.flatnonzero(piece < 0x80)
        if not len(ends):
            whole = "a number ends before it is whole" if len(piece) < _LONGEST else "a number has more than 64 bits"
            raise MalformedMessageError(whole)
        if found + len(ends) > len(into):
            raise MalformedMessageError(f"a tensor has more values than the {len(into)} of its shape")
        used = int(ends[-1]) + 1
        into[found : found + len(ends)] = piece[:used] if used == len(ends) else _numbers(piece[:used], ends, is_narrow)
        found += len(ends)
        at += used
    return found


def _numbers(piece: NDArray[np.uint8], ends: NDArray[np.intp], is_narrow: bool) -> NDArray[Any]:
    """The numbers in bytes that hold whole ones, which end at `ends`; of narrow ones at least the lower half."""
    starts = np.empty_like(ends)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    longest = int((ends - starts).max()) + 1
    if longest > _LONGEST:
        raise MalformedMessageError("a number has more than 64 bits")
    padded = np.zeros(len(piece) + _WORD, np.uint8)
    padded[: len(piece)] = piece
    width = 2 if longest <= 2 else 4 if longest <= 4 else _WORD
    # A word from each byte on, so that one look-up gets all of a number; copied, as look-ups in steps are slow.
    words: Any = np.ndarray(len(piece), f"<u{width}", padded, strides=(1,)).copy()
    numbers = _joined(words.take(starts))
    if longest > _WORD and not is_narrow:  # the ninth byte has seven bits more, the tenth one
        long = np.flatnonzero(ends - starts >= _WORD)
        ninth = starts[long] + _WORD
        low, high = padded.take(ninth), padded.take(ninth + 1)
        high &= low >> np.uint8(7)  # where the ninth goes on
        low &= np.uint8(0x7F)
        low |= high << np.uint8(7)
        numbers[long] |= low.astype(np.uint64) << np.uint64(7 * _WORD)
    return numbers


def _joined(words: NDArray[Any]) -> NDArray[Any]:
    """The number that each word begins with, of as many bytes as the word has at most."""
    width = words.dtype.itemsize
    number = words.dtype.type
    ones = (1 << 8 * width) - 1
    ended = ~words
    ended &= number(0x8080808080808080 & ones)  # the bits that say where a number ends
    ended ^= ended - number(1)  # all up to the first of them
    words &= ended
    words &= number(0x7F7F7F7F7F7F7F7F & ones)
    for by, low in _STEPS[: width.bit_length() - 1]:
        upper = words & number(~low & ones)
        upper >>= number(by)
        words &= number(low & ones)
        words |= upper
    return words

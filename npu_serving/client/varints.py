"""Many varints at once: protobuf's packed fields of integers, decoded by NumPy without a loop over values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npu_serving.wire_bytes import MalformedMessageError

_CHUNK = 1 << 16  # bytes of a message: what is made of them at once stays in a processor's cache
_LONGEST = 10  # bytes of a varint, which has 64 bits
_WORD = 8
_SEVENS = tuple(np.uint64(mask) for mask in (0x007F007F007F007F, 0x7F007F007F007F00))
_FOURTEENS = tuple(np.uint64(mask) for mask in (0x00003FFF00003FFF, 0x3FFF00003FFF0000))
_TWENTY_EIGHTS = tuple(np.uint64(mask) for mask in (0x000000000FFFFFFF, 0x0FFFFFFF00000000))
# By a varint's length: which bits of the eight bytes from its first one on are its own.
_OWN = np.array([0, *((1 << 8 * length) - 1 & 0x7F7F7F7F7F7F7F7F for length in range(1, _LONGEST + 1))], np.uint64)


def decode_varints(content: memoryview, into: NDArray[np.generic]) -> int:
    """Writes the numbers of a packed field to the front of an array, and returns how many they are.

    Each is cut to the array's own size, as C does; a number that is not 0 is True. MalformedMessageError where the last
    is not whole, where one has more than ten bytes, and where there are more than the array takes.
    """
    data = np.frombuffer(content, np.uint8)
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
        into[found : found + len(ends)] = piece[:used] if used == len(ends) else _numbers(piece[:used], ends)
        found += len(ends)
        at += used
    return found


def _numbers(piece: NDArray[np.uint8], ends: NDArray[np.intp]) -> NDArray[np.uint64]:
    """The numbers in bytes that hold whole ones, which end at `ends`."""
    starts = np.empty_like(ends)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > _LONGEST:
        raise MalformedMessageError("a number has more than 64 bits")
    padded = np.zeros(len(piece) + _WORD, np.uint8)
    padded[: len(piece)] = piece
    # Eight bytes from each byte on: one look-up then gets all of a number that is no longer.
    at_each = np.ndarray(len(piece), "<u8", padded, strides=(1,))
    numbers = at_each[starts]
    numbers &= _OWN[lengths]
    for (low, high), by in ((_SEVENS, 1), (_FOURTEENS, 2), (_TWENTY_EIGHTS, 4)):
        if longest > by:
            upper = numbers & high
            upper >>= np.uint64(by)
            numbers &= low
            numbers |= upper
    if longest > _WORD:  # the ninth byte has seven bits more, the tenth one
        long = np.flatnonzero(lengths > _WORD)
        rest = at_each[starts[long] + _WORD] & _OWN[lengths[long] - _WORD]
        rest = rest & np.uint64(0x7F) | (rest >> np.uint64(1)) & np.uint64(0x80)
        numbers[long] |= rest << np.uint64(56)
    return numbers

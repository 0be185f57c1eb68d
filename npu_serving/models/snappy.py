"""Blocks that were compressed with Snappy (format_description.txt), unpacked: indices of old checkpoints have such."""

from __future__ import annotations

from npu_serving.wire_bytes import MalformedMessageError, varint_at

_WORD = "a block that is compressed with Snappy"


def unpacked(block: bytes, most_bytes: int) -> bytes:
    """The contents of a block. MalformedMessageError where it is damaged, or would have more than `most_bytes`."""
    length, position = varint_at(block, 0)
    if length > most_bytes:
        raise MalformedMessageError(f"{_WORD} says that it has {length} bytes")
    out = bytearray()
    while position < len(block):
        key, position = block[position], position + 1
        kind, number = key & 3, key >> 2
        if kind == 0:
            if number >= 60:
                width = number - 59
                number = int.from_bytes(block[position : position + width], "little")
                position += width
            out += block[position : position + number + 1]
            if position + number + 1 > len(block):
                raise MalformedMessageError(f"{_WORD} ends within its contents")
            position += number + 1
        else:
            width = (1, 2, 4)[kind - 1]
            offset = int.from_bytes(block[position : position + width], "little")
            position += width
            if kind == 1:
                offset, number = offset | (number >> 3) << 8, (number & 7) + 3
            _copy(out, offset, number + 1, length)
        if len(out) > length:
            break
    if len(out) != length:
        raise MalformedMessageError(f"{_WORD} has other bytes than the {length} that it says")
    return bytes(out)


def _copy(out: bytearray, offset: int, count: int, most: int) -> None:
    """Appends bytes that stand `offset` before the end, which may be among those that are appended."""
    if not 0 < offset <= len(out) or len(out) + count > most:
        raise MalformedMessageError(f"{_WORD} repeats what it does not have")
    begin = len(out) - offset
    for at in range(begin, begin + count):
        out.append(out[at])

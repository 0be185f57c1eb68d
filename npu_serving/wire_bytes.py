"""Protobuf's wire format in memory: fields written, and the fields of a message read from its bytes.

What a field means is not known here. Messages within messages are read by whoever asks for them, one level at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""The kinds of fields; 3 and 4 are groups, which no message of TensorFlow has."""
_OF_64_BITS = (1 << 64) - 1
_LONGEST_VARINT = 10  # bytes, of 64 bits
_NOTHING = memoryview(b"")

Field = tuple[int, int, memoryview]
"""A field's tag (see tag()), its number (0 but for VARINT), and its contents (none for VARINT)."""


class MalformedMessageError(ValueError):
    """The bytes are not the message that they should be."""


def tag(number: int, kind: int) -> int:
    """What a field of that number and kind begins with. One whose kind is not as expected is thereby another field."""
    return number << 3 | kind


def signed(number: int) -> int:
    """A number as int32 and int64 fields mean it."""
    return number - (1 << 64) if number >> 63 else number


def varint(number: int) -> bytes:
    """A number of up to 64 bits; a negative one as int32 and int64 fields have it, in ten bytes."""
    number &= _OF_64_BITS
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def number_field(number: int, value: int) -> bytes:
    """A field with a number."""
    return varint(tag(number, VARINT)) + varint(value)


def bytes_field(number: int, content: bytes) -> bytes:
    """A field with bytes, a text or a message."""
    return b"".join((varint(tag(number, BYTES)), varint(len(content)), content))


def text_field(number: int, text: str) -> bytes:
    """A field with a text, left out where it is empty, as proto3 does."""
    return bytes_field(number, text.encode()) if text else b""


def entry_field(number: int, key: str, value: bytes) -> bytes:
    """An entry of a map from texts to messages."""
    return bytes_field(number, bytes_field(1, key.encode()) + bytes_field(2, value))


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message in their order. MalformedMessageError where it is damaged; nothing is copied."""
    position, end = 0, len(message)
    while position < end:
        key = message[position]
        if key < 0x80:  # as nearly all are: a call for each would be most of the work
            position += 1
        else:
            key, position = varint_at(message, position)
        kind = key & 7
        if not 8 <= key < 1 << 32:
            raise MalformedMessageError(f"{key >> 3} is not the number of a field")
        if kind == VARINT:
            number, position = varint_at(message, position)
            yield key, number, _NOTHING
            continue
        if kind == BYTES:
            length, position = varint_at(message, position)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise MalformedMessageError(f"a field is of the kind {kind}, which no message of TensorFlow has")
        if length > end - position:
            raise MalformedMessageError(f"a field says that it has {length} bytes, and {end - position} are left")
        yield key, 0, message[position : position + length]
        position += length


def varints(content: memoryview) -> Iterator[int]:
    """The numbers that stand in a packed field, each of up to 64 bits and without a sign."""
    position = 0
    while position < len(content):
        number, position = varint_at(content, position)
        yield number


def text_of(content: memoryview) -> str:
    """The text of a field. MalformedMessageError where it is not UTF-8."""
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError:
        raise MalformedMessageError("a text is not UTF-8") from None


def lenient_text_of(content: memoryview) -> str:
    """The text of a field that a model or a server fills with what it has; bytes that are not UTF-8 as PEP 383 says."""
    return str(content, "utf-8", "surrogateescape")


def entry_of(content: memoryview) -> tuple[str, memoryview]:
    """The key and the value of a map's entry; what is left out is empty."""
    key, value = "", content[:0]
    for found, _, inner in fields(content):
        if found == tag(1, BYTES):
            key = text_of(inner)
        elif found == tag(2, BYTES):
            value = inner
    return key, value


def varint_at(message: memoryview | bytes, position: int) -> tuple[int, int]:
    """The number that begins there, and where it ends. MalformedMessageError where it does not end."""
    number, shift = 0, 0
    try:
        while shift < 7 * _LONGEST_VARINT:
            byte = message[position]
            position += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number & _OF_64_BITS, position
            shift += 7
    except IndexError:
        raise MalformedMessageError("a number ends before it is whole") from None
    raise MalformedMessageError("a number has more than 64 bits")

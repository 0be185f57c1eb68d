"""NumPy's arrays as TensorProto, and back: written around an array's own memory, read where they are in an answer.

| TensorFlow | to send | from an answer |
| --- | --- | --- |
| floats, halves, integers, truth values, complex numbers | arrays of that type | the same |
| DT_STRING | arrays and lists of bytes and of str (sent in UTF-8) | an array of bytes objects |
| DT_BFLOAT16 | ml_dtypes' bfloat16, or WireArray(array, "DT_BFLOAT16") | float32, which holds each exactly |
| DT_QINT8, DT_QUINT8, DT_QINT16, DT_QUINT16, DT_QINT32 | WireArray(array, "DT_QINT8") | int8 to int32 |

Arrays of an answer may be views of its bytes, which can't be written to: `array.copy()` can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_serving.client.data_types import BFLOAT16, BY_NAME, TEXTS_FIELD, DataType
from npu_serving.client.errors import NotSentError
from npu_serving.client.predict_wire import Piece, refuse_too_large
from npu_serving.client.tensor_message import MOST_FILLED, TensorParts, split_tensor
from npu_serving.client.varints import decode_varints
from npu_serving.wire_bytes import BYTES, MalformedMessageError, tag, varint

Array = NDArray[Any]

QUANTISED = ("DT_QINT8", "DT_QUINT8", "DT_QINT16", "DT_QUINT16", "DT_QINT32")
_CODES = {"?": "?", "ff": "<c8", "dd": "<c16", BFLOAT16: "<u2"}
STORED: Mapping[DataType, np.dtype[Any]] = {
    kind: np.dtype(_CODES.get(kind.code, "<" + kind.code)) for kind in BY_NAME.values() if kind.code
}
"""How NumPy has the values of a type, as they are in a message; those of bfloat16 as their bits."""
_KINDS: Mapping[np.dtype[Any], DataType] = {
    stored: kind for kind, stored in STORED.items() if kind.name not in QUANTISED and kind.code != BFLOAT16
}
_TEXT_TAG = varint(tag(TEXTS_FIELD, BYTES))
_SHORT_TEXT_HEADS = tuple(_TEXT_TAG + varint(size) for size in range(0x80))
_STRING, _BFLOAT16 = BY_NAME["DT_STRING"], BY_NAME["DT_BFLOAT16"]


@dataclass(frozen=True)
class WireArray:
    """An array to be sent as a type of TensorFlow that NumPy doesn't have: WireArray(array, "DT_QINT8").

    For "DT_BFLOAT16" an array of uint16 has the bits; other numbers are rounded to the nearest, as TensorFlow does.
    """

    array: Any
    dtype: str


def tensor_content(name: str, value: object) -> tuple[DataType, tuple[int, ...], Piece]:
    """The type and shape of an input, and its values: the memory of the array, or fields of texts.

    NotSentError, naming the input, for what TensorFlow Serving has no type for; and for 2 GiB of one.
    """
    if isinstance(value, np.ndarray) and value.dtype in _KINDS:
        refuse_too_large(value.nbytes)  # before what is not contiguous is copied
    try:
        kind, array = to_wire(value)
        if kind is _STRING:
            return kind, array.shape, _text_fields(array)
    except (ValueError, TypeError, OverflowError) as error:
        raise NotSentError(
            f"The input {name!r} can't be sent: {error}.",
            cure="give an array of numbers, truth values, bytes or texts, with rows of one length",
        ) from error
    return kind, array.shape, array.data if array.nbytes else b""


def to_wire(value: object) -> tuple[DataType, Array]:
    """The type of TensorFlow, and the array with its memory as a message has it. ValueError for what has no type there.

    An array whose memory is that already is not copied; texts stay an array of objects.
    """
    if isinstance(value, WireArray):
        return _named(value)
    array = array_of(value)
    kind = _KINDS.get(array.dtype)
    if kind is None:
        if array.dtype.kind in "OSUT":
            return _STRING, array
        if array.dtype.name == BFLOAT16:
            return _BFLOAT16, _contiguous(array).view("<u2")
        kind = _KINDS.get(array.dtype.newbyteorder("<"))
        if kind is None:
            raise ValueError(f"TensorFlow has no type for NumPy's {array.dtype.name}")
        array = array.astype(STORED[kind])
    return kind, _contiguous(array)


def array_of(value: object) -> Array:
    """The array that NumPy makes of something. ValueError and TypeError where it makes none, or has masked values.

    Texts stay objects: NumPy's own lose zero bytes at their ends, and each takes as much memory as the longest.
    """
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray):
            if np.ma.is_masked(value):  # type: ignore[no-untyped-call]
                raise ValueError("values of it are masked, and a request can't leave them out")
            return value.data  # type: ignore[no-any-return]
        return value
    first = value
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    if isinstance(first, (bytes, str)):
        return np.array(value, dtype=object)
    array = np.asarray(value)
    return np.array(value, dtype=object) if array.dtype.kind in "SU" else array


def decode_tensor(message: bytes | memoryview) -> Array:
    """The array in a TensorProto: a view of the message where that has the values as memory has them.

    Fewer values than the shape are filled up as TensorFlow does. MalformedMessageError for other bytes.
    """
    parts = split_tensor(memoryview(message))
    try:
        return _array(parts)
    except MalformedMessageError:
        raise
    except (ValueError, MemoryError, OverflowError) as error:  # NumPy's own limits
        raise MalformedMessageError(f"a tensor of the shape {list(parts.shape)[:8]} can't be read: {error}") from None


def to_bfloat16(array: Array) -> Array:
    """The bits of each number as bfloat16, rounded to the nearest, and to even in the middle, as TensorFlow does.

    ValueError for a finite number that is too large for a float32 already.
    """
    try:
        with np.errstate(over="raise"):
            single = np.array(array, "<f4", order="C")
    except FloatingPointError:
        raise ValueError("DT_BFLOAT16 can't hold a number as large as one of its values") from None
    bits = single.view("<u4")
    upper = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype("<u2")
    return np.where(np.isnan(single), np.uint16(0x7FC0), upper).astype("<u2", copy=False)


def from_bfloat16(bits: Array) -> Array:
    """The numbers whose bits as bfloat16 these are, as float32."""
    return (bits.astype("<u4") << np.uint32(16)).view("<f4")


def _named(value: WireArray) -> tuple[DataType, Array]:
    kind = BY_NAME.get(value.dtype)
    if kind is None or not kind.field:
        raise ValueError(f"TensorFlow Serving takes no tensor of the type {value.dtype!r}")
    if kind is _STRING:
        array = array_of(value.array)
        if array.size and array.dtype.kind not in "OSUT":
            raise ValueError(f"an array of {array.dtype.name} holds no texts")
        return kind, array
    array = np.asarray(value.array)
    is_stored = array.dtype.newbyteorder("<") == STORED[kind]
    if kind is _BFLOAT16 and not is_stored:
        if array.dtype.name == BFLOAT16:
            return to_wire(array)
        if array.dtype.kind not in "fiu":
            raise ValueError(f"an array of {array.dtype.name} does not become {kind.name}")
        return kind, to_bfloat16(array)
    if not is_stored:
        raise ValueError(f"{kind.name} is made of an array of {STORED[kind].name}, not of {array.dtype.name}")
    return kind, _contiguous(array.astype(STORED[kind], copy=False))


def _contiguous(array: Array) -> Array:
    """The array row by row, with the dimensions it has (ascontiguousarray would make one of none)."""
    return array if array.flags.c_contiguous else array.copy(order="C")


def _text_fields(array: Array) -> bytes:
    pieces: list[bytes] = []
    for at, item in enumerate(array.reshape(-1).tolist()):
        if isinstance(item, str):
            item = item.encode()
        elif not isinstance(item, bytes):
            raise TypeError(f"value {at} is {type(item).__name__}, not bytes or str")
        size = len(item)
        pieces.append(_SHORT_TEXT_HEADS[size] if size < len(_SHORT_TEXT_HEADS) else _TEXT_TAG + varint(size))
        pieces.append(item)
    return b"".join(pieces)


def _array(parts: TensorParts) -> Array:
    kind, shape = parts.data_type, parts.shape
    count = 1
    for size in shape:
        count *= size
    if kind.is_text:
        return _texts(parts, count)
    stored = STORED[kind]
    if parts.content:
        if len(parts.content) != count * stored.itemsize:
            raise MalformedMessageError(
                f"a tensor of {count} values of {kind.name} has {len(parts.content)} bytes of content"
            )
        found = np.frombuffer(parts.content, stored)
        if kind.code == "?":  # any byte but 0 is true, and NumPy takes 0 and 1 only
            found = found.view(np.uint8) != 0
    elif kind.is_in_place:
        found = _filled(_in_place(parts, stored, count), count)
    else:
        found = _filled(_varints(parts, np.dtype("<u2") if kind.field == 13 else stored, count), count)
        if found.dtype != stored:
            found = found.view(stored)
    if kind is _BFLOAT16:
        found = from_bfloat16(found)
    return found.reshape(shape)


def _in_place(parts: TensorParts, stored: np.dtype[Any], count: int) -> Array:
    content = parts.chunks[0] if len(parts.chunks) == 1 else memoryview(b"".join(parts.chunks))
    if len(content) % stored.itemsize:
        raise MalformedMessageError(f"{len(content)} bytes are not a whole number of values of {parts.data_type.name}")
    if len(content) > count * stored.itemsize:
        raise MalformedMessageError(f"a tensor has more values than the {count} of its shape")
    return np.frombuffer(content, stored)


def _varints(parts: TensorParts, stored: np.dtype[Any], count: int) -> Array:
    content = parts.chunks[0] if len(parts.chunks) == 1 else memoryview(b"".join(parts.chunks))
    found: Array = np.empty(min(count, len(content)), stored)
    return found[: decode_varints(content, found)]


def _texts(parts: TensorParts, count: int) -> Array:
    if parts.content:
        raise MalformedMessageError("a tensor of texts has numbers")
    if len(parts.texts) > count:
        raise MalformedMessageError(f"a tensor has more values than the {count} of its shape")
    found = np.empty(len(parts.texts), object)
    found[:] = parts.texts
    return _filled(found, count, b"").reshape(parts.shape)


def _filled(found: Array, count: int, nothing: object = 0) -> Array:
    """As TensorFlow reads fewer values than the shape has: the last stands for the rest, or else zero."""
    if len(found) == count:
        return found
    if count > MOST_FILLED:
        raise MalformedMessageError(f"a tensor of {count} values has only {len(found)}")
    whole = np.empty(count, found.dtype)
    whole[: len(found)] = found
    whole[len(found) :] = found[-1] if len(found) else nothing
    return whole

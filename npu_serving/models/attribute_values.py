"""The values that attributes of nodes have: AttrValue of attr_value.proto, read from its bytes and written.

Of a tensor only its type, its shape and the place of its contents are read, not the numbers. The numbers of the fields
are those of TensorFlow 1.15's .proto files.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from npu_serving.models.pieces import Piece
from npu_serving.wire_bytes import (
    BYTES,
    FIXED32,
    VARINT,
    MalformedMessageError,
    bytes_field,
    entry_field,
    entry_of,
    fields,
    number_field,
    signed,
    tag,
    text_field,
    text_of,
    varint,
    varints,
)

DATA_TYPES: Mapping[int, str] = dict(
    enumerate(
        [
            "float32",
            "float64",
            "int32",
            "uint8",
            "int16",
            "int8",
            "string",
            "complex64",
            "int64",
            "bool",
            "qint8",
            "quint8",
            "qint32",
            "bfloat16",
            "qint16",
            "quint16",
            "uint16",
            "complex128",
            "float16",
            "resource",
            "variant",
            "uint32",
            "uint64",
        ],
        start=1,
    )
)
"""DataType of types.proto, by the names that TensorFlow prints."""
ELEMENT_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("uint8", "int8", "bool", "qint8", "quint8"), 1),
    **dict.fromkeys(("int16", "uint16", "qint16", "quint16", "bfloat16", "float16"), 2),
    **dict.fromkeys(("float32", "int32", "qint32", "uint32"), 4),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    "complex128": 16,
}
"""How many bytes an element takes; strings, resources and variants have no fixed size."""
MOST_DIMENSIONS = 254  # TensorShape::MaxDimensions()

_NUMBERS = {name: number for number, name in DATA_TYPES.items()}
_REFERENCE, _AS_REFERENCE = 100, "_ref"  # is added to the type of what refers to a variable, and to its name
_SHORT = 128  # bytes, of values whose meaning is kept: those of nodes repeat themselves
_DEEPEST = 100  # protobuf's own limit on messages in each other
_KINDS = {
    2: "string",
    3: "int",
    4: "float",
    5: "bool",
    6: "type",
    7: "shape",
    8: "tensor",
    9: "placeholder",
    10: "func",
}
_FIELDS = {kind: number for number, kind in _KINDS.items()}
_LIST_KINDS = {**{number: kind for number, kind in _KINDS.items() if number < 9}, 9: "func"}
_TENSOR_AND_TYPE, _TENSOR_SHAPE = bytes([tag(8, BYTES), tag(1, VARINT)]), tag(2, BYTES)
_PACKED_VALUES = frozenset(tag(number, BYTES) for number in (4, 5, 6, 7, 9, 10, 11, 12, 13))
_LIST_FIELDS = {kind: number for number, kind in _LIST_KINDS.items()}

Shape = Union["tuple[int, ...]", None]
"""-1 for each unknown size; None for an unknown rank."""


@dataclass(frozen=True)
class TensorHeader:
    """A tensor: its type, its shape, and its tensor_content, or where that stands in the file.

    The content is empty where the values are in the other fields of a TensorProto, or all are zero.
    """

    data_type: str
    shape: Shape
    content: AttributeBytes = b""

    @property
    def elements(self) -> int:
        """How many there are; 0 for an unknown shape."""
        number = 0 if self.shape is None else 1
        for size in self.shape or ():
            number *= max(size, 0)
        return number

    @property
    def size_bytes(self) -> int:
        """What its elements take in memory; 0 for strings, and for an unknown shape."""
        return self.elements * ELEMENT_BYTES.get(self.data_type, 0)


@dataclass(frozen=True)
class Extent:
    """Bytes that were left in the file, from `start` to `end`: a large attribute, with its header if it is a tensor."""

    start: int
    end: int
    tensor: TensorHeader | None = None


@dataclass(frozen=True)
class ElsewhereExtent(Extent):
    """A large tensor that is put together from pieces of other files, such as a variable's values in a checkpoint.

    It is in no place of the graph's own file: `start` is 0, and `end` its size.
    """

    pieces: tuple[Piece, ...] = ()


AttributeBytes = Union[bytes, Extent]
"""An AttrValue as it was written, or where it stands in the file."""


@dataclass(frozen=True)
class FunctionCall:
    """A function that an attribute names, with the attributes that it is called with."""

    name: str
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True)
class AttributeValue:
    """A value with its kind, spelled as OperatorAttribute.kind: int, float, bool, string, type, shape, tensor, func.

    `placeholder` stands in the bodies of functions for an attribute of the call. For list(KIND), `value` is a tuple;
    of a list without elements the kind is `list`, for what it is a list of is not written. A string is bytes, a type is
    its name, a shape is a Shape, a tensor its TensorHeader, a function a FunctionCall. Nothing at all is `none`.
    """

    kind: str
    value: Any = None


def type_name(number: int) -> str:
    """The name of a DataType, with _ref for a reference to a variable; `type N` for one that is not known."""
    base = number - _REFERENCE if number > _REFERENCE else number
    name = DATA_TYPES.get(base, f"type {base}")
    return name if base == number else name + _AS_REFERENCE


def type_number(name: str) -> int:
    """The DataType of that name. ValueError for a name that there is not."""
    base = name[: -len(_AS_REFERENCE)] if name.endswith(_AS_REFERENCE) else name
    number = _NUMBERS.get(base) or int(base.replace("type ", "", 1))
    return number + _REFERENCE if base != name else number


def decode(value: bytes) -> AttributeValue:
    """What an AttrValue says. MalformedMessageError where it is damaged, which none of a graph that was read is."""
    return _decode_short(value) if len(value) <= _SHORT else _decoded(memoryview(value), 0)


@functools.lru_cache(maxsize=1 << 15)
def _decode_short(value: bytes) -> AttributeValue:
    header = _plain_tensor(value)
    return _decoded(memoryview(value), 0) if header is None else AttributeValue("tensor", header)


def _plain_tensor(value: bytes) -> TensorHeader | None:
    """A tensor as TensorFlow writes a small one: type, shape, then all values in one field. None for what is not so.

    Nine of ten attributes that no other node has are such, and reading them closely would take ten times as long.
    """
    length = len(value)
    if length < 6 or value[:3:2] != _TENSOR_AND_TYPE or value[1] != length - 2 or value[4] != _TENSOR_SHAPE:
        return None
    after = 6 + value[5]
    if length == after:
        content = b""
    elif length < after + 2 or value[after] not in _PACKED_VALUES or after + 2 + value[after + 1] != length:
        return None
    else:
        content = value[after + 2 :] if value[after] == tag(4, BYTES) else b""
    shape = value[6:after]
    return TensorHeader(type_name(value[3]), _known_shape(shape), content) if value[3] < 0x80 else None


@functools.lru_cache(maxsize=1 << 12)
def _known_shape(shape: bytes) -> Shape:
    return decoded_shape(memoryview(shape))


def encode(value: AttributeValue) -> bytes:
    """The AttrValue of it: what decode() makes of that is equal. ValueError for a tensor, whose values are not kept."""
    kind, content = value.kind, value.value
    if kind == "none":
        return b""
    if kind == "list":
        return bytes_field(1, b"")
    if kind.startswith("list("):
        kind = kind[len("list(") : -1]
        number = _LIST_FIELDS[kind]
        if kind in ("int", "bool", "type"):
            packed = b"".join(varint(type_number(each) if kind == "type" else int(each)) for each in content)
            return bytes_field(1, bytes_field(number, packed) if packed else b"")
        if kind == "float":
            return bytes_field(1, bytes_field(number, struct.pack(f"<{len(content)}f", *content)))
        return bytes_field(1, b"".join(bytes_field(number, _content_of(kind, each)) for each in content))
    number = _FIELDS[kind]
    if kind in ("int", "bool", "type"):
        return number_field(number, type_number(content) if kind == "type" else int(content))
    if kind == "float":
        return varint(tag(number, FIXED32)) + struct.pack("<f", content)
    return bytes_field(number, _content_of(kind, content))


def encoded_shape(shape: Shape) -> bytes:
    """A TensorShapeProto."""
    if shape is None:
        return number_field(3, 1)
    return b"".join(bytes_field(2, number_field(1, size) if size else b"") for size in shape)


def decoded_shape(content: memoryview) -> Shape:
    """The shape of a TensorShapeProto. MalformedMessageError."""
    sizes: list[int] = []
    unknown = False
    for key, number, inner in fields(content):
        if key == tag(3, VARINT):
            unknown = bool(number)
        elif key == tag(2, BYTES):
            size = 0
            for of_size, value, name in fields(inner):
                if of_size == tag(1, VARINT):
                    size = signed(value)
                elif of_size == tag(2, BYTES):
                    text_of(name)
            sizes.append(size)
            if len(sizes) > MOST_DIMENSIONS:
                raise MalformedMessageError(f"a shape has more than {MOST_DIMENSIONS} dimensions")
    return None if unknown else tuple(sizes)


def tensor_header(attribute: AttributeBytes) -> TensorHeader | None:
    """The header of the tensor that an attribute is; None for an attribute of another kind."""
    if isinstance(attribute, Extent):
        return attribute.tensor
    value = decode(attribute)
    return value.value if value.kind == "tensor" else None


def functions_in(value: AttributeValue) -> Iterable[FunctionCall]:
    """The functions that an attribute names, alone or in a list, those within their own attributes included."""
    calls = (value.value,) if value.kind == "func" else value.value if value.kind == "list(func)" else ()
    for call in calls:
        yield call
        for inner in call.attributes.values():
            yield from functions_in(inner)


def _content_of(kind: str, content: Any) -> bytes:
    if kind == "string":
        return bytes(content)
    if kind == "placeholder":
        return str(content).encode()
    if kind == "shape":
        return encoded_shape(content)
    if kind == "func":
        attributes = (entry_field(2, name, encode(value)) for name, value in content.attributes.items())
        return text_field(1, content.name) + b"".join(attributes)
    raise ValueError(f"the values of a {kind} are not kept")


def _decoded(message: memoryview, depth: int) -> AttributeValue:
    if depth > _DEEPEST:
        raise MalformedMessageError("messages are nested too deeply")
    kind, number, content = "none", 0, message[:0]
    for key, value, inner in fields(message):
        if key == tag(1, BYTES):
            found = "list"
        elif key & 7 == _WIRE_KINDS.get(key >> 3):
            found = _KINDS[key >> 3]
        else:
            continue
        # Messages of one kind that follow each other are merged, as protobuf does with the one that counts.
        content = memoryview(bytes(content) + bytes(inner)) if found == kind and found in _MESSAGES else inner
        kind, number = found, value
    if kind == "list":
        return _decoded_list(content, depth)
    if kind in ("int", "bool", "type"):
        return AttributeValue(kind, _plain(kind, number))
    if kind == "none":
        return AttributeValue(kind)
    return AttributeValue(kind, _decoded_content(kind, content, depth))


def _decoded_list(content: memoryview, depth: int) -> AttributeValue:
    kind = ""
    values: list[Any] = []
    for key, number, inner in fields(content):
        wanted = _LIST_KINDS.get(key >> 3)
        if wanted is None:
            continue
        found: list[Any]
        if wanted in ("int", "bool", "type") and key & 7 in (VARINT, BYTES):
            numbers = varints(inner) if key & 7 == BYTES else (number,)
            found = [_plain(wanted, each) for each in numbers]
        elif wanted == "float" and key & 7 in (FIXED32, BYTES):
            if len(inner) % 4:
                raise MalformedMessageError("a list of numbers ends within one")
            found = list(struct.unpack(f"<{len(inner) // 4}f", inner))
        elif key & 7 == BYTES and wanted != "float":
            found = [_decoded_content(wanted, inner, depth)]
        else:
            continue
        if kind not in ("", wanted) and found:
            values = []  # nothing of TensorFlow has lists of several kinds in one: the last counts
        if found:
            kind = wanted
        values += found
    return AttributeValue(f"list({kind})", tuple(values)) if kind else AttributeValue("list", ())


def _plain(kind: str, number: int) -> int | bool | str:
    if kind == "type":
        return type_name(signed(number))
    return signed(number) if kind == "int" else bool(number)


def _decoded_content(kind: str, content: memoryview, depth: int) -> Any:
    if kind == "string":
        return bytes(content)
    if kind == "float":
        return struct.unpack("<f", content)[0]
    if kind == "placeholder":
        return text_of(content)
    if kind == "shape":
        return decoded_shape(content)
    if kind == "tensor":
        return _decoded_tensor(content)
    name, attributes = "", {}
    for key, _, inner in fields(content):
        if key == tag(1, BYTES):
            name = text_of(inner)
        elif key == tag(2, BYTES):
            attribute, value = entry_of(inner)
            attributes[attribute] = _decoded(value, depth + 1)
    return FunctionCall(name, attributes)


def _decoded_tensor(content: memoryview) -> TensorHeader:
    data_type, shape, values = 0, memoryview(b""), b""
    for key, number, inner in fields(content):
        if key == tag(1, VARINT):
            data_type = signed(number)
        elif key == tag(2, BYTES):
            shape = memoryview(bytes(shape) + bytes(inner)) if shape else inner
        elif key == tag(4, BYTES):
            values = bytes(inner)
    return TensorHeader(type_name(data_type), decoded_shape(shape), values)


_MESSAGES = ("list", "shape", "tensor", "func")
_WIRE_KINDS = {2: BYTES, 3: VARINT, 4: FIXED32, 5: VARINT, 6: VARINT, 7: BYTES, 8: BYTES, 9: BYTES, 10: BYTES}

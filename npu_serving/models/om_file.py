"""The reader of an om, the model that ATC and AOE make: its header, and what it takes and gives.

A header of 256 bytes, a table of partitions, and the partitions; the first of them is the graph, a protobuf message.
The numbers are those of the graph engine's framework_types_internal.h and ge_ir.proto, as public with CANN 9.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import ModelFileError
from npu_serving.wire_bytes import BYTES, VARINT, MalformedMessageError, entry_of, fields, signed, tag, text_of, varints

MAGIC = b"IMOD"
HEADER_BYTES = 256
GEAR_INPUT = "ascend_mbatch_shape_data"
"""The input that says which gear a request has, of a model with gears; the adapter fills it, no client does."""
GRAPH_PARTITION = 0
_MOST_PARTITIONS = 64
_MOST_BYTES = 1 << 30  # of the graph; weights are in a partition of their own
_LENGTH, _MODEL_LENGTH, _ENCRYPTED = 76, 184, 80  # where they stand in the header
_INPUT_TYPES, _OUTPUT_TYPE = ("Data", "AippData", "RefData"), "NetOutput"
OM_TYPES: Mapping[int, str] = {
    1: "float32",
    2: "float16",
    3: "int8",
    4: "uint8",
    5: "int16",
    6: "uint16",
    7: "int32",
    8: "int64",
    9: "uint32",
    10: "uint64",
    11: "bool",
    12: "float64",
    13: "string",
    27: "bfloat16",
}
"""DataType of ge_ir.proto, by the names that TensorFlow prints."""


@dataclass(frozen=True)
class OmTensor:
    """An input or output of an om: its name (that of the node it was made of), type ("" if not known), and shape."""

    name: str
    data_type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class OmFile:
    """What an om takes and gives, in its order; None where its graph can't be looked into, as in an encrypted one."""

    path: Path
    size_bytes: int
    inputs: tuple[OmTensor, ...] | None = None
    outputs: tuple[OmTensor, ...] | None = None


def read_om(path: Path) -> OmFile:
    """The om at `path`. ModelFileError for what is empty, cut off, or something other than an om."""
    with fsutil.explained(path, doing="read"), path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        header = file.read(HEADER_BYTES)
        if not header.startswith(MAGIC):
            found = "is empty" if not size else f"begins with {header[:4]!r}"
            raise _wrong(path, f"{found}, and an om begins with {MAGIC!r}")
        if len(header) < HEADER_BYTES:
            raise _wrong(path, f"has {size} bytes, fewer than the header of an om")
        (head_bytes,) = struct.unpack_from("<I", header, 4)
        (length,) = struct.unpack_from("<Q", header, _MODEL_LENGTH)
        is_wide = bool(length)
        length = length or struct.unpack_from("<I", header, _LENGTH)[0]
        if not HEADER_BYTES <= head_bytes <= size or head_bytes + length > size:
            raise _wrong(path, f"has {size} bytes, and its header says {head_bytes} + {length}: it is cut off")
        if header[_ENCRYPTED]:
            return OmFile(path, size)
        file.seek(head_bytes)
        graph = _graph_partition(path, file.read(4 + 4 + 24 * _MOST_PARTITIONS), head_bytes, size, is_wide=is_wide)
        if graph is None:
            return OmFile(path, size)
        file.seek(graph[0])
        content = file.read(graph[1])
    try:
        inputs, outputs = _tensors(memoryview(content))
    except MalformedMessageError as error:
        raise _wrong(path, f"has a damaged graph at offset {graph[0]}: {error}") from error
    return OmFile(path, size, inputs, outputs)


def _wrong(path: Path, found: str) -> ModelFileError:
    return ModelFileError(
        f"{path} {found}.", cause="it was not written to its end, or something else has its name", cure="convert again"
    )


def _graph_partition(path: Path, table: bytes, start: int, size: int, *, is_wide: bool) -> tuple[int, int] | None:
    """Where the graph is, and its length; None where the table has a form that is not known here."""
    (count,) = struct.unpack_from("<I", table) if len(table) >= 4 else (0,)
    row, first, form = (24, 8, "<I4xQQ") if is_wide else (12, 4, "<III")
    if not 0 < count <= _MOST_PARTITIONS or len(table) < first + row * count:
        return None
    place = start + first + row * count
    for index in range(count):
        kind, _, length = struct.unpack_from(form, table, first + row * index)
        if place + length > size:
            raise _wrong(path, f"has {size} bytes, and a partition at offset {place} has {length}: it is cut off")
        if kind == GRAPH_PARTITION and length <= _MOST_BYTES:
            return place, length
        place += length
    return None


def _tensors(model: memoryview) -> tuple[tuple[OmTensor, ...], tuple[OmTensor, ...]] | tuple[None, None]:
    """The inputs by their index, and the outputs, of the first graph of a ModelDef."""
    graph = next((content for key, _, content in fields(model) if key == tag(7, BYTES)), None)
    if graph is None:
        return None, None
    inputs: list[tuple[int, OmTensor]] = []
    outputs: tuple[OmTensor, ...] | None = None
    for key, _, operator in fields(graph):
        if key != tag(6, BYTES):
            continue
        name, kind = _name_and_type(operator)
        if kind in _INPUT_TYPES and name != GEAR_INPUT:
            inputs.append((_index(operator), _described(operator, 34, name)[0]))
        elif kind == _OUTPUT_TYPE:
            outputs = _described(operator, 33, name)
    ordered = sorted(inputs, key=lambda each: each[0])
    return tuple(tensor for _, tensor in ordered), outputs or ()


def _name_and_type(operator: memoryview) -> tuple[str, str]:
    name = kind = ""
    for key, _, content in fields(operator):
        if key == tag(1, BYTES):
            name = text_of(content)
        elif key == tag(2, BYTES):
            kind = text_of(content)
    return name, kind


def _index(operator: memoryview) -> int:
    for key, _, content in fields(operator):
        if key == tag(10, BYTES):
            name, value = entry_of(content)
            if name == "index":
                return next((signed(number) for found, number, _ in fields(value) if found == tag(3, VARINT)), 0)
    return 0


def _described(operator: memoryview, number: int, name: str) -> tuple[OmTensor, ...]:
    """The tensors that the TensorDescriptors of that field describe."""
    found = [_tensor(content, name) for key, _, content in fields(operator) if key == tag(number, BYTES)]
    return tuple(found) or (OmTensor(name, "", ()),)


def _tensor(descriptor: memoryview, name: str) -> OmTensor:
    data_type = 0
    shape: tuple[int, ...] = ()
    for key, number, content in fields(descriptor):
        if key == tag(2, VARINT):
            data_type = number
        elif key == tag(3, BYTES):
            shape = _sizes(content)
    return OmTensor(name, OM_TYPES.get(data_type, ""), shape)


def _sizes(shape: memoryview) -> tuple[int, ...]:
    sizes: list[int] = []
    for key, number, content in fields(shape):
        if key == tag(1, VARINT):
            sizes.append(signed(number))
        elif key == tag(1, BYTES):
            sizes += [signed(size) for size in varints(content)]
    return tuple(sizes)

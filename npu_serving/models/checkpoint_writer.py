"""The writer of TensorFlow's checkpoints: byte for byte the files that TensorFlow 1.15.0 writes for the same variables.

Values come piece by piece, so that gigabytes of them are never in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from google_crc32c import extend
from google_crc32c import value as crc32c

from npu_serving import fsutil
from npu_serving.errors import RequestError
from npu_serving.models.attribute_values import ELEMENT_BYTES, type_number
from npu_serving.models.checkpoint import data_file_of, index_of
from npu_serving.models.checkpoint_slices import VariableSlice
from npu_serving.models.checkpoint_table import table_chunks
from npu_serving.models.checksums import masked
from npu_serving.wire_bytes import FIXED32, bytes_field, number_field, tag, varint

_HEADER = number_field(1, 1) + bytes_field(3, number_field(1, 1))
"""One data file, little-endian, written by version 1 of the format: BundleHeaderProto."""


@dataclass(frozen=True)
class NewVariable:
    """A variable to be written: its type by TensorFlow's name, its shape, and its values.

    `content` is the values' bytes, row by row and little-endian, in pieces of any size; of texts, one piece for each.
    `part` is the part of a variable of that shape that the content is; None for the whole.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: Iterable[bytes]
    part: VariableSlice | None = None


@dataclass(frozen=True)
class _Stored:
    """Where a value went in the data file."""

    offset: int
    size: int
    checksum: int


def write_checkpoint(prefix: Path, variables: Iterable[NewVariable]) -> None:
    """Writes PREFIX.data-00000-of-00001 and PREFIX.index, whose name appears last; no data file where that fails.

    RequestError where a checkpoint of that name is there already, or a variable twice; ValueError for content
    that doesn't fit the shape; FileAccessError, DiskFullError.
    """
    index, data = index_of(prefix), data_file_of(prefix, 0, 1)
    for place in (index, data):
        if place.exists() or place.is_symlink():
            raise RequestError(
                f"{place} is there already.",
                cause="a checkpoint has two files, which can't be replaced in one step",
                cure="name another place",
            )
    entries: dict[bytes, bytes] = {b"": _HEADER}
    parts: dict[bytes, tuple[NewVariable, list[VariableSlice]]] = {}
    written = False
    try:
        with fsutil.new_file(data) as file:
            offset = 0
            for variable in variables:
                stored = _write_value(file, variable, offset)
                offset += stored.size
                key = variable.name.encode("utf-8", "surrogateescape")
                shape = variable.shape
                if variable.part is not None:
                    parts.setdefault(key, (variable, []))[1].append(variable.part)
                    shape = tuple(length for _, length in variable.part.resolved(shape))
                    key = variable.part.key(variable.name)
                if key in entries or not key:
                    raise RequestError(
                        f"The variable {variable.name!r} can't be written.",
                        cause="it is there twice" if key else "its name is empty",
                        cure="give each variable a name of its own",
                    )
                entries[key] = _entry(variable.dtype, shape, stored)
        written = True
        for key, (variable, slices) in parts.items():
            if key in entries:
                raise RequestError(
                    f"The variable {variable.name} is there as a whole and in parts.",
                    cure="give each variable a name of its own",
                )
            entries[key] = _entry(variable.dtype, variable.shape, _Stored(0, 0, 0), slices)
        with fsutil.new_file(index) as file:
            for chunk in table_chunks(sorted(entries.items())):
                file.write(chunk)
    except BaseException:
        if written:
            fsutil.remove(data)
        raise


def _write_value(file: IO[bytes], variable: NewVariable, offset: int) -> _Stored:
    if variable.dtype == "string":
        return _write_texts(file, variable, offset)
    lengths = variable.shape
    if variable.part is not None:
        lengths = tuple(length for _, length in variable.part.resolved(variable.shape))
    wanted = ELEMENT_BYTES[variable.dtype] * math.prod(lengths)
    size = checksum = 0
    for piece in variable.content:
        file.write(piece)
        size += len(piece)
        checksum = extend(checksum, piece)
    if size != wanted:
        raise ValueError(f"{variable.name}: {size} bytes for {variable.dtype} {list(variable.shape)}")
    return _Stored(offset, size, masked(checksum))


def _write_texts(file: IO[bytes], variable: NewVariable, offset: int) -> _Stored:
    """The lengths, their checksum, and the texts one after the other: WriteStringTensor of tensor_bundle.cc."""
    texts = list(variable.content)
    if len(texts) != math.prod(variable.shape) or variable.part is not None:
        raise ValueError(f"{variable.name}: {len(texts)} texts for the shape {list(variable.shape)}")
    lengths = b"".join(varint(len(text)) for text in texts)
    checksum = crc32c(b"".join(len(text).to_bytes(4 if len(text) < 1 << 32 else 8, "little") for text in texts))
    behind = masked(checksum).to_bytes(4, "little")
    checksum = extend(checksum, behind)
    file.write(lengths + behind)
    size = len(lengths) + len(behind)
    for text in texts:
        file.write(text)
        size += len(text)
        checksum = extend(checksum, text)
    return _Stored(offset, size, masked(checksum))


def _entry(dtype: str, shape: tuple[int, ...], stored: _Stored, slices: Iterable[VariableSlice] = ()) -> bytes:
    """BundleEntryProto; what is 0 is left out, as proto3 does."""
    sizes = b"".join(bytes_field(2, number_field(1, size) if size else b"") for size in shape)
    out = number_field(1, type_number(dtype)) + bytes_field(2, sizes)
    for field, number in ((4, stored.offset), (5, stored.size)):
        out += number_field(field, number) if number else b""
    if stored.checksum:
        out += varint(tag(6, FIXED32)) + stored.checksum.to_bytes(4, "little")
    return out + b"".join(bytes_field(7, each.message()) for each in slices)

"""The reader of TensorFlow's checkpoints, PREFIX.index and PREFIX.data-NNNNN-of-NNNNN: the V2 format, a tensor bundle.

Neither TensorFlow nor protobuf is needed. The index is read on opening; of the data nothing but what is asked for.
The variables of a SavedModel are the same format: their prefix is variables/variables.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from google_crc32c import extend
from google_crc32c import value as crc32c

from npu_serving import fsutil
from npu_serving.errors import ModelFileError, RequestError
from npu_serving.models.attribute_values import DATA_TYPES, ELEMENT_BYTES, MOST_DIMENSIONS
from npu_serving.models.checkpoint_slices import VariableSlice, slice_of
from npu_serving.models.checkpoint_table import MAGIC, damaged, read_table
from npu_serving.models.checksums import masked
from npu_serving.models.pieces import FileExtent, file_identity, replaced
from npu_serving.wire_bytes import (
    BYTES,
    FIXED32,
    VARINT,
    MalformedMessageError,
    fields,
    lenient_text_of,
    signed,
    tag,
    varint_at,
)

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

INDEX_SUFFIX = ".index"
_SUFFIX = re.compile(r"(.+)\.(?:index|meta|data-[0-9]{5,10}-of-[0-9]{5,10})", re.DOTALL)
_STATE = re.compile(r'^model_checkpoint_path: "((?:[^"\\\n]|\\.)*)"', re.MULTILINE)
_CHUNK = 1 << 20
_MOST_SHARDS = 100_000
_MOST_ELEMENTS = 1 << 62
_MOST_NAMED = 100
_MOST_TEXT_BYTES = 1 << 31  # of a variable of texts, which is read at once
_VARIABLES = Path("variables") / "variables"  # the prefix within a SavedModel

_NUMPY_NAMES = {
    "qint8": "int8",
    "quint8": "uint8",
    "qint16": "int16",
    "quint16": "uint16",
    "qint32": "int32",
    "bfloat16": "uint16",
}
"""What NumPy has in the place of what it has not."""


@dataclass(frozen=True)
class CheckpointVariable:
    """A variable: its type by TensorFlow's name, its shape, and its bytes in the data files.

    `slices` are the parts that it is saved in, none where it is saved as a whole.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    slices: tuple[VariableSlice, ...] = ()

    def describe(self) -> str:
        """Its type and shape, such as `float32 [3, 224]`."""
        return f"{self.dtype} {list(self.shape)}"


@dataclass(frozen=True)
class CheckpointDamage:
    """What is wrong with a checkpoint's data: the file, the byte, the variable's name and what it is."""

    file: Path
    offset: int
    variable: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}, byte {self.offset}: {self.what} (variable {self.variable})"


@dataclass(frozen=True)
class _Entry:
    """A value in the index: BundleEntryProto of tensor_bundle.proto."""

    dtype: str
    shape: tuple[int, ...]
    shard: int = 0
    offset: int = 0
    size: int = 0
    checksum: int = 0
    slices: tuple[VariableSlice, ...] = ()

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class _DamagedDataError(Exception):
    """What is wrong at a byte of a data file."""

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(why)
        self.offset, self.why = offset, why


class Checkpoint:
    """A checkpoint that was opened: its index is in memory, its data in the files."""

    def __init__(self, prefix: Path, shards: int, entries: Mapping[str, _Entry], parts: Mapping[bytes, _Entry]) -> None:
        self.prefix = prefix
        self._shards = shards
        self._entries = entries
        self._parts = parts
        self._identities: dict[int, tuple[int, ...]] = {}
        """What the data files were when they were opened first."""
        self.variables: Mapping[str, CheckpointVariable] = {
            name: CheckpointVariable(
                name, each.dtype, each.shape, sum(stored.size for stored in self._stored(name)), each.slices
            )
            for name, each in entries.items()
        }

    @property
    def size_bytes(self) -> int:
        """The bytes of all variables."""
        return sum(each.size_bytes for each in self.variables.values())

    def data_files(self) -> tuple[Path, ...]:
        """The files with the values, whether they are there or not."""
        return tuple(self._data_file(shard) for shard in range(self._shards))

    def variable(self, name: str) -> CheckpointVariable:
        """The variable of that name. RequestError where there is none, with those whose names are near."""
        found = self.variables.get(name)
        if found is None:
            near = difflib.get_close_matches(name, self.variables, n=3)
            raise RequestError(
                f"{self.prefix} contains no variable {name}.",
                cause=f"it has {len(self.variables)} variables" + (f", such as {', '.join(near)}" if near else ""),
                cure="use the name that it has there" if near else "name the checkpoint that belongs to this graph",
            )
        return found

    def extents(self, name: str) -> tuple[FileExtent, ...]:
        """Where the bytes of the variable are: in one place, or in one for each of its slices, in their order."""
        self.variable(name)
        return tuple(
            FileExtent(
                self._data_file(stored.shard),
                stored.offset,
                stored.offset + stored.size,
                self._identities.get(stored.shard, ()),
            )
            for stored in self._stored(name)
        )

    def extents_of(self, name: str, part: VariableSlice | None = None) -> tuple[FileExtent, ...] | None:
        """Where the bytes of the variable, or of a part of it, are in the order of a tensor's content.

        None where they are not in few places, so that the values have to be read to be put in order.
        """
        variable = self.variable(name)
        stored: dict[VariableSlice | None, FileExtent] = dict(zip(variable.slices or (None,), self.extents(name)))
        if part in stored:
            return (stored[part],)
        wanted = _resolved(variable, part)
        rows = {_resolved(variable, each): place for each, place in stored.items()}
        others = tuple((0, size) for size in variable.shape[1:])
        if wanted in rows:
            return (rows[wanted],)
        if not variable.shape or any(each[1:] != others for each in (wanted, *rows)) or variable.dtype == "string":
            return None
        row_bytes = ELEMENT_BYTES[variable.dtype] * math.prod(variable.shape[1:])
        found, (at, length) = [], wanted[0]
        end = at + length
        for ((start, count), *_), place in sorted(rows.items(), key=lambda each: each[0]):
            if start <= at < min(end, start + count):
                behind = min(end, start + count)
                first = place.start + (at - start) * row_bytes
                found.append(FileExtent(place.file, first, first + (behind - at) * row_bytes, place.identity))
                at = behind
        return tuple(found) if at == end else None

    def read(self, name: str, part: VariableSlice | None = None) -> Array | list[bytes]:
        """The values of the variable, or of a part of it: an array of its shape; for texts a list of bytes, row by row.

        NumPy has no bfloat16: an array of uint16 has the bits. Quantised types are the integers that they are stored
        as. RequestError for a name that isn't there, ModelFileError where the values are damaged or incomplete.
        """
        import numpy

        variable = self.variable(name)
        if variable.dtype == "string":
            if variable.slices or part is not None:
                raise ModelFileError(
                    f"{self.prefix}: the variable {name} contains texts in parts, which this reader can't join.",
                    cure="save it as one variable",
                )
            return self._texts(name, self._stored(name)[0])
        kind = numpy.dtype(_NUMPY_NAMES.get(variable.dtype, variable.dtype)).newbyteorder("<")
        if not variable.slices:
            whole = self._array(name, self._stored(name)[0], kind)
        else:
            if why := _gap(variable):
                raise damaged(index_of(self.prefix), 0, f"{why} (variable {name})")
            whole = numpy.empty(variable.shape, kind)
            for each, stored in zip(variable.slices, self._stored(name)):
                whole[_indices(_resolved(variable, each))] = self._array(name, stored, kind)
        return whole if part is None else whole[_indices(_resolved(variable, part))]

    def check(self, name: str) -> None:
        """Reads the values of the variable once. ModelFileError where they are damaged or incomplete."""
        variable = self.variable(name)
        if variable.slices and (why := _gap(variable)):
            raise damaged(index_of(self.prefix), 0, f"{why} (variable {name})")
        for stored in self._stored(name):
            try:
                self._check(stored, None)
            except _DamagedDataError as error:
                raise damaged(self._data_file(stored.shard), error.offset, f"{error.why} (variable {name})") from None

    def verify(self, done: Callable[[int], None] | None = None) -> tuple[CheckpointDamage, ...]:
        """What is wrong with the data: files that are missing or too short, checksums that differ, parts that lack.

        All values are read once; `done` gets the bytes of each piece. Empty where all is well:
        TensorFlow would restore each variable. At most 100 are named.
        """
        found: list[CheckpointDamage] = []
        missing: set[int] = set()
        files = self.data_files()
        places = [(name, stored) for name in self.variables for stored in self._stored(name)]
        before_shard, before_end = -1, 0
        for name, stored in sorted(places, key=lambda place: (place[1].shard, place[1].offset, place[1].size)):
            if len(found) >= _MOST_NAMED:
                break
            file = files[stored.shard]
            if stored.shard in missing:
                continue
            if not file.is_file():
                missing.add(stored.shard)
                found.append(CheckpointDamage(file, 0, name, "the file is missing"))
                continue
            if stored.shard == before_shard and stored.offset < before_end and stored.size:  # or it could last for ever
                found.append(CheckpointDamage(file, stored.offset, name, "it lies where another variable does"))
                continue
            before_shard, before_end = stored.shard, stored.offset + stored.size
            try:
                self._check(stored, done)
            except _DamagedDataError as error:
                found.append(CheckpointDamage(file, error.offset, name, error.why))
        index = index_of(self.prefix)
        for name, variable in self.variables.items():
            if variable.slices and (why := _gap(variable)) and len(found) < _MOST_NAMED:
                found.append(CheckpointDamage(index, 0, name, why))
        return tuple(found)

    def _data_file(self, shard: int) -> Path:
        return data_file_of(self.prefix, shard, self._shards)

    def _stored(self, name: str) -> list[_Entry]:
        """The variable's values as they are stored: as a whole, or each of its slices."""
        entry = self._entries[name]
        return [self._parts[each.key(name)] for each in entry.slices] if entry.slices else [entry]

    def _array(self, name: str, stored: _Entry, kind: numpy.dtype[Any]) -> Array:
        import numpy

        content = self._content(name, stored)
        return numpy.frombuffer(content, kind).reshape(stored.shape)

    def _texts(self, name: str, stored: _Entry) -> list[bytes]:
        content = memoryview(self._content(name, stored))
        lengths, at = _text_lengths(content, stored.elements)
        at += 4
        found = []
        for length in lengths:
            found.append(bytes(content[at : at + length]))
            at += length
        return found

    def _content(self, name: str, stored: _Entry) -> bytes:
        """The bytes of what is stored, with their checksum verified."""
        file = self._data_file(stored.shard)
        try:
            return b"".join(self._verified(stored))
        except _DamagedDataError as error:
            raise damaged(file, error.offset, f"{error.why} (variable {name})") from None

    def _check(self, stored: _Entry, done: Callable[[int], None] | None) -> None:
        for chunk in self._verified(stored):
            if done is not None:
                done(len(chunk))

    def _verified(self, stored: _Entry) -> Iterator[bytes]:
        """The bytes of what is stored, piece by piece; _DamagedDataError, at the latest at the end."""
        file = self._data_file(stored.shard)
        with fsutil.explained(file, doing="read"):
            descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            with fsutil.explained(file, doing="read"):
                fsutil.refuse_endless(file)
                status = os.fstat(descriptor)
            size = status.st_size
            if self._identities.setdefault(stored.shard, file_identity(status)) != file_identity(status):
                raise replaced(file)
            if stored.offset + stored.size > size:
                lacking = stored.offset + stored.size - size
                raise _DamagedDataError(size, f"the file ends there, and {lacking} bytes are missing")
            if stored.dtype == "string":
                content = _read(descriptor, file, stored.offset, stored.offset + stored.size)
                _check_texts(content, stored)
                yield content
                return
            checksum, at = 0, stored.offset
            while at < stored.offset + stored.size:
                chunk = _read(descriptor, file, at, min(at + _CHUNK, stored.offset + stored.size))
                checksum = extend(checksum, chunk)
                at += len(chunk)
                yield chunk
            if masked(checksum) != stored.checksum:
                raise _DamagedDataError(
                    stored.offset, f"the checksum of the {stored.size} bytes from there on is not that of the index"
                )
        finally:
            os.close(descriptor)


def open_checkpoint(prefix: Path) -> Checkpoint:
    """The checkpoint whose files begin with `prefix`: its index is read and checked, of the data nothing.

    ModelFileError where the index is damaged, compressed, or of the older format V1; FileAccessError.
    """
    index = index_of(prefix)
    if not index.exists():
        raise _without_index(prefix)
    header: bytes | None = None
    entries, parts = {}, {}
    for key, value in read_table(index):
        try:
            if not key:
                header = value
            elif key[0]:
                entries[lenient_text_of(memoryview(key))] = _entry(value)
            else:
                parts[key] = _entry(value)
        except MalformedMessageError as error:
            raise damaged(index, 0, f"its entry {key[:80]!r} can't be so: {error}") from None
    if header is None:
        raise damaged(index, 0, "it has no header")
    try:
        shards = _shards(index, header)
        for name, entry in entries.items():
            _check_parts(name, entry, parts)
        for each in (*entries.values(), *parts.values()):
            if each.shard >= shards:
                raise MalformedMessageError(f"an entry is in the data file {each.shard}, and there are {shards}")
    except MalformedMessageError as error:
        raise damaged(index, 0, str(error)) from None
    return Checkpoint(prefix, shards, entries, parts)


def index_of(prefix: Path) -> Path:
    """The file with the names of the variables, and where they are."""
    return prefix.with_name(prefix.name + INDEX_SUFFIX)


def data_file_of(prefix: Path, shard: int, shards: int) -> Path:
    """One of the files with the values."""
    return prefix.with_name(f"{prefix.name}.data-{shard:05}-of-{shards:05}")


def checkpoint_prefix(path: Path) -> Path:
    """The prefix of the checkpoint that is meant: by the prefix itself, one of its files, or a directory.

    A directory is a SavedModel, its variables, or where a training has its checkpoints: then the last one, as its file
    `checkpoint` says. RequestError where several are there and none is named.
    """
    if not path.is_dir():
        found = _SUFFIX.fullmatch(path.name)
        return path.with_name(found.group(1)) if found else path
    for prefix in (path / _VARIABLES, path / _VARIABLES.name):
        if index_of(prefix).exists():
            return prefix
    state = path / "checkpoint"
    if state.is_file() and (named := _STATE.search(fsutil.read_text(state))):
        prefix = path / re.sub(r"\\(.)", r"\1", named.group(1))
        return prefix if index_of(prefix).exists() else path / prefix.name  # it may have been copied to here
    with fsutil.explained(path, doing="read"):
        there = sorted(each[: -len(INDEX_SUFFIX)] for each in os.listdir(path) if each.endswith(INDEX_SUFFIX))
    if len(there) == 1:
        return path / there[0]
    raise RequestError(
        f"{path} contains {'no checkpoint' if not there else f'{len(there)} checkpoints'}.",
        cause=f"such as {', '.join(there[:3])}" if there else "no file in it ends in .index",
        cure=f"name one of them: {path / there[-1]}"
        if there
        else "name the files of a checkpoint without what follows .index",
    )


def _without_index(prefix: Path) -> ModelFileError:
    if prefix.is_file():
        with fsutil.explained(prefix, doing="read"), prefix.open("rb") as file:
            file.seek(max(0, prefix.stat().st_size - len(MAGIC)))
            if file.read(len(MAGIC)) == MAGIC:
                return _of_v1(prefix)
    there = []
    if prefix.parent.is_dir():
        with fsutil.explained(prefix.parent, doing="read"):
            names = os.listdir(prefix.parent)
        there = sorted(each[: -len(INDEX_SUFFIX)] for each in names if each.endswith(INDEX_SUFFIX))
    near = difflib.get_close_matches(prefix.name, there, n=1) or there[:1]
    return ModelFileError(
        f"There is no checkpoint {prefix}: {prefix.name}{INDEX_SUFFIX} is missing.",
        cause="a checkpoint is named by what its files have in common, without .index, .meta and .data-00000-of-00001"
        if not near
        else f"{prefix.parent} has {', '.join(there[:3])}",
        cure=f"name {prefix.parent / near[0]}" if near else "copy the .index file too, or name another checkpoint",
    )


def _of_v1(path: Path) -> ModelFileError:
    return ModelFileError(
        f"{path} is a checkpoint of the older format V1.",
        cause="it was written by a TensorFlow before 0.12, or with write_version=V1",
        cure="restore it in TensorFlow 1.15 with tf.train.Saver().restore(), and save it with tf.train.Saver().save()",
    )


def _entry(message: bytes) -> _Entry:
    """BundleEntryProto. MalformedMessageError where it could not be one."""
    dtype = shape = None
    shard = offset = size = checksum = 0
    slices = []
    for key, number, content in fields(memoryview(message)):
        if key == tag(1, VARINT):
            dtype = DATA_TYPES.get(number)
        elif key == tag(2, BYTES):
            shape = _shape(content)
        elif key == tag(3, VARINT):
            shard = signed(number)
        elif key == tag(4, VARINT):
            offset = signed(number)
        elif key == tag(5, VARINT):
            size = signed(number)
        elif key == tag(6, FIXED32):
            checksum = int.from_bytes(content, "little")
        elif key == tag(7, BYTES):
            slices.append(slice_of(content))
    if dtype is None:
        raise MalformedMessageError("it has no type that TensorFlow 1.15 knows")
    entry = _Entry(dtype, shape or (), shard, offset, size, checksum, tuple(slices))
    if min(shard, offset, size) < 0 or entry.elements > _MOST_ELEMENTS:
        raise MalformedMessageError("a number is negative, or too large")
    item = ELEMENT_BYTES.get(dtype)
    if not slices and item is not None and size != item * entry.elements:
        raise MalformedMessageError(
            f"it has {size} bytes, and {dtype} {list(entry.shape)} needs {item * entry.elements}"
        )
    if not slices and dtype == "string" and not entry.elements <= size <= _MOST_TEXT_BYTES:
        raise MalformedMessageError(f"it has {size} bytes for {entry.elements} texts")
    return entry


def _shape(message: memoryview) -> tuple[int, ...]:
    sizes = []
    for key, number, content in fields(message):
        if key == tag(3, VARINT) and number:
            raise MalformedMessageError("its shape is unknown")
        if key != tag(2, BYTES):
            continue
        size = 0
        for inner, value, _ in fields(content):
            if inner == tag(1, VARINT):
                size = signed(value)
        if size < 0:
            raise MalformedMessageError("its shape has an unknown size")
        sizes.append(size)
    if len(sizes) > MOST_DIMENSIONS:
        raise MalformedMessageError(f"its shape has {len(sizes)} dimensions")
    return tuple(sizes)


def _shards(index: Path, header: bytes) -> int:
    """How many data files there are, by BundleHeaderProto."""
    shards = endianness = version = 0
    for key, number, content in fields(memoryview(header)):
        if key == tag(1, VARINT):
            shards = signed(number)
        elif key == tag(2, VARINT):
            endianness = number
        elif key == tag(3, BYTES):
            version = next((value for inner, value, _ in fields(content) if inner == tag(2, VARINT)), 0)
    if endianness or version > 1:
        kind = "by a big-endian machine" if endianness else f"in a format of which readers need version {version}"
        raise ModelFileError(
            f"{index} was written {kind}, which TensorFlow 1.15 does not read on this one.",
            cure="load the checkpoint in the TensorFlow that wrote it, and save it on a machine like this one",
        )
    if not 0 < shards <= _MOST_SHARDS:
        raise MalformedMessageError(f"its header says that there are {shards} data files")
    return shards


def _check_parts(name: str, entry: _Entry, parts: Mapping[bytes, _Entry]) -> None:
    for each in entry.slices:
        lengths = tuple(length for _, length in each.resolved(entry.shape))
        part = parts.get(each.key(name))
        if part is None:
            raise MalformedMessageError(f"a part of the variable {name} is missing in it")
        if part.slices or part.dtype != entry.dtype or part.shape != lengths:
            raise MalformedMessageError(f"a part of the variable {name} is of the wrong type or shape")


def _resolved(variable: CheckpointVariable, part: VariableSlice | None) -> tuple[tuple[int, int], ...]:
    """Where the part begins and how long it is, in each dimension. RequestError where it is not within the variable."""
    if part is None:
        return tuple((0, size) for size in variable.shape)
    try:
        return part.resolved(variable.shape)
    except MalformedMessageError as error:
        raise RequestError(
            f"The variable {variable.name} doesn't fit the graph: {error}.",
            cause="the checkpoint belongs to another version of the model",
            cure="name the checkpoint that belongs to this graph",
        ) from None


def _indices(extents: tuple[tuple[int, int], ...]) -> tuple[slice, ...]:
    return tuple(slice(start, start + length) for start, length in extents)


def _gap(variable: CheckpointVariable) -> str:
    """Why the parts of a variable are not the whole; "" where they are, as far as their sizes show."""
    sizes = (math.prod(length for _, length in _resolved(variable, each)) for each in variable.slices)
    found, wanted = sum(sizes), math.prod(variable.shape)
    return "" if found == wanted else f"its {len(variable.slices)} parts have {found} values, and it has {wanted}"


def _read(descriptor: int, file: Path, start: int, end: int) -> bytes:
    found = []
    at = start
    while at < end:
        with fsutil.explained(file, doing="read"):
            data = os.pread(descriptor, end - at, at)
        if not data:
            raise _DamagedDataError(at, "the file became shorter while it was read")
        found.append(data)
        at += len(data)
    return b"".join(found)


def _text_lengths(content: memoryview, count: int) -> tuple[list[int], int]:
    """The lengths of the texts, and where these end: before the texts come their lengths, and a checksum of these."""
    at, lengths = 0, []
    for _ in range(count):
        length, at = varint_at(content, at)
        lengths.append(length)
    return lengths, at


def _check_texts(content: bytes, stored: _Entry) -> None:
    """_DamagedDataError where the texts, their lengths or the checksums are not right (ReadStringTensor)."""
    try:
        lengths, at = _text_lengths(memoryview(content), stored.elements)
    except MalformedMessageError as error:
        raise _DamagedDataError(stored.offset, f"the lengths of texts can't be read: {error}") from None
    checksum = crc32c(b"".join(length.to_bytes(4 if length < 1 << 32 else 8, "little") for length in lengths))
    if content[at : at + 4] != masked(checksum).to_bytes(4, "little"):
        raise _DamagedDataError(stored.offset + at, "the checksum of the lengths of texts is wrong")
    if at + 4 + sum(lengths) != len(content):
        raise _DamagedDataError(stored.offset + at, "the texts have other lengths than the index says")
    if masked(extend(checksum, content[at:])) != stored.checksum:
        raise _DamagedDataError(stored.offset, "the checksum of the texts is not that of the index")

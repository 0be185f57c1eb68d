"""Arrays in NumPy's files, .npy within .npz, read and written without NumPy: tensors that are too large for JSON.

The format is that of numpy.lib.format, versions 1.0 to 3.0. An array of Python objects is
a pickle, which could run anything, so it is refused.
"""

from __future__ import annotations

import ast
import base64
import io
import math
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from npu_serving import archives, fsutil
from npu_serving.asking.tensor import Tensor, Value, element_count, nested, packed, shown_values
from npu_serving.client.data_types import BY_NAME
from npu_serving.client.tensor_message import MOST_DIMENSIONS
from npu_serving.errors import RequestError, UnsafeArchiveError

SUFFIX = ".npz"
MOST_BYTES = 256 << 20  # of all arrays of a file: as Python's numbers they take eight times as much
_MAGIC = b"\x93NUMPY"
_MOST_HEADER_BYTES = 10_000  # numpy.load's own limit
_MEMBER = ".npy"
_TIME = (1980, 1, 1, 0, 0, 0)  # the same arrays are the same bytes
_NUMBERS = {
    "f2": "DT_HALF",
    "f4": "DT_FLOAT",
    "f8": "DT_DOUBLE",
    "i1": "DT_INT8",
    "i2": "DT_INT16",
    "i4": "DT_INT32",
    "i8": "DT_INT64",
    "u1": "DT_UINT8",
    "u2": "DT_UINT16",
    "u4": "DT_UINT32",
    "u8": "DT_UINT64",
    "b1": "DT_BOOL",
    "c8": "DT_COMPLEX64",
    "c16": "DT_COMPLEX128",
}
_TEXTS = re.compile(r"[<>|=]?([SU])([0-9]{1,9})")
_CURE = 'save plain arrays by name: numpy.savez("FILE.npz", input=array)'


def read_npz(path: Path) -> dict[str, Tensor]:
    """The arrays of the file, by name. RequestError for what holds none, or none of numbers, truth values and texts."""
    found = {}
    fsutil.refuse_endless(path)
    try:
        members = archives.read_files(path, None, most_bytes=MOST_BYTES)
    except UnsafeArchiveError as error:
        raise RequestError(error.what, cause=error.cause, cure=_CURE) from error
    for member, data in members.items():
        name = member.removesuffix(_MEMBER)
        try:
            if not member.endswith(_MEMBER):
                raise ValueError("it is no .npy file")
            found[name] = read_npy(data)
        except ValueError as error:
            raise RequestError(f"{path} can't be read: the array {name!r}: {error}.", cure=_CURE) from error
    if not found:
        raise RequestError(f"{path} holds no array.", cause="it was saved without one", cure=_CURE)
    return found


def read_npy(data: bytes) -> Tensor:
    """The array in a .npy file. ValueError for other bytes, and for arrays of other things than values."""
    if data[: len(_MAGIC)] != _MAGIC or len(data) < 12:
        raise ValueError("it does not begin as a .npy file")
    wide = data[6] > 1
    (length,) = struct.unpack_from("<I" if wide else "<H", data, 8)
    start = 12 if wide else 10
    if length > _MOST_HEADER_BYTES or start + length > len(data):
        raise ValueError("its header is cut off, or too long")
    kind, shape, by_columns = _header(data[start : start + length].decode("utf-8" if data[6] > 2 else "latin-1"))
    count = element_count(shape)
    content = memoryview(data)[start + length :]
    if _TEXTS.fullmatch(kind):
        name = "DT_STRING"
        values: Sequence[Value] = _texts(kind, content, count)
    else:
        name = _NUMBERS.get(kind.lstrip("<>|="), "")
        if not name:
            raise ValueError(f"its type is {kind!r}, not numbers, truth values or texts")
        values = _numbers(name, kind, content, count)
    if by_columns and len(shape) > 1:
        values = _by_rows(values, shape)
    return Tensor(BY_NAME[name], shape, values)


def write_npz(tensors: Mapping[str, Tensor]) -> bytes:
    """The .npz file that holds the tensors. ValueError for one of texts, or with values that its type can't hold."""
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as packed_file:
        for name, tensor in sorted(tensors.items()):
            entry = zipfile.ZipInfo(name + _MEMBER, _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed_file.writestr(entry, write_npy(tensor))
    return into.getvalue()


def write_npy(tensor: Tensor) -> bytes:
    """The .npy file of a tensor of numbers or truth values. ValueError for one of texts."""
    kind = next((code for code, name in _NUMBERS.items() if name == tensor.data_type.name), "")
    if not kind:
        raise ValueError(f"{tensor.data_type.name} can't be written as an array")
    order = "|" if tensor.data_type.size == 1 else "<"
    header = f"{{'descr': '{order}{kind}', 'fortran_order': False, 'shape': {tensor.shape!r}, }}"
    padding = -(len(header) + 11) % 64
    text = f"{header}{' ' * padding}\n".encode("latin-1")
    return _MAGIC + b"\x01\x00" + struct.pack("<H", len(text)) + text + packed(tensor.data_type, tensor.values)


def json_values(tensor: Tensor) -> object:
    """The values as a request in JSON has them; bytes that are not a text as {"b64": BASE64}."""
    if not tensor.data_type.is_text:
        return nested(tensor.shape, shown_values(tensor))
    return nested(tensor.shape, [_text(value) for value in tensor.values if isinstance(value, bytes)])


def tensor_of(value: object) -> Tensor | None:
    """Lists within lists of numbers, or of truth values, as one tensor; None where they aren't that."""
    shape: list[int] = []
    leaves: list[object] = [value]
    while any(isinstance(item, list) for item in leaves):
        lists = [item for item in leaves if isinstance(item, list)]
        sizes = {len(item) for item in lists}
        if len(lists) != len(leaves) or len(sizes) != 1 or len(shape) >= MOST_DIMENSIONS:
            return None
        shape.append(sizes.pop())
        leaves = [leaf for item in lists for leaf in item]
    kinds = {type(leaf) for leaf in leaves}
    if len(kinds) != 1 or not kinds <= {bool, int, float}:
        return None
    name = {bool: "DT_BOOL", int: "DT_INT64", float: "DT_DOUBLE"}[kinds.pop()]
    values = [leaf for leaf in leaves if isinstance(leaf, (bool, int, float))]
    if name == "DT_INT64" and not all(-(1 << 63) <= value < 1 << 63 for value in values):
        return None
    return Tensor(BY_NAME[name], tuple(shape), values)


def _header(text: str) -> tuple[str, tuple[int, ...], bool]:
    try:
        found = ast.literal_eval(text.strip())
        kind, shape, by_columns = found["descr"], found["shape"], found["fortran_order"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise ValueError("its header is damaged") from error
    if not isinstance(kind, str):
        raise ValueError("it is an array of records, not of values")  # noqa: TRY004 - it is the file's fault
    if kind.endswith("O"):
        raise ValueError("it is an array of Python's objects, which is not read: it could run a program")
    if not (isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)):
        raise ValueError("its header has no shape")
    if len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"it has more than {MOST_DIMENSIONS} dimensions")
    return kind, shape, by_columns is True


def _numbers(name: str, kind: str, content: memoryview, count: int) -> Sequence[Value]:
    data_type = BY_NAME[name]
    _check_length(content, count * data_type.size)
    code = data_type.code[0] if data_type.is_complex else data_type.code
    parts = len(data_type.code)
    numbers = struct.unpack(f"{'>' if kind[0] == '>' else '<'}{parts * count}{code}", content)
    if not data_type.is_complex:
        return numbers
    return [complex(numbers[at], numbers[at + 1]) for at in range(0, len(numbers), 2)]


def _texts(kind: str, content: memoryview, count: int) -> list[Value]:
    found = _TEXTS.fullmatch(kind)
    assert found is not None
    wide = found[1] == "U"
    size = int(found[2]) * (4 if wide else 1)
    _check_length(content, count * size)
    encoding = "utf-32-be" if kind[0] == ">" else "utf-32-le"
    texts: list[Value] = []
    for at in range(count):
        raw = bytes(content[at * size : (at + 1) * size])
        text = raw.decode(encoding).rstrip("\0").encode("utf-8") if wide else raw.rstrip(b"\0")
        texts.append(text)
    return texts


def _check_length(content: memoryview, expected: int) -> None:
    if len(content) != expected:
        raise ValueError(f"it has {len(content)} bytes of values, not {expected}")


def _by_rows(values: Sequence[Value], shape: tuple[int, ...]) -> list[Value]:
    """Values that stand there with the first dimension first to change (Fortran's order), the last one first."""
    strides = [math.prod(shape[:axis]) for axis in range(len(shape))]
    places = [0]
    for size, stride in zip(shape, strides):
        places = [place + at * stride for place in places for at in range(size)]
    return [values[place] for place in places]


def _text(value: bytes) -> object:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode("ascii")}

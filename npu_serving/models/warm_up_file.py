"""The recorded requests that a server sends through a model before it offers it: whether it would read them.

A file that it can't read, or that is too long, is an error of loading: the model is not served at all (TensorFlow
Serving's saved_model_warmup.cc; the records are framed as TFRecords).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import ModelFileError
from npu_serving.models.checksums import masked_crc32c

WARM_UP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MOST_RECORDS = 1000
_LENGTH, _CHECKSUM = 8, 4  # bytes


def warm_up_trouble(path: Path) -> str:
    """Why a server would not load a model with that file of recorded requests; "" where it would.

    The requests themselves are not read, nor their checksums. FileAccessError where the file can't be read.
    """
    with fsutil.explained(path, doing="read"), path.open("rb") as file:
        size, at, records = os.fstat(file.fileno()).st_size, 0, 0
        while at < size:
            head = os.pread(file.fileno(), _LENGTH + _CHECKSUM, at)
            if len(head) < _LENGTH + _CHECKSUM:
                return f"its record {records + 1} is cut off at byte {at}"
            length, checksum = struct.unpack("<QI", head)
            if checksum != masked_crc32c(head[:_LENGTH]):
                return f"there is no record at byte {at}"
            at += _LENGTH + _CHECKSUM + length + _CHECKSUM
            if at > size:
                return f"its record {records + 1} is cut off"
            records += 1
            if records > MOST_RECORDS:
                return f"it has more than {MOST_RECORDS} records"
    return ""


def framed(records: Iterable[bytes]) -> bytes:
    """The records one after the other as TFRecords: length and contents, each with its checksum."""
    out = bytearray()
    for record in records:
        length = struct.pack("<Q", len(record))
        out += length + struct.pack("<I", masked_crc32c(length))
        out += record + struct.pack("<I", masked_crc32c(record))
    return bytes(out)


def records_in(path: Path) -> Iterator[bytes]:
    """The records of a file, each with its checksum verified. ModelFileError where one is damaged; FileAccessError."""
    data, at, number = memoryview(fsutil.read_bytes(path)), 0, 0
    while at < len(data):
        number += 1
        head = bytes(data[at : at + _LENGTH])
        length = int.from_bytes(head, "little")
        begin = at + _LENGTH + _CHECKSUM
        end = begin + length
        if end + _CHECKSUM > len(data) or _checksum_at(data, at + _LENGTH) != masked_crc32c(head):
            raise _damaged(path, number)
        record = bytes(data[begin:end])
        if _checksum_at(data, end) != masked_crc32c(record):
            raise _damaged(path, number)
        yield record
        at = end + _CHECKSUM


def _checksum_at(data: memoryview, at: int) -> int:
    return int.from_bytes(data[at : at + _CHECKSUM], "little")


def _damaged(path: Path, number: int) -> ModelFileError:
    return ModelFileError(
        f"{path} is damaged: its record {number} is cut off, or its checksum is wrong.",
        cause="it was not copied as a whole, or the disk is faulty",
        cure="write it again: ./inv write-warmup MODEL --request FILE --force",
    )

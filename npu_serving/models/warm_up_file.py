"""The recorded requests that a server sends through a model before it offers it: whether it would read them.

A file that it can't read, or that is too long, is an error of loading: the model is not served at all (TensorFlow
Serving's saved_model_warmup.cc; the records are framed as TFRecords).
"""

from __future__ import annotations

import functools
import os
import struct
from pathlib import Path

from npu_serving import fsutil

WARM_UP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MOST_RECORDS = 1000
_POLYNOMIAL = 0x82F63B78  # of CRC-32C, reflected
_MASK = 0xA282EAD8  # crc32c.h: what is kept is turned by 15 bits, and this added
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
            if checksum != _masked(_crc32c(head[:_LENGTH])):
                return f"there is no record at byte {at}"
            at += _LENGTH + _CHECKSUM + length + _CHECKSUM
            if at > size:
                return f"its record {records + 1} is cut off"
            records += 1
            if records > MOST_RECORDS:
                return f"it has more than {MOST_RECORDS} records"
    return ""


def _crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value = _table()[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def _masked(value: int) -> int:
    return ((value >> 15 | value << 17) + _MASK) & 0xFFFFFFFF


@functools.cache
def _table() -> tuple[int, ...]:
    entries = []
    for entry in range(256):
        for _ in range(8):
            entry = entry >> 1 ^ (_POLYNOMIAL if entry & 1 else 0)
        entries.append(entry)
    return tuple(entries)

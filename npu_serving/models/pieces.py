"""Contents that are to be written: bytes at hand, and stretches of files that are copied only when they are written.

A constant of gigabytes thereby goes from a checkpoint into a graph without being in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from npu_serving import fsutil
from npu_serving.errors import ModelFileError

_CHUNK = 1 << 20


@dataclass(frozen=True)
class FileExtent:
    """The bytes of a file from `start` to `end`; `identity` is its file_identity() when it was read, () for any."""

    file: Path
    start: int
    end: int
    identity: tuple[int, ...] = ()


Piece = Union[bytes, FileExtent]


def file_identity(status: os.stat_result) -> tuple[int, ...]:
    """What differs between a file and another one that takes its place, or the same one after it was changed."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def replaced(file: Path) -> ModelFileError:
    """The error for a file that is not what it was when it was looked at."""
    return ModelFileError(
        f"{file} was replaced or changed while it was read.",
        cause="a training, or a copy, writes to the same place",
        cure="run the same command again once nothing writes it",
    )


def pieces_size(pieces: Iterable[Piece]) -> int:
    """How many bytes they have together."""
    return sum(len(piece) if isinstance(piece, bytes) else piece.end - piece.start for piece in pieces)


def piece_chunks(pieces: Iterable[Piece]) -> Iterator[bytes]:
    """Their bytes in order, at most a megabyte of a file at a time.

    ModelFileError where a file was replaced or has become shorter, FileAccessError where it can't be read. A file stays
    open as long as the pieces that follow are of the same one.
    """
    opened, descriptor = None, -1
    try:
        for piece in pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            if piece.file != opened:
                if descriptor >= 0:
                    os.close(descriptor)
                    descriptor = -1
                with fsutil.explained(piece.file, doing="read"):
                    descriptor = os.open(piece.file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                opened = piece.file
            if piece.identity and piece.identity != file_identity(os.fstat(descriptor)):
                raise replaced(piece.file)
            yield from _chunks(descriptor, piece)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _chunks(descriptor: int, piece: FileExtent) -> Iterator[bytes]:
    at = piece.start
    while at < piece.end:
        with fsutil.explained(piece.file, doing="read"):
            chunk = os.pread(descriptor, min(_CHUNK, piece.end - at), at)
        if not chunk:
            raise ModelFileError(
                f"{piece.file} ends at byte {at}, and was to be read up to byte {piece.end}.",
                cause="it became shorter while it was read",
                cure="run the same command again once nothing writes it",
            )
        yield chunk
        at += len(chunk)

"""Requests recorded from live traffic, in one file: which they were, when they came, their bytes.

The file begins with MAGIC and a header; each request is added behind what is there, whole, in one write. It is framed:
the lengths of its head (JSON) and of its body, these two, and behind each of the three its checksum, so that whoever
reads the heads alone passes over the bodies. A program that was killed leaves at most one request cut off, at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from npu_serving import fsutil
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.writers.shell import command_line

FORMAT = 1
SUFFIX = ".rec"
MAGIC = b"npu-serving recording\n"
GRPC, REST = "grpc", "rest"
_LENGTHS, _CHECKSUM = struct.Struct("<II"), struct.Struct("<I")
_NANOSECONDS = 1_000_000_000
_MODE = 0o600  # what people ask is nobody else's business


@dataclass(frozen=True)
class RecordingHeader:
    """What a file was recorded from, and how.

    `begun` is UTC, such as 2025-01-31T12:00:00Z; `share` the part of the requests that was to be kept, chosen by
    `seed`; `redacted` the inputs whose values are not in the file; `max_bytes` the limit of its size.
    """

    begun: str = ""
    target: str = ""
    share: float = 1.0
    seed: int = 0
    redacted: tuple[str, ...] = ()
    max_bytes: int = 0


@dataclass(frozen=True)
class RecordedRequest:
    """One request: when it came, in nanoseconds after the beginning, and what was asked.

    `path` is that of the gRPC method or of the URL, without a query. `metadata` has what a replay needs, and nothing
    that lets anybody in. `body` is the message (without gRPC's five bytes before it), or the JSON of a REST call; not
    compressed.
    """

    at_ns: int
    api: str
    path: str
    body: bytes = field(repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RecordedEntry:
    """Where a request stands in the file, and what is known of it without reading its body."""

    at_ns: int
    api: str
    path: str
    metadata: Mapping[str, str]
    size_bytes: int
    _offset: int


@dataclass(frozen=True)
class Recording:
    """A recorded file: its requests by the time at which they came. `cut_bytes` at its end are of an unfinished one."""

    path: Path
    header: RecordingHeader
    entries: tuple[RecordedEntry, ...]
    cut_bytes: int = 0

    def arrivals_s(self) -> tuple[float, ...]:
        """When each request came, in seconds after the first; never falling."""
        if not self.entries:
            return ()
        first = self.entries[0].at_ns
        return tuple((entry.at_ns - first) / _NANOSECONDS for entry in self.entries)

    def requests(self) -> Iterator[RecordedRequest]:
        """The requests, one after the other, each read when it is wanted. RequestError for one that is damaged."""
        with fsutil.explained(self.path, doing="read"), self.path.open("rb") as file:
            for number, entry in enumerate(self.entries, start=1):
                yield self._read(file, number, entry)

    def request(self, number: int) -> RecordedRequest:
        """The request of that number; the first is 1. RequestError where there is none, or it is damaged."""
        if not 1 <= number <= len(self.entries):
            raise RequestError(
                f"{self.path} has no request {number}.",
                cause=f"it holds {len(self.entries)}",
                cure=f"name one from 1 to {len(self.entries)}" if self.entries else "record some: ./inv record --help",
            )
        with fsutil.explained(self.path, doing="read"), self.path.open("rb") as file:
            return self._read(file, number, self.entries[number - 1])

    def _read(self, file: IO[bytes], number: int, entry: RecordedEntry) -> RecordedRequest:
        file.seek(entry._offset)
        body = file.read(entry.size_bytes)
        if not _is_whole(body, file.read(_CHECKSUM.size)):
            raise RequestError(
                f"Request {number} of {self.path} is damaged: its checksum is wrong.",
                cause="the file was changed, or the disk is faulty",
                cure="copy the file again, or record another one",
            )
        return RecordedRequest(entry.at_ns, entry.api, entry.path, body, entry.metadata)


class RecordingWriter:
    """A recorded file that is being written: it must not be there before, and is readable after every request."""

    def __init__(self, path: Path, header: RecordingHeader) -> None:
        self._path = path
        self.size_bytes = 0
        fsutil.make_directory(path.parent)
        try:
            with fsutil.explained(path):
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, _MODE)
        except NpuServingError as error:
            if os.path.lexists(path):
                raise already_there(path) from error
            raise
        self._append(MAGIC + _framed({"format": FORMAT, **asdict(header)}, b""))

    def add(self, request: RecordedRequest, *, max_bytes: int = 0) -> bool:
        """Adds a request; False where the file would then have more than `max_bytes`, if there is such a limit.

        DiskFullError and the like where it fails; the file then ends with the request before.
        """
        head = {"at_ns": request.at_ns, "api": request.api, "path": request.path, "metadata": dict(request.metadata)}
        data = _framed(head, request.body)
        if max_bytes and self.size_bytes + len(data) > max_bytes:
            return False
        self._append(data)
        return True

    def close(self) -> None:
        """Has the file on the disk for good."""
        with fsutil.explained(self._path):
            os.fsync(self._file)
            os.close(self._file)

    def _append(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            with fsutil.explained(self._path):
                while left:
                    left = left[os.write(self._file, left) :]
        except NpuServingError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.size_bytes)
            raise
        self.size_bytes += len(data)


def already_there(path: Path) -> RequestError:
    """The error for a file that a recording would have to replace."""
    return RequestError(
        f"{path} is there already, and what was recorded is not replaced.",
        cause="an earlier recording has that name",
        cure="give --output another name, or remove the file",
    )


def read_recording(path: Path) -> Recording:
    """The recorded file, of which only the heads are read. RequestError for a file of another kind, or damaged."""
    fsutil.refuse_endless(path)
    with fsutil.explained(path, doing="read"), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(len(MAGIC)) != MAGIC:
            raise _not_one(path, "it begins otherwise")
        first = _next_head(path, file, size, 0)
        if first is None:
            raise _not_one(path, "it ends before its header does")
        file.seek(first[2])
        if not _is_whole(file.read(first[1]), file.read(_CHECKSUM.size)):
            raise _damaged(path, len(MAGIC), 0)
        header = _header(path, first[0])
        entries: list[RecordedEntry] = []
        end = file.tell()
        while True:
            head = _next_head(path, file, size, len(entries))
            if head is None:
                break
            entries.append(_entry(path, len(entries) + 1, *head))
            end = file.tell()
    ordered = tuple(sorted(entries, key=lambda entry: entry.at_ns))
    return Recording(path, header, ordered, size - end)


def _framed(head: Mapping[str, object], body: bytes) -> bytes:
    text = json.dumps(head, separators=(",", ":")).encode()
    parts = (_LENGTHS.pack(len(text), len(body)), text, body)
    return b"".join(piece for part in parts for piece in (part, _CHECKSUM.pack(zlib.crc32(part))))


def _is_whole(part: bytes, checksum: bytes) -> bool:
    return checksum == _CHECKSUM.pack(zlib.crc32(part))


def _next_head(path: Path, file: IO[bytes], size: int, number: int) -> tuple[dict[str, object], int, int] | None:
    """The next head, the size of its body and where that begins; the file is then behind the body.

    None at the end, and where the rest is a request that was not finished.
    """
    at = file.tell()
    frame = file.read(_LENGTHS.size + _CHECKSUM.size)
    if len(frame) < _LENGTHS.size + _CHECKSUM.size:
        return None
    lengths = frame[: _LENGTHS.size]
    if not _is_whole(lengths, frame[_LENGTHS.size :]):
        if _is_blank(file, at):
            return None
        raise _damaged(path, at, number)
    in_head, in_body = _LENGTHS.unpack(lengths)
    offset = file.tell() + in_head + _CHECKSUM.size
    if offset + in_body + _CHECKSUM.size > size:
        return None
    text = file.read(in_head)
    whole = _is_whole(text, file.read(_CHECKSUM.size))
    file.seek(offset + in_body + _CHECKSUM.size)
    head = json.loads(text) if whole else None
    if not isinstance(head, dict):
        raise _damaged(path, at, number)
    return head, in_body, offset


def _damaged(path: Path, at: int, number: int) -> RequestError:
    words = command_line(["head", "-c", str(at), str(path)])
    return RequestError(
        f"{path} is damaged at byte {at}, behind its request {number}.",
        cause="the file was changed, or was not copied as a whole",
        cure=f"copy it again; or keep the {number} requests before that place: {words} > whole{SUFFIX}",
    )


def _is_blank(file: IO[bytes], at: int) -> bool:
    """Whether only zeros follow, as where the machine lost its power before what was written reached the disk."""
    file.seek(at)
    while chunk := file.read(fsutil.CHUNK_BYTES):
        if chunk.strip(b"\0"):
            return False
    return True


def _not_one(path: Path, why: str) -> RequestError:
    return RequestError(
        f"{path} is not a recorded file: {why}.",
        cause="the path was mistyped, or the file is of another kind",
        cure=f"name one that ./inv record wrote, such as requests{SUFFIX}",
    )


def _header(path: Path, document: Mapping[str, object]) -> RecordingHeader:
    if document.get("format") != FORMAT:
        raise RequestError(
            f"{path} is a recorded file of the format {json.dumps(document.get('format'))}, not {FORMAT}.",
            cause="another version of this project wrote it",
            cure="read it with that version",
        )
    try:
        share, seed, most = document["share"], document["seed"], document["max_bytes"]
        redacted = document["redacted"]
        if not isinstance(redacted, list) or not isinstance(share, (int, float)):
            raise TypeError
        return RecordingHeader(
            begun=str(document["begun"]),
            target=str(document["target"]),
            share=float(share),
            seed=int(str(seed)),
            redacted=tuple(map(str, redacted)),
            max_bytes=int(str(most)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _not_one(path, "its header lacks something") from error


def _entry(path: Path, number: int, head: Mapping[str, object], size: int, offset: int) -> RecordedEntry:
    at_ns, api, asked, metadata = (head.get(key) for key in ("at_ns", "api", "path", "metadata"))
    if not isinstance(at_ns, int) or api not in (GRPC, REST) or not isinstance(metadata, dict):
        raise _not_one(path, f"the head of its request {number} lacks something")
    return RecordedEntry(at_ns, str(api), str(asked), {str(key): str(metadata[key]) for key in metadata}, size, offset)

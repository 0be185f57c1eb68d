"""What clients send, cut into requests as it passes: heads, pieces of bodies, ends. Nothing of it is understood here.

Each scanner takes the bytes of one connection in pieces of any length. It keeps no body, and what it keeps of a head
is bounded; what it can't follow is a NotFollowedError, and no more than that.
"""

from __future__ import annotations

import re
import struct
from typing import Protocol, Union

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MOST_HEAD_BYTES = 1 << 20
_MOST_LINE_BYTES = 1 << 12  # of the length of a chunk
_TLS_HANDSHAKE = 0x16
_FRAME_BYTES = 9
_DATA, _HEADERS, _RST_STREAM, _CONTINUATION = 0, 1, 3, 9
_END_STREAM, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x4, 0x8, 0x20
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*(?=\r\n)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked[ \t]*(?=\r\n)", re.IGNORECASE)
_HEXADECIMAL = re.compile(rb"[0-9a-fA-F]{1,15}")
_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_REQUEST_LINE = re.compile(rb"[A-Z]{1,20} \S+ HTTP/1\.[01]\r\n")
Bytes = Union[bytes, memoryview]


class NotFollowedError(ValueError):
    """From here on the requests of a connection can't be followed."""


class RequestSink(Protocol):
    """Takes what a scanner finds. A request has a number within its connection."""

    def head(self, request: int, content: bytes) -> bool:
        """The head of a request, or what follows its body; whether its body is wanted."""

    def body(self, request: int, piece: Bytes) -> None:
        """A piece of the body that was wanted."""

    def end(self, request: int, *, whole: bool) -> None:
        """A request whose body was wanted is over; not whole where the client gave it up."""


class Scanner(Protocol):
    """The requests of one connection."""

    is_http2: bool

    def feed(self, data: bytes) -> None:
        """The next bytes. NotFollowedError where they are something else."""


def scanner_for(first: bytes, sink: RequestSink) -> Scanner | None:
    """What follows a connection that begins with these bytes; None where more of them are needed.

    NotFollowedError for TLS, which is not opened.
    """
    if first[:1] == bytes([_TLS_HANDSHAKE]):
        raise NotFollowedError("it is TLS")
    if len(first) < 4:
        return None
    return Http2Scanner(sink) if first[:4] == HTTP2_PREFACE[:4] else Http1Scanner(sink)


class Http2Scanner:
    """Requests in HTTP/2 (RFC 9113). Their heads are as HPACK has them, since later ones depend on earlier ones."""

    is_http2 = True

    def __init__(self, sink: RequestSink) -> None:
        self._sink = sink
        self._rest = b""
        self._skip = len(HTTP2_PREFACE)
        self._open: dict[int, bool] = {}
        """The requests under way, and whether their bodies are wanted."""
        self._block: list[bytes] | None = None
        self._block_of, self._block_flags = 0, 0
        self._data_left, self._data_of, self._padding = 0, 0, 0
        self._data_ends = False

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        whole = self._rest + data if self._rest else data
        self._rest = b""
        view, at, size = memoryview(whole), 0, len(whole)
        if self._skip:
            at = min(self._skip, size)
            if whole[:at] != HTTP2_PREFACE[len(HTTP2_PREFACE) - self._skip :][:at]:
                raise NotFollowedError("it does not begin as HTTP/2 does")
            self._skip -= at
        while at < size:
            if self._data_left:
                piece = view[at : at + self._data_left]
                at += len(piece)
                self._of_body(piece)
                continue
            if size - at < _FRAME_BYTES:
                break
            length_and_kind, flags, stream = struct.unpack_from("!IBI", whole, at)
            length, kind, stream = length_and_kind >> 8, length_and_kind & 0xFF, stream & 0x7FFFFFFF
            begin = at + _FRAME_BYTES
            if kind == _DATA:
                padded = 1 if flags & _PADDED else 0
                if padded and size == begin:
                    break
                self._of_data(length - padded, whole[begin] if padded else 0, flags, stream)
                at = begin + padded
                continue
            if length > MOST_HEAD_BYTES:
                raise NotFollowedError("a frame of its headers has more than a megabyte")
            if size - begin < length:
                break
            at = begin + length
            if kind in (_HEADERS, _CONTINUATION):
                self._of_head(kind, flags, stream, bytes(view[begin:at]))
            elif kind == _RST_STREAM and self._open.pop(stream, False):
                self._sink.end(stream, whole=False)
        self._rest = whole[at:]

    def _of_data(self, length: int, padding: int, flags: int, stream: int) -> None:
        """The beginning of a frame with so many bytes, the last of which are padding."""
        if length < padding:
            raise NotFollowedError("a frame is shorter than its padding")
        self._data_left, self._padding, self._data_of = length, padding, stream
        self._data_ends = bool(flags & _END_STREAM)
        if not length:
            self._end_of_data()

    def _of_body(self, piece: memoryview) -> None:
        wanted = min(len(piece), self._data_left - self._padding)
        self._data_left -= len(piece)
        if wanted > 0 and self._open.get(self._data_of):
            self._sink.body(self._data_of, piece[:wanted])
        if not self._data_left:
            self._end_of_data()

    def _end_of_data(self) -> None:
        if self._data_ends:
            self._ended(self._data_of)

    def _of_head(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _HEADERS:
            begin, end = 0, len(payload)
            if flags & _PADDED:
                begin, end = 1, end - (payload[0] if payload else 0)
            if flags & _PRIORITY:
                begin += 5
            if end < begin or self._block is not None:
                raise NotFollowedError("its headers are not as HTTP/2 has them")
            self._block, self._block_of, self._block_flags = [payload[begin:end]], stream, flags
        else:
            if self._block is None or stream != self._block_of:
                raise NotFollowedError("its headers go on without a beginning")
            self._block.append(payload)
            if sum(map(len, self._block)) > MOST_HEAD_BYTES or len(self._block) > 1000:
                raise NotFollowedError("its headers have more than a megabyte")
        if not flags & _END_HEADERS:
            return
        content, self._block = b"".join(self._block), None
        wanted = self._sink.head(stream, content)
        if stream not in self._open:
            self._open[stream] = wanted
        if self._block_flags & _END_STREAM:
            self._ended(stream)

    def _ended(self, stream: int) -> None:
        if self._open.pop(stream, False):
            self._sink.end(stream, whole=True)


class Http1Scanner:
    """Requests in HTTP/1 (RFC 9112), one after the other; their heads are texts."""

    is_http2 = False

    def __init__(self, sink: RequestSink) -> None:
        self._sink = sink
        self._rest = b""
        self._number = 0
        self._wanted = False
        self._left = 0
        self._chunked = False
        """Whether a chunk's length is next; with _left bytes of a chunk before it."""
        self._trailers = False

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        whole = self._rest + data if self._rest else data
        self._rest = b""
        view, at, size = memoryview(whole), 0, len(whole)
        while at < size:
            if self._left:
                piece = view[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if self._wanted:
                    self._sink.body(self._number, piece)
                if not self._left and not self._chunked:
                    self._ended()
            elif self._chunked:
                end = whole.find(b"\r\n", at)
                if end < 0:
                    if size - at > _MOST_LINE_BYTES:
                        raise NotFollowedError("the length of a chunk has no end")
                    break
                line, at = whole[at:end], end + 2
                self._of_chunk(line)
            else:
                end = whole.find(b"\r\n\r\n", at)
                if end < 0:
                    if size - at > MOST_HEAD_BYTES:
                        raise NotFollowedError("its headers have more than a megabyte")
                    break
                head, at = whole[at : end + 2].lstrip(b"\r\n"), end + 4
                if head:
                    self._of_head(head)
        self._rest = whole[at:]

    def _of_chunk(self, line: bytes) -> None:
        """The line before a chunk; the empty one behind the chunk before; the trailers, which nobody wants."""
        if self._trailers:
            if not line:
                self._chunked = self._trailers = False
                self._ended()
            return
        if not line:
            return
        length = line.partition(b";")[0].strip()
        if not _HEXADECIMAL.fullmatch(length):
            raise NotFollowedError("a chunk has no length")
        self._left = int(length, 16)
        if not self._left:
            self._trailers = True

    def _of_head(self, head: bytes) -> None:
        if not _REQUEST_LINE.match(head):
            raise NotFollowedError("it is neither HTTP/1 nor HTTP/2")
        self._number += 1
        self._wanted = self._sink.head(self._number, head)
        if _UPGRADE.search(head) or head.startswith(b"CONNECT "):
            raise NotFollowedError("it becomes another protocol")
        length = _LENGTH.search(head)
        if _CHUNKED.search(head):
            self._chunked = True
        elif length is not None and int(length[1]):
            self._left = int(length[1])
        else:
            self._ended()

    def _ended(self) -> None:
        if self._wanted:
            self._sink.end(self._number, whole=True)
        self._wanted = False


class EndedAnswers:
    """How many requests of an HTTP/2 connection the server has answered wholly, or given up, by its frames."""

    def __init__(self) -> None:
        self.count = 0
        self._rest = b""
        self._skip = 0

    def feed(self, data: bytes | memoryview) -> None:
        """The next bytes that the server has sent."""
        at = min(self._skip, len(data))
        self._skip -= at
        if self._skip:
            return
        whole = self._rest + bytes(data[at:])
        at = 0
        while len(whole) - at >= _FRAME_BYTES:
            length_and_kind, flags, _ = struct.unpack_from("!IBI", whole, at)
            kind = length_and_kind & 0xFF
            self.count += kind == _RST_STREAM or (kind in (_DATA, _HEADERS) and bool(flags & _END_STREAM))
            at += _FRAME_BYTES + (length_and_kind >> 8)
        self._skip = max(0, at - len(whole))
        self._rest = whole[at:]

"""A client's side of an HTTP/2 connection that carries unary gRPC calls: bytes in, answers out, no socket.

What it does not need is left out: priorities, pushes, tables of headers. A server that breaks the protocol is not
argued with: the connection is broken then, and what was under way is `malformed`.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple, Union

from npu_serving.load import http2_frames as h2
from npu_serving.load.http2_frames import HeaderBlock, HeaderReader
from npu_serving.load.kinds import of_grpc_status

AGAIN = "again"
"""The kind of a call that the server says it never began: sent again, it is not done twice."""
Piece = Union[bytes, memoryview]

_PREFIX = struct.Struct("!BI")  # of a gRPC message: whether it is compressed, its length
_LARGEST_STREAM = (1 << 31) - 1
_REFILL = 1 << 30  # bytes that have come before the window of the connection is opened again
_MOST_ANSWER_BYTES = 1 << 30
_LONGEST_HEADERS = 1 << 18  # bytes
_NOTHING_SAID = HeaderBlock()
_STATUS_OF_RESET = {0x7: 14, 0x8: 1, 0xB: 8, 0xC: 7}  # as gRPC maps HTTP/2's errors; the others are INTERNAL
_INTERNAL = 13
_OPENING = b"".join(
    (
        h2.PREFACE,
        h2.settings(((h2.HEADER_TABLE_SIZE, 0), (h2.ENABLE_PUSH, 0), (h2.INITIAL_WINDOW_SIZE, h2.LARGEST_WINDOW))),
        h2.window_update(0, h2.LARGEST_WINDOW - h2.FIRST_WINDOW),
    )
)


class CallEnd(NamedTuple):
    """What became of one call: its stream, one of KINDS or AGAIN, the message where it is kept.

    Of an error, the message is what was said of it, in UTF-8.
    """

    stream: int
    kind: str
    message: bytes | None = None


class Http2Request:
    """A call made ready: all its bytes but the stream's number, and whether they fit into one frame."""

    __slots__ = ("before", "between", "block", "fits", "message", "rest", "size")

    def __init__(self, block: bytes, message: bytes) -> None:
        prefix = _PREFIX.pack(0, len(message))
        self.size = len(prefix) + len(message)
        self.before = h2.FRAME_HEAD.pack(len(block) << 8 | h2.HEADERS, h2.END_HEADERS, 0)[:-4]
        self.block = block
        self.message = (prefix, message)
        self.fits = self.size <= h2.SMALLEST_MAX_FRAME
        self.between = block + h2.FRAME_HEAD.pack(self.size << 8 | h2.DATA, h2.END_STREAM, 0)[:-4] if self.fits else b""
        self.rest = prefix + message if self.fits else b""


class _Stream:
    """A call that is under way: what came of its answer."""

    __slots__ = ("expected", "first", "parts", "received")

    def __init__(self) -> None:
        self.first: HeaderBlock | None = None
        self.expected = -1  # bytes of the message and its prefix; -1 before that is known
        self.received = 0
        self.parts: list[bytes] = []  # where the message is kept, or its prefix is not whole yet


class _Upload:
    """What is still to be sent of a call, and how much of it the server takes now."""

    def __init__(self, stream: int, parts: tuple[bytes, ...], window: int) -> None:
        self.stream = stream
        self.window = window
        self.left = sum(map(len, parts))
        self._parts = deque(memoryview(part) for part in parts if part)

    def take(self, size: int) -> list[Piece]:
        """The next bytes, which are sent now."""
        self.left -= size
        self.window -= size
        taken: list[Piece] = []
        while size:
            part = self._parts.popleft()
            if len(part) > size:
                self._parts.appendleft(part[size:])
                part = part[:size]
            taken.append(part)
            size -= len(part)
        return taken


class Http2Connection:
    """The state of one connection.

    `outgoing` is what has to be sent next, in order; whoever sends it clears it. `broken` says how the server broke the
    protocol, "" while it has not. `leaving` says that no further call may begin here.
    """

    def __init__(self, *, keeps_messages: bool = False) -> None:
        self.outgoing: list[Piece] = [_OPENING]
        self.broken = ""
        self.leaving = False
        self._opened = False
        self._keeps = keeps_messages
        self._next = 1
        self._streams: dict[int, _Stream] = {}
        self._uploads: dict[int, _Upload] = {}
        self._most_streams = 1 << 30
        self._window = h2.FIRST_WINDOW
        self._stream_window = h2.FIRST_WINDOW
        self._max_frame = h2.SMALLEST_MAX_FRAME
        self._consumed = 0
        self._rest = b""
        self._headers = HeaderReader()
        self._continued: tuple[int, int, bytes] | None = None

    @property
    def free_places(self) -> int:
        """How many calls may begin now."""
        return 0 if self.leaving else self._most_streams - len(self._streams)

    def begin(self, request: Http2Request) -> int:
        """Begins a call and returns the number of its stream; only where a place is free."""
        stream = self._next
        self._next = stream + 2
        if self._next > _LARGEST_STREAM:
            self.leaving = True
        self._streams[stream] = _Stream()
        number = stream.to_bytes(4, "big")
        size = request.size
        if request.fits and size <= self._window and size <= self._stream_window and not self._uploads:
            self._window -= size
            self.outgoing += (request.before, number, request.between, number, request.rest)
            return stream
        self.outgoing += (request.before, number, request.block)
        self._uploads[stream] = _Upload(stream, request.message, self._stream_window)
        self._pump()
        return stream

    def give_up(self, stream: int) -> None:
        """Ends a call that nobody waits for any more."""
        if self._streams.pop(stream, None) is not None:
            self._uploads.pop(stream, None)
            self.outgoing.append(h2.rst_stream(stream, h2.CANCEL))

    def close(self) -> list[CallEnd]:
        """The connection has ended: what was under way has no answer."""
        kind = "malformed" if self.broken else "unreachable"
        said = (self.broken or "the connection was closed before the answer").encode()
        answers = [CallEnd(stream, kind, said) for stream in self._streams]
        self._streams.clear()
        self._uploads.clear()
        self.leaving = True
        return answers

    def receive(self, data: bytes) -> list[CallEnd]:
        """The calls that have ended with these bytes; all of them where the server has broken the protocol."""
        answers: list[CallEnd] = []
        if self.broken:
            return answers
        if self._rest:
            data = self._rest + data
        position, end, unpack = 0, len(data), h2.FRAME_HEAD.unpack_from
        streams = self._streams
        while end - position >= 9:
            length, flags, number = unpack(data, position)
            kind = length & 0xFF
            length >>= 8
            if length > h2.SMALLEST_MAX_FRAME or not (self._opened or kind == h2.SETTINGS):
                self.broken = "it does not speak HTTP/2, or a frame is longer than it may be"
                break
            first = position + 9
            if end - first < length:
                break
            position = first + length
            if number in streams and self._continued is None:
                if kind == h2.DATA and not flags:
                    self._take_data(number, data, first, length, answers)
                    continue
                if kind == h2.HEADERS and flags & ~h2.END_STREAM == h2.END_HEADERS:
                    self._take_headers(number, flags, data[first:position], answers)
                    if self.broken:
                        break
                    continue
            self._take_other(kind, flags, number & h2.STREAM_BITS, data[first:position], answers)
            if self.broken:
                break
        self._rest = data[position:] if position < end and not self.broken else b""
        if self.broken:
            answers += self.close()
        elif self._uploads:
            self._pump()
        return answers

    def _take_data(self, number: int, data: bytes, first: int, length: int, answers: list[CallEnd]) -> None:
        self._count(length)
        stream = self._streams[number]
        stream.received += length
        if stream.expected >= 0 and not self._keeps:
            return
        if self._keeps or stream.parts or length < _PREFIX.size:
            stream.parts.append(data[first : first + length])
        if stream.expected >= 0 or stream.received < _PREFIX.size:
            return
        compressed, size = (
            _PREFIX.unpack_from(b"".join(stream.parts)) if stream.parts else _PREFIX.unpack_from(data, first)
        )
        stream.expected = 0 if compressed else _PREFIX.size + size
        if size > _MOST_ANSWER_BYTES and not compressed and stream.first is not None and stream.first.is_grpc:
            self.give_up(number)
            answers.append(CallEnd(number, "too_large_for_client", f"the answer has {size:,} bytes".encode()))

    def _count(self, size: int) -> None:
        """So many bytes have come; the server may send as many again."""
        self._consumed += size
        if self._consumed >= _REFILL:
            self.outgoing.append(h2.window_update(0, self._consumed))
            self._consumed = 0

    def _take_headers(self, number: int, flags: int, block: bytes, answers: list[CallEnd]) -> None:
        read = self._headers.read(block)
        if read is None:
            self.broken = "its headers can't be read"
        elif flags & h2.END_STREAM:
            self._end(number, read, answers)
        elif self._streams[number].first is None:
            if read.status is None or read.status >= 200:  # else the answer itself is yet to come
                self._streams[number].first = read
        else:
            self.give_up(number)
            answers.append(CallEnd(number, "malformed", b"headers come after the headers"))

    def _end(self, number: int, last: HeaderBlock, answers: list[CallEnd]) -> None:
        """The server has ended the stream; `last` are its trailers."""
        stream = self._streams.pop(number)
        if self._uploads.pop(number, None) is not None:
            self.outgoing.append(h2.rst_stream(number, h2.CANCEL))
        first = stream.first or last
        kind, message = _judged(first, last, is_whole=stream.received == stream.expected)
        if not kind and self._keeps:
            message = b"".join(stream.parts)[_PREFIX.size :]
        answers.append(CallEnd(number, kind, message))

    def _take_other(self, kind: int, flags: int, number: int, payload: bytes, answers: list[CallEnd]) -> None:
        """Frames that are rare, or say more than their bytes."""
        if self._continued is not None or kind == h2.CONTINUATION:
            self._continue(kind, flags, number, payload, answers)
            return
        if kind in (h2.DATA, h2.HEADERS, h2.RST_STREAM):
            if number % 2 == 0 or number >= self._next:
                self.broken = "a frame is of a stream that does not exist"
            elif kind == h2.RST_STREAM:
                self._take_reset(number, payload, answers)
            else:
                self._take_padded(kind, flags, number, payload, answers)
        elif kind == h2.SETTINGS:
            self._take_settings(flags, number, payload)
        elif kind == h2.PING:
            self._take_ping(flags, number, payload)
        elif kind == h2.GOAWAY:
            self._take_farewell(number, payload, answers)
        elif kind == h2.WINDOW_UPDATE:
            self._take_window(number, payload)
        elif kind == h2.PUSH_PROMISE:
            self.broken = "it pushes, which was ruled out"

    def _take_padded(self, kind: int, flags: int, number: int, payload: bytes, answers: list[CallEnd]) -> None:
        content = _unpadded(kind, flags, payload)
        if content is None:
            self.broken = "a frame is padded with more than it has"
        elif kind == h2.DATA:
            self._take_last_data(flags, number, content, len(payload), answers)
        elif not flags & h2.END_HEADERS:
            self._continued = (number, flags, content)
        elif number in self._streams:
            self._take_headers(number, flags, content, answers)

    def _take_ping(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 8 or number:
            self.broken = "a ping is not eight bytes"
        elif not flags & h2.ACK:
            self.outgoing.append(h2.frame(h2.PING, h2.ACK, 0, payload))

    def _continue(self, kind: int, flags: int, number: int, payload: bytes, answers: list[CallEnd]) -> None:
        if self._continued is None or kind != h2.CONTINUATION or number != self._continued[0]:
            self.broken = "headers are not continued, or nothing is to be continued"
            return
        first_flags, block = self._continued[1], self._continued[2] + payload
        if len(block) > _LONGEST_HEADERS:
            self.broken = "its headers have no end"
        elif flags & h2.END_HEADERS:
            self._continued = None
            if number in self._streams:
                self._take_headers(number, first_flags, block, answers)
        else:
            self._continued = (number, first_flags, block)

    def _take_last_data(self, flags: int, number: int, content: bytes, length: int, answers: list[CallEnd]) -> None:
        if number not in self._streams:
            self._count(length)
            return
        self._count(length - len(content))  # padding counts
        self._take_data(number, content, 0, len(content), answers)
        if flags & h2.END_STREAM and number in self._streams:
            self._end(number, _NOTHING_SAID, answers)

    def _take_reset(self, number: int, payload: bytes, answers: list[CallEnd]) -> None:
        if len(payload) != 4:
            self.broken = "a frame that ends a stream is not four bytes"
        elif self._streams.pop(number, None) is not None:
            self._uploads.pop(number, None)
            code = int.from_bytes(payload, "big")
            status = _STATUS_OF_RESET.get(code, _INTERNAL)
            kind = AGAIN if code == h2.REFUSED_STREAM else of_grpc_status(status, "")
            answers.append(CallEnd(number, kind, f"the stream was ended with HTTP/2's error {code}".encode()))

    def _take_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) % 6 or (flags & h2.ACK and payload):
            self.broken = "its settings are cut"
            return
        self._opened = True
        if flags & h2.ACK:
            return
        for name, value in struct.iter_unpack("!HI", payload):
            if name == h2.MAX_CONCURRENT_STREAMS:
                self._most_streams = value
            elif name == h2.INITIAL_WINDOW_SIZE:
                if value > h2.LARGEST_WINDOW:
                    self.broken = "a window is larger than it may be"
                    return
                for upload in self._uploads.values():
                    upload.window += value - self._stream_window
                self._stream_window = value
            elif name == h2.MAX_FRAME_SIZE:
                self._max_frame = max(value, h2.SMALLEST_MAX_FRAME)
        self.outgoing.append(h2.frame(h2.SETTINGS, h2.ACK, 0))

    def _take_farewell(self, number: int, payload: bytes, answers: list[CallEnd]) -> None:
        if number or len(payload) < 8:
            self.broken = "a farewell is cut"
            return
        self.leaving = True
        last = int.from_bytes(payload[:4], "big") & h2.STREAM_BITS
        for stream in [each for each in self._streams if each > last]:
            del self._streams[stream]
            self._uploads.pop(stream, None)
            answers.append(CallEnd(stream, AGAIN, b"the server closed the connection"))

    def _take_window(self, number: int, payload: bytes) -> None:
        more = int.from_bytes(payload, "big") & h2.LARGEST_WINDOW
        if len(payload) != 4 or not more:
            self.broken = "a window grows by nothing"
        elif not number:
            self._window += more
            if self._window > h2.LARGEST_WINDOW:
                self.broken = "a window is larger than it may be"
        elif number in self._uploads:
            self._uploads[number].window += more

    def _pump(self) -> None:
        """Sends what the windows let through, those that began first first."""
        for upload in list(self._uploads.values()):
            while upload.left:
                size = min(upload.left, upload.window, self._window, self._max_frame)
                if size <= 0:
                    break
                self._window -= size
                flags = h2.END_STREAM if size == upload.left else 0
                self.outgoing.append(h2.FRAME_HEAD.pack(size << 8 | h2.DATA, flags, upload.stream))
                self.outgoing += upload.take(size)
            if not upload.left:
                del self._uploads[upload.stream]
            if self._window <= 0:
                return


def _judged(first: HeaderBlock, last: HeaderBlock, *, is_whole: bool) -> tuple[str, bytes | None]:
    """The kind of an answer with these headers and trailers, and what is said of an error."""
    if first.status is None:
        return "malformed", b"the answer has no status"
    if last.grpc_status is not None:
        kind = of_grpc_status(last.grpc_status, last.grpc_message)
        if kind:
            return kind, (last.grpc_message or f"status {last.grpc_status}").encode()
        if is_whole and first.is_grpc:
            return "", None
        return "malformed", b"the message is not whole, is not one, or is compressed"
    if first.status == 200:
        return "malformed", b"HTTP status 200 without a status of gRPC"
    kind = "too_large_for_gateway" if first.status == 413 else "gateway"
    return kind, f"HTTP status {first.status}".encode()


def _unpadded(kind: int, flags: int, payload: bytes) -> bytes | None:
    """The contents without padding and priority; None where the frame is too short for what its flags say."""
    first, last = 0, len(payload)
    if flags & h2.PADDED:
        if not payload:
            return None
        first, last = 1, last - payload[0]
    if kind == h2.HEADERS and flags & h2.HAS_PRIORITY:
        first += 5
    return payload[first:last] if first <= last else None

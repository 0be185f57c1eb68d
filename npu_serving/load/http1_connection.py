"""A client's side of an HTTP/1.1 connection (RFC 9112), one request after the other: bytes in, answers out."""

from __future__ import annotations

import re
from typing import NamedTuple, Union

from npu_serving.client.http_answers import error_message
from npu_serving.load.kinds import of_http_status

Piece = Union[bytes, memoryview]

_LONGEST_HEAD = 1 << 16  # bytes
_MOST_HEADS = 256  # remembered: they differ by the date alone, each second
_MOST_ANSWER_BYTES = 1 << 30
_SEEN_BYTES = 256  # of a body, which show whether it is a server's or a gateway's
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n]*)?")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_CHUNKED, _UNTIL_CLOSED = -1, -2


class RestEnd(NamedTuple):
    """What became of one request: its number, one of KINDS, the body where it is kept.

    Of an error, the body is what was said of it, in UTF-8: the message of a server, or the beginning of any other body.
    """

    number: int
    kind: str
    body: bytes | None = None


class Http1Request(NamedTuple):
    """A request made ready."""

    head: bytes
    body: bytes


def http1_request(path: str, authority: str, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> Http1Request:
    """A POST of JSON."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {authority}",
        "User-Agent: npu-serving-load-test",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return Http1Request("".join(f"{line}\r\n" for line in [*lines, ""]).encode(), body)


class _Head(NamedTuple):
    """What of an answer's head is of interest; `length` is one of the two above where it isn't known beforehand."""

    status: int
    length: int
    closes: bool


class Http1Connection:
    """The state of one connection.

    `outgoing` is what has to be sent next; whoever sends it clears it. `broken` says how the server broke the protocol.
    `leaving` says that no further request may begin here.
    """

    def __init__(self, *, keeps_bodies: bool = False) -> None:
        self.outgoing: list[Piece] = []
        self.broken = ""
        self.leaving = False
        self._keeps = keeps_bodies
        self._number = 0
        self._is_asked = False
        self._head: _Head | None = None
        self._left = 0  # bytes of the body, or of the chunk with the line's end after it
        self._in_trailers = False
        self._parts: list[bytes] = []
        self._size = 0
        self._rest = b""
        self._heads: dict[bytes, _Head | None] = {}

    @property
    def free_places(self) -> int:
        """How many requests may begin now."""
        return 0 if self.leaving or self._is_asked else 1

    def begin(self, request: Http1Request) -> int:
        """Begins a request and returns its number; only where a place is free."""
        self._number += 1
        self._is_asked = True
        self.outgoing += request
        return self._number

    def give_up(self, number: int) -> None:
        """Nobody waits for that answer any more; the connection can't be used for another."""
        if self._is_asked and number == self._number:
            self._is_asked = False
            self.leaving = True

    def close(self) -> list[RestEnd]:
        """The connection has ended; that may be the end of the answer."""
        self.leaving = True
        if not self._is_asked:
            return []
        if self._head is not None and self._head.length == _UNTIL_CLOSED and not self.broken:
            return [self._end()]
        self._is_asked = False
        said = (self.broken or "the connection was closed before the answer").encode()
        return [RestEnd(self._number, "malformed" if self.broken else "unreachable", said)]

    def receive(self, data: bytes) -> list[RestEnd]:
        """The request that has ended with these bytes, if it has."""
        if self.broken or (self.leaving and not self._is_asked):
            return []
        data = self._rest + data if self._rest else data
        self._rest = b""
        ended: list[RestEnd] = []
        while data and not self.broken:
            if not self._is_asked:
                self._break("it answers what was not asked")
            elif self._head is None:
                before, data = data, self._take_head(data)
                if data is before:
                    self._keep_rest(data)
                    break
            elif self._head.length == _CHUNKED and not self._left:
                before, data = data, self._take_chunk_line(data)
                if data is before:
                    self._keep_rest(data)
                    break
            else:
                data = self._take_body(data)
            if self._is_over():
                ended.append(self._end())
        if self.broken:
            ended += self.close()
        return ended

    def _break(self, why: str) -> None:
        self.broken = why
        self.leaving = True

    def _keep_rest(self, data: bytes) -> None:
        """What is not whole yet."""
        if len(data) > _LONGEST_HEAD:
            self._break("a head, or a line, has no end")
        else:
            self._rest = data

    def _take_head(self, data: bytes) -> bytes:
        """Reads the head, and returns what follows it; the same bytes where it is not whole."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if not b"HTTP/1.".startswith(data[:7]):
                self._break("it does not speak HTTP/1.1")
            return data
        head = data[:end]
        if head not in self._heads:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            self._heads[head] = _read_head(head)
        read = self._heads[head]
        if read is None:
            self._break("its head can't be read")
        elif read.status >= 200:  # else the answer itself is yet to come
            self._head = read
            self._left = max(read.length, 0)
            self._parts, self._size, self._in_trailers = [], 0, False
            if self._left > _MOST_ANSWER_BYTES:
                self._break("the answer is larger than any")
        return data[end + 4 :]

    def _take_chunk_line(self, data: bytes) -> bytes:
        """Reads the length of the next chunk, or a line after the last; returns what follows it."""
        end = data.find(b"\r\n")
        if end < 0:
            return data
        line, following = data[:end], data[end + 2 :]
        if self._in_trailers:
            if not line:
                self._head = self._head._replace(length=0) if self._head is not None else None
            return following
        found = _CHUNK.fullmatch(line)
        if found is None:
            self._break("a chunk has no length")
            return following
        size = int(found[1], 16)
        self._in_trailers = not size
        self._left = size + 2 if size else 0
        return following

    def _take_body(self, data: bytes) -> bytes:
        """Takes what of the body, or of a chunk, is here; returns what follows it."""
        assert self._head is not None
        if self._head.length == _UNTIL_CLOSED:
            self._add(data)
            return b""
        taken = data[: self._left]
        if self._head.length == _CHUNKED:
            # The last two bytes are the end of the line, not of the body.
            inside = max(0, min(len(taken), self._left - 2))
            line_end = taken[inside:]
            if not b"\r\n"[max(0, 2 - self._left) :].startswith(line_end):
                self._break("a chunk is longer than it said")
            self._add(taken[:inside])
        else:
            self._add(taken)
        self._left -= len(taken)
        return data[len(taken) :]

    def _add(self, part: bytes) -> None:
        if part and (self._keeps or self._size < _SEEN_BYTES):
            self._parts.append(part)
        self._size += len(part)
        if self._size > _MOST_ANSWER_BYTES:
            self._break("the answer is larger than any")

    def _is_over(self) -> bool:
        head = self._head
        return head is not None and not self.broken and not self._left and head.length >= 0

    def _end(self) -> RestEnd:
        assert self._head is not None
        status, closes = self._head.status, self._head.closes
        body = b"".join(self._parts)
        self._head, self._is_asked, self._parts = None, False, []
        self.leaving = self.leaving or closes
        seen = body[:_SEEN_BYTES]
        kind = of_http_status(status, seen)
        if not kind and seen.lstrip()[:1] != b"{":
            kind = "malformed"
        if kind:
            message = error_message(body) if len(body) <= _LONGEST_HEAD else None
            said = message or seen.decode(errors="replace") or f"HTTP status {status}"
            return RestEnd(self._number, kind, said.encode())
        return RestEnd(self._number, kind, body if self._keeps else None)


def _read_head(head: bytes) -> _Head | None:
    """What a head says; None where it can't be read."""
    first, *lines = head.split(b"\r\n")
    found = _STATUS_LINE.fullmatch(first)
    if found is None:
        return None
    status = int(found[2])
    connection, coding, lengths = b"", b"", set()
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or name != name.strip() or not name:
            return None
        name, value = name.lower(), value.strip()
        if name == b"connection":
            connection += value.lower() + b","
        elif name == b"transfer-encoding":
            coding += value.lower() + b","
        elif name == b"content-length":
            lengths.add(value)
    closes = b"close" in connection or (found[1] == b"0" and b"keep-alive" not in connection)
    if status == 101:
        return None
    if status < 200 or status in (204, 304):
        return _Head(status, 0, closes)
    if coding:
        return _Head(status, _CHUNKED, closes) if coding.rstrip(b",").endswith(b"chunked") else None
    if not lengths:
        return _Head(status, _UNTIL_CLOSED, True)
    length = lengths.pop()
    if lengths or not length.isdigit() or len(length) > 18:
        return None
    return _Head(status, int(length), closes)

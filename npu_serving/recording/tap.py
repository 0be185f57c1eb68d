"""The copy of what clients send, on its way to the keeper: never waited for. Where it is too much, bodies are left out.

What is passed on is cut into requests here (scanning.py), as a body that is left out must not cost the headers that
follow it. Requests are chosen here too, so that what nobody wants is not copied.
"""

from __future__ import annotations

import os
import random
import struct
from collections import deque
from dataclasses import dataclass

from npu_serving.recording.scanning import Bytes, NotFollowedError, Scanner, scanner_for

HEAD, BODY, END, LOST, GONE = range(5)
"""What the keeper gets: a head, a piece of a body, its end; that the rest of a body is missing; a connection's end."""
MESSAGE = struct.Struct("<BBIIQI")
"""Kind, a flag, connection, request, nanoseconds since the beginning, bytes that follow."""
WANTED, WHOLE, OF_HTTP2 = 1, 1, 2
"""Flags: of a head (with OF_HTTP2) whether the body follows, of an end whether the body is whole."""
MOST_QUEUED_BYTES = 64 << 20
_AT_ONCE_BYTES = 1 << 18


@dataclass
class TapCounts:
    """What is not followed: connections with TLS, those that could not be read on, those open that gave no request."""

    with_tls: int = 0
    not_followed: int = 0


class Tap:
    """Takes the bytes of every connection, and gives messages to a pipe as fast as that takes them.

    `pipe` is a descriptor that does not block. An error in here is the end of a connection's recording, never of its
    traffic.
    """

    def __init__(self, pipe: int, *, share: float, seed: int, most_queued_bytes: int = MOST_QUEUED_BYTES) -> None:
        self.pipe = pipe
        self.is_open = True
        self.counts = TapCounts()
        self._share = share
        self._random = random.Random(seed)  # noqa: S311 - nothing depends on nobody knowing it
        self._most = most_queued_bytes
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._followed: dict[int, _Followed] = {}

    @property
    def has_more(self) -> bool:
        """Whether something waits for the pipe."""
        return bool(self._queue) and self.is_open

    def feed(self, connection: int, data: bytes, at_ns: int) -> None:
        """The next bytes that the client of that connection has sent."""
        if not self.is_open:
            return
        followed = self._followed.get(connection)
        if followed is None:
            followed = self._followed[connection] = _Followed(self, connection)
        try:
            followed.feed(data, at_ns)
        except NotFollowedError as error:
            self._give_up(connection, followed, is_tls="TLS" in str(error))
        except Exception:  # whatever it is, it must not reach the traffic
            self._give_up(connection, followed, is_tls=False)

    def over(self, connection: int) -> None:
        """A connection that has ended."""
        if self._followed.pop(connection, None) is not None and self.is_open:
            self._put(GONE, 0, connection, 0, 0, b"")

    def heads(self, connection: int) -> int | None:
        """How many requests over HTTP/2 have begun on that connection; None where that is not known."""
        followed = self._followed.get(connection)
        return None if followed is None or followed.is_given_up or not followed.is_http2 else followed.heads

    def chosen(self) -> bool:
        """Whether the next request is one to keep."""
        return self._share >= 1 or self._random.random() < self._share

    def put_head(self, connection: int, request: int, at_ns: int, flags: int, content: bytes) -> None:
        """A head. NotFollowedError where so many wait that even these are too many."""
        if self._queued > 2 * self._most:
            raise NotFollowedError("the keeper does not keep up")
        self._put(HEAD, flags, connection, request, at_ns, content)

    def put_body(self, connection: int, request: int, piece: Bytes) -> bool:
        """A piece of a body; False where there is no room for it, and the request is lost to the recording."""
        if self._queued + len(piece) > self._most:
            self._put(LOST, 0, connection, request, 0, b"")
            return False
        self._put(BODY, 0, connection, request, 0, piece)
        return True

    def put_end(self, connection: int, request: int, *, whole: bool) -> None:
        """The end of a request."""
        self._put(END, WHOLE if whole else 0, connection, request, 0, b"")

    def write(self) -> None:
        """Gives the pipe what it takes now."""
        while self._queue and self.is_open:
            first = self._queue[0]
            if len(first) < _AT_ONCE_BYTES and len(self._queue) > 1:
                first = self._joined()
            try:
                done = os.write(self.pipe, first)
            except BlockingIOError:
                return
            except OSError:  # the keeper has ended
                self.is_open = False
                self._queue.clear()
                return
            self._queued -= done
            if done < len(first):
                self._queue[0] = first[done:]
                return
            self._queue.popleft()

    def finish(self) -> None:
        """Gives the pipe all that is left, however long that takes."""
        os.set_blocking(self.pipe, True)
        self.write()

    def _joined(self) -> bytes:
        parts, size = [], 0
        while self._queue and size < _AT_ONCE_BYTES:
            parts.append(self._queue.popleft())
            size += len(parts[-1])
        self._queue.appendleft(b"".join(parts))
        return self._queue[0]

    def _put(self, kind: int, flags: int, connection: int, request: int, at_ns: int, content: Bytes) -> None:
        data = MESSAGE.pack(kind, flags, connection, request, at_ns, len(content)) + bytes(content)
        self._queue.append(data)
        self._queued += len(data)

    def _give_up(self, connection: int, followed: _Followed, *, is_tls: bool) -> None:
        if is_tls:
            self.counts.with_tls += 1
        else:
            self.counts.not_followed += 1
        followed.is_given_up = True
        self._put(GONE, 0, connection, 0, 0, b"")


class _Followed:
    """One connection, and what its scanner finds."""

    def __init__(self, tap: Tap, connection: int) -> None:
        self.is_given_up = False
        self.heads = 0
        self._seen: int = 0
        self._tap = tap
        self._connection = connection
        self._first = b""
        self._scanner: Scanner | None = None
        self._at_ns = 0
        self._lost: set[int] = set()

    def feed(self, data: bytes, at_ns: int) -> None:
        if self.is_given_up:
            return
        self._at_ns = at_ns
        if self._scanner is None:
            self._first += data
            self._scanner = scanner_for(self._first, self)
            data, self._first = (self._first, b"") if self._scanner is not None else (b"", self._first)
        if self._scanner is not None:
            self._scanner.feed(data)

    @property
    def is_http2(self) -> bool:
        """Whether the client speaks HTTP/2, as far as it is known."""
        return self._scanner is not None and self._scanner.is_http2

    def head(self, request: int, content: bytes) -> bool:
        """What RequestSink wants."""
        if request <= self._seen:  # what follows a body
            self._tap.put_head(self._connection, request, self._at_ns, OF_HTTP2, content)
            return False
        self._seen = request
        self.heads += 1
        wanted = self._tap.chosen()
        flags = (WANTED if wanted else 0) | (OF_HTTP2 if self.is_http2 else 0)
        self._tap.put_head(self._connection, request, self._at_ns, flags, content)
        return wanted

    def body(self, request: int, piece: Bytes) -> None:
        """What RequestSink wants."""
        if request not in self._lost and not self._tap.put_body(self._connection, request, piece):
            self._lost.add(request)

    def end(self, request: int, *, whole: bool) -> None:
        """What RequestSink wants."""
        if request in self._lost:
            self._lost.discard(request)
        else:
            self._tap.put_end(self._connection, request, whole=whole)

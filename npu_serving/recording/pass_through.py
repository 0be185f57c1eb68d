"""A pass-through in front of a server: what either side sends goes on to the other, byte by byte, when that takes it.

Ends of a direction, resets and slow readers are passed on as well. What clients send is shown to a tap when it has gone
on; nothing here waits for that. TLS is not opened.
"""

from __future__ import annotations

import contextlib
import errno
import resource
import selectors
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable

from npu_serving.recording.scanning import EndedAnswers
from npu_serving.recording.tap import Tap

PIECE_BYTES = 1 << 18
SECONDS_TO_CONNECT = 10.0
SECONDS_BETWEEN_TICKS = 0.1
QUIET_S = 0.3
"""For how long nothing may have passed on a connection that is closed at the end, after the server's last word."""
_IN_PROGRESS = errno.EINPROGRESS
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER, for close() to reset the connection
Address = tuple[int, Any]
"""A family of sockets, and the address in it."""


@dataclass
class PassedCounts:
    """Connections and bytes that went through; `refused` are those for which no server was there."""

    connections: int = 0
    refused: int = 0
    reset: int = 0
    to_server_bytes: int = 0
    to_client_bytes: int = 0


class _Side:
    """One end of a connection through here: its socket, what it is still to be given, and whether it has ended."""

    __slots__ = ("connection", "events", "has_ended", "is_broken", "is_client", "is_shut", "other", "pending", "sock")

    def __init__(self, sock: socket.socket, connection: _Connection, *, is_client: bool) -> None:
        self.sock = sock
        self.connection = connection
        self.is_client = is_client
        self.other: _Side = self
        self.pending: bytes | memoryview = b""
        self.has_ended = False
        """It sends nothing more."""
        self.is_shut = False
        """The end of what the other one sends was passed on to it."""
        self.is_broken = False
        """It takes nothing more; what it has sent before is still passed on."""
        self.events = 0


class _Connection:
    """A client, and the server on its behalf."""

    __slots__ = (
        "addresses",
        "answers",
        "client",
        "connecting_until",
        "last_s",
        "number",
        "server",
        "server_spoke_last",
    )

    def __init__(self, number: int, client: socket.socket, addresses: list[Address]) -> None:
        self.number = number
        self.client = _Side(client, self, is_client=True)
        self.server: _Side | None = None
        self.addresses = addresses
        self.connecting_until = 0.0
        self.last_s = 0.0
        self.server_spoke_last = True
        self.answers = EndedAnswers()


class PassThrough:
    """Connections to `listener`, each passed on to the first of the addresses that takes one."""

    def __init__(self, listener: socket.socket, addresses: Sequence[Address], tap: Tap | None) -> None:
        self.counts = PassedCounts()
        self._listener = listener
        self._addresses = list(addresses)
        self._tap = tap
        self._selector = selectors.DefaultSelector()
        self._connections: dict[int, _Connection] = {}
        self._begun_ns = time.monotonic_ns()
        self._buffer = bytearray(PIECE_BYTES)
        self._view = memoryview(self._buffer)
        self._listens = False
        self._tap_waits = False
        listener.setblocking(False)
        _raise_limit_of_files()

    def run(self, is_over: Callable[[], bool], on_tick: Callable[[], None]) -> None:
        """Passes on until `is_over` says so; it and `on_tick` are asked some ten times a second."""
        self._listen()
        ticked = time.monotonic()
        while True:
            self._step()
            now = time.monotonic()
            if now - ticked >= SECONDS_BETWEEN_TICKS:
                ticked = now
                self._give_up_connecting(now)
                self._listen()
                on_tick()
                if is_over():
                    return

    def drain(self, is_over: Callable[[], bool], on_tick: Callable[[], None]) -> int:
        """Takes no new connection, and closes each when it has its answers; how many were not closed so in the end."""
        if self._listens:
            self._selector.unregister(self._listener)
        self._listener.close()
        while self._connections and not is_over():
            now = time.monotonic()
            for connection in list(self._connections.values()):
                if self._is_idle(connection, now):
                    self._close(connection)
            self._step()
            on_tick()
        return len(self._connections)

    def close(self) -> None:
        """Ends whatever is left."""
        for connection in list(self._connections.values()):
            self._reset(connection)
        self._listener.close()
        self._selector.close()

    def _step(self) -> None:
        tap = self._tap
        if tap is not None and tap.has_more != self._tap_waits:
            self._tap_waits = tap.has_more
            if self._tap_waits:
                self._selector.register(tap.pipe, selectors.EVENT_WRITE, tap)
            else:
                self._selector.unregister(tap.pipe)
        for key, events in self._selector.select(SECONDS_BETWEEN_TICKS):
            target: Any = key.data
            if target is self._listener:
                self._accept()
            elif target is tap:
                tap.write()
            elif target.connection.number in self._connections:
                try:
                    self._move(target, events)
                except Exception:  # of one connection: the others know nothing of it
                    self._reset(target.connection)

    def _listen(self) -> None:
        if not self._listens:
            self._selector.register(self._listener, selectors.EVENT_READ, self._listener)
            self._listens = True

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:  # no descriptor is left; until the next tick there may be one
                self._selector.unregister(self._listener)
                self._listens = False
                return
            sock.setblocking(False)
            _without_delay(sock)
            self.counts.connections += 1
            connection = _Connection(self.counts.connections, sock, list(self._addresses))
            self._connections[connection.number] = connection
            self._connect(connection)

    def _connect(self, connection: _Connection) -> None:
        """Tries the next address; where none is left, the connection is reset at once."""
        while connection.addresses:
            family, address = connection.addresses.pop(0)
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
            except OSError:
                break
            sock.setblocking(False)
            error = sock.connect_ex(address)
            if error not in (0, _IN_PROGRESS):
                sock.close()
                continue
            _without_delay(sock)
            server = _Side(sock, connection, is_client=False)
            server.other, connection.client.other = connection.client, server
            connection.server = server
            connection.connecting_until = time.monotonic() + SECONDS_TO_CONNECT
            self._watch(server, selectors.EVENT_WRITE)
            return
        self.counts.refused += 1
        self._reset(connection)

    def _give_up_connecting(self, now: float) -> None:
        for connection in [each for each in self._connections.values() if 0 < each.connecting_until < now]:
            self._try_next(connection)

    def _try_next(self, connection: _Connection) -> None:
        if connection.server is not None:
            self._watch(connection.server, 0)
            connection.server.sock.close()
            connection.server = None
        self._connect(connection)

    def _move(self, side: _Side, events: int) -> None:
        connection = side.connection
        if connection.connecting_until:
            if side.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._try_next(connection)
                return
            connection.connecting_until = 0.0
            connection.last_s = time.monotonic()
            self._watch(side, selectors.EVENT_READ)
            self._watch(connection.client, selectors.EVENT_READ)
            return
        if events & selectors.EVENT_WRITE and side.pending:
            self._flush(side)
        if events & selectors.EVENT_READ and not side.has_ended and not side.other.pending:
            self._pass_on(side)
        if connection.number in self._connections:
            self._settle(connection)

    def _pass_on(self, side: _Side) -> None:
        connection, other = side.connection, side.other
        try:
            size = side.sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError:
            self._reset(connection)
            return
        if not size:
            side.has_ended = True
            return
        piece = self._view[:size]
        sent = self._send(other, piece)
        if sent < size and not other.is_broken:
            other.pending = bytes(piece[sent:])
        connection.last_s = time.monotonic()
        connection.server_spoke_last = not side.is_client
        if side.is_client:
            self.counts.to_server_bytes += size
            if self._tap is not None:
                self._tap.feed(connection.number, bytes(piece), time.monotonic_ns() - self._begun_ns)
        else:
            self.counts.to_client_bytes += size
            if self._tap is not None and self._tap.heads(connection.number) is not None:
                connection.answers.feed(piece)

    def _flush(self, side: _Side) -> None:
        sent = self._send(side, side.pending)
        side.pending = b"" if side.is_broken else memoryview(side.pending)[sent:]
        side.connection.last_s = time.monotonic()

    def _send(self, side: _Side, piece: bytes | memoryview) -> int:
        """How much of the piece the side takes now. One that takes nothing any more may still have said something."""
        try:
            return side.sock.send(piece)
        except BlockingIOError:
            return 0
        except OSError:
            side.is_broken = True
            side.other.has_ended = True  # to be read no more: there is nowhere to put it
            return 0

    def _settle(self, connection: _Connection) -> None:
        """Has each side told of the other's end, and watched for what can happen next."""
        client, server = connection.client, connection.server
        assert server is not None
        for side in (client, server):
            if side.other.has_ended and not side.pending and not side.is_shut:
                side.is_shut = True
                if not side.is_broken:
                    with contextlib.suppress(OSError):
                        side.sock.shutdown(socket.SHUT_WR)
        if client.is_shut and server.is_shut:
            if client.is_broken or server.is_broken:
                self._reset(connection)
            else:
                self._close(connection)
            return
        for side in (client, server):
            reads = selectors.EVENT_READ if not side.has_ended and not side.other.pending else 0
            self._watch(side, reads | (selectors.EVENT_WRITE if side.pending else 0))

    def _watch(self, side: _Side, events: int) -> None:
        if events == side.events:
            return
        if not side.events:
            self._selector.register(side.sock, events, side)
        elif not events:
            self._selector.unregister(side.sock)
        else:
            self._selector.modify(side.sock, events, side)
        side.events = events

    def _is_idle(self, connection: _Connection, now: float) -> bool:
        if connection.connecting_until or now - connection.last_s < QUIET_S:
            return False
        if connection.client.pending or (connection.server is not None and connection.server.pending):
            return False
        begun = self._tap.heads(connection.number) if self._tap is not None else None
        return connection.server_spoke_last if begun is None else connection.answers.count >= begun

    def _reset(self, connection: _Connection) -> None:
        """Drops it as a program does that has crashed: both sides know that something is missing."""
        self.counts.reset += 1
        for side in (connection.client, connection.server):
            if side is not None:
                with contextlib.suppress(OSError):
                    side.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._close(connection)

    def _close(self, connection: _Connection) -> None:
        self._connections.pop(connection.number, None)
        for side in (connection.client, connection.server):
            if side is not None:
                self._watch(side, 0)
                side.sock.close()
        if self._tap is not None:
            self._tap.over(connection.number)


def _without_delay(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # a unix socket has no such thing
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _raise_limit_of_files() -> None:
    """As many connections as this process may have."""
    with contextlib.suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

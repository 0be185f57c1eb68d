"""Connections of a load generator: opened without waiting, with TLS where it is asked for, written to in order."""

from __future__ import annotations

import os
import select
import socket
import ssl
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Union

from npu_serving.errors import RequestError, UnreachableError
from npu_serving.load.generator import LoadTls

Piece = Union[bytes, memoryview]
_MOST_PIECES = 512  # of one sendmsg; the kernel takes 1024
_RECEIVED_AT_ONCE = 65536  # bytes; more would have the allocator map and unmap memory at each call
_OF_TLS_AT_ONCE = 1 << 18  # bytes


class Wire(Protocol):
    """What a connection speaks: a state machine without a socket. Its calls are known by the numbers it gives them."""

    outgoing: list[Piece]
    broken: str
    leaving: bool

    @property
    def free_places(self) -> int:
        """How many calls may begin now."""

    def begin(self, request: Any) -> int:
        """Begins a call."""

    def give_up(self, number: int) -> None:
        """Nobody waits for that call any more."""

    def receive(self, data: bytes) -> list[Any]:
        """The calls that have ended with these bytes: (number, kind, message)."""

    def close(self) -> list[Any]:
        """The calls that end because the connection has ended."""


@dataclass(frozen=True)
class LoadTarget:
    """Where connections go: addresses as socket.connect() takes them, tried in turn, and how TLS is spoken there."""

    authority: str
    addresses: tuple[tuple[int, Any], ...]
    host: str
    tls: ssl.SSLContext | None

    @property
    def has_tls(self) -> bool:
        """Whether TLS is spoken."""
        return self.tls is not None


def target_of(url: str, tls: LoadTls, protocol: str) -> LoadTarget:
    """What a plan's URL means; `protocol` is what is offered by ALPN. RequestError, UnreachableError."""
    if url.startswith("unix:"):
        path = url[len("unix:") :]
        path = path[2:] if path.startswith("//") else path
        return LoadTarget("localhost", ((socket.AF_UNIX, path),), "localhost", None)
    parts = urllib.parse.urlsplit(url)
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host:
        raise RequestError(f"{url!r} has no host.", cure="write it like grpc://HOST:PORT or http://HOST:PORT")
    has_tls = parts.scheme in ("grpcs", "https")
    if port is None:
        port = {"http": 80, "https": 443}.get(parts.scheme, 8500)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UnreachableError(
            f"The host of {url} is not known ({error}).", cause="a typing error", cure="correct the address"
        ) from error
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    addresses = tuple((int(family), address) for family, _, _, _, address in found)
    return LoadTarget(authority, addresses, host, _tls_context(tls, protocol) if has_tls else None)


def _tls_context(tls: LoadTls, protocol: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=tls.ca.decode("ascii") if tls.ca else None)
    context.set_alpn_protocols([protocol])
    # From Python 3.13 on it would refuse certificates that grpc and every earlier Python take.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if tls.cert:
        with _as_file(tls.cert) as cert, _as_file(tls.key) as key:
            context.load_cert_chain(cert, key, lambda: "")
    return context


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path to a file that is only in memory: ssl reads a certificate from files alone."""
    descriptor = os.memfd_create("certificate")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class SenderLine:
    """One connection: its socket, what it speaks, and which requests are under way on it."""

    def __init__(self, target: LoadTarget, address: tuple[int, Any], wire: Wire) -> None:
        self.wire = wire
        self.calls: dict[int, tuple[int, int, int, int]] = {}
        """By the wire's number: the place of the request, when it was intended and sent, how often it was tried."""
        self.open = False
        self.waits_for_work = False
        self.had_answers = False
        self.watched = 0
        """What the selector was told to watch for."""
        self._target = target
        self._unsent: list[Piece] = []
        self._wants_to_write = True
        family, where = address
        self.socket: socket.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        if family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fd = self.socket.fileno()
        try:
            self.socket.connect(where)
        except BlockingIOError:
            pass
        except OSError:
            self.socket.close()
            raise

    @property
    def interest(self) -> int:
        """What the selector is to watch for now."""
        return select.EPOLLIN | (select.EPOLLOUT if self._wants_to_write else 0)

    def go_on_opening(self) -> None:
        """A step towards being open. Raises OSError where it can't be opened."""
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        if self._target.tls is None:
            self.open = True
            return
        if not isinstance(self.socket, ssl.SSLSocket):
            self.socket = self._target.tls.wrap_socket(
                self.socket, server_hostname=self._target.host, do_handshake_on_connect=False
            )
        self._wants_to_write = False
        try:
            self.socket.do_handshake()
            self.open = True
        except ssl.SSLWantReadError:
            return
        except ssl.SSLWantWriteError:
            self._wants_to_write = True

    def flush(self) -> None:
        """Sends what can be sent now. Raises OSError where the connection has ended."""
        wire = self.wire
        if not self._unsent and not self._target.has_tls and len(wire.outgoing) <= _MOST_PIECES:
            data = b"".join(wire.outgoing) if _is_small(wire.outgoing) else None
            if data is not None:
                wire.outgoing.clear()
                try:
                    sent = self.socket.send(data)
                except BlockingIOError:
                    sent = 0
                if sent < len(data):
                    self._unsent = [memoryview(data)[sent:]]
                self._wants_to_write = bool(self._unsent)
                return
        self._unsent += wire.outgoing
        wire.outgoing.clear()
        while self._unsent:
            sent = self._send_some()
            if not sent:
                break
            self._drop(sent)
        self._wants_to_write = bool(self._unsent)

    def _send_some(self) -> int:
        try:
            if not self._target.has_tls:
                return self.socket.sendmsg(self._unsent[:_MOST_PIECES])
            count = size = 0
            while count < len(self._unsent) and size < _OF_TLS_AT_ONCE:
                size += len(self._unsent[count])
                count += 1
            # What could not be written has to be tried again as it was: it stays one piece.
            self._unsent[:count] = [b"".join(self._unsent[:count])]
            return self.socket.send(self._unsent[0])
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def _drop(self, sent: int) -> None:
        count = 0
        while count < len(self._unsent) and sent >= len(self._unsent[count]):
            sent -= len(self._unsent[count])
            count += 1
        del self._unsent[:count]
        if sent:
            self._unsent[0] = memoryview(self._unsent[0])[sent:]

    def receive(self) -> bytes | None:
        """What has come; None where nothing has yet, b"" at the end. Raises OSError where the connection is lost."""
        try:
            return self.socket.recv(_RECEIVED_AT_ONCE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    @property
    def has_more(self) -> bool:
        """Whether bytes are here that the selector doesn't know of."""
        return isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0

    def close(self) -> None:
        """Closes the socket."""
        self.socket.close()


def _is_small(pieces: list[Piece]) -> bool:
    return sum(map(len, pieces)) <= _OF_TLS_AT_ONCE

"""A local HTTP server that misbehaves as it is told: for the tests of the fetch engine, and for its benchmark."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import re
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

Fault = Callable[["Handler", bytes], None]
"""Answers one request for a file with these bytes in its own way."""


@dataclass(frozen=True)
class Request:
    """A request that came in."""

    path: str
    range: str
    headers: Mapping[str, str]


@dataclass
class Resource:
    """A file of the server. Each request takes the next fault of `faults`; `always` answers when none is left."""

    data: bytes
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    etag: str = '"1"'


class FaultServer(http.server.ThreadingHTTPServer):
    """Serves what put() was given at http://127.0.0.1:PORT and remembers the requests."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.resources: dict[str, Resource] = {}
        self.requests: list[Request] = []
        self.connections = 0
        self.guard = threading.Lock()
        self.closing = threading.Event()
        self.scheme = "http"
        self.latency_s = 0.0
        self.bytes_per_s = 0.0
        self.tunnel_to: tuple[str, int] | None = None
        """Where CONNECT leads, whichever host it names: this server is a proxy for https then."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def speak_tls(self, certificate: Path, key: Path) -> None:
        """From here on the server is an https one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.scheme = "https"

    def put(self, path: str, data: bytes, *faults: Fault, always: Fault | None = None) -> str:
        """Serves `data` at `path`; its URL."""
        self.resources[path] = Resource(data, list(faults), always)
        return self.url + path

    def requests_for(self, path: str) -> list[Request]:
        with self.guard:
            return [request for request in self.requests if request.path == path]

    def process_request(self, request: Any, client_address: object) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is nothing to report."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultServer

    def do_GET(self) -> None:
        path = re.sub(r"^http://[^/]+", "", self.path)  # a proxy is asked for the whole URL
        with self.server.guard:
            self.server.requests.append(Request(path, self.headers.get("Range", ""), dict(self.headers.items())))
            resource = self.server.resources.get(path)
            fault = resource.faults.pop(0) if resource and resource.faults else resource.always if resource else None
        if self.server.latency_s:
            time.sleep(self.server.latency_s)
        if resource is None:
            self.answer(404, b"no such file")
        elif fault is not None:
            fault(self, resource.data)
        else:
            self.serve(resource.data, resource.etag)

    def do_CONNECT(self) -> None:
        with self.server.guard:
            self.server.requests.append(Request(f"CONNECT {self.path}", "", dict(self.headers.items())))
        self.close_connection = True
        if self.server.tunnel_to is None:
            self.send_error(403)
            return
        with socket.create_connection(self.server.tunnel_to) as upstream:
            self.send_response(200)
            self.end_headers()
            other = {self.connection: upstream, upstream: self.connection}
            while True:
                for source in select.select(list(other), [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    other[source].sendall(data)

    def serve(self, data: bytes, etag: str = '"1"') -> None:
        """The file as a good server gives it: ranges, If-Range."""
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span is None or self.headers.get("If-Range", etag) != etag:
            self.answer(200, data, {"Accept-Ranges": "bytes", "ETag": etag})
            return
        first, last = int(span[1]), int(span[2] or len(data) - 1)
        if first >= len(data):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        piece = data[first : last + 1]
        self.answer(206, piece, {"Content-Range": f"bytes {first}-{first + len(piece) - 1}/{len(data)}", "ETag": etag})

    def answer(self, status: int, body: bytes, headers: Mapping[str, str] = {}, *, length: int | None = None) -> None:
        """A status, headers and a body; `length` when Content-Length is to lie."""
        self.send_response(status)
        for name, value in {"Content-Type": "application/octet-stream", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.send(body)

    def send(self, body: bytes) -> None:
        rate = self.server.bytes_per_s
        if not rate:
            self.wfile.write(body)
            return
        began, sent = time.monotonic(), 0
        for start in range(0, len(body), 65536):
            self.wfile.write(body[start : start + 65536])
            sent += 65536
            ahead = sent / rate - (time.monotonic() - began)
            if ahead > 0:
                time.sleep(ahead)

    def hang_up(self, *, reset: bool = False) -> None:
        """Closes the connection in the middle, with a TCP reset if asked."""
        self.wfile.flush()
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Says nothing."""


# ---- faults


def good(handler: Handler, data: bytes) -> None:
    handler.serve(data)


def truncated(after: int, *, reset: bool = False) -> Fault:
    """Promises the rest of the file and hangs up after so many bytes of it."""

    def fault(handler: Handler, data: bytes) -> None:
        first = int((re.match(r"bytes=(\d+)", handler.headers.get("Range", "")) or ("", "0"))[1])
        rest = data[first:]
        headers = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if first else {}
        handler.answer(206 if first else 200, rest[:after], headers, length=len(rest))
        handler.hang_up(reset=reset)

    return fault


def stalls(after: int) -> Fault:
    """Sends so many bytes and then nothing, without hanging up."""

    def fault(handler: Handler, data: bytes) -> None:
        handler.answer(200, data[:after], length=len(data))
        handler.wfile.flush()
        handler.server.closing.wait()
        handler.close_connection = True

    return fault


def drips(pause_s: float) -> Fault:
    """Sends a byte at a time."""

    def fault(handler: Handler, data: bytes) -> None:
        handler.answer(200, b"", length=len(data))
        for place in range(len(data)):
            handler.wfile.write(data[place : place + 1])
            handler.wfile.flush()
            if handler.server.closing.wait(pause_s):
                break
        handler.close_connection = True

    return fault


def status(code: int, **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, data: handler.answer(code, b"no", named)


def redirect(target: str) -> Fault:
    return status(302, Location=target)


def html(handler: Handler, data: bytes) -> None:
    handler.answer(200, b"<!DOCTYPE html><html>please log in</html>", {"Content-Type": "text/html; charset=utf-8"})


def other_bytes(other: bytes) -> Fault:
    return lambda handler, data: handler.serve(other)


def length_says(length: int) -> Fault:
    """Content-Length lies."""

    def fault(handler: Handler, data: bytes) -> None:
        handler.answer(200, data, length=length)
        handler.hang_up()

    return fault


def ignores_range(handler: Handler, data: bytes) -> None:
    handler.answer(200, data, {"Accept-Ranges": "bytes"})


def chunked(handler: Handler, data: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for start in range(0, len(data), 10_000):
        piece = data[start : start + 10_000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


def gzip_encoded(handler: Handler, data: bytes) -> None:
    """Compresses on top, though it was asked not to."""
    handler.answer(200, gzip.compress(data), {"Content-Encoding": "gzip"})


def without_length(handler: Handler, data: bytes) -> None:
    """HTTP/1.0: the end of the connection is the end of the file."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(data)
    handler.close_connection = True


@contextlib.contextmanager
def serving() -> Iterator[FaultServer]:
    server = FaultServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()

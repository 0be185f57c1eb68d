"""A server that speaks Bazel's HTTP cache protocol and misbehaves as it is told."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator


class CacheServer(http.server.ThreadingHTTPServer):
    """Keeps entries in memory at http://127.0.0.1:PORT. `mode` tells what it does to the next requests."""

    daemon_threads = True
    GOOD, ERRORS, HANGS, HANGS_ON_PUT, CORRUPT, TRUNCATES = "good", "errors", "hangs", "hangs on put", "corrupt", "cuts"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mode = self.GOOD
        self.entries: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str]] = []
        """Method, path and Authorization header."""
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CacheServer

    def do_GET(self) -> None:
        data = self._begin()
        if data is None:
            return None
        data = self.server.entries.get(self.path)
        if data is None:
            return self._answer(404)
        if self.server.mode == CacheServer.CORRUPT and "/cas/" in self.path:
            data = data[:-1] + bytes([data[-1] ^ 1]) if data else data
        if self.server.mode == CacheServer.TRUNCATES:
            self.close_connection = True
            return self._answer(200, data[: len(data) // 2], length=len(data))
        return self._answer(200, data)

    def do_PUT(self) -> None:
        data = self._begin()
        if data is not None:
            self.server.entries[self.path] = data
            self._answer(200)

    def _begin(self) -> bytes | None:
        """The request's body; None where the mode has answered already."""
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, self.path, self.headers.get("Authorization") or ""))
        mode = self.server.mode
        if mode == CacheServer.HANGS or (mode == CacheServer.HANGS_ON_PUT and self.command == "PUT"):
            self.server.closing.wait()
            self.close_connection = True
            return None
        if mode == CacheServer.ERRORS:
            self._answer(500)
            return None
        return data

    def _answer(self, status: int, data: bytes = b"", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[CacheServer]:
    """Such a server, for as long as the block runs."""
    with CacheServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()

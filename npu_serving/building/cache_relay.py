"""The relay between Bazel and a remote cache over HTTP: a Unix socket on one side, the cache on the other.

A program of its own (`python -m npu_serving.building.cache_relay SOCKET`, the cache's URL in the environment), for two
reasons. A build in a container has no network, and a socket in a mounted directory needs none. And Bazel 0.24.1, tried
with a server that takes an upload and never answers, waits without end: here every request has a time limit, and a
cache that failed is not asked for a while, as if it were empty.
"""

from __future__ import annotations

import http.client
import http.server
import os
import re
import socketserver
import sys
import tempfile
import threading
import time
from http import HTTPStatus
from typing import IO
from urllib.parse import unquote

import urllib3

URL_VARIABLE = "NPU_SERVING_CACHE_URL"
CONNECT_S = 5.0
SILENCE_S = 10.0
"""A cache that says nothing for so long has failed."""
WHOLE_S = 45.0
"""No entry takes longer to read: Bazel's own patience (--remote_timeout) is 60 s."""
FIRST_PAUSE_S = 60.0
"""How long a cache that failed is not asked; twice as long after each further failure."""
IN_MEMORY_BYTES = 1 << 20
PIECE_BYTES = 1 << 16

_ENTRY = re.compile(r"/(?:ac|cas)/[0-9a-f]{64}")


class CacheTroubleError(Exception):
    """The cache did not do what it was asked; the text says what it did instead."""


class Breaker:
    """Whether one direction, reading or writing, may be tried: not for a while after it failed."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._pause_s = FIRST_PAUSE_S
        self._closed_until = 0.0

    def is_closed(self) -> bool:
        """Whether the cache must not be asked now."""
        with self._guard:
            return time.monotonic() < self._closed_until

    def failed(self) -> None:
        """Doesn't ask the cache for a while, longer each time; requests that were under way together count once."""
        with self._guard:
            if time.monotonic() >= self._closed_until:
                self._closed_until = time.monotonic() + self._pause_s
                self._pause_s *= 2

    def worked(self) -> None:
        """The next failure is the first one again."""
        with self._guard:
            self._pause_s = FIRST_PAUSE_S


class Upstream:
    """The cache: entries are read and written whole, each within a time limit."""

    def __init__(self, url: str) -> None:
        parsed = urllib3.util.parse_url(url)
        self._base = parsed._replace(auth=None).url.rstrip("/")
        self._headers = urllib3.make_headers(basic_auth=unquote(parsed.auth)) if parsed.auth else {}
        limit = urllib3.Timeout(connect=CONNECT_S, read=SILENCE_S)
        self._pool = urllib3.PoolManager(maxsize=16, retries=False, timeout=limit)

    def read(self, path: str, into: IO[bytes]) -> bool:
        """Writes the entry to `into`; False where the cache has none. CacheTroubleError when it doesn't come
        completely.
        """
        deadline = time.monotonic() + WHOLE_S
        try:
            response = self._pool.request("GET", self._base + path, headers=self._headers, preload_content=False)
            try:
                for piece in response.stream(PIECE_BYTES):
                    into.write(piece)
                    if time.monotonic() > deadline:
                        raise CacheTroubleError(f"it took more than {WHOLE_S:.0f} s for one entry")
            except BaseException:
                response.close()
                raise
        except urllib3.exceptions.HTTPError as error:
            raise _trouble(error) from error
        if response.status == HTTPStatus.NOT_FOUND:
            return False
        _require(response.status, HTTPStatus.OK)
        return True

    def write(self, path: str, data: IO[bytes], size_bytes: int) -> None:
        """Puts an entry into the cache; CacheTroubleError when it doesn't take it."""
        headers = {**self._headers, "Content-Length": str(size_bytes)}
        try:
            response = self._pool.request("PUT", self._base + path, body=data, headers=headers)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _trouble(error) from error
        _require(response.status, HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT)


class Relay(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens on a Unix socket for Bazel."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, socket_path: str, url: str) -> None:
        self.upstream = Upstream(url)
        self.reading, self.writing = Breaker(), Breaker()
        super().__init__(socket_path, _RelayHandler)


class _RelayHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Relay

    def do_GET(self) -> None:
        """An entry, a miss, or the reason why the cache is not asked from now on."""
        if not _ENTRY.fullmatch(self.path) or self.server.reading.is_closed():
            return self._answer(HTTPStatus.NOT_FOUND)
        with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as entry:
            try:
                found = self.server.upstream.read(self.path, entry)
            except CacheTroubleError as error:
                self.server.reading.failed()
                return self._refuse(error)
            self.server.reading.worked()
            if not found:
                return self._answer(HTTPStatus.NOT_FOUND)
            self._answer(HTTPStatus.OK, size_bytes=entry.tell())
            entry.seek(0)
            while piece := entry.read(PIECE_BYTES):
                self.wfile.write(piece)
        return None

    def do_PUT(self) -> None:
        """Takes the entry; one that the cache rejects is dropped, because Bazel has it anyway."""
        with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as entry:
            left = size_bytes = int(self.headers.get("Content-Length") or 0)
            while left and (piece := self.rfile.read(min(left, PIECE_BYTES))):
                left -= entry.write(piece)
            if left:
                self.close_connection = True
                return None
            if not _ENTRY.fullmatch(self.path) or self.server.writing.is_closed():
                return self._answer(HTTPStatus.OK)
            entry.seek(0)
            try:
                self.server.upstream.write(self.path, entry, size_bytes)
            except CacheTroubleError as error:
                self.server.writing.failed()
                return self._refuse(error)
        self.server.writing.worked()
        return self._answer(HTTPStatus.OK)

    def _refuse(self, error: CacheTroubleError) -> None:
        """Bazel shows the status line to the person, and goes on without the entry."""
        reason = " ".join(str(error).encode("ascii", "replace").decode().split())
        self.send_response(HTTPStatus.SERVICE_UNAVAILABLE, reason)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, status: HTTPStatus, *, size_bytes: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(size_bytes))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Prints nothing: Bazel's log says what went wrong."""


def _require(status: int, *wanted: int) -> None:
    if status not in wanted:
        raise CacheTroubleError(f"it answered {status} {http.client.responses.get(status, '')}".rstrip())


def _trouble(error: Exception) -> CacheTroubleError:
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return CacheTroubleError("its host name is not known")
    if isinstance(error, urllib3.exceptions.NewConnectionError):  # a kind of ConnectTimeoutError to urllib3
        return CacheTroubleError("nothing listens there")
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return CacheTroubleError(f"it can't be reached within {CONNECT_S:.0f} s")
    if isinstance(error, (urllib3.exceptions.ReadTimeoutError, TimeoutError)):
        return CacheTroubleError(f"it did not answer for {SILENCE_S:.0f} s")
    if isinstance(error, urllib3.exceptions.SSLError):
        return CacheTroubleError(f"its certificate was rejected ({error})")
    return CacheTroubleError(f"the connection broke ({error})")


def main() -> None:
    """Relays requests until it is stopped."""
    path = sys.argv[1]
    unfinished = f"{path}.new"
    with Relay(unfinished, os.environ[URL_VARIABLE]) as relay:
        os.rename(unfinished, path)  # whoever sees the name can connect
        relay.serve_forever()


if __name__ == "__main__":
    main()

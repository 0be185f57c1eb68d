"""The store as a mirror on the local network: one machine with internet feeds a site. GET and HEAD only.

Only names that are known beforehand lead to a file (see names_of()), so no request can name anything else on the disk,
and a file is sent only while its bytes are verified in the store.
"""

from __future__ import annotations

import collections
import contextlib
import http.server
import io
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO
from urllib.parse import unquote

from npu_serving.console import Reporter, amount_text, duration_text
from npu_serving.errors import RequestError
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.mirrors import host_and_path
from npu_serving.fetch.transfer import WantedFile
from npu_serving.lock.lockfile import Archive

MOST_CONNECTIONS = 256
"""More than one engine opens (16 files of 8 ranges). Beyond it, the connection that has been idle longest is closed."""
SECONDS_FOR_A_REQUEST = 20.0
"""For a whole request to arrive, and for a kept connection to ask again."""
SECONDS_WITHOUT_PROGRESS = 60.0
"""A client that reads nothing of its answer for that long is dropped."""
MOST_REQUEST_BYTES = 32 << 10
_BY_DIGEST = re.compile(r"/content_addressable/sha256/([0-9a-f]{64})/file")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """As other machines name it; an address that stands for all of this machine's is replaced by one of them."""
        host = self.host if self.host not in ("0.0.0.0", "::") else _own_address()  # noqa: S104
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"


@dataclass(frozen=True)
class ServeReport:
    """What was sent until Ctrl-C."""

    url: str
    requests: int
    sent_bytes: int
    clients: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, object]:
        """For --json: sizes in bytes, times in seconds."""
        return {**vars(self), "clients": list(self.clients), "seconds": round(self.seconds, 3)}

    def text(self) -> str:
        """One line."""
        machines = "1 machine" if len(self.clients) == 1 else f"{len(self.clients)} machines"
        return (
            f"Answered {self.requests} requests from {machines} in {duration_text(self.seconds)}: "
            f"{amount_text(self.sent_bytes, 'bytes')}."
        )


def parse_address(text: str) -> Address:
    """`ADDRESS:PORT` or `[IPv6]:PORT`; RequestError for anything else. Port 0 takes any that is free."""
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.%\w]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})", text, re.ASCII)
    if found is None or int(found[3]) > 65535:
        raise RequestError(
            f"--listen must be ADDRESS:PORT, not {text!r}.", cure="write it like 0.0.0.0:8280 or [::]:8280"
        )
    return Address(found[1] or found[2], int(found[3]))


def names_of(files: Iterable[Archive | WantedFile]) -> dict[str, str]:
    """The paths under which a file may be asked for, and its sha256.

    `/HOST/PATH` of each URL that it is declared with is what an engine with `--mirror http://this/` asks for; `/NAME`,
    the name in a distdir, is for people. Where two files have one name, the first keeps it. Their names by digest
    (`/content_addressable/sha256/DIGEST/file`) need no table.
    """
    names: dict[str, str] = {}
    for file in files:
        if file.sha256 is not None:
            for url in file.urls:
                names.setdefault("/" + unquote(host_and_path(url)), file.sha256)
            names.setdefault("/" + unquote(file.file_name), file.sha256)
    return names


class StoreServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Listens from the start; run() answers until Ctrl-C."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 512

    def __init__(self, store: ContentStore, names: Mapping[str, str], address: Address, reporter: Reporter) -> None:
        self.store = store
        self.names = names
        self._reporter = reporter
        self._guard = threading.Lock()
        self._open = 0
        self._idle: collections.OrderedDict[socket.socket, None] = collections.OrderedDict()
        self._requests = 0
        self._sent_bytes = 0
        self._clients: dict[str, None] = {}
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self.address_family = found[0][0]
            super().__init__(found[0][4], _StoreHandler)  # type: ignore[arg-type]
        except (OSError, UnicodeError) as error:
            raise RequestError(
                f"Could not listen on {address.host}:{address.port} ({getattr(error, 'strerror', None) or error}).",
                cause="another program uses that port, or this machine has no such address",
                cure="choose another one: ./inv fetch-deps --serve --listen ADDRESS:PORT",
            ) from error
        self.address = Address(address.host, self.server_address[1])

    def run(self) -> ServeReport:
        """Answers requests until KeyboardInterrupt, which is how this is meant to end."""
        began = time.monotonic()
        with contextlib.suppress(KeyboardInterrupt), self:
            self.serve_forever(poll_interval=0.5)
        with self._guard:
            clients = tuple(self._clients)
            return ServeReport(self.address.url, self._requests, self._sent_bytes, clients, time.monotonic() - began)

    def answered(self, client: str, line: str, sent_bytes: int) -> None:
        """Counts a request and reports it in one line."""
        with self._guard:
            self._requests += 1
            self._sent_bytes += sent_bytes
            self._clients[client] = None
        self._reporter.note(f"{client} {line}")

    def file(self, path: str) -> tuple[str, IO[bytes]] | None:
        """The digest and the verified bytes of the file that is called so; None if there is none."""
        by_digest = _BY_DIGEST.fullmatch(path)
        sha256 = by_digest[1] if by_digest else self.names.get(unquote(path, errors="surrogateescape"))
        opened = self.store.open_verified(sha256) if sha256 else None
        return (sha256, opened) if sha256 and opened else None

    def listing(self) -> bytes:
        """`DIGEST  NAME` of the files that can be fetched by name, as `sha256sum -c` reads it."""
        named = {path[1:]: sha256 for path, sha256 in self.names.items() if "/" not in path[1:]}
        held = set(self.store.check(named.values()).present)
        return "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(named.items()) if sha256 in held).encode()

    # ---- connections

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Gives the connection a thread; the one that has been idle longest is closed where there are too many."""
        with self._guard:
            full = self._open >= MOST_CONNECTIONS
            self._open += 1
            idle = self._idle.popitem(last=False)[0] if full and self._idle else None
        if idle is not None:
            with contextlib.suppress(OSError):
                idle.shutdown(socket.SHUT_RDWR)
        elif full:
            with contextlib.suppress(OSError):
                request.settimeout(0)
                request.send(_bare_answer("503 Service Unavailable", "Retry-After: 2\r\n"))
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Closes the connection and forgets it."""
        with self._guard:
            self._open -= 1
            self._idle.pop(request, None)
        super().shutdown_request(request)

    def waits(self, connection: socket.socket) -> None:
        """From here on nothing is under way on this connection."""
        with self._guard:
            self._idle[connection] = None

    def works(self, connection: socket.socket) -> None:
        """A whole request has come in."""
        with self._guard:
            self._idle.pop(connection, None)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is nothing to report; anything else is a bug of ours, and ends one connection."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self._reporter.warn(f"{type(error).__name__} while answering {client_address}: {error}")


class _StoreHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "npu-serving"
    sys_version = ""
    disable_nagle_algorithm = True
    server: StoreServer

    def setup(self) -> None:
        super().setup()
        self._incoming = _BoundedRequest(self.connection)
        self.rfile = io.BufferedReader(self._incoming)

    def handle_one_request(self) -> None:
        self._incoming.begin()
        self.server.waits(self.connection)
        try:
            super().handle_one_request()
        except _RequestTooLarge:
            self.close_connection = True
            self.wfile.write(_bare_answer("431 Request Header Fields Too Large"))
        except OSError:
            self.close_connection = True

    def do_GET(self) -> None:
        self.server.works(self.connection)
        self.connection.settimeout(SECONDS_WITHOUT_PROGRESS)
        # A body is not read, so what follows it would be taken for the next request.
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True
        path = self.path.partition("?")[0]
        if path == "/":
            self._send(200, io.BytesIO(self.server.listing()), {"Content-Type": "text/plain; charset=utf-8"})
            return
        found = self.server.file(path)
        if found is None:
            self._send(404, io.BytesIO(b"There is no such file here.\n"), {})
            return
        with found[1] as file:
            self._send_file(file, f'"{found[0]}"')

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def do_POST(self) -> None:
        self.close_connection = True
        self._send(405, io.BytesIO(b"This mirror is read-only.\n"), {"Allow": "GET, HEAD"})

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_POST  # noqa: N815

    def _send_file(self, file: IO[bytes], etag: str) -> None:
        """The file or, where one range is asked for and the file is still the same, that range (RFC 9110, 14)."""
        total = file.seek(0, io.SEEK_END)
        headers = {"Accept-Ranges": "bytes", "ETag": etag, "Content-Type": "application/octet-stream"}
        if etag in self.headers.get("If-None-Match", ""):
            self._send(304, io.BytesIO(), headers)
            return
        span = _RANGE.fullmatch(self.headers.get("Range", "").strip())
        if span is None or span[0] == "bytes=-" or self.headers.get("If-Range", etag) != etag:
            self._send(200, file, headers)
            return
        first = int(span[1]) if span[1] else max(0, total - int(span[2]))
        end = min(int(span[2]) + 1, total) if span[1] and span[2] else total
        if first >= end:
            self._send(416, io.BytesIO(), {**headers, "Content-Range": f"bytes */{total}"})
            return
        self._send(206, file, {**headers, "Content-Range": f"bytes {first}-{end - 1}/{total}"}, first, end)

    def _send(
        self, status: int, body: IO[bytes], headers: Mapping[str, str], first: int = 0, end: int | None = None
    ) -> None:
        """A whole answer: the bytes of `body` from `first` to before `end`, and a line about it."""
        size = (body.seek(0, io.SEEK_END) if end is None else end) - first
        body.seek(first)
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 304:
                self.send_header("Content-Length", str(size))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD" and size:
                self.connection.sendfile(body, first, size)
        except OSError:  # the client left, or stopped reading
            self.close_connection = True
        finally:
            sent = body.tell() - first
            broken = "" if sent == size or self.command == "HEAD" else f" of {size}"
            self.server.answered(
                str(self.client_address[0]), f"{self.command} {_shown(self.path)} {status} {sent}{broken}", sent
            )

    def log_message(self, *args: object) -> None:
        """Requests are reported by _send()."""


class _RequestTooLarge(Exception):
    """More came than any request for a file needs."""


class _BoundedRequest(io.RawIOBase):
    """A connection's incoming bytes, within the time and the size that one request may take."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.begin()

    def begin(self) -> None:
        """The next request starts here."""
        self._deadline = time.monotonic() + SECONDS_FOR_A_REQUEST
        self._bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise socket.timeout("the request takes too long")
        self._connection.settimeout(left_s)
        count = self._connection.recv_into(buffer)
        self._bytes += count
        if self._bytes > MOST_REQUEST_BYTES:
            raise _RequestTooLarge
        return count


def _bare_answer(status: str, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()


def _shown(path: str) -> str:
    """What a client sent, fit for a terminal."""
    return path[:500].encode("unicode_escape").decode("ascii")


def _own_address() -> str:
    """An address of this machine that others can reach it by, as far as it can know."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # RFC 5737; no packet is sent, the route alone chooses the address
        return str(probe.getsockname()[0])
    return socket.gethostname()

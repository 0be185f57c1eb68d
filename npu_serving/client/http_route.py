"""The way to a REST API: straight, or through the environment's HTTP proxy; connections with a deadline."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import ipaddress
import os
import queue
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from npu_serving.client.errors import NotSentError
from npu_serving.client.proxy_rules import proxy_variable, shown_variable
from npu_serving.client.tls import Tls
from npu_serving.shown_text import shown_url

SECONDS_TO_CONNECT = 5.0
_SENT_AT_ONCE = 1 << 20


class ProxyRefusedError(OSError):
    """The proxy would not pass the connection on."""


@dataclass(frozen=True)
class Route:
    """Where requests go: the server's URL, and the proxy in between."""

    base_url: str
    scheme: str
    host: str
    port: int
    path: str
    variable: str = ""
    """The environment variable that names the proxy; "" for none."""
    proxy: urllib.parse.SplitResult | None = None

    @property
    def server(self) -> str:
        """The server, for a person and for a Host header's scheme."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def target(self, path: str) -> str:
        """What a request line has: for a proxy that passes plain HTTP on, the whole URL."""
        return (
            f"{self.server}{self.path}{path}" if self.proxy is not None and self.scheme == "http" else self.path + path
        )

    def headers(self) -> dict[str, str]:
        """The headers that a proxy wants of plain HTTP."""
        return self._login() if self.proxy is not None and self.scheme == "http" else {}

    def connect(self, until: float, tls: Tls) -> socket.socket:
        """A connection to the server, or to the proxy, by that moment of the monotonic clock; OSError for none."""
        until = min(until, time.monotonic() + SECONDS_TO_CONNECT)
        proxy = self.proxy
        if proxy is None:
            line = _connected(self.host, self.port, until)
        else:
            line = _connected(proxy.hostname or "", proxy.port or (443 if proxy.scheme == "https" else 80), until)
        try:
            if proxy is not None and proxy.scheme == "https":
                line = _secured(line, ssl.create_default_context(), proxy.hostname or "", until)
            if proxy is not None and self.scheme == "https":
                self._tunnel(line, until)
            if self.scheme == "https":
                line = _secured(line, tls.context(), self.host, until)
        except BaseException:
            line.close()
            raise
        return line

    def _tunnel(self, line: socket.socket, until: float) -> None:
        """Has the proxy pass on whatever follows. ProxyRefusedError with its answer where it won't."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = f"{host}:{self.port}"
        fields = {"Host": place, **self._login()}
        head = f"CONNECT {place} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        timed = TimedSocket(line, until)
        timed.sendall(f"{head}\r\n".encode("latin-1"))
        # Read byte by byte up to the empty line: what follows belongs to TLS.
        answer = bytearray()
        while not answer.endswith(b"\r\n\r\n") and len(answer) < 1 << 16:
            line.settimeout(timed.left())
            piece = line.recv(1)
            if not piece:
                break
            answer += piece
        status = answer.partition(b"\r\n")[0].split(b" ", 2)
        if len(status) < 2 or status[1] != b"200":
            shown = bytes(answer).partition(b"\r\n")[0][:80].decode("ascii", "replace")
            raise ProxyRefusedError(f"it answered {shown!r}")

    def _login(self) -> dict[str, str]:
        if self.proxy is None or self.proxy.username is None:
            return {}
        user, password = (urllib.parse.unquote(part or "") for part in (self.proxy.username, self.proxy.password))
        login = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        return {"Proxy-Authorization": f"Basic {login}"}


def route_to(base_url: str) -> Route:
    """The way to the server at `http://HOST:PORT`, as the environment's proxies have it now.

    NotSentError for another URL, and for a proxy that can't be used; its password is not shown.
    """
    if not isinstance(base_url, str):
        raise NotSentError(
            f"{base_url!r} is not the URL of a server.", cure="write it like http://HOST:PORT", reason="address"
        )
    try:
        parts = urllib.parse.urlsplit(base_url)
        fit = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
        port = parts.port or (443 if parts.scheme == "https" else 80)
        base_url.encode("latin-1")
    except ValueError:  # a port that is not a number, a bracket left open
        fit = False
    if not fit or parts.query or parts.fragment or any(letter <= " " or letter == "\x7f" for letter in base_url):
        raise NotSentError(
            f"{shown_url(base_url)!r} is not the URL of a server.",
            cause="a user in it is not sent: give headers=[('Authorization', ...)]" if "@" in base_url else "",
            cure="write it like http://HOST:PORT",
            reason="address",
        )
    host = parts.hostname or ""
    variable = proxy_variable(parts.scheme, host, port)
    proxy = _proxy(variable, host, parts.scheme) if variable else None
    return Route(base_url.rstrip("/"), parts.scheme, host, port, parts.path.rstrip("/"), variable, proxy)


def _proxy(variable: str, host: str, scheme: str) -> urllib.parse.SplitResult:
    value = os.environ[variable]
    problem = ""
    try:
        parts = urllib.parse.urlsplit(value if "://" in value else f"http://{value}")
        if not parts.hostname or parts.port == 0 or "@" in parts.path + parts.query + parts.fragment:
            problem = "which is not the URL of a proxy (in a password, / ? # @ and : are written as %XX)"
    except ValueError:
        problem = "which is not the URL of a proxy (in a password, / ? # @ and : are written as %XX)"
    if value.lower().startswith("socks"):
        problem = "a SOCKS proxy, and only HTTP proxies are used here"
    elif not problem and parts.scheme not in ("http", "https"):
        problem = "which is not an HTTP proxy"
    elif not problem and parts.scheme == scheme == "https":
        problem = "a proxy that is itself asked by TLS, through which no https:// can be asked here"
    if problem:
        raise NotSentError(
            f"Can't ask {host} through the proxy that is set: {shown_variable(variable)}, {problem}.",
            cure=f"set {variable} to an HTTP proxy (http://HOST:PORT), or add {host} to no_proxy",
            reason="proxy-setting",
        )
    return parts


class HttpLine(http.client.HTTPConnection):
    """One connection along a route; reading and writing end at `until`, a moment of the monotonic clock."""

    def __init__(self, route: Route, tls: Tls) -> None:
        super().__init__(route.host, route.port)
        self.route = route
        self.tls = tls
        self.until = 0.0
        self.was_used = False

    def connect(self) -> None:
        """Connects; http.client calls it before the first request."""
        self.sock: Any = TimedSocket(self.route.connect(self.until, self.tls), self.until)

    def begin(self, until: float) -> None:
        """Sets the deadline of the request that follows."""
        self.until = until
        if self.sock is not None:
            self.sock.until = until

    @property
    def is_stale(self) -> bool:
        """Whether the other side has closed it, or sent something unrequested."""
        return self.sock is not None and self.sock.has_news


class TimedSocket:
    """A socket as http.client uses one, with one deadline for all that is read and written."""

    def __init__(self, line: socket.socket, until: float) -> None:
        self._line = line
        self._readers = 0
        self._closing = False
        self.until = until

    def left(self) -> float:
        """The seconds that are left. TimeoutError where there are none."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    @property
    def has_news(self) -> bool:
        """Whether something can be read now, be it the end."""
        self._line.settimeout(0.0)
        try:
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
                self._line.recv(1)
                return True
        except OSError:
            return True
        return False

    def sendall(self, data: Any) -> None:
        """Sends all of it."""
        view = memoryview(data).cast("B")
        while view:
            self._line.settimeout(self.left())
            view = view[self._line.send(view[:_SENT_AT_ONCE]) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What answers are read from."""
        self._readers += 1
        return io.BufferedReader(_TimedReader(self), 1 << 16)

    def read_into(self, buffer: Any) -> int:
        """What has come, as much as fits; 0 at the end."""
        self._line.settimeout(self.left())
        return self._line.recv_into(buffer)

    def reader_closed(self) -> None:
        """One reader less: the last one ends a connection that was to be closed."""
        self._readers -= 1
        self._end()

    def close(self) -> None:
        """Closes it, when its last answer has been read."""
        self._closing = True
        self._end()

    def _end(self) -> None:
        if self._closing and self._readers <= 0:
            self._line.close()


class _TimedReader(io.RawIOBase):
    def __init__(self, of: TimedSocket) -> None:
        self._of = of

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._of.read_into(buffer)

    def close(self) -> None:
        if not self.closed:
            self._of.reader_closed()
        super().close()


def _connected(host: str, port: int, until: float) -> socket.socket:
    """A connection to the first address of the host that takes one."""
    last: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, address in _addresses(host, port, until):
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        line = socket.socket(family, kind, protocol)
        try:
            line.settimeout(left)
            line.connect(address)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            last = error
            line.close()
            continue
        return line
    raise last


def _addresses(host: str, port: int, until: float) -> Iterator[tuple[int, int, int, Any]]:
    """The host's addresses; a name is looked up in a thread, as nothing else ends that in time."""
    outcome: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            outcome.put(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            outcome.put(error)

    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host.partition("%")[0])
        look_up()
    if outcome.empty():
        threading.Thread(target=look_up, daemon=True).start()
    try:
        found = outcome.get(timeout=max(until - time.monotonic(), 0.0))
    except queue.Empty:
        raise TimeoutError("timed out") from None
    if isinstance(found, UnicodeError):
        raise socket.gaierror(f"{host!r} is not the name of a host") from found
    if isinstance(found, Exception):
        raise found
    return ((family, kind, protocol, address) for family, kind, protocol, _, address in found)


def _secured(line: socket.socket, context: ssl.SSLContext, host: str, until: float) -> socket.socket:
    line.settimeout(max(until - time.monotonic(), 0.001))
    return context.wrap_socket(line, server_hostname=host)

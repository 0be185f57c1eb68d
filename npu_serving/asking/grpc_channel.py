"""A channel to a server's gRPC API: its address, how it is opened, and what makes the server unreachable."""

from __future__ import annotations

import os
import re
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from npu_serving import proxies
from npu_serving.asking.grpc_tls import WITHOUT_FILES, ClientTls, tls_error
from npu_serving.errors import GatewayError, NpuServingError, RequestError, ServerError, UnreachableError
from npu_serving.shown_text import in_a_line, shown_url

if TYPE_CHECKING:
    import grpc

SCHEME, TLS_SCHEME = "grpc", "grpcs"
PORT = 8500
MOST_ANSWER_BYTES = 1 << 30  # grpc's own limit is 4 MB
_HTTP_STATUS = re.compile(r"http2 header with status: ([0-9]{3})")
_NO_HTTP2 = ("http1", "HTTP/1", "Failed parsing HTTP/2")
_CLOSED = ("Socket closed", "Connection reset", "Broken pipe", "GOAWAY")
# Those that grpc itself reads, in its order.
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")


@dataclass(frozen=True)
class GrpcAddress:
    """Where a server's gRPC API is."""

    host: str
    port: int
    has_tls: bool = False

    def __str__(self) -> str:
        return f"{TLS_SCHEME if self.has_tls else SCHEME}://{self.target}"

    @property
    def target(self) -> str:
        """As grpc wants it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_grpc(url: str) -> bool:
    """Whether the URL means the gRPC API."""
    return url.partition("://")[0].lower() in (SCHEME, TLS_SCHEME) and "://" in url


def grpc_address(url: str) -> GrpcAddress:
    """The address in `grpc://HOST:PORT`, `grpcs://` for TLS; 8500 without a port. RequestError for another text."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", PORT if parts.port is None else parts.port
        fit = is_grpc(url) and bool(re.fullmatch(r"[A-Za-z0-9._:%-]+", host)) and port != 0
    except ValueError:
        fit = False
    if not fit or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise RequestError(
            f"{shown_url(url)!r} is not the address of a gRPC server.",
            cure=f"write it like {SCHEME}://HOST:{PORT}, without a path and without a user",
        )
    return GrpcAddress(host, port, parts.scheme.lower() == TLS_SCHEME)


def import_grpc() -> None:
    """Loads grpc, which else would write its own lines about a connection beside ours."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import grpc  # noqa: F401


def open_channel(address: GrpcAddress, tls: ClientTls = WITHOUT_FILES) -> grpc.Channel:
    """A channel to that server."""
    import grpc

    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", MOST_ANSWER_BYTES),
        ("grpc.min_reconnect_backoff_ms", 5000),  # also how long a connection may take
        ("grpc.enable_retries", 0),
    ]
    if proxies.is_this_machine(address.host):
        options.append(("grpc.enable_http_proxy", 0))
    if address.has_tls:
        return grpc.secure_channel(address.target, tls.credentials(), options=options)
    if tls.flags:
        raise RequestError(
            f"{' and '.join(tls.flags)} would have no effect without TLS.",
            cause=f"{address} is asked in plain text",
            cure=f"write --url {TLS_SCHEME}://{address.target}, or leave them out",
        )
    return grpc.insecure_channel(address.target, options=options)


def said_by(error: Any) -> str:
    """What grpc, or the server, says of an error, in one line."""
    return in_a_line(" ".join((error.details() or "").split()))


def connection_error(address: GrpcAddress, error: Any, tls: ClientTls = WITHOUT_FILES) -> NpuServingError | None:
    """What stands between here and the server, by grpc's own words; None where the server itself has answered."""
    import grpc

    said = said_by(error)
    of_http = _HTTP_STATUS.search(said)
    if of_http is not None:
        return _gateway(address, of_http[1])
    return _unavailable(address, said, tls) if error.code() == grpc.StatusCode.UNAVAILABLE else None


def another_program(address: GrpcAddress, what: str) -> ServerError:
    """The error for a program that isn't TensorFlow Serving's gRPC API; `what` says by what that is seen."""
    return ServerError(
        f"The program at {address} is not TensorFlow Serving's gRPC API: {what}.",
        cause="another program, or the server's REST API, uses this port",
        cure=f"use the gRPC port of the server (--port, usually {PORT})",
    )


def _unavailable(address: GrpcAddress, said: str, tls: ClientTls) -> NpuServingError:
    variable = _proxy(address)
    if "refused" in said and not variable:  # else it is the proxy that refuses
        return UnreachableError(
            f"Nothing listens at {address}.",
            cause="the server is not running, is still loading its models, or has its gRPC API on another port",
            cure="start one with ./inv serve, or correct the address",
        )
    of_tls = tls_error(str(address), said, tls) if address.has_tls else None
    if of_tls is not None:
        return of_tls
    if any(sign in said for sign in _NO_HTTP2):
        return another_program(address, f"it does not speak HTTP/2 ({said})")
    if any(sign in said for sign in _CLOSED):
        return UnreachableError(
            f"{address} closed the connection before it had answered ({said}).",
            cause="the server has ended at this request, wants TLS, or a gateway between here and there gave up",
            cure="./inv status MODEL says whether it runs, and how one ended that ./inv serve ran here; with TLS, "
            f"ask it so: --url {TLS_SCHEME}://{address.target} --ca FILE",
        )
    if "resol" in said.lower() or "dns" in said.lower():
        return UnreachableError(
            f"The host of {address} is not known ({said}).", cause="a typing error", cure="correct the address"
        )
    through = f"the proxy that {variable} names is asked first and may not pass it on; " if variable else ""
    return UnreachableError(
        f"Got no answer from {address} ({said}).",
        cause=f"{through}the host is down, a firewall blocks that port, the server has ended at this request, or "
        "the port does not speak gRPC",
        cure=f"use the host and the gRPC port of the server (--port, usually {PORT})"
        + (f", or add {address.host} to no_proxy" if through else ""),
    )


def _gateway(address: GrpcAddress, status: str) -> GatewayError:
    variable = _proxy(address)
    cause = "a gateway between here and there does not pass gRPC on, or wants a login"
    if variable:
        cause = f"the proxy that {variable} names is asked first, and does not pass it on"
    return GatewayError(
        f"A gateway or proxy answered in place of the server at {address}: HTTP status {status}.",
        cause=cause,
        cure=f"add {address.host} to no_proxy" if variable else "use the server's own gRPC port (--port)",
    )


def _proxy(address: GrpcAddress) -> str:
    """The variable whose proxy grpc asks for this host; "" where it asks none."""
    from requests.utils import should_bypass_proxies

    if proxies.is_this_machine(address.host) or should_bypass_proxies(f"http://{address.target}", None):
        return ""
    return next((name for name in _PROXIES if os.environ.get(name)), "")

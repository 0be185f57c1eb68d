"""Where a gRPC server is: `host:port`, `grpc://`, `grpcs://`, `dns:///`, `unix:`, or a list of addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass

from npu_serving.client.errors import NotSentError
from npu_serving.client.proxy_rules import is_excepted, is_this_machine
from npu_serving.shown_text import shown_url

SCHEME, TLS_SCHEME = "grpc", "grpcs"
PORT = 8500
_HOST = r"(?:\[(?P<v6>[0-9A-Fa-f:.%A-Za-z0-9_-]+)\]|(?P<name>[A-Za-z0-9._%-]+))"
_HOST_AND_PORT = re.compile(rf"{_HOST}(?::(?P<port>[0-9]{{1,5}}))?")
_DNS = re.compile(r"dns:(?://[A-Za-z0-9.:_-]*/)?(?P<rest>[^/]+)", re.IGNORECASE)
_LIST = re.compile(r"(?:ipv4|ipv6):(?://)?/?(?P<rest>.+)", re.IGNORECASE)
_UNIX = re.compile(r"unix(?:-abstract)?:.+", re.IGNORECASE)


@dataclass(frozen=True)
class GrpcAddress:
    """Where a server's gRPC API is."""

    text: str
    """For a person: it has no login, as none is taken."""
    target: str
    """As grpc wants it."""
    host: str = ""
    """The host that a proxy might be asked for; "" for sockets and lists of addresses, for which none ever is."""
    port: int = PORT
    has_tls: bool = False

    def __str__(self) -> str:
        return self.text

    @property
    def is_direct(self) -> bool:
        """Whether no proxy may be asked for it, whatever the environment names."""
        if not self.host or is_this_machine(self.host):
            return True
        return is_excepted(self.host, self.port, ("no_grpc_proxy", "no_proxy", "NO_PROXY"))

    @property
    def variables_that_count(self) -> tuple[str, ...]:
        """Those with a proxy that grpc itself reads, in its order; none where no proxy is asked."""
        return () if self.is_direct else ("grpc_proxy", "https_proxy", "http_proxy")


def is_grpc(url: str) -> bool:
    """Whether the text begins like a gRPC address with a scheme, and so not like the URL of a REST API."""
    return url.partition("://")[0].lower() in (SCHEME, TLS_SCHEME) and "://" in url


def grpc_address(target: str, *, has_tls: bool = False) -> GrpcAddress:
    """The address in `target`; the port is 8500 where it names none. NotSentError for another text.

    It is `host:port`, `grpc://host:port`, with TLS `grpcs://host:port`; or what grpc itself takes: a name with
    several addresses `dns:///host:port`, a socket `unix:/path`, a list `ipv4:1.2.3.4:8500,5.6.7.8:8500`.
    """
    if not isinstance(target, str):
        raise NotSentError(
            f"{target!r} is not the address of a gRPC server.",
            cure=f"write it like {SCHEME}://HOST:{PORT}; several like ipv4:1.2.3.4:{PORT},5.6.7.8:{PORT}",
            reason="address",
        )
    scheme, separator, rest = target.partition("://")
    if _UNIX.fullmatch(target) and "\0" not in target:
        return GrpcAddress(target, target, has_tls=has_tls)
    listed, named = _LIST.fullmatch(target), _DNS.fullmatch(target)
    if listed is not None and all(_host_and_port(item) for item in listed["rest"].split(",")):
        return GrpcAddress(target, target, has_tls=has_tls)
    if named is not None:
        found = _host_and_port(named["rest"])
        if found is not None:
            return GrpcAddress(target, target, *found, has_tls=has_tls)
    elif not separator or scheme.lower() in (SCHEME, TLS_SCHEME):
        found = _host_and_port(rest[:-1] if separator and rest.endswith("/") else rest if separator else target)
        if found is not None:
            host, port = found
            tls = scheme.lower() == TLS_SCHEME if separator else has_tls
            place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            return GrpcAddress(f"{TLS_SCHEME if tls else SCHEME}://{place}", place, host, port, tls)
    is_rest = scheme.lower() in ("http", "https")
    raise NotSentError(
        f"{shown_url(target)!r} is not the address of a gRPC server.",
        cause="it is the URL of a REST API, which RestClient asks" if is_rest else "",
        cure=f"write it like {SCHEME}://HOST:{PORT}, without a path and without a user",
        reason="address",
    )


def _host_and_port(text: str) -> tuple[str, int] | None:
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None:
        return None
    port = PORT if found["port"] is None else int(found["port"])
    return (found["v6"] or found["name"], port) if 0 < port < 1 << 16 else None

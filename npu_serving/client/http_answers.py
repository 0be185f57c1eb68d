"""What an HTTP answer is: the model server's own, or that of a gateway, a login page, a redirection in its place.

TensorFlow Serving's statuses are those of http_rest_api_util.cc at 1.15.0. Every other is known by a body that isn't
{"error": ...}, with what RFC 9110 says of the status and what nginx and HAProxy send.
"""

from __future__ import annotations

import http
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from npu_serving.client.errors import (
    BusyError,
    ClientError,
    DeadlineError,
    ExpiredError,
    FailedError,
    FromGatewayError,
    RefusedError,
    TooLargeForGatewayError,
)

REDIRECTIONS = range(300, 400)
NEVER_THE_SERVERS = frozenset({407, 411, 413, 502})  # whatever the body looks like
_ERROR_BODY = re.compile(rb'\s*\{\s*"error"\s*:\s*"(.*)"\s*\}\s*', re.DOTALL)
_C_ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)", re.DOTALL)
_C_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_TITLE = re.compile(rb"<title[^>]*>([^<]{0,200})", re.IGNORECASE)
_TAG = re.compile(rb"<[^>]*>")
_EXCERPT_BYTES = 80
_LOOKED_AT_BYTES = 1 << 14
_LOGIN = re.compile(r"log[-_]?in|sign[-_]?in|auth|sso", re.IGNORECASE)
_HTTPS_PORT = "plain HTTP request was sent to HTTPS port"
_GATEWAYS = re.compile(
    "nginx|openresty|tengine|haproxy|envoy|istio|traefik|kong|apisix|apache|caddy|cloudflare|awselb|elb|varnish|squid|"
    "gunicorn|oauth2-proxy|google frontend|microsoft-azure-application-gateway|bfe",
    re.IGNORECASE,
)
_PAST_IT = "ask the server itself, past the gateway, at its REST port (usually 8501)"


@dataclass(frozen=True)
class HttpAnswer:
    """What came back: the HTTP status, the headers (in any case), and the body as it came."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    proxy: str = ""
    """The environment variable with the proxy through which it was asked for; "" for none."""

    @property
    def signature(self) -> str:
        """Who answered, for a person: the status in words and the Server header."""
        try:
            reason = f" ({http.HTTPStatus(self.status).phrase})"
        except ValueError:
            reason = ""
        server = _printable(self.headers.get("Server", ""))
        return f"HTTP status {self.status}{reason}" + (f", Server: {server}" if server else ", no Server header")

    @property
    def excerpt(self) -> str:
        """What the body is, for a person: an HTML page by its title, otherwise its beginning."""
        start = self.body[:_LOOKED_AT_BYTES]
        title = _TITLE.search(start)
        if title is not None:
            return f"an HTML page, {_printable(title[1].decode(errors='replace').strip())!r}"
        if start.lstrip()[:1] == b"<":
            start = b" ".join(_TAG.sub(b" ", start).split())
        return repr(start[:_EXCERPT_BYTES].decode(errors="replace")) if start.strip() else "an empty body"


@dataclass(frozen=True)
class _GatewayStatus:
    """What a status means where a gateway sends it; `by_name` where its Server header has to name one."""

    cause: str
    cure: str
    by_name: bool = False


_STATUSES: Mapping[int, _GatewayStatus] = {
    401: _GatewayStatus(
        "the gateway asks for a login: it lets nobody through without one",
        "give it: headers=[('Authorization', ...)]; or " + _PAST_IT,
    ),
    403: _GatewayStatus(
        "the gateway forbids this request: it has a rule against this address, path or method",
        f"{_PAST_IT}, or have the gateway let this machine through",
    ),
    404: _GatewayStatus(
        "the gateway has nothing at this path: it passes on other paths only, such as those below a prefix",
        f"write the prefix into the URL: http://HOST/PREFIX, or {_PAST_IT}",
        by_name=True,
    ),
    405: _GatewayStatus(
        "the gateway does not take this method here: it does not pass POST on to a model server at this path",
        f"write the prefix that it passes on into the URL: http://HOST/PREFIX, or {_PAST_IT}",
        by_name=True,
    ),
    407: _GatewayStatus(
        "the gateway is a proxy that asks for a login",
        "add the server's host to the environment variable no_proxy, or write the login into http_proxy",
    ),
    408: _GatewayStatus(
        "the gateway gave up before it had the whole request: the request is large, or the line is slow",
        "send fewer instances in one request, or lengthen the gateway's timeout for requests",
    ),
    411: _GatewayStatus("the gateway wants a length, which a program in between took away", _PAST_IT),
    413: _GatewayStatus(
        "the gateway refuses requests of this size: its limit is lower than the model server's, which has none "
        "(1 MB in nginx by default)",
        f"raise the gateway's limit (nginx: client_max_body_size 100m;), or send fewer instances in one request, or "
        f"{_PAST_IT}",
    ),
    421: _GatewayStatus(
        "the gateway serves other hosts only, which it tells by their name", "use the name that it has"
    ),
    426: _GatewayStatus(
        "the gateway wants another protocol: that port of it is for gRPC (HTTP/2), or for HTTPS",
        "use the REST port of the gateway or of the server (usually 8501)",
    ),
    429: _GatewayStatus(
        "the gateway lets through fewer requests than these",
        "wait, then try again; or raise that limit (nginx limit_req)",
    ),
    431: _GatewayStatus(
        "the gateway refuses headers of this size: the name of the model or of a header is very long",
        "give the model a shorter name, or leave headers out",
    ),
    500: _GatewayStatus(
        "the gateway failed itself: its configuration, or a program that it asks first, is at fault",
        f"read the gateway's own log, or {_PAST_IT}",
        by_name=True,
    ),
    502: _GatewayStatus(
        "the gateway got no valid answer from the model server: that has ended or is just starting, or it does not ask "
        "its REST port (but the gRPC port)",
        "see whether the server runs, then compare the gateway's address with --rest_api_port",
    ),
    503: _GatewayStatus(
        "the gateway has no model server that it could ask: none is running, or its health check counts each as down",
        "see whether the server runs; the gateway's health check may ask GET /v1/models/MODEL",
    ),
    504: _GatewayStatus(
        "the gateway gave up waiting for the model server: the model needs longer than it waits; the first request "
        "after a start compiles it for the NPU, which takes minutes",
        f"lengthen the gateway's timeout (nginx: proxy_read_timeout 600s;), or {_PAST_IT}",
    ),
}


@dataclass(frozen=True)
class Redirection:
    """Where an answer sends to, which is never followed."""

    cause: str
    cure: str = ""
    """What helps whoever asked by whatever means; "" where that is another URL, or to ask past the gateway."""
    does: str = ""
    """The place, for the sentence that says who answered; "" where there is none."""
    base: str = ""
    """The URL of the REST API over there; "" where it does not look like one."""


def error_message(body: bytes) -> str | None:
    """The message of an answer `{"error": "..."}`, or None if the body isn't one.

    TensorFlow Serving escapes the message as C would (absl::CEscape): a single quote or a letter beyond ASCII makes
    the body invalid JSON, so it is read by C's rules.
    """
    found = _ERROR_BODY.fullmatch(body)
    if found is None:
        return None
    return _C_ESCAPE.sub(_unescaped, found.group(1)).decode(errors="replace")


def gateway_failure(answer: HttpAnswer, message: str | None) -> ClientError | None:
    """The error for an answer that a gateway gave in the model server's place, or None for the server's own.

    `message` is that of error_message(); None for any other body.
    """
    if message is not None and answer.status not in NEVER_THE_SERVERS:
        return None
    if answer.status in REDIRECTIONS:
        to = redirection_of(answer)
        return _failure(answer, to.cause, to.cure or (f"write that one: {to.base}" if to.base else _PAST_IT), to.does)
    if _HTTPS_PORT in answer.excerpt:
        return _failure(answer, "the gateway speaks HTTPS only, and the URL says http", "write https in place of http")
    known = _STATUSES.get(answer.status)
    if known is None or (known.by_name and not _GATEWAYS.search(answer.headers.get("Server", ""))):
        return None
    return _failure(answer, known.cause, known.cure)


def server_failure(answer: HttpAnswer, message: str) -> ClientError:
    """The error for TensorFlow Serving's own answer, but for a model that it doesn't have."""
    what = f"The server answered {answer.url} with HTTP status {answer.status} ({message})."
    status, reason = answer.status, f"server-{answer.status}"
    if status in (400, 412):
        return RefusedError(what, cure="give each input with its type and shape", reason=reason)
    if status in (401, 403):
        return FromGatewayError(
            what,
            cause="a gateway in front of the server wants a login or forbids this request, and writes its refusals as "
            "the server would; or the model reads a file that the server's user may not read",
            cure=f"{_PAST_IT}; where it says the same, make the file readable for the server's user",
            reason=reason,
        )
    if status == 429:
        return ExpiredError(
            what,
            cause="the request waited in the batching queue until its time was over",
            cure="try again later (retries=N does), send fewer requests at once, or allow more batch threads",
            reason=reason,
        )
    if status == 501:
        return FailedError(
            what,
            cause="the REST API has no way to write this type of value (half, bfloat16, complex)",
            cure="ask for it by gRPC",
            reason=reason,
        )
    if status == 503:
        return BusyError(
            what,
            cause="the batching queue is full, or no version of the model is available",
            cure="try again later (retries=N does), send fewer requests at once, or raise max_enqueued_batches",
            reason=reason,
        )
    if status == 504:
        return DeadlineError(
            what,
            cause="the server's own REST timeout is over (30 s unless --rest_api_timeout_in_ms says otherwise); the "
            "first request compiles the model for the NPU, which takes minutes",
            cure="start the server with --rest_api_timeout_in_ms=600000, then try again",
            reason=reason,
        )
    return FailedError(what, cure="ask for the model's status(), and look at the server's log", reason=reason)


def _failure(answer: HttpAnswer, cause: str, cure: str, does: str = "") -> ClientError:
    kind = TooLargeForGatewayError if answer.status == 413 else FromGatewayError
    if answer.proxy:
        host = urllib.parse.urlsplit(answer.url).hostname or ""
        cause = f"it is the proxy of {answer.proxy}, which does not reach the server; or {cause}"
        cure = f"add {host} to no_proxy; if it says the same, {cure}"
    return kind(
        f"A gateway answered {answer.url} in the model server's place{does} ({answer.signature}; {answer.excerpt}).",
        cause=cause,
        cure=cure,
        reason=f"gateway-{answer.status}",
        status=str(answer.status),
    )


def redirection_of(answer: HttpAnswer) -> Redirection:
    """Where the answer sends to."""
    location = answer.headers.get("Location", "")
    if not location:
        return Redirection("it redirects without a Location", "use the REST port of the server (--rest_api_port)")
    try:
        target = urllib.parse.urlsplit(urllib.parse.urljoin(answer.url, location))
        host = target.hostname or ""
        port = f":{target.port}" if target.port else ""
    except ValueError:
        return Redirection("it redirects to a place that is not a URL", "ask whoever runs the gateway")
    host = f"[{host}]" if ":" in host else host
    place = f"{target.scheme}://{host}{port}"
    shown = _printable(f"{place}{target.path}" + ("?..." if target.query else ""))  # a query may hold a secret
    does = f": it redirects to {shown} (Location), which is not followed"
    asked = urllib.parse.urlsplit(answer.url).path
    begins = asked.find("/v1/")
    api = asked[begins:] if begins >= 0 else asked
    if target.path.rstrip("/").endswith(api) and not target.query:
        base = _printable(place + target.path.rstrip("/")[: -len(api)])
        return Redirection("the server is reached by another URL", does=does, base=base)
    cause = "it asks for a login first" if _LOGIN.search(shown) else "it passes other paths only on to a model server"
    return Redirection(cause, does=does)


def _unescaped(found: re.Match[bytes]) -> bytes:
    code = found.group(1)
    if code[:1].isdigit() and code[:1] < b"8":
        return bytes([int(code, 8) & 0xFF])
    if code[:1] == b"x" and len(code) > 1:
        return bytes([int(code[1:], 16)])
    return _C_LETTERS.get(code, code)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)

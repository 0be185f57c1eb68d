"""What a gRPC status means where TensorFlow Serving 1.15.0 sent it, and where grpc itself or a gateway did.

grpc uses some statuses for its own ends: RESOURCE_EXHAUSTED is a queue in which a request expired, and also a message
over a limit, of which some are this client's own; UNAVAILABLE is a full queue, and a server that is not there.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from npu_serving.client.address import PORT, TLS_SCHEME
from npu_serving.client.channel import ChannelSettings
from npu_serving.client.errors import (
    AnswerTooLargeError,
    BusyError,
    ClientError,
    DeadlineError,
    ExpiredError,
    FailedError,
    FromGatewayError,
    MalformedAnswerError,
    NotReachedError,
    RefusedError,
    TooLargeForGatewayError,
    UnknownModelError,
)
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.tls import tls_error
from npu_serving.shown_text import in_a_line

_HTTP_STATUS = re.compile(r"http2 header with status: ([0-9]{3})")
_LIMIT = re.compile(r"(?P<by>CLIENT: |SERVER: )?.*larger than max \((?P<size>\d+) vs\.? (?P<most>\d+)\)")
_NO_HTTP2 = ("http1", "HTTP/1", "Failed parsing HTTP/2")
_NO_GRPC = ("END_STREAM", "Failed parsing HTTP/2", "Error parsing")  # such as a web page with status 200
_CLOSED = ("Socket closed", "Connection reset", "Broken pipe", "GOAWAY")
_PAST_IT = "use the server's own gRPC port (--port)"
_GATEWAY_MEANS = {
    "3": ("the gateway redirects to another address, which gRPC does not follow", _PAST_IT),
    "401": (
        "the gateway asks for a login: it lets nobody through without one",
        f"give it: metadata=[('authorization', ...)]; or {_PAST_IT}",
    ),
    "403": ("the gateway forbids this request: it has a rule against this address or path", _PAST_IT),
    "429": ("the gateway lets through fewer requests than these", "wait, then try again; or raise that limit"),
    "502": (
        "the gateway got no valid answer from the model server: that has ended or is just starting, or the gateway "
        "asks its REST port",
        f"see whether the server runs, then compare the gateway's address with --port; or {_PAST_IT}",
    ),
    "503": (
        "the gateway has no model server that it could ask: none is running, or its health check counts each as down",
        f"see whether the server runs, and how the gateway checks it; or {_PAST_IT}",
    ),
    "504": (
        "the gateway gave up waiting for the model server: the model needs longer than it waits; the first request "
        "after a start compiles it for the NPU, which takes minutes",
        f"lengthen the gateway's timeout (nginx: grpc_read_timeout 600s;), or {_PAST_IT}",
    ),
    "": ("a gateway between here and there does not pass gRPC on, or wants a login", _PAST_IT),
}
"""What an HTTP status means where a gateway sends it in place of gRPC's, and what helps."""
COMPILING = "it is busy; the first request after a start compiles the model for the NPU, which takes minutes"


@dataclass(frozen=True)
class GrpcQuestion:
    """What was asked, as far as an error shows it."""

    settings: ChannelSettings
    method: str
    spec: ModelSpec
    request_bytes: int
    timeout_s: float
    takes: str = ""
    """A sentence with the inputs of the signature; "" where it isn't known."""

    @property
    def service(self) -> str:
        """The service that has the method."""
        return self.method.rpartition("/")[0].lstrip("/")


def said_by(error: Any) -> str:
    """What grpc, or the server, says of an error, in one line."""
    return in_a_line(" ".join((error.details() or "").split()))


def grpc_failure(error: Any, asked: GrpcQuestion) -> ClientError:
    """The error of this library for one of grpc's."""
    found = _failure(error.code().name, said_by(error), asked)
    found.status = found.status or error.code().name
    found.said = "" if found.reason == "unknown-proxy" else said_by(error)
    found.details["status"] = found.status
    found.address = str(asked.settings.address)
    return found.about(asked.spec.name, asked.spec.version)


def another_program(asked: GrpcQuestion, what: str) -> ClientError:
    """The error for a program that isn't TensorFlow Serving's gRPC API; `what` says by what that is seen."""
    found = MalformedAnswerError(
        f"The program at {asked.settings.address} is not TensorFlow Serving's gRPC API: {what}.",
        cause="another program, or the server's REST API, uses this port",
        cure=f"use the gRPC port of the server (--port, usually {PORT})",
        reason="another-program",
    )
    found.address = str(asked.settings.address)
    return found.about(asked.spec.name, asked.spec.version)


def _failure(code: str, said: str, asked: GrpcQuestion) -> ClientError:
    spec, address = asked.spec, asked.settings.address
    if code == "UNAVAILABLE" and "queue" in said:
        return BusyError(
            f"The server at {address} is too busy ({said}).",
            cause="the queue of requests that wait for a batch is full",
            cure="try again later (retries=N does), or raise max_enqueued_batches in the server's batching parameters",
            reason="queue-full",
        )
    of_http = _HTTP_STATUS.search(said)
    if of_http is not None:
        return _gateway(of_http[1], asked)
    if code == "UNAVAILABLE":
        return _unavailable(said, asked)
    if said.startswith("Stream removed (") and any(sign in said for sign in _NO_GRPC):
        return another_program(asked, f"it speaks HTTP/2, but no gRPC ({said})")
    if code == "NOT_FOUND":
        return UnknownModelError(
            f"The server at {address} has no model {spec.name!r}{_version(spec)} ({said}).",
            cause="the server was started with another name, version or label, or the model is not loaded",
            cure="choose a model and a version that the server has: status() says those of a model",
            reason="unknown-model",
        )
    if code in ("INVALID_ARGUMENT", "FAILED_PRECONDITION"):
        return RefusedError(
            f"The model {spec.name!r} rejected the request ({said}).",
            cause=asked.takes,
            cure="give each input with its type and shape",
            reason="rejected",
        )
    if code == "DEADLINE_EXCEEDED":
        return DeadlineError(
            f"{address} did not answer within {asked.timeout_s:g} s.",
            cause=COMPILING,
            cure="ask for the model's status(), then try again, or with a longer timeout_s",
            reason="deadline",
        )
    if code == "RESOURCE_EXHAUSTED":
        return _exhausted(said, asked)
    if code == "UNIMPLEMENTED" and not (asked.takes and said):  # else the service is there, and its model says so
        return another_program(asked, f"it does not know {asked.service} ({said})")
    return FailedError(
        f"The server at {address} answered with {code} ({said}).",
        cure="ask for the model's status(), and look at the server's log",
        reason="failed",
    )


def _version(spec: ModelSpec) -> str:
    if spec.version is not None:
        return f" in version {spec.version}"
    return f" with the label {spec.label!r}" if spec.label else ""


def _exhausted(said: str, asked: GrpcQuestion) -> ClientError:
    address, found = asked.settings.address, _LIMIT.search(said)
    if found is None:
        return ExpiredError(
            f"The server at {address} is too busy ({said}).",
            cause="the request waited in a queue until its time was over, or memory ran out",
            cure="try again later (retries=N does), or send fewer requests at a time",
            reason="expired",
        )
    size, most = int(found["size"]), int(found["most"])
    if found["by"] == "CLIENT: " or (not found["by"] and most == asked.settings.max_message_bytes):
        return AnswerTooLargeError(
            f"The answer of {address} has {size_text(size)}, and was not read.",
            cause=f"this client reads no more than {size_text(most)} of one answer (max_message_bytes={most})",
            cure="send fewer instances in one request, or give the client a larger max_message_bytes",
            reason="answer-too-large",
        )
    return TooLargeForGatewayError(
        f"{address} takes no request of {size_text(asked.request_bytes)} ({said}).",
        cause=f"its limit is {size_text(most)}; TensorFlow Serving itself takes 2 GiB, so this is the "
        "limit of a gateway between here and there",
        cure="raise the gateway's limit, use the server's own gRPC port, or send fewer instances in one request",
        reason="too-large-for-gateway",
    )


def _unavailable(said: str, asked: GrpcQuestion) -> ClientError:
    address, tls = asked.settings.address, asked.settings.tls
    variable = _proxy_variable(asked)
    if "refused" in said and not variable:  # else it is the proxy that refuses
        return NotReachedError(
            f"Nothing listens at {address}.",
            cause="the server is not running, is still loading its models, or has its gRPC API on another port",
            cure="start one, wait until it is ready, or correct the address",
            reason="nothing-listens",
        )
    of_tls = tls_error(str(address), said, tls) if address.has_tls else None
    if of_tls is not None:
        return of_tls
    if any(sign in said for sign in _NO_HTTP2):
        return another_program(asked, f"it does not speak HTTP/2 ({said})")
    if any(sign in said for sign in _CLOSED):
        return NotReachedError(
            f"{address} closed the connection before it had answered ({said}).",
            cause="the server has ended at this request, wants TLS, or a gateway between here and there gave up",
            cure=f"see whether it runs; with TLS, ask {TLS_SCHEME}://{address.target} with tls=Tls(ca=FILE)",
            reason="closed",
        )
    of_names = "resol" in said.lower() or "dns" in said.lower()
    if of_names and variable:  # only the proxy's name is looked up here; grpc's words may hold what is before its @
        return NotReachedError(
            f"The host of the proxy that {variable} names is not known, so {address} was not asked.",
            cause="a typing error in it, or a character in its password that has to be written as %XX (# as %23)",
            cure=f"correct {variable}, or add {address.host} to no_proxy",
            reason="unknown-proxy",
        )
    if of_names:
        return NotReachedError(
            f"The host of {address} is not known ({said}).",
            cause="a typing error",
            cure="correct the address",
            reason="unknown-host",
        )
    through = f"the proxy that {variable} names is asked first and may not pass it on; " if variable else ""
    return NotReachedError(
        f"Got no answer from {address} ({said}).",
        cause=f"{through}the host is down, a firewall blocks that port, the server has ended at this request, or "
        "the port does not speak gRPC",
        cure=f"use the host and the gRPC port of the server (--port, usually {PORT})"
        + (f", or add {address.host} to no_proxy" if through else ""),
        reason="no-answer",
    )


def _gateway(status: str, asked: GrpcQuestion) -> ClientError:
    address, variable = asked.settings.address, _proxy_variable(asked)
    what = f"A gateway or proxy answered in place of the server at {address}: HTTP status {status}."
    cause, cure = _GATEWAY_MEANS.get(status[0] if status[0] == "3" else status, _GATEWAY_MEANS[""])
    if status == "413":
        return TooLargeForGatewayError(
            what,
            cause=f"it takes no request of {size_text(asked.request_bytes)} (nginx takes 1 MB by default)",
            cure="raise its limit (nginx: client_max_body_size 100m;), use the server's own gRPC port (--port), "
            "or send fewer instances in one request",
            reason="too-large-for-gateway",
            status=status,
        )
    if variable:
        cause = f"the proxy that {variable} names is asked first, and does not pass it on"
        cure = f"add {address.host} to no_proxy"
    return FromGatewayError(what, cause=cause, cure=cure, reason="gateway", status=status)


def _proxy_variable(asked: GrpcQuestion) -> str:
    """The variable whose proxy grpc asks for this host; "" where it asks none."""
    return next((name for name in asked.settings.address.variables_that_count if os.environ.get(name)), "")


def size_text(count: int) -> str:
    """A number of bytes for a person: `12.6 MB`."""
    if count < 1000:
        return f"{count} bytes"
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"

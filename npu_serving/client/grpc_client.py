"""TensorFlow Serving's gRPC API: predictions and signatures, with the messages of messages.py, no generated code.

What a status means there is what tensorflow_serving at 1.15.0 says with it; grpc itself uses some for its own ends.
"""

from __future__ import annotations

import os
import re
import time
import urllib.parse
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from npu_serving import proxies
from npu_serving.client.answers import DEFAULT_SIGNATURE, ModelMetadata, Prediction, with_bytes_as_base64
from npu_serving.client.grpc_tls import WITHOUT_FILES, ClientTls, tls_error
from npu_serving.client.messages import (
    ModelSpec,
    read_metadata_response,
    read_predict_response,
    write_metadata_request,
    write_predict_request,
)
from npu_serving.client.request import PredictRequest
from npu_serving.client.request_tensors import answer_values, request_tensors
from npu_serving.console import amount_text
from npu_serving.errors import GatewayError, NpuServingError, RequestError, ServerError, UnreachableError
from npu_serving.shown_text import in_a_line, shown_url
from npu_serving.wire_bytes import MalformedMessageError

if TYPE_CHECKING:
    import grpc

SCHEME, TLS_SCHEME = "grpc", "grpcs"
PORT = 8500
METADATA_TIMEOUT_S = 30.0
PREDICT_TIMEOUT_S = 600.0  # the first request compiles the model for the NPU, which takes minutes
MOST_ANSWER_BYTES = 1 << 30  # grpc's own limit is 4 MB
MOST_REQUEST_BYTES = (1 << 31) - 1  # protobuf's own limit, and the server's (it sets SetMaxMessageSize)
_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
_SERVER_LIMIT = re.compile(r"larger than max \((\d+) vs\.? (\d+)\)")
_HTTP_STATUS = re.compile(r"http2 header with status: ([0-9]{3})")
_NO_HTTP2 = ("http1", "HTTP/1", "Failed parsing HTTP/2")
_CLOSED = ("Socket closed", "Connection reset", "Broken pipe", "GOAWAY")
_STATUS = "look at ./inv status MODEL and at the server's log"

Answer = TypeVar("Answer")


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


def predict(
    url: str,
    spec: ModelSpec,
    request: PredictRequest,
    *,
    timeout_s: float = PREDICT_TIMEOUT_S,
    tls: ClientTls = WITHOUT_FILES,
) -> Prediction:
    """What the model answers. The types of the inputs are those that the server's metadata names.

    Raises RequestError for a request that does not fit a signature, and for a model the server doesn't know;
    ServerError when the prediction fails, and when nothing or something else answers.
    """
    asked = replace(spec, signature_name=spec.signature_name or request.signature_name)
    _refuse_misfit(asked)
    address = grpc_address(url)
    import_grpc()
    with open_channel(address, tls) as channel:
        asking = _GrpcCalls(channel, address, asked, tls)
        metadata = asking.metadata()
        name = asked.signature_name or DEFAULT_SIGNATURE
        signature = next((item for item in metadata.signatures if item.name == name), None)
        if signature is None:
            raise RequestError(
                f"The model {spec.name!r} rejected the request.",
                cause=metadata.what_it_takes(name),
                cure="use one of its signatures",
            )
        message = write_predict_request(asked, request_tensors(request, signature))
        begun = time.monotonic()
        answered, outputs = asking.ask(_PREDICT, message, timeout_s, read_predict_response, metadata)
        seconds = time.monotonic() - begun
    try:
        values, in_bytes = with_bytes_as_base64(answer_values(request.form, outputs))
    except ValueError as error:
        raise RequestError(
            f"The model {spec.name!r} has answered, and its answer can't be shown row by row: {error}.",
            cure='ask for it by name, with {"inputs": ...} in place of {"instances": ...}',
        ) from error
    return Prediction(spec.name, answered.version, request.answer_key, values, seconds, in_bytes)


def model_metadata(url: str, spec: ModelSpec) -> ModelMetadata:
    """The signatures of the model with their inputs and outputs. Raises what predict() raises."""
    _refuse_misfit(spec)
    address = grpc_address(url)
    import_grpc()
    with open_channel(address) as channel:
        return _GrpcCalls(channel, address, spec).metadata()


class _GrpcCalls:
    """Unary calls to one server about one model."""

    def __init__(
        self, channel: grpc.Channel, address: GrpcAddress, spec: ModelSpec, tls: ClientTls = WITHOUT_FILES
    ) -> None:
        self._channel = channel
        self._address = address
        self._spec = spec
        self._tls = tls

    def metadata(self) -> ModelMetadata:
        """The model's signatures."""
        message = write_metadata_request(replace(self._spec, signature_name=""))
        return self.ask(
            _METADATA, message, METADATA_TIMEOUT_S, lambda answer: read_metadata_response(self._spec.name, answer)
        )

    def ask(
        self,
        method: str,
        message: bytes,
        timeout_s: float,
        read: Callable[[memoryview], Answer],
        metadata: ModelMetadata | None = None,
    ) -> Answer:
        """The answer to one call, read."""
        import grpc

        if len(message) > MOST_REQUEST_BYTES:
            raise RequestError(
                f"The request has {amount_text(len(message), 'bytes')}, and no message may have 2 GiB.",
                cause="protobuf, in which it is written, has this limit",
                cure="send fewer instances in one request",
            )
        try:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
            answer = call(message, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._error(error, len(message), timeout_s, metadata) from error
        try:
            return read(memoryview(answer))
        except MalformedMessageError as error:
            raise self._another_program(f"its answer is not the message that was asked for: {error}") from error

    def _error(
        self, error: Any, request_bytes: int, timeout_s: float, metadata: ModelMetadata | None
    ) -> NpuServingError:
        import grpc

        code, said = error.code(), in_a_line(_one_line(error.details() or ""))
        spec, address = self._spec, self._address
        of_http = _HTTP_STATUS.search(said)
        if of_http is not None:
            return self._gateway(of_http[1])
        if code == grpc.StatusCode.UNAVAILABLE:
            return self._unavailable(said)
        if code == grpc.StatusCode.NOT_FOUND:
            version = f" in version {spec.version}" if spec.version is not None else ""
            version = f" with the label {spec.label!r}" if spec.label and not version else version
            return RequestError(
                f"The server at {address} has no model {spec.name!r}{version} ({said}).",
                cause="the server was started with another name, version or label, or the model is not loaded",
                cure="choose a model and a version that ./inv status shows for the server",
            )
        if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
            takes = metadata.what_it_takes(spec.signature_name) if metadata is not None else ""
            return RequestError(
                f"The model {spec.name!r} rejected the request ({said}).",
                cause=takes,
                cure="give each input with its type and shape",
            )
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return ServerError(
                f"{address} did not answer within {timeout_s:g} s.",
                cause="it is busy; the first request after a start compiles the model for the NPU, which takes minutes",
                cure="check the model's state with ./inv status MODEL, then try again",
            )
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return self._exhausted(said, request_bytes)
        if code == grpc.StatusCode.UNIMPLEMENTED:
            return self._another_program(f"it does not know {_PREDICT.rpartition('/')[0][1:]} ({said})")
        return ServerError(f"The server at {address} answered with {code.name} ({said}).", cure=_STATUS)

    def _unavailable(self, said: str) -> NpuServingError:
        address, variable = self._address, self._proxy
        if "refused" in said and not variable:  # else it is the proxy that refuses
            return UnreachableError(
                f"Nothing listens at {address}.",
                cause="the server is not running, is still loading its models, or has its gRPC API on another port",
                cure="start one with ./inv serve, or correct the address",
            )
        of_tls = tls_error(str(address), said, self._tls) if address.has_tls else None
        if of_tls is not None:
            return of_tls
        if any(sign in said for sign in _NO_HTTP2):
            return self._another_program(f"it does not speak HTTP/2 ({said})")
        if any(sign in said for sign in _CLOSED):
            return UnreachableError(
                f"{address} closed the connection before it had answered ({said}).",
                cause="the server has ended at this request, wants TLS, or a gateway between here and there gave up",
                cure="./inv status MODEL says whether it runs, and how one ended that ./inv serve ran here; with TLS, "
                f"ask it so: --url {TLS_SCHEME}://{address.target} --ca FILE",
            )
        if "queue" in said:
            return ServerError(
                f"The server at {address} is too busy ({said}).",
                cause="the queue of requests that wait for a batch is full",
                cure="try again later, or raise max_enqueued_batches in deployment.yaml",
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

    def _gateway(self, status: str) -> GatewayError:
        address, variable = self._address, self._proxy
        cause = "a gateway between here and there does not pass gRPC on, or wants a login"
        if variable:
            cause = f"the proxy that {variable} names is asked first, and does not pass it on"
        return GatewayError(
            f"A gateway or proxy answered in place of the server at {address}: HTTP status {status}.",
            cause=cause,
            cure=f"add {address.host} to no_proxy" if variable else "use the server's own gRPC port (--port)",
        )

    @property
    def _proxy(self) -> str:
        """The variable whose proxy grpc asks for this host; "" where it asks none."""
        from requests.utils import should_bypass_proxies

        host = self._address.host
        if proxies.is_this_machine(host) or should_bypass_proxies(f"http://{self._address.target}", None):
            return ""
        return next((name for name in _PROXIES if os.environ.get(name)), "")

    def _exhausted(self, said: str, request_bytes: int) -> NpuServingError:
        found = _SERVER_LIMIT.search(said)
        if found is None:
            return ServerError(
                f"The server at {self._address} is too busy ({said}).",
                cause="the request waited in a queue until its time was over, or memory ran out",
                cure="try again later, or send fewer requests at a time",
            )
        size, most = int(found[1]), int(found[2])
        if most == MOST_ANSWER_BYTES:
            return ServerError(
                f"The answer of {self._address} has {amount_text(size, 'bytes')}, and was not read.",
                cause=f"no more than {amount_text(most, 'bytes')} are read of one answer",
                cure="send fewer instances in one request",
            )
        return ServerError(
            f"{self._address} takes no request of {amount_text(request_bytes, 'bytes')} ({said}).",
            cause=f"its limit is {amount_text(most, 'bytes')}; TensorFlow Serving itself takes 2 GiB, so this is the "
            "limit of a gateway between here and there",
            cure="raise the gateway's limit, use the server's own gRPC port, or send fewer instances in one request",
        )

    def _another_program(self, what: str) -> ServerError:
        return ServerError(
            f"The program at {self._address} is not TensorFlow Serving's gRPC API: {what}.",
            cause="another program, or the server's REST API, uses this port",
            cure=f"use the gRPC port of the server (--port, usually {PORT})",
        )


# Those that grpc itself reads, in its order.
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")


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


def _refuse_misfit(spec: ModelSpec) -> None:
    if not spec.name:
        raise RequestError(
            "The model's name is empty.", cure="use the name that the server was started with (--model_name)"
        )
    for text in (spec.name, spec.label, spec.signature_name):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(f"{text!r} can't be written in UTF-8.", cure="correct the name") from error
    if spec.version is not None and not 0 <= spec.version < 1 << 63:
        raise RequestError(
            f"The version can't be {spec.version}.", cure="use the number of a version directory, such as 1"
        )
    if spec.version is not None and spec.label:
        raise RequestError("--version and --label both say which version to ask.", cure="give one of them")


def _one_line(text: str) -> str:
    return " ".join(text.split())

"""TensorFlow Serving's gRPC API: predictions and signatures, with the messages of messages.py, no generated code.

What a status means there is what tensorflow_serving at 1.15.0 says with it; grpc itself uses some for its own ends.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from npu_serving.asking.answers import Prediction, with_bytes_as_base64
from npu_serving.asking.grpc_channel import (
    MOST_ANSWER_BYTES,
    GrpcAddress,
    another_program,
    connection_error,
    grpc_address,
    import_grpc,
    open_channel,
    said_by,
)
from npu_serving.asking.grpc_tls import WITHOUT_FILES, ClientTls
from npu_serving.asking.messages import read_predict_response, write_predict_request
from npu_serving.asking.request import PredictRequest
from npu_serving.asking.request_tensors import answer_values, request_tensors
from npu_serving.client.model_messages import read_metadata_response, write_metadata_request
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.model_types import DEFAULT_SIGNATURE, ModelMetadata
from npu_serving.console import amount_text
from npu_serving.errors import NpuServingError, RequestError, ServerError
from npu_serving.wire_bytes import MalformedMessageError

if TYPE_CHECKING:
    import grpc

METADATA_TIMEOUT_S = 30.0
PREDICT_TIMEOUT_S = 600.0  # the first request compiles the model for the NPU, which takes minutes
MOST_REQUEST_BYTES = (1 << 31) - 1  # protobuf's own limit, and the server's (it sets SetMaxMessageSize)
_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
_SERVER_LIMIT = re.compile(r"larger than max \((\d+) vs\.? (\d+)\)")
_STATUS = "look at ./inv status MODEL and at the server's log"

Answer = TypeVar("Answer")


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


def model_metadata(url: str, spec: ModelSpec, *, tls: ClientTls = WITHOUT_FILES) -> ModelMetadata:
    """The signatures of the model with their inputs and outputs. Raises what predict() raises."""
    _refuse_misfit(spec)
    address = grpc_address(url)
    import_grpc()
    with open_channel(address, tls) as channel:
        return _GrpcCalls(channel, address, spec, tls).metadata()


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
            raise another_program(
                self._address, f"its answer is not the message that was asked for: {error}"
            ) from error

    def _error(
        self, error: Any, request_bytes: int, timeout_s: float, metadata: ModelMetadata | None
    ) -> NpuServingError:
        import grpc

        code, said = error.code(), said_by(error)
        spec, address = self._spec, self._address
        if code == grpc.StatusCode.UNAVAILABLE and "queue" in said:
            return ServerError(
                f"The server at {address} is too busy ({said}).",
                cause="the queue of requests that wait for a batch is full",
                cure="try again later, or raise max_enqueued_batches in deployment.yaml",
            )
        unreachable = connection_error(address, error, self._tls)
        if unreachable is not None:
            return unreachable
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
            return another_program(address, f"it does not know {_PREDICT.rpartition('/')[0][1:]} ({said})")
        return ServerError(f"The server at {address} answered with {code.name} ({said}).", cure=_STATUS)

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

"""TensorFlow Serving's gRPC API as the tasks ask it: requests in JSON, through the client library."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

from npu_serving.asking.answers import ShownPrediction, with_bytes_as_base64
from npu_serving.asking.messages import read_predict_response, write_predict_request
from npu_serving.asking.next_steps import next_steps
from npu_serving.asking.request import PredictRequest
from npu_serving.asking.request_tensors import answer_values, request_tensors
from npu_serving.asking.tensor import Tensor
from npu_serving.client.grpc_calls import PREDICT, Flow, GrpcFlows, signature_of, what_it_takes
from npu_serving.client.grpc_client import GrpcClient
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.model_types import ModelMetadata
from npu_serving.client.tls import Tls
from npu_serving.errors import RequestError

METADATA_TIMEOUT_S = 30.0
PREDICT_TIMEOUT_S = 600.0  # the first request compiles the model for the NPU, which takes minutes
WITHOUT_FILES = Tls()


def predict(
    url: str,
    spec: ModelSpec,
    request: PredictRequest,
    *,
    timeout_s: float = PREDICT_TIMEOUT_S,
    tls: Tls = WITHOUT_FILES,
) -> ShownPrediction:
    """What the model answers. The types of the inputs are those that the server's metadata names.

    Raises the errors of the client library, which are RequestErrors for a request that does not fit a signature and
    for a model the server doesn't know, and ServerErrors when the prediction fails, or something else answers.
    """
    asked = replace(spec, signature_name=spec.signature_name or request.signature_name)
    with asking(url, tls=tls) as client:
        answered, outputs, seconds = client.run(_predict(client.flows, asked, request, timeout_s))
    try:
        values, in_bytes = with_bytes_as_base64(answer_values(request.form, outputs))
    except ValueError as error:
        raise RequestError(
            f"The model {spec.name!r} has answered, and its answer can't be shown row by row: {error}.",
            cause='the outputs stand by themselves where {"inputs": ...} asks for them',
            cure='ask for it by name, with {"inputs": ...} in place of {"instances": ...}',
        ) from error
    return ShownPrediction(spec.name, answered.version, request.answer_key, values, seconds, in_bytes)


def model_metadata(url: str, spec: ModelSpec, *, tls: Tls = WITHOUT_FILES) -> ModelMetadata:
    """The signatures of the model with their inputs and outputs. Raises what predict() raises."""
    with asking(url, tls=tls) as client:
        return client.metadata(spec.name, version=spec.version, label=spec.label, timeout_s=METADATA_TIMEOUT_S)


@contextlib.contextmanager
def asking(url: str, *, tls: Tls = WITHOUT_FILES) -> Iterator[GrpcClient]:
    """A client of the server at `grpc://HOST:PORT` or `grpcs://HOST:PORT`, whose errors say what to type next."""
    with next_steps(url), GrpcClient(url, tls=tls) as client:
        yield client


def _predict(
    flows: GrpcFlows, spec: ModelSpec, request: PredictRequest, timeout_s: float
) -> Flow[tuple[ModelSpec, dict[str, Tensor], float]]:
    """The steps of a prediction in plain numbers of Python: for one in JSON NumPy is not worth its import."""
    metadata = yield from flows.metadata(spec, METADATA_TIMEOUT_S, ())
    signature = signature_of(metadata, spec, ())
    message = write_predict_request(spec, request_tensors(request, signature))
    call = flows.call(PREDICT, message, spec, timeout_s, takes=what_it_takes(signature))
    begun = time.monotonic()
    answer = yield call
    seconds = time.monotonic() - begun
    answered, outputs = flows.read(call, read_predict_response, answer)
    return answered, outputs, seconds

"""One model of one server, asked with NumPy's arrays over REST or gRPC."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from npu_serving.asking import grpc_channel, rest_client
from npu_serving.asking.grpc_client import _PREDICT, _GrpcCalls
from npu_serving.asking.grpc_tls import WITHOUT_FILES, ClientTls
from npu_serving.asking.request import COLUMN, PredictRequest
from npu_serving.asking.request_arrays import request_arrays
from npu_serving.asking.request_tensors import refuse_over_rest
from npu_serving.client.arrays import STORED
from npu_serving.client.data_types import BY_NAME
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.model_types import DEFAULT_SIGNATURE, ModelMetadata, Signature, TensorInfo
from npu_serving.client.prediction_messages import decode_predict, predict_request
from npu_serving.errors import RequestError


@dataclass(frozen=True)
class ArrayAnswer:
    """The outputs by name, the version that answered where the server says it, and the seconds until it had."""

    outputs: Mapping[str, NDArray[Any]]
    version: int | None
    seconds: float


class ArrayServer(Protocol):
    """A model that is asked."""

    @property
    def signature(self) -> Signature:
        """The signature that is asked."""

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each input whose type was changed before it was sent."""

    def ask(self, inputs: Mapping[str, object]) -> ArrayAnswer:
        """What the model answers to these inputs. RequestError, ServerError and what else asking raises."""


def _fitted(signature: Signature, inputs: Mapping[str, object], *, cast: bool) -> dict[str, object]:
    """The inputs in the types of the signature. RequestError for what does not fit it."""
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    empty = next((name for name, array in arrays.items() if array.shape[:1] == (0,)), None)
    if empty is not None:
        raise RequestError(
            f"The input {empty!r} has no row: its shape is {list(arrays[empty].shape)}.",
            cause="a batch needs at least one",
            cure="give one row or more",
        )
    stored = {info.name: STORED.get(BY_NAME[info.dtype]) for info in signature.inputs}
    if cast:
        return {
            name: array.astype(stored[name]) if stored.get(name) is not None else array
            for name, array in arrays.items()
        }
    kept = {
        info.name
        for info in signature.inputs
        if info.name in arrays and arrays[info.name].dtype == stored[info.name] and _fits(info, arrays[info.name].shape)
    }
    if kept == set(arrays) == set(stored):
        return dict(arrays)
    values = {name: _as_json(array.tolist()) for name, array in arrays.items()}
    return dict(request_arrays(PredictRequest(COLUMN, values), signature))


def _fits(info: TensorInfo, shape: tuple[int, ...]) -> bool:
    own = info.shape
    return own is None or (len(own) == len(shape) and all(size in (-1, given) for size, given in zip(own, shape)))


@contextlib.contextmanager
def array_server(
    url: str, spec: ModelSpec, *, timeout_s: float, tls: ClientTls = WITHOUT_FILES, cast: bool = False
) -> Iterator[ArrayServer]:
    """The model at that URL. Raises what asking for its metadata raises; RequestError for an unknown signature."""
    if grpc_channel.is_grpc(url):
        grpc_channel.import_grpc()
        address = grpc_channel.grpc_address(url)
        with grpc_channel.open_channel(address, tls) as channel:
            yield _GrpcArrays(_GrpcCalls(channel, address, spec, tls), spec, timeout_s, cast)
    else:
        yield _RestArrays(url, spec, timeout_s, cast)


class _GrpcArrays:
    def __init__(self, calls: _GrpcCalls, spec: ModelSpec, timeout_s: float, cast: bool) -> None:
        self._calls, self._spec, self._timeout_s, self._cast = calls, spec, timeout_s, cast
        self.metadata = calls.metadata()
        self.signature = signature_of(self.metadata, spec)
        self.notes: tuple[str, ...] = ()

    def ask(self, inputs: Mapping[str, object]) -> ArrayAnswer:
        inputs = _fitted(self.signature, inputs, cast=self._cast)
        message = predict_request(replace(self._spec, signature_name=self.signature.name), dict(inputs))
        begun = time.monotonic()
        spec, outputs = self._calls.ask(_PREDICT, message, self._timeout_s, decode_predict, self.metadata)
        return ArrayAnswer(outputs, spec.version, time.monotonic() - begun)


class _RestArrays:
    def __init__(self, url: str, spec: ModelSpec, timeout_s: float, cast: bool) -> None:
        self._url, self._spec, self._timeout_s, self._cast = url, spec, timeout_s, cast
        self.metadata = rest_client.model_metadata(url, spec.name, spec.version)
        self.signature = signature_of(self.metadata, spec)
        self.notes: tuple[str, ...] = ()

    def ask(self, inputs: Mapping[str, object]) -> ArrayAnswer:
        refuse_over_rest(self.signature)
        fitted = _fitted(self.signature, inputs, cast=self._cast)
        values = {name: _as_json(np.asarray(value).tolist()) for name, value in fitted.items()}
        answered = rest_client.predict(
            self._url,
            self._spec.name,
            PredictRequest(COLUMN, values, self.signature.name),
            version=self._spec.version,
            timeout_s=self._timeout_s,
        )
        wanted = self.signature.outputs
        by_name = {wanted[0].name: answered.outputs} if len(wanted) == 1 else answered.outputs
        assert isinstance(by_name, dict)
        outputs = {info.name: _from_json(info, by_name[info.name]) for info in wanted}
        return ArrayAnswer(outputs, answered.version, answered.seconds)


def _as_json(value: object) -> object:
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _from_json(info: TensorInfo, value: Any) -> NDArray[Any]:
    stored = STORED.get(BY_NAME[info.dtype])
    if stored is not None:
        return np.array(value, stored)
    texts = [base64.b64decode(each["b64"]) if isinstance(each, dict) else str(each).encode() for each in value]
    found = np.empty(len(texts), object)
    found[:] = texts
    return found


def signature_of(metadata: ModelMetadata, spec: ModelSpec) -> Signature:
    """The signature that is asked. RequestError with those that there are where it isn't one of them."""
    name = spec.signature_name or DEFAULT_SIGNATURE
    found = next((item for item in metadata.signatures if item.name == name), None)
    if found is None:
        raise RequestError(
            f"The model {spec.name!r} has no such way to be asked.",
            cause=metadata.what_it_takes(name),
            cure="use one of its signatures: --signature NAME",
        )
    return found

"""One model of one server, asked with NumPy's arrays over REST or gRPC."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from npu_serving.asking.grpc_client import WITHOUT_FILES
from npu_serving.asking.next_steps import next_steps
from npu_serving.client.address import is_grpc
from npu_serving.client.grpc_calls import LOG
from npu_serving.client.grpc_client import GrpcClient
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.model_types import DEFAULT_SIGNATURE, ModelMetadata, Signature
from npu_serving.client.rest_client import RestClient
from npu_serving.client.tls import Tls
from npu_serving.errors import RequestError

LOG.addHandler(logging.NullHandler())  # a task shows the notes itself: without a handler they are printed as well


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


def _refuse_empty(inputs: Mapping[str, object]) -> None:
    """RequestError for an input without a row."""
    shapes = {name: np.shape(value) for name, value in inputs.items() if isinstance(value, (np.ndarray, list))}
    empty = next((name for name, shape in shapes.items() if shape[:1] == (0,)), None)
    if empty is not None:
        raise RequestError(
            f"The input {empty!r} has no row: its shape is {list(shapes[empty])}.",
            cause="a batch needs at least one",
            cure="give one row or more",
        )


@contextlib.contextmanager
def array_server(
    url: str, spec: ModelSpec, *, timeout_s: float, tls: Tls = WITHOUT_FILES, cast: bool = False
) -> Iterator[ArrayServer]:
    """The model at that URL. Raises what asking for its metadata raises; RequestError for an unknown signature."""
    client: GrpcClient | RestClient
    if not LOG.handlers:
        LOG.addHandler(logging.NullHandler())  # the notes are shown with the answer: once is enough
    with next_steps(url):
        client = GrpcClient(url, tls=tls) if is_grpc(url) else RestClient(url)
        with client:
            yield _AskedArrays(client, spec, timeout_s, cast)


class _AskedArrays:
    def __init__(self, client: GrpcClient | RestClient, spec: ModelSpec, timeout_s: float, cast: bool) -> None:
        self._client, self._spec, self._timeout_s, self._cast = client, spec, timeout_s, cast
        self.metadata = client.metadata(spec.name, version=spec.version, label=spec.label)
        self.signature = signature_of(self.metadata, spec)
        self.notes: tuple[str, ...] = ()

    def ask(self, inputs: Mapping[str, object]) -> ArrayAnswer:
        _refuse_empty(inputs)
        answered = self._client.predict(
            self._spec.name,
            inputs,
            signature=self.signature.name,
            version=self._spec.version,
            label=self._spec.label,
            timeout_s=self._timeout_s,
            cast=self._cast,
        )
        self.notes = answered.notes
        return ArrayAnswer(answered.outputs, answered.version, answered.seconds)


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

"""What a load test asks: ready-made requests from files, golden ones, or random values by the model's signature.

And how answers are held against golden ones.
"""

from __future__ import annotations

import dataclasses
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from npu_serving.asking import grpc_client, rest_client
from npu_serving.asking.answers import with_bytes_as_base64
from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.messages import read_predict_response, write_predict_request
from npu_serving.asking.recorded_file import RecordedRequest, Recording
from npu_serving.asking.recorded_requests import NotUnderstoodError, asked_by
from npu_serving.asking.request import PredictRequest
from npu_serving.asking.request_tensors import answer_values, request_tensors
from npu_serving.client.address import is_grpc
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.model_types import DEFAULT_SIGNATURE, ModelMetadata, Signature
from npu_serving.client.rest_paths import model_path
from npu_serving.client.tls import Tls
from npu_serving.console import amount_text
from npu_serving.errors import RequestError
from npu_serving.load.generator import ReadyRequest
from npu_serving.load.random_inputs import RandomWishes, described, random_inputs
from npu_serving.shown_text import in_a_line

PREDICT = "/tensorflow.serving.PredictionService/Predict"
MOST_RECORDED_BYTES = 1 << 30
_NOT_OVER_REST = ("DT_HALF", "DT_BFLOAT16", "DT_COMPLEX64", "DT_COMPLEX128")


@dataclass(frozen=True)
class ReadyRequests:
    """Requests that are ready to be sent; `words` says what they are, `sources` where each is from."""

    requests: tuple[ReadyRequest, ...]
    sources: tuple[str, ...]
    words: str
    golden: tuple[GoldenRequest, ...] = field(default=(), repr=False)
    """Those that the requests are, in their order, where answers are compared."""
    is_grpc: bool = True
    arrivals_ns: tuple[int, ...] = field(default=(), repr=False)
    """When they came, where they were recorded: some of them may well be refused again."""

    def judge(self, request: int, answer: bytes) -> str:
        """How the answer to the request at that place differs from the golden one; "" where it doesn't."""
        golden = self.golden[request]
        try:
            values = _grpc_values(golden, answer) if self.is_grpc else _rest_values(golden, answer)
        except (ValueError, RecursionError, KeyError) as error:
            return f"{golden.name}: it can't be read ({in_a_line(str(error))})"
        difference = golden.difference(values)
        return f"{golden.name}: {difference}" if difference else ""


class TestedModel:
    """A served model, what it takes, and the requests that are made for it."""

    def __init__(self, url: str, spec: ModelSpec, tls: Tls) -> None:
        """Asks the server for the model's signatures. Raises as grpc_client and rest_client do."""
        self._url = url
        self._spec = spec
        self._is_grpc = is_grpc(url)
        self._tls = tls
        self._known: dict[ModelSpec, ModelMetadata] = {}
        self.metadata = self._metadata_of(spec)

    def random(self, wishes: RandomWishes) -> ReadyRequests:
        """Random ones. RequestError for what has to be said before (see random_inputs.py)."""
        signature = self._signature(self._spec)
        if not self._is_grpc:
            self._refuse_over_rest(signature)
        variants = random_inputs(signature, wishes)
        make = self._arrays_by_grpc if self._is_grpc else self._arrays_by_rest
        requests = tuple(make(signature, inputs) for inputs in variants)
        words = f"random: {described(variants[0])}"
        return ReadyRequests(requests, ("random values",) * len(requests), words, is_grpc=self._is_grpc)

    def given(self, requests: Sequence[tuple[str, PredictRequest]]) -> ReadyRequests:
        """Those of a person, with where each is from. RequestError for one that the signature does not take."""
        made = tuple(self._made(source, self._spec, request) for source, request in requests)
        first = requests[0][0] if len(requests) == 1 else f"{len(requests)} requests"
        return ReadyRequests(made, tuple(source for source, _ in requests), first, is_grpc=self._is_grpc)

    def golden(self, found: Sequence[GoldenRequest]) -> ReadyRequests:
        """Golden ones, whose answers are compared; version, label and signature are each one's own."""
        made, sources = [], []
        for golden in found:
            sources.append(f"the golden request {golden.name}")
            own = ModelSpec(golden.model, golden.version, golden.label, golden.request.signature_name)
            if golden.label and not self._is_grpc:
                raise RequestError(
                    f"The golden request {golden.name!r} asks by the label {golden.label!r}, which REST doesn't know.",
                    cure="name the gRPC API: --url grpc://HOST:8500",
                )
            made.append(self._made(sources[-1], own, golden.request))
        names = ", ".join(golden.name for golden in found[:3]) + (", ..." if len(found) > 3 else "")
        return ReadyRequests(tuple(made), tuple(sources), f"golden: {names}", tuple(found), self._is_grpc)

    def recorded(self, recording: Recording) -> ReadyRequests:
        """Those of a recorded file that ask this model over this API, as they were. RequestError where none does."""
        api = "grpc" if self._is_grpc else "rest"
        kept: list[RecordedRequest] = []
        others: set[str] = set()
        size = 0
        for request in recording.requests():
            try:
                asks = f"{asked_by(request).spec.name} over {request.api}"
            except NotUnderstoodError:
                continue
            if asks != f"{self._spec.name} over {api}":
                others.add(asks)
                continue
            size += len(request.body)
            if size > MOST_RECORDED_BYTES:
                raise RequestError(
                    f"{recording.path} holds more than {amount_text(MOST_RECORDED_BYTES, 'bytes')} of requests.",
                    cause="a load test keeps them ready in memory, once for each process",
                    cure="record a smaller share, or with a size limit: ./inv record --help",
                )
            kept.append(request)
        if not kept:
            raise RequestError(
                f"{recording.path} has no request for {self._spec.name} over {api}.",
                cause=f"it has some for {in_a_line(', '.join(sorted(others)[:5])) or 'nothing'}",
                cure="name that model, and the URL of that API with --url",
            )
        return ReadyRequests(
            tuple(ReadyRequest(request.path, request.body) for request in kept),
            tuple(f"request {number} of {recording.path}" for number in range(1, len(kept) + 1)),
            f"{recording.path.name} ({len(kept):,} requests)",
            is_grpc=self._is_grpc,
            arrivals_ns=tuple(request.at_ns - kept[0].at_ns for request in kept),
        )

    def _made(self, source: str, spec: ModelSpec, request: PredictRequest) -> ReadyRequest:
        asked = dataclasses.replace(spec, signature_name=spec.signature_name or request.signature_name)
        signature = self._signature(asked)
        try:
            tensors = request_tensors(request, signature)
        except RequestError as error:
            raise RequestError(f"{source}: {error.what}", cause=error.cause, cure=error.cure) from error
        if self._is_grpc:
            return ReadyRequest(PREDICT, write_predict_request(asked, tensors))
        return ReadyRequest(self._path(spec), request.body(asked.signature_name).encode())

    def _arrays_by_grpc(self, signature: Signature, inputs: Mapping[str, Any]) -> ReadyRequest:
        from npu_serving.client.arrays import WireArray
        from npu_serving.client.prediction_messages import encode_predict

        spec = self._spec
        types = {info.name: info.dtype for info in signature.inputs if _is_unknown_to_numpy(info.dtype)}
        wire = {name: WireArray(array, types[name]) if name in types else array for name, array in inputs.items()}
        message = encode_predict(spec.name, wire, signature=spec.signature_name, version=spec.version, label=spec.label)
        return ReadyRequest(PREDICT, message)

    def _arrays_by_rest(self, _signature: Signature, inputs: Mapping[str, Any]) -> ReadyRequest:
        columns = {
            name: _texts(array).tolist() if array.dtype == object else array.tolist() for name, array in inputs.items()
        }
        request = PredictRequest("inputs", columns, self._spec.signature_name)
        return ReadyRequest(self._path(self._spec), request.body().encode())

    def _path(self, spec: ModelSpec) -> str:
        version = "" if spec.version is None else f"/versions/{spec.version}"
        return f"{urllib.parse.urlsplit(self._url).path.rstrip('/')}{model_path(spec.name)}{version}:predict"

    def _signature(self, spec: ModelSpec) -> Signature:
        metadata = self._metadata_of(dataclasses.replace(spec, signature_name=""))
        name = spec.signature_name or DEFAULT_SIGNATURE
        found = next((each for each in metadata.signatures if each.name == name), None)
        if found is None:
            raise RequestError(
                f"The model {spec.name!r} has no signature {name!r}.",
                cause=metadata.what_it_takes(name),
                cure="name one of its signatures with --signature",
            )
        return found

    def _metadata_of(self, spec: ModelSpec) -> ModelMetadata:
        wanted = dataclasses.replace(spec, signature_name="")
        if wanted not in self._known:
            if self._is_grpc:
                self._known[wanted] = grpc_client.model_metadata(self._url, wanted, tls=self._tls)
            else:
                self._known[wanted] = rest_client.model_metadata(self._url, wanted.name, wanted.version)
        return self._known[wanted]

    def _refuse_over_rest(self, signature: Signature) -> None:
        for info in signature.inputs:
            if info.dtype in _NOT_OVER_REST:
                raise RequestError(
                    f"The input {info.name!r} is of the type {info.dtype}, which REST doesn't take.",
                    cure="ask over gRPC: --url grpc://HOST:8500",
                )


def _is_unknown_to_numpy(dtype: str) -> bool:
    return dtype.startswith(("DT_Q", "DT_BF"))


def _texts(array: Any) -> Any:
    import numpy

    return numpy.vectorize(lambda value: value.decode(), otypes=[object])(array)


def _grpc_values(golden: GoldenRequest, answer: bytes) -> object:
    _, outputs = read_predict_response(memoryview(answer))
    return with_bytes_as_base64(answer_values(golden.request.form, outputs))[0]


def _rest_values(golden: GoldenRequest, answer: bytes) -> object:
    document = json.loads(answer.decode("utf-8", "surrogateescape"))
    return with_bytes_as_base64(document[golden.request.answer_key])[0]

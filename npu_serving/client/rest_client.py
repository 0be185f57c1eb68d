"""Asking a server over REST, with the methods of GrpcClient as far as the REST API has them.

The answers are those of tensorflow_serving/model_servers/http_rest_api_handler.cc at 1.15.0. Connections are kept and
used again; no redirection is followed, no password is looked up, and nothing outlives its deadline.
"""

from __future__ import annotations

import http.client
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from npu_serving.client.errors import (
    AnswerTooLargeError,
    BusyError,
    ClientError,
    NotSentError,
    RefusedError,
)
from npu_serving.client.grpc_calls import check_spec, checked_timeout, signature_of, tell_once, what_it_takes
from npu_serving.client.grpc_failures import size_text
from npu_serving.client.http_answers import HttpAnswer
from npu_serving.client.http_route import HttpLine, route_to
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.model_types import ModelMetadata, ModelStatus, Signature
from npu_serving.client.prediction import Classification, Prediction, Regression
from npu_serving.client.rest_documents import classes_of, metadata_of, parsed, status_of, values_of
from npu_serving.client.rest_failures import LOST, not_a_model_server, refusal, unreachable
from npu_serving.client.rest_paths import model_path
from npu_serving.client.sent_headers import checked_headers
from npu_serving.client.tls import Tls

MOST_ANSWER_BYTES = 1 << 30
MOST_KEPT = 32  # connections that wait for a next request
_READ_BYTES = 1 << 18


class RestClient:
    """A client of one server's REST API, to be used by as many threads as one likes. `with` closes it."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 60.0,
        headers: Sequence[tuple[str, str]] = (),
        tls: Tls | None = None,
        max_message_bytes: int = MOST_ANSWER_BYTES,
        retries: int = 0,
    ) -> None:
        """A client of the server at `http://HOST:PORT`, or behind a gateway `https://HOST/PREFIX`.

        The proxies of the environment are used as curl does, but never for this machine. `headers` go with every
        request. `retries` is as for GrpcClient. NotSentError for a URL, or a proxy, that can't be used.
        """
        self._route = route_to(url)
        self._timeout_s = checked_timeout(timeout_s)
        self._headers = checked_headers(headers)
        self._tls = tls if tls is not None else Tls()
        self._most_bytes = max_message_bytes
        self._retries = retries
        self._lock = threading.Lock()
        self._idle: list[HttpLine] = []
        self._process = os.getpid()
        self._closed = False
        self._known: dict[tuple[str, int | None], ModelMetadata] = {}
        self._told: set[tuple[str, str]] = set()

    def predict(
        self,
        model: str,
        inputs: Mapping[str, object],
        *,
        signature: str = "",
        version: int | None = None,
        label: str = "",
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
        cast: bool = False,
    ) -> Prediction:
        """What the model answers, as GrpcClient.predict() has it; `metadata` goes as headers.

        NotSentError also for types that JSON has no way to carry, and for labels, which REST doesn't know at 1.15.
        """
        from npu_serving.client.rest_json import outputs_of, predict_body

        spec = self._spec(model, version, label, signature)
        sent, of_model, notes = self._fitting(spec, inputs, outputs, timeout_s, metadata, cast)
        body = predict_body(of_model, sent)
        begun = time.perf_counter()
        try:
            answer = self._ask("POST", spec, ":predict", body, timeout_s, metadata, what_it_takes(of_model))
        except RefusedError:
            self._known.pop((spec.name, spec.version), None)  # another version may be served by now
            raise
        seconds = time.perf_counter() - begun
        found = self._read(answer, spec, lambda document: outputs_of(document, of_model, outputs))
        return Prediction(found, model, version, of_model.name, seconds, notes)

    def classify(
        self,
        model: str,
        examples: Sequence[Mapping[str, object]],
        *,
        context: Mapping[str, object] | None = None,
        signature: str = "",
        version: int | None = None,
        label: str = "",
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Classification:
        """The classes of each example, as GrpcClient.classify() has them."""
        spec = self._spec(model, version, label, signature)
        answer, seconds = self._examples(":classify", spec, examples, context, timeout_s, metadata)
        return Classification(self._read(answer, spec, classes_of), model, version, signature, seconds)

    def regress(
        self,
        model: str,
        examples: Sequence[Mapping[str, object]],
        *,
        context: Mapping[str, object] | None = None,
        signature: str = "",
        version: int | None = None,
        label: str = "",
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Regression:
        """A value for each example, as GrpcClient.regress() has them."""
        import numpy as np

        spec = self._spec(model, version, label, signature)
        answer, seconds = self._examples(":regress", spec, examples, context, timeout_s, metadata)
        values = np.array(self._read(answer, spec, values_of), np.float32)
        return Regression(values, model, version, signature, seconds)

    def multi_inference(self, model: str, *_: object, **__: object) -> None:
        """NotSentError: the REST API has no multi-inference."""
        raise _only_by_grpc("multi_inference").about(model, None)

    def reload_config(self, *_: object, **__: object) -> None:
        """NotSentError: the REST API has no way to give a server another list of models."""
        raise _only_by_grpc("reload_config")

    def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str = "",
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> ModelMetadata:
        """The signatures of the model with their inputs and outputs, asked again each time."""
        spec = self._spec(model, version, label, "")
        answer = self._ask("GET", spec, "/metadata", None, timeout_s, metadata)
        found: ModelMetadata = self._read(answer, spec, lambda document: metadata_of(model, document))
        self._known[model, version] = found
        return found

    def status(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str = "",
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> ModelStatus:
        """The state of each version of the model, or of the one that is named."""
        spec = self._spec(model, version, label, "")
        answer = self._ask("GET", spec, "", None, timeout_s, metadata)
        found: ModelStatus = self._read(answer, spec, lambda document: status_of(model, document))
        return found

    def close(self) -> None:
        """Closes the connections that wait for a next request."""
        self._closed = True
        with self._lock:
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()

    def __enter__(self) -> RestClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _spec(self, model: str, version: int | None, label: str, signature: str) -> ModelSpec:
        if label:
            raise NotSentError(
                "A label (--label) has no effect over the REST API.",
                cause="TensorFlow Serving 1.15 knows versions by their labels over gRPC only",
                cure="use gRPC: GrpcClient('HOST:8500') (--url grpc://HOST:8500)",
                reason="not-by-rest",
            )
        spec = ModelSpec(model, version, "", signature)
        check_spec(spec)
        return spec

    def _fitting(
        self,
        spec: ModelSpec,
        inputs: Mapping[str, object],
        outputs: Sequence[str],
        timeout_s: float | None,
        headers: Sequence[tuple[str, str]],
        cast: bool,
    ) -> tuple[Mapping[str, object], Signature, tuple[str, ...]]:
        """The inputs as the signature takes them; where what is known of the model may be old, it is asked again."""
        from npu_serving.client.casting import cast_inputs
        from npu_serving.client.rest_json import refuse_other_types

        is_old = (spec.name, spec.version) in self._known
        while True:
            known = self._known.get((spec.name, spec.version))
            if known is None:
                known = self.metadata(spec.name, version=spec.version, timeout_s=timeout_s, metadata=headers)
            try:
                signature = signature_of(known, spec, outputs)
                refuse_other_types(signature)
                made = cast_inputs(signature, inputs, cast=cast)
            except NotSentError as error:
                if not is_old:
                    raise error.about(spec.name, spec.version) from None
                del self._known[spec.name, spec.version]
                is_old = False
                continue
            tell_once(self._told, spec.name, made.notes)
            return made.values, signature, made.notes

    def _examples(
        self,
        verb: str,
        spec: ModelSpec,
        examples: Sequence[Mapping[str, object]],
        context: Mapping[str, object] | None,
        timeout_s: float | None,
        headers: Sequence[tuple[str, str]],
    ) -> tuple[HttpAnswer, float]:
        from npu_serving.client.rest_json import examples_body

        body = examples_body(spec.signature_name, examples, context)
        begun = time.perf_counter()
        answer = self._ask("POST", spec, verb, body, timeout_s, headers)
        return answer, time.perf_counter() - begun

    def _read(self, answer: HttpAnswer, spec: ModelSpec, read: Any) -> Any:
        try:
            return read(parsed(answer.body))
        except ValueError as error:
            raise not_a_model_server(answer, f"{error}: {answer.excerpt}").about(spec.name, spec.version) from error

    def _ask(
        self,
        method: str,
        spec: ModelSpec,
        suffix: str,
        body: bytes | None,
        timeout_s: float | None,
        headers: Sequence[tuple[str, str]],
        takes: str = "",
    ) -> HttpAnswer:
        """The server's answer with the status 200; every other is an error."""
        path = model_path(spec.name) + ("" if spec.version is None else f"/versions/{spec.version}") + suffix
        seconds = self._timeout_s if timeout_s is None else checked_timeout(timeout_s)
        sent = (*self._headers, *checked_headers(headers))
        until = time.monotonic() + seconds
        pause, left = 0.05, self._retries
        while True:
            try:
                answer = self._exchange(method, path, body, sent, until, seconds)
                if answer.status != http.client.OK:
                    raise refusal(answer, spec, takes)
                return answer
            except BusyError as error:
                wait = pause * random.uniform(0.5, 1.0)  # noqa: S311 - so that callers don't come back all at once
                if not left or time.monotonic() + wait >= until:
                    raise error.about(spec.name, spec.version) from None
                time.sleep(wait)
                pause, left = min(2 * pause, 2.0), left - 1
            except ClientError as error:
                raise error.about(spec.name, spec.version) from error.__cause__

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Sequence[tuple[str, str]],
        until: float,
        seconds: float,
    ) -> HttpAnswer:
        if self._closed:
            raise NotSentError("This client is closed.", cure="make another one", reason="closed-client")
        while True:
            line = self._line()
            was_used = line.was_used
            try:
                answer, keeps = self._once(line, method, path, body, headers, until)
            except BaseException as error:
                line.close()
                if was_used and isinstance(error, LOST):  # closed by the other side while it was waiting: ask again
                    continue
                if isinstance(error, (OSError, http.client.HTTPException, ValueError)):
                    raise unreachable(error, self._route, seconds) from error
                raise
            self._keep(line) if keeps else line.close()
            return answer

    def _once(
        self,
        line: HttpLine,
        method: str,
        path: str,
        body: bytes | None,
        headers: Sequence[tuple[str, str]],
        until: float,
    ) -> tuple[HttpAnswer, bool]:
        """One request and its answer on a connection, and whether that can be used again."""
        line.begin(until)
        fields = {"Accept": "application/json", **self._route.headers()}
        if body is not None:
            fields["Content-Type"] = "application/json"
        fields.update(headers)
        line.request(method, self._route.target(path), body, fields)
        response = line.getresponse()
        content = bytearray()
        while True:
            piece = response.read(_READ_BYTES)
            content += piece
            if not piece:
                break
            if len(content) > self._most_bytes:
                raise self._too_long(len(content))
        if response.length:  # what was announced and did not come
            raise http.client.IncompleteRead(bytes(content[:80]), response.length)
        keeps = not response.will_close
        named = {name.title(): value for name, value in response.getheaders()}
        answer = HttpAnswer(self._route.base_url + path, response.status, named, bytes(content), self._route.variable)
        response.close()
        line.was_used = True
        return answer, keeps

    def _too_long(self, size_bytes: int) -> ClientError:
        return AnswerTooLargeError(
            f"The answer of {self._route.base_url} has {size_text(size_bytes)} and more, and was not read further.",
            cause=f"this client reads no more than {size_text(self._most_bytes)} of one answer "
            f"(max_message_bytes={self._most_bytes})",
            cure="send fewer instances in one request, or give the client a larger max_message_bytes",
            reason="answer-too-large",
        )

    def _line(self) -> HttpLine:
        """A connection that waits for a request, or a new one."""
        with self._lock:
            if self._process != os.getpid():  # those of the process that this was forked from stay its own
                self._idle, self._process = [], os.getpid()
            while self._idle:
                line = self._idle.pop()
                if not line.is_stale:
                    return line
                line.close()
        return HttpLine(self._route, self._tls)

    def _keep(self, line: HttpLine) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < MOST_KEPT and self._process == os.getpid():
                self._idle.append(line)
                return
        line.close()


def _only_by_grpc(method: str) -> ClientError:
    return NotSentError(
        f"The REST API has no {method}.", cure=f"use gRPC: GrpcClient('HOST:8500').{method}(...)", reason="not-by-rest"
    )

"""What is asked of TensorFlow Serving's gRPC API, step by step, without a connection: bytes to send, bytes to read.

A request is a generator: it yields GrpcCall after GrpcCall, is sent each answer (or thrown its error), and returns what
its caller wanted. So the client that waits and the one for asyncio have the same code, and differ in how they wait.
"""

from __future__ import annotations

import logging
import math
import numbers
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, TypeVar

from npu_serving.client.channel import ChannelSettings
from npu_serving.client.errors import FailedError, NotSentError, RefusedError
from npu_serving.client.grpc_failures import GrpcQuestion, another_program
from npu_serving.client.model_messages import (
    ListedModel,
    read_metadata_response,
    read_reload_response,
    read_status_response,
    write_metadata_request,
    write_reload_request,
    write_status_request,
)
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.model_types import DEFAULT_SIGNATURE, ModelMetadata, ModelStatus, Signature
from npu_serving.client.prediction import Classification, Prediction, Regression
from npu_serving.client.sent_headers import checked_metadata
from npu_serving.wire_bytes import MalformedMessageError

if TYPE_CHECKING:
    from npu_serving.client.casting import CastInputs, SignatureFit
    from npu_serving.client.example_messages import InferenceAnswer

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
REGRESS = "/tensorflow.serving.PredictionService/Regress"
MULTI_INFERENCE = "/tensorflow.serving.PredictionService/MultiInference"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
LOG = logging.getLogger("npu_serving.client")
MOST_KEPT_BYTES = 64 << 20
Answer = TypeVar("Answer")


class GrpcCall(NamedTuple):
    """One unary call: what is sent, within which time, and what an error says of it."""

    method: str
    message: bytes
    spec: ModelSpec
    timeout_s: float
    metadata: tuple[tuple[str, str | bytes], ...] | None = None
    takes: str = ""

    def question(self, settings: ChannelSettings) -> GrpcQuestion:
        """What an error says of it."""
        return GrpcQuestion(settings, self.method, self.spec, len(self.message), self.timeout_s, self.takes)


class _Ready(NamedTuple):
    """What each request for some outputs of a signature needs."""

    spec: ModelSpec
    signature: str
    takes: str
    answers: frozenset[str]
    """The outputs that an answer has."""
    fitting: SignatureFit
    encode: Callable[[ModelSpec, Mapping[str, object], Sequence[str]], bytes]
    decode: Callable[[memoryview], Any]


Flow = Generator[GrpcCall, bytes, Answer]
"""The steps of one request, each a call whose answer is sent back."""


class GrpcFlows:
    """The requests of one client: what it knows of models is kept between them."""

    def __init__(self, settings: ChannelSettings, timeout_s: float, metadata: Sequence[tuple[str, Any]]) -> None:
        self._settings = settings
        self._timeout_s = checked_timeout(timeout_s)
        self._metadata = checked_metadata(metadata)
        self._ready: dict[tuple[str, str, int | None, str, tuple[str, ...]], _Ready] = {}
        self._told: set[tuple[str, str]] = set()
        self._last = b""
        """The last request: let go before the next is made, its memory would go back to the system and be got again,
        page by page, which takes longer than all else that is done for a request of a megabyte."""

    def call(
        self,
        method: str,
        message: bytes,
        spec: ModelSpec,
        timeout_s: float | None,
        metadata: Sequence[tuple[str, Any]] = (),
        takes: str = "",
    ) -> GrpcCall:
        """The call. NotSentError for a time that can't be waited."""
        limit = self._timeout_s if timeout_s is None else checked_timeout(timeout_s)
        return GrpcCall(
            method,
            message,
            spec,
            limit,
            (*self._metadata, *checked_metadata(metadata)) if metadata else self._metadata,
            takes,
        )

    def metadata(
        self, spec: ModelSpec, timeout_s: float | None, metadata: Sequence[tuple[str, Any]]
    ) -> Flow[ModelMetadata]:
        """The signatures of a model, asked again each time."""
        check_spec(spec)
        asked = replace(spec, signature_name="")
        call = self.call(METADATA, write_metadata_request(asked), asked, timeout_s, metadata)
        answer = yield call
        found: ModelMetadata = self.read(call, lambda message: read_metadata_response(spec.name, message), answer)
        return found

    def predict(
        self,
        model: str,
        inputs: Mapping[str, object],
        signature: str,
        version: int | None,
        label: str,
        outputs: Sequence[str],
        timeout_s: float | None,
        metadata: Sequence[tuple[str, Any]],
        cast: bool,
    ) -> Flow[Prediction]:
        """What the model answers to these arrays."""
        key = (model, signature, version, label, tuple(outputs))
        ready = self._ready.get(key)
        sent: CastInputs | None = None
        if ready is not None:
            try:
                sent = ready.fitting.cast(inputs, force=cast)
            except NotSentError:
                ready = None  # what is known of the model may be old
        if ready is None or sent is None:
            ready = yield from self._prepare(key, timeout_s, metadata)
            try:
                sent = ready.fitting.cast(inputs, force=cast)
            except NotSentError as error:
                raise error.about(model, version) from None
        if sent.notes:
            tell_once(self._told, model, sent.notes)
        message = ready.encode(ready.spec, sent.values, outputs)
        if len(message) <= MOST_KEPT_BYTES:
            self._last = message
        call = self.call(PREDICT, message, ready.spec, timeout_s, metadata, ready.takes)
        begun = time.perf_counter()
        try:
            answer = yield call
        except RefusedError:
            self._ready.pop(key, None)  # another version may be served by now
            raise
        seconds = time.perf_counter() - begun
        who, found = self.read(call, ready.decode, answer)
        if not ready.answers <= found.keys():
            lacking = min(ready.answers - found.keys())
            raise another_program(call.question(self._settings), f"its answer lacks the output {lacking!r}")
        return Prediction(
            found, who.name or model, who.version, who.signature_name or ready.signature, seconds, sent.notes
        )

    def _prepare(
        self,
        key: tuple[str, str, int | None, str, tuple[str, ...]],
        timeout_s: float | None,
        metadata: Sequence[tuple[str, Any]],
    ) -> Flow[_Ready]:
        """What each request for these outputs of a signature needs, by what the server says of the model now."""
        from npu_serving.client.casting import SignatureFit
        from npu_serving.client.prediction_messages import decode_predict, predict_request

        model, signature_name, version, label, outputs = key
        spec = ModelSpec(model, version, label, signature_name)
        known = yield from self.metadata(spec, timeout_s, metadata)
        try:
            signature = signature_of(known, spec, outputs)
        except NotSentError as error:
            raise error.about(model, version) from None
        ready = _Ready(
            spec,
            signature.name,
            what_it_takes(signature),
            frozenset(outputs or (item.name for item in signature.outputs)),
            SignatureFit(signature),
            predict_request,
            decode_predict,
        )
        self._ready[key] = ready
        return ready

    def classify(
        self,
        spec: ModelSpec,
        examples: Sequence[Mapping[str, object]],
        context: Mapping[str, object] | None,
        timeout_s: float | None,
        metadata: Sequence[tuple[str, Any]],
    ) -> Flow[Classification]:
        """The classes of each example."""
        from npu_serving.client.example_messages import read_classification, write_examples_request

        check_spec(spec)
        call = self.call(CLASSIFY, write_examples_request(spec, examples, context), spec, timeout_s, metadata)
        begun = time.perf_counter()
        answer = yield call
        seconds = time.perf_counter() - begun
        who, classes = self.read(call, read_classification, answer)
        return Classification(classes, who.name or spec.name, who.version, who.signature_name, seconds)

    def regress(
        self,
        spec: ModelSpec,
        examples: Sequence[Mapping[str, object]],
        context: Mapping[str, object] | None,
        timeout_s: float | None,
        metadata: Sequence[tuple[str, Any]],
    ) -> Flow[Regression]:
        """A value for each example."""
        from npu_serving.client.example_messages import read_regression, write_examples_request

        check_spec(spec)
        call = self.call(REGRESS, write_examples_request(spec, examples, context), spec, timeout_s, metadata)
        begun = time.perf_counter()
        answer = yield call
        seconds = time.perf_counter() - begun
        who, values = self.read(call, read_regression, answer)
        return Regression(values, who.name or spec.name, who.version, who.signature_name, seconds)

    def multi_inference(
        self,
        tasks: Sequence[tuple[ModelSpec, str]],
        examples: Sequence[Mapping[str, object]],
        context: Mapping[str, object] | None,
        timeout_s: float | None,
        metadata: Sequence[tuple[str, Any]],
    ) -> Flow[tuple[InferenceAnswer, ...]]:
        """The answer to each task: a signature, and whether it classifies or regresses."""
        from npu_serving.client.example_messages import read_multi_inference, write_multi_inference_request

        if not tasks:
            raise NotSentError("There is no task to infer.", cure="give at least one signature with its method")
        for spec, _ in tasks:
            check_spec(spec)
        message = write_multi_inference_request(tasks, examples, context)
        call = self.call(MULTI_INFERENCE, message, tasks[0][0], timeout_s, metadata)
        answer = yield call
        found: tuple[InferenceAnswer, ...] = self.read(call, read_multi_inference, answer)
        return found

    def status(
        self, spec: ModelSpec, timeout_s: float | None, metadata: Sequence[tuple[str, Any]]
    ) -> Flow[ModelStatus]:
        """The states of the model's versions."""
        check_spec(spec)
        call = self.call(STATUS, write_status_request(spec), spec, timeout_s, metadata)
        answer = yield call
        found: ModelStatus = self.read(call, lambda message: read_status_response(spec.name, message), answer)
        return found

    def reload_config(
        self,
        models: Sequence[ListedModel],
        served: Sequence[str] | None,
        removing: Sequence[str],
        timeout_s: float | None,
        metadata: Sequence[tuple[str, Any]],
    ) -> Flow[None]:
        """Gives the server that list of models in place of the one that it has."""
        refuse_losing([model.name for model in models], served, removing)
        call = self.call(RELOAD, write_reload_request(models), ModelSpec(""), timeout_s, metadata)
        answer = yield call
        code, said = self.read(call, read_reload_response, answer)
        self._ready.clear()
        if code != "OK":
            failed = FailedError(
                f"The server at {self._settings.address} did not take the list of models: {said}.",
                cause="it refuses the list as a whole, or could not load one of its models",
                cure="correct the list; the models' status() says which of them it has",
                reason="reload-refused",
                status=code,
                said=said,
            )
            failed.address = str(self._settings.address)
            raise failed

    def read(self, call: GrpcCall, read: Any, answer: bytes | None) -> Any:
        """The answer, read. MalformedAnswerError where it is not the message that was asked for."""
        if answer is None:  # so grpc has it where the stream ended before its message, and the status is OK
            raise another_program(call.question(self._settings), "its answer ended before the message did")
        try:
            return read(memoryview(answer))
        except MalformedMessageError as error:
            raise another_program(
                call.question(self._settings), f"its answer is not the message that was asked for: {error}"
            ) from error


def tell_once(told: set[tuple[str, str]], model: str, notes: Sequence[str]) -> None:
    """Logs each cast that is not among those `told`, and adds it there."""
    for note in notes:
        if (model, note) not in told:
            told.add((model, note))
            LOG.warning("For the model %r %s.", model, note)


def refuse_losing(listed: Sequence[str], served: Sequence[str] | None, removing: Sequence[str]) -> None:
    """NotSentError for a list of models that may take one out of service which nobody named.

    A server unloads whatever the new list has not, and can't be asked what it has: so the caller has to say it.
    """
    if served is None:
        raise NotSentError(
            f"The server would unload every model but {', '.join(map(repr, listed)) or 'none'}.",
            cause="a server can't be asked for the list that it has",
            cure="say which models it has now: served=[...]; those that shall go are named in removing=[...]",
            reason="reload-unnamed",
        )
    lost = sorted(set(served) - set(listed) - set(removing))
    if lost:
        raise NotSentError(
            f"The new list of models lacks {lost[0]!r}, which the server would unload.",
            cause="reload_config() takes the whole list, not what is new in it",
            cure=f"add it to the list, or name it as one that shall go: removing=[{lost[0]!r}]",
            reason="reload-unnamed",
        )
    kept = sorted(set(removing) & set(listed))
    if kept:
        raise NotSentError(
            f"The model {kept[0]!r} shall go, and is in the new list.", cure="take it out of one of them"
        )


def signature_of(known: ModelMetadata, spec: ModelSpec, outputs: Sequence[str]) -> Signature:
    """The signature that is asked. NotSentError where the model has none of that name, or not these outputs."""
    signature = known.signature(spec.signature_name)
    if signature is None:
        raise NotSentError(
            f"The model {spec.name!r} has no signature {spec.signature_name or DEFAULT_SIGNATURE!r}.",
            cause=known.what_it_takes(spec.signature_name),
            cure="use one of its signatures",
            reason="signature",
        )
    lacking = sorted(set(outputs) - {item.name for item in signature.outputs})
    if lacking:
        raise NotSentError(
            f"The signature {signature.name!r} has no output {lacking[0]!r}.",
            cause=f"its outputs are {'; '.join(item.text() for item in signature.outputs) or 'none'}",
            cure="name outputs of it, or leave them out for all",
            reason="output-names",
        )
    return signature


def what_it_takes(signature: Signature) -> str:
    """A sentence with the inputs of a signature."""
    inputs = "; ".join(item.text() for item in signature.inputs)
    return f"the signature {signature.name!r} takes {inputs or 'no inputs'}"


def check_spec(spec: ModelSpec) -> None:
    """NotSentError for names and versions that no message can say."""
    if not spec.name:
        raise NotSentError(
            "The model's name is empty.", cure="use the name that the server was started with (--model_name)"
        )
    for text in (spec.name, spec.label, spec.signature_name):
        if not isinstance(text, str):
            raise NotSentError(f"{text!r} is not a name.", cure="give a model, a label and a signature as texts")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise NotSentError(f"{text!r} can't be written in UTF-8.", cure="correct the name") from error
    if spec.version is not None and not (is_whole(spec.version) and 0 <= spec.version < 1 << 63):
        raise NotSentError(
            f"The version can't be {spec.version!r}.", cure="use the number of a version directory, such as 1"
        )
    if spec.version is not None and spec.label:
        raise NotSentError(
            "A version and a label both say which version to ask (--version and --label).", cure="give one of them"
        )


def is_whole(number: object) -> bool:
    """Whether it is a whole number, NumPy's ones included."""
    return isinstance(number, numbers.Integral) and not isinstance(number, bool)


def checked_timeout(timeout_s: float) -> float:
    """The seconds. NotSentError for a time that can't be waited."""
    is_time = isinstance(timeout_s, numbers.Real) and 0 < timeout_s < math.inf
    if not is_time:
        raise NotSentError(
            f"timeout_s can't be {timeout_s!r}.",
            cause="a request without a limit may wait for ever",
            cure="give a number of seconds above 0",
            reason="setting",
        )
    return min(float(timeout_s), 1e7)  # grpc has no room for more than some months

"""Asking a server over gRPC, by a client that waits for its answers; the one for asyncio is in async_client.py."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Union

from npu_serving.client.address import grpc_address
from npu_serving.client.channel import CALLING, MOST_ANSWER_BYTES, ChannelSettings, import_grpc
from npu_serving.client.errors import BusyError, ClientError, NotSentError
from npu_serving.client.grpc_calls import Answer, Flow, GrpcCall, GrpcFlows
from npu_serving.client.grpc_failures import grpc_failure
from npu_serving.client.model_messages import ListedModel
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.model_types import ModelMetadata, ModelStatus
from npu_serving.client.prediction import Classification, Prediction, Regression
from npu_serving.client.tls import Tls

if TYPE_CHECKING:
    import grpc

    from npu_serving.client.example_messages import InferenceAnswer

CallMetadata = Sequence[tuple[str, Union[str, bytes]]]
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0


class GrpcAsking:
    """What both clients have: their settings, and what they know of the server's models."""

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = 60.0,
        tls: Tls | None = None,
        compression: str = "",
        metadata: CallMetadata = (),
        max_message_bytes: int = MOST_ANSWER_BYTES,
        keepalive_s: float | None = None,
        load_balancing: str = "round_robin",
        retries: int = 0,
    ) -> None:
        """A client of the server at `target`; nothing is connected before the first request.

        `target` is `host:port`, `grpc://host:port`, with TLS `grpcs://host:port`; or `dns:///host:port` (all addresses
        of the name are used in turn), `unix:/path`, or a list `ipv4:1.2.3.4:8500,5.6.7.8:8500`. `retries` is how often
        a request is sent again that the server was too busy for (BusyError), after a pause that doubles. NotSentError
        for settings that can't be.
        """
        address = grpc_address(target, has_tls=tls is not None)
        self._settings = ChannelSettings(
            address, tls if tls is not None else Tls(), compression, max_message_bytes, keepalive_s, load_balancing
        )
        self.flows = GrpcFlows(self._settings, timeout_s, metadata)
        self._retries = retries
        self._closed = False
        self._prepare()

    def _prepare(self) -> None:
        """What the kind of client keeps besides."""
        raise NotImplementedError

    def pauses_s(self) -> Iterator[float]:
        """How long to wait before each time that a request is sent again, in seconds; each differs by chance."""
        pause = FIRST_PAUSE_S
        for _ in range(self._retries):
            yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - so that callers don't come back all at once
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise NotSentError("This client is closed.", cure="make another one", reason="closed-client")


def closed_meanwhile() -> NotSentError:
    """The error of a request that was waited for when its client was closed."""
    return NotSentError(
        "This client was closed while an answer was waited for.",
        cause="another thread or task has closed it",
        cure="close it when its last answer is there",
        reason="closed-client",
    )


class GrpcClient(GrpcAsking):
    """A client of one server's gRPC API, to be used by as many threads as one likes. `with` closes it."""

    def _prepare(self) -> None:
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._left_behind: list[grpc.Channel] = []
        self._methods: dict[str, grpc.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        self._process = 0

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
        metadata: CallMetadata = (),
        cast: bool = False,
    ) -> Prediction:
        """What the model answers to arrays by name; of all outputs, or those that are named.

        Inputs become the types of the signature where that loses nothing, which is logged once; `cast` forces it.
        Raises NotSentError for what does not fit the signature, and the other errors of errors.py.
        """
        return self.run(
            self.flows.predict(model, inputs, signature, version, label, outputs, timeout_s, metadata, cast)
        )

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
        metadata: CallMetadata = (),
    ) -> Classification:
        """The classes of each example: its features by name, to which those of `context` are added."""
        spec = ModelSpec(model, version, label, signature)
        return self.run(self.flows.classify(spec, examples, context, timeout_s, metadata))

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
        metadata: CallMetadata = (),
    ) -> Regression:
        """A value for each example, given as for classify()."""
        spec = ModelSpec(model, version, label, signature)
        return self.run(self.flows.regress(spec, examples, context, timeout_s, metadata))

    def multi_inference(
        self,
        model: str,
        examples: Sequence[Mapping[str, object]],
        tasks: Mapping[str, str],
        *,
        context: Mapping[str, object] | None = None,
        version: int | None = None,
        label: str = "",
        timeout_s: float | None = None,
        metadata: CallMetadata = (),
    ) -> tuple[InferenceAnswer, ...]:
        """The answers of several signatures of one model to the same examples, in the order of `tasks`.

        `tasks` has the method of each signature by its name: tensorflow/serving/classify or tensorflow/serving/regress.
        """
        specs = [(ModelSpec(model, version, label, name), method) for name, method in tasks.items()]
        return self.run(self.flows.multi_inference(specs, examples, context, timeout_s, metadata))

    def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str = "",
        timeout_s: float | None = None,
        metadata: CallMetadata = (),
    ) -> ModelMetadata:
        """The signatures of the model with their inputs and outputs, asked again each time."""
        return self.run(self.flows.metadata(ModelSpec(model, version, label), timeout_s, metadata))

    def status(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str = "",
        timeout_s: float | None = None,
        metadata: CallMetadata = (),
    ) -> ModelStatus:
        """The state of each version of the model, or of the one that is named."""
        return self.run(self.flows.status(ModelSpec(model, version, label), timeout_s, metadata))

    def reload_config(
        self,
        models: Sequence[ListedModel],
        *,
        served: Sequence[str] | None = None,
        removing: Sequence[str] = (),
        timeout_s: float | None = None,
        metadata: CallMetadata = (),
    ) -> None:
        """Gives the server this whole list of models (see ModelEntry); returns when it has loaded them.

        It unloads whatever is not in the list. So `served` has to name what it has now, and `removing` those of
        them that shall go: NotSentError otherwise.
        """
        self.run(self.flows.reload_config(models, served, removing, timeout_s, metadata))

    def ask(self, call: GrpcCall) -> bytes:
        """The answer to one call, as it came; sent again while the server is too busy, as often as `retries` says."""
        self._refuse_closed()
        until = time.monotonic() + call.timeout_s
        pauses: Iterator[float] | None = None
        while True:
            try:
                return self._once(call, until)
            except BusyError:
                pauses = self.pauses_s() if pauses is None else pauses
                pause = next(pauses, None)
                if pause is None or time.monotonic() + pause >= until:
                    raise
                time.sleep(pause)

    def close(self) -> None:
        """Closes the connection; requests that are still waited for fail."""
        self._closed = True
        with self._lock:
            channel, self._channel, self._methods = self._channel, None, {}
            if channel is not None and self._process == os.getpid():
                channel.close()

    def __enter__(self) -> GrpcClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def run(self, flow: Flow[Answer]) -> Answer:
        """What the steps of a request lead to (see grpc_calls.py)."""
        try:
            call = next(flow)
            while True:
                try:
                    answer = self.ask(call)
                except ClientError as error:
                    call = flow.throw(error)
                else:
                    call = flow.send(answer)
        except StopIteration as end:
            found: Answer = end.value
            return found

    def _once(self, call: GrpcCall, until: float) -> bytes:
        thread = threading.get_ident()
        CALLING.add(thread)
        try:
            method = self._method(call.method)
            left = until - time.monotonic()
            return method(call.message, timeout=max(left, 0.0), metadata=call.metadata)
        except Exception as error:
            import grpc  # not before import_grpc() has prepared it

            if not isinstance(error, grpc.RpcError):
                raise
            if self._closed:
                raise closed_meanwhile() from error
            raise grpc_failure(error, call.question(self._settings)) from error
        finally:
            CALLING.discard(thread)

    def _method(self, name: str) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
        found = self._methods.get(name)
        if found is not None and self._process == os.getpid():
            return found
        if self._process != os.getpid():
            import_grpc()  # before the lock, which a thread may have held that a fork did not take along
        with self._lock:
            if self._process != os.getpid():
                if self._channel is not None:  # of the process that this was forked from: to end it here may not return
                    self._left_behind.append(self._channel)
                self._channel, self._methods, self._process = None, {}, os.getpid()
            if self._channel is None:
                self._channel = self._settings.open()
            self._methods[name] = self._channel.unary_unary(name)
            return self._methods[name]

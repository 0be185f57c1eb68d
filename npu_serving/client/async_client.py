"""Asking a server over gRPC from asyncio: the client of grpc_client.py, whose methods are awaited."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from npu_serving.client.errors import BusyError, ClientError
from npu_serving.client.grpc_calls import Answer, Flow, GrpcCall
from npu_serving.client.grpc_client import CallMetadata, GrpcAsking, closed_meanwhile
from npu_serving.client.grpc_failures import grpc_failure
from npu_serving.client.model_messages import ListedModel
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.model_types import ModelMetadata, ModelStatus
from npu_serving.client.prediction import Classification, Prediction, Regression

if TYPE_CHECKING:
    import grpc.aio

    from npu_serving.client.example_messages import InferenceAnswer


class AsyncGrpcClient(GrpcAsking):
    """A client of one server's gRPC API for asyncio, with the methods of GrpcClient; `async with` closes it.

    As many requests as one likes may wait at a time; each event loop and each process has a connection of its own.
    """

    def _prepare(self) -> None:
        self._channel: grpc.aio.Channel | None = None
        self._left_behind: list[grpc.aio.Channel] = []
        self._methods: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        self._place: tuple[int, object] = (0, None)

    async def predict(
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
        """What the model answers, as GrpcClient.predict() has it."""
        return await self.run(
            self.flows.predict(model, inputs, signature, version, label, outputs, timeout_s, metadata, cast)
        )

    async def classify(
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
        return await self.run(self.flows.classify(spec, examples, context, timeout_s, metadata))

    async def regress(
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
        return await self.run(self.flows.regress(spec, examples, context, timeout_s, metadata))

    async def multi_inference(
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
        return await self.run(self.flows.multi_inference(specs, examples, context, timeout_s, metadata))

    async def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str = "",
        timeout_s: float | None = None,
        metadata: CallMetadata = (),
    ) -> ModelMetadata:
        """The signatures of the model with their inputs and outputs, asked again each time."""
        return await self.run(self.flows.metadata(ModelSpec(model, version, label), timeout_s, metadata))

    async def status(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str = "",
        timeout_s: float | None = None,
        metadata: CallMetadata = (),
    ) -> ModelStatus:
        """The state of each version of the model, or of the one that is named."""
        return await self.run(self.flows.status(ModelSpec(model, version, label), timeout_s, metadata))

    async def reload_config(
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
        await self.run(self.flows.reload_config(models, served, removing, timeout_s, metadata))

    async def ask(self, call: GrpcCall) -> bytes:
        """The answer to one call, as it came; sent again while the server is too busy, as often as `retries` says."""
        self._refuse_closed()
        until = time.monotonic() + call.timeout_s
        pauses: Iterator[float] | None = None
        while True:
            try:
                return await self._once(call, until)
            except BusyError:
                pauses = self.pauses_s() if pauses is None else pauses
                pause = next(pauses, None)
                if pause is None or time.monotonic() + pause >= until:
                    raise
                await asyncio.sleep(pause)

    async def close(self) -> None:
        """Closes the connection; requests that are still waited for fail."""
        self._closed = True
        channel, self._channel, self._methods = self._channel, None, {}
        if channel is not None and self._place == _here():
            await channel.close()

    async def __aenter__(self) -> AsyncGrpcClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()

    async def run(self, flow: Flow[Answer]) -> Answer:
        """What the steps of a request lead to (see grpc_calls.py)."""
        try:
            call = next(flow)
            while True:
                try:
                    answer = await self.ask(call)
                except ClientError as error:
                    call = flow.throw(error)
                else:
                    call = flow.send(answer)
        except StopIteration as end:
            found: Answer = end.value
            return found

    async def _once(self, call: GrpcCall, until: float) -> bytes:
        method = self._method(call.method)
        import grpc  # not before import_grpc() has prepared it

        left = until - time.monotonic()
        try:
            return await method(call.message, timeout=max(left, 0.0), metadata=call.metadata)
        except grpc.RpcError as error:
            if self._closed:
                raise closed_meanwhile() from error
            raise grpc_failure(error, call.question(self._settings)) from error

    def _method(self, name: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
        here = _here()
        if self._place != here:
            if self._channel is not None and self._place[0] != here[0]:
                self._left_behind.append(self._channel)  # to end it here, after a fork, may not return
            self._channel, self._methods, self._place = None, {}, here
        found = self._methods.get(name)
        if found is None:
            if self._channel is None:
                self._channel = self._settings.open_async()
            found = self._methods[name] = self._channel.unary_unary(name)
        return found


def _here() -> tuple[int, object]:
    """The process and the event loop, to which a channel belongs."""
    return os.getpid(), asyncio.get_running_loop()

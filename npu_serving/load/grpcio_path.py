"""The path through grpcio: what a client of the library asks, with nothing of ours between it and the measurement."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from npu_serving.client.proxy_rules import is_this_machine
from npu_serving.load.generator import (
    MOST_IN_FLIGHT,
    SECONDS_AFTER_UNREACHABLE,
    SECONDS_TO_FINISH,
    UNFINISHED,
    Plan,
    Sink,
)
from npu_serving.load.kinds import of_grpc_status
from npu_serving.load.precise_timer import PreciseTimer

if TYPE_CHECKING:
    import grpc.aio

_MOST_ANSWER_BYTES = 1 << 30


def send_requests(plan: Plan, sink: Sink) -> None:
    """Sends what the plan says, see generator.py."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would write lines of its own about a connection
    asyncio.run(_run(plan, sink))


async def _run(plan: Plan, sink: Sink) -> None:
    count = max(plan.connections, 1)
    channels = [_channel(plan, is_one_of_many=count > 1) for _ in range(count)]
    try:
        calls = [_Calls(plan, sink, channel) for channel in channels]
        if plan.schedule is None:
            await _closed_loop(plan, sink, calls)
        else:
            await _OpenLoop(plan, sink, calls).run()
    finally:
        for channel in channels:
            await channel.close()


class _Calls:
    """Requests over one channel."""

    def __init__(self, plan: Plan, sink: Sink, channel: grpc.aio.Channel) -> None:
        import grpc

        self._error = grpc.RpcError
        self._plan = plan
        self._sink = sink
        self._methods: dict[str, Callable[..., Any]] = {
            path: channel.unary_unary(path) for path in {request.path for request in plan.requests}
        }

    async def one(self, number: int, intended_ns: int) -> str:
        """Sends one, records what became of it, and returns its kind."""
        plan = self._plan
        request = plan.requests[number]
        sent_ns = time.monotonic_ns()
        kind, answer = "", None
        try:
            answer = await self._methods[request.path](
                request.body, timeout=plan.timeout_s, metadata=plan.headers or None
            )
        except self._error as error:
            code, said = _status(error)
            kind, answer = of_grpc_status(code, said, own_limit=_MOST_ANSWER_BYTES), said.encode()
        except asyncio.CancelledError:
            self._sink.record(number, intended_ns, sent_ns, time.monotonic_ns(), UNFINISHED)
            raise
        done_ns = time.monotonic_ns()
        self._sink.record(number, intended_ns, sent_ns, done_ns, kind, answer if kind or plan.compares else None)
        return kind


def _status(error: Any) -> tuple[int, str]:
    return error.code().value[0], error.details() or ""


async def _closed_loop(plan: Plan, sink: Sink, calls: list[_Calls]) -> None:
    numbers = plan.numbers()

    async def one_after_the_other(own: _Calls) -> None:
        await asyncio.sleep(max(0.0, (plan.begin_ns - time.monotonic_ns()) / 1e9))
        while not sink.stopped:
            if await own.one(next(numbers), time.monotonic_ns()) == "unreachable":
                await asyncio.sleep(SECONDS_AFTER_UNREACHABLE)

    tasks = [asyncio.ensure_future(one_after_the_other(calls[at % len(calls)])) for at in range(plan.concurrency)]
    with _stop_noticed(sink) as stopped:
        ended = asyncio.gather(*tasks)
        waits: set[asyncio.Future[Any]] = {ended, asyncio.ensure_future(stopped.wait())}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    await _finish(tasks, plan)


class _OpenLoop:
    """Sends at the times of the schedule, whatever has been answered by then."""

    def __init__(self, plan: Plan, sink: Sink, calls: list[_Calls]) -> None:
        self._plan = plan
        self._sink = sink
        self._calls = calls
        self._numbers = plan.numbers()
        self._times = plan.intended_ns()
        self._next_ns: int | None = next(self._times, None)
        self._in_flight: set[asyncio.Task[str]] = set()
        self._is_full = False
        self._sent = 0
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Until the schedule ends, or the sink says stop; then what is in flight is waited for."""
        with PreciseTimer() as timer:
            self._timer = timer
            self._loop.add_reader(timer.fd, self._due)
            self._arm()
            with _stop_noticed(self._sink) as stopped:
                waits = {asyncio.ensure_future(self._ended.wait()), asyncio.ensure_future(stopped.wait())}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
            self._loop.remove_reader(timer.fd)
            self._next_ns = None
        await _finish(self._in_flight, self._plan)

    def _arm(self) -> None:
        if self._next_ns is None:
            self._ended.set()
        else:
            self._timer.set(self._next_ns)

    def _due(self) -> None:
        self._timer.clear()
        self._send_due()

    def _send_due(self) -> None:
        now_ns = time.monotonic_ns()
        while self._next_ns is not None and self._next_ns <= now_ns and not self._sink.stopped:
            self._is_full = len(self._in_flight) >= MOST_IN_FLIGHT
            if self._is_full:
                return
            calls = self._calls[self._sent % len(self._calls)]
            self._sent += 1
            task = self._loop.create_task(calls.one(next(self._numbers), self._next_ns))
            self._in_flight.add(task)
            task.add_done_callback(self._is_over)
            self._next_ns = next(self._times, None)
        self._arm()

    def _is_over(self, task: asyncio.Task[str]) -> None:
        self._in_flight.discard(task)
        if self._is_full:
            self._send_due()


@contextlib.contextmanager
def _stop_noticed(sink: Sink) -> Iterator[asyncio.Event]:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sink.stop_fd, stopped.set)
    try:
        yield stopped
    finally:
        loop.remove_reader(sink.stop_fd)


async def _finish(tasks: Collection[asyncio.Task[Any]], plan: Plan) -> None:
    """Waits for what is in flight; what takes too long is given up, and recorded as that."""
    if not tasks:
        return
    _, unfinished = await asyncio.wait(tasks, timeout=min(SECONDS_TO_FINISH, plan.timeout_s + 1))
    for task in unfinished:
        task.cancel()
    await asyncio.gather(*unfinished, return_exceptions=True)


def _channel(plan: Plan, *, is_one_of_many: bool) -> grpc.aio.Channel:
    import grpc
    import grpc.aio

    parts = urllib.parse.urlsplit(plan.url)
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", _MOST_ANSWER_BYTES),
        ("grpc.enable_retries", 0),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.use_local_subchannel_pool", int(is_one_of_many)),  # else all channels share one connection
    ]
    if not parts.hostname or is_this_machine(parts.hostname):
        options.append(("grpc.enable_http_proxy", 0))
    target = plan.url if parts.scheme == "unix" else parts.netloc
    if parts.scheme != "grpcs":
        return grpc.aio.insecure_channel(target, options=options)
    credentials = grpc.ssl_channel_credentials(plan.tls.ca or None, plan.tls.key or None, plan.tls.cert or None)
    return grpc.aio.secure_channel(target, credentials, options=options)

"""The loop of a load generator of our own: one thread, no event library, as little between two requests as can be.

It keeps requests in flight or sends them when they are due, over connections that speak what they are given (Wire).
"""

from __future__ import annotations

import contextlib
import gc
import select
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Callable

from npu_serving.load.generator import (
    MOST_IN_FLIGHT,
    SECONDS_AFTER_UNREACHABLE,
    SECONDS_TO_FINISH,
    UNFINISHED,
    Plan,
    Sink,
)
from npu_serving.load.http2_connection import AGAIN
from npu_serving.load.precise_timer import PreciseTimer
from npu_serving.load.socket_lines import LoadTarget, SenderLine, Wire

_NS = 1_000_000_000
_BACK_OFF_NS = round(SECONDS_AFTER_UNREACHABLE * _NS)
"""After a connection that could not be opened, or that ended without an answer."""
_LOOKED_AFTER_NS = _NS // 20  # how often what is too late is looked for
_MOST_TRIES = 5  # of a call that the server says it never began
_NEVER = 1 << 62
_MS = 1_000_000

Waiting = tuple[int, int, int]
"""A request's place in the plan, when it is intended, how often it was tried."""


def run_over_sockets(
    plan: Plan,
    sink: Sink,
    target: LoadTarget,
    new_wire: Callable[[], Wire],
    requests: Sequence[Any],
    *,
    connections: int,
    most_connections: int,
    at_once: int,
) -> None:
    """Runs a plan: `requests` are those of the plan, made ready for what `new_wire` speaks.

    `connections` are opened before the first request, others, up to `most_connections`, when requests wait for a place
    on one; each is taken to have `at_once` places.
    """
    collects = gc.isenabled()
    gc.disable()  # a collection would be latency that the server does not have; nothing here is in a cycle
    loop = _Loop(plan, sink, target, new_wire, requests, connections, most_connections, at_once)
    try:
        loop.run()
    finally:
        loop.close()
        if collects:
            gc.enable()


class _Loop:
    def __init__(
        self,
        plan: Plan,
        sink: Sink,
        target: LoadTarget,
        new_wire: Callable[[], Wire],
        requests: Sequence[Any],
        connections: int,
        most_connections: int,
        at_once: int,
    ) -> None:
        self._plan = plan
        self._sink = sink
        self._target = target
        self._new_wire = new_wire
        self._requests = requests
        self._wanted = max(connections, 1)
        self._most_connections = max(most_connections, self._wanted)
        self._at_once = at_once
        self._numbers = plan.numbers()
        self._schedule: Iterator[int] = iter(()) if plan.schedule is None else plan.intended_ns()
        self._next_ns = _NEVER if plan.schedule is None else next(self._schedule, _NEVER)
        self._timeout_ns = round(plan.timeout_s * _NS)
        self._waiting: deque[Waiting] = deque()
        self._in_flight = 0
        self._most = plan.concurrency or MOST_IN_FLIGHT
        self._lines: dict[int, SenderLine] = {}
        self._free: deque[SenderLine] = deque()
        self._dirty: list[SenderLine] = []
        self._failures = 0
        self._not_before_ns = 0
        self._timer = PreciseTimer()
        self._timer_ns = _NEVER
        self._selector = select.epoll()
        self._selector.register(self._timer.fd, select.EPOLLIN)
        self._selector.register(sink.stop_fd, select.EPOLLIN)
        self._stopping = False
        self._finish_by_ns = _NEVER
        self._look_ns = 0

    def run(self) -> None:
        """Until there is nothing more to do."""
        begin_ns = self._plan.begin_ns
        begun = False
        while True:
            now = time.monotonic_ns()
            if not begun and now >= begin_ns:
                begun = True
                self._waiting.extend((next(self._numbers), now, 0) for _ in range(self._plan.concurrency))
            if self._sink.stopped and not self._stopping:
                self._stop(now)
            while self._next_ns <= now:
                self._waiting.append((next(self._numbers), self._next_ns, 0))
                self._next_ns = next(self._schedule, _NEVER)
            if self._is_over(now, begun):
                return
            if now >= self._look_ns:
                self._look_ns = now + _LOOKED_AFTER_NS
                self._expire(now)
            self._open_lines(now)
            if self._waiting:
                self._send(now)
            self._flush()
            self._wait(begin_ns if not begun else self._next_ns)

    def close(self) -> None:
        """Closes everything."""
        for line in self._lines.values():
            line.close()
        self._selector.close()
        self._timer.close()

    # ---- what is to be done

    def _stop(self, now: int) -> None:
        """Nothing new is begun. What was due in an open loop and never sent is recorded, not left out."""
        self._stopping = True
        self._selector.unregister(self._sink.stop_fd)
        self._next_ns = _NEVER
        if not self._plan.concurrency:
            for place, intended_ns, _ in self._waiting:
                self._sink.record(place, intended_ns, now, now, UNFINISHED)
        self._waiting.clear()

    def _is_over(self, now: int, begun: bool) -> bool:
        if not self._stopping and not (begun and not self._plan.concurrency and self._next_ns == _NEVER):
            return False
        if self._finish_by_ns == _NEVER:
            # What takes too long is seen to within two looks.
            most_ns = min(self._timeout_ns + 2 * _LOOKED_AFTER_NS, round(SECONDS_TO_FINISH * _NS))
            self._finish_by_ns = now + most_ns
        if now >= self._finish_by_ns:
            self._give_up(now)
            return True
        return not self._in_flight and not self._waiting

    def _give_up(self, now: int) -> None:
        """Records what has no answer by the end."""
        for place, intended_ns, _ in self._waiting:
            self._sink.record(place, intended_ns, now, now, UNFINISHED)
        for line in self._lines.values():
            for place, intended_ns, sent_ns, _ in line.calls.values():
                self._sink.record(place, intended_ns, sent_ns, now, UNFINISHED)

    def _expire(self, now: int) -> None:
        """Ends what has waited for longer than its time; the oldest are first everywhere."""
        before = now - self._timeout_ns
        waiting = self._waiting
        while waiting and waiting[0][1] < before:
            place, intended_ns, _ = waiting.popleft()
            self._done(place, intended_ns, now, now, "timeout", None)
        for line in list(self._lines.values()):
            late = []
            for number, call in line.calls.items():
                if call[2] >= before:
                    break
                late.append(number)
            for number in late:
                place, intended_ns, sent_ns, _ = line.calls.pop(number)
                line.wire.give_up(number)
                self._in_flight -= 1
                self._done(place, intended_ns, sent_ns, now, "timeout", None)
            if late:
                self._dirty.append(line)
                self._settle(line)

    # ---- connections

    def _open_lines(self, now: int) -> None:
        wanted = self._wanted
        if self._waiting and not self._free and len(self._lines) >= wanted and self._in_flight < self._most:
            opening = sum(not line.open for line in self._lines.values())
            lacking = -(-len(self._waiting) // self._at_once) - opening
            wanted = min(self._most_connections, len(self._lines) + max(0, lacking))
        if len(self._lines) >= wanted or now < self._not_before_ns or self._stopping:
            return
        for _ in range(wanted - len(self._lines)):
            address = self._target.addresses[self._failures % len(self._target.addresses)]
            try:
                line = SenderLine(self._target, address, self._new_wire())
            except OSError as error:
                self._could_not_open(now, error)
                return
            self._lines[line.fd] = line
            line.watched = line.interest
            self._selector.register(line.fd, line.watched)

    def _could_not_open(self, now: int, error: OSError | None) -> None:
        """After all addresses were tried in vain, what waits has no server."""
        self._failures += 1
        if self._failures % len(self._target.addresses):
            return
        self._not_before_ns = now + _BACK_OFF_NS
        if not any(line.open for line in self._lines.values()):
            waiting, self._waiting = self._waiting, deque()
            said = str(error or "no connection could be opened").encode(errors="replace")
            for place, intended_ns, _ in waiting:
                self._done(place, intended_ns, now, now, "unreachable", said)

    def _end(self, line: SenderLine, now: int, error: OSError | None = None) -> None:
        """The connection is closed, by whom ever."""
        if self._lines.pop(line.fd, None) is None:
            return
        was_open, line.open = line.open, False
        self._selector.unregister(line.fd)
        self._take(line, line.wire.close(), now)
        line.close()
        if not was_open:
            self._could_not_open(now, error)
        elif not line.had_answers:
            self._not_before_ns = now + _BACK_OFF_NS

    def _settle(self, line: SenderLine) -> None:
        """Notes what a connection can do next, after something has changed."""
        if line.wire.broken or (line.wire.leaving and not line.calls):
            self._end(line, time.monotonic_ns())
        elif line.open and not line.waits_for_work and line.wire.free_places > 0:
            line.waits_for_work = True
            self._free.append(line)

    # ---- requests and answers

    def _send(self, now: int) -> None:
        """Begins what waits, on the connections in turn."""
        waiting, free, requests, dirty = self._waiting, self._free, self._requests, self._dirty
        while waiting and free and self._in_flight < self._most:
            line = free.popleft()
            wire = line.wire
            if not line.open or wire.free_places <= 0:
                line.waits_for_work = False
                continue
            place, intended_ns, tried = waiting.popleft()
            line.calls[wire.begin(requests[place])] = (place, intended_ns, now, tried)
            self._in_flight += 1
            dirty.append(line)
            if wire.free_places > 0:
                free.append(line)
            else:
                line.waits_for_work = False

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for line in dirty:
            if not line.open or not line.wire.outgoing:
                continue
            try:
                line.flush()
            except OSError as error:
                self._lose(line, error)
                continue
            if line.interest != line.watched:
                line.watched = line.interest
                self._selector.modify(line.fd, line.watched)

    def _wait(self, next_ns: int) -> None:
        """Waits for what comes first, and takes what has come."""
        now = time.monotonic_ns()
        due = self._look_ns if not self._dirty else now
        if self._waiting and self._not_before_ns > now:
            due = min(due, self._not_before_ns)
        if next_ns != self._timer_ns and next_ns < due:
            self._timer.set(next_ns)
            self._timer_ns = next_ns
        for fd, event in self._selector.poll(max(due - now, 0) / _NS):
            line = self._lines.get(fd)
            if line is not None:
                self._step(line, event)
            elif fd == self._timer.fd:
                self._timer.clear()

    def _step(self, line: SenderLine, event: int) -> None:
        try:
            if not line.open:
                line.go_on_opening()
                if line.open:
                    self._failures = 0
                    self._dirty.append(line)
                    self._settle(line)
                self._watch(line)
                return
            if event & select.EPOLLOUT:
                line.flush()
                self._watch(line)
            if event & ~select.EPOLLOUT:
                self._read(line)
        except OSError as error:
            self._lose(line, error)

    def _lose(self, line: SenderLine, error: OSError) -> None:
        """The connection failed. What the server had said before is still there, such as that it takes no more."""
        with contextlib.suppress(OSError):
            while line.open and line.fd in self._lines:
                data = line.receive()
                if not data:
                    break
                self._take(line, line.wire.receive(data), time.monotonic_ns())
        self._end(line, time.monotonic_ns(), error)

    def _watch(self, line: SenderLine) -> None:
        if line.fd in self._lines and line.interest != line.watched:
            line.watched = line.interest
            self._selector.modify(line.fd, line.watched)

    def _read(self, line: SenderLine) -> None:
        while True:
            data = line.receive()
            now = time.monotonic_ns()
            if data is None:
                return
            if not data:
                self._end(line, now)
                return
            self._take(line, line.wire.receive(data), now)
            if line.wire.outgoing:
                self._dirty.append(line)
            self._settle(line)
            if not line.has_more or line.fd not in self._lines:
                return

    def _take(self, line: SenderLine, answers: Sequence[tuple[int, str, bytes | None]], now: int) -> None:
        for number, kind, message in answers:
            call = line.calls.pop(number, None)
            if call is None:
                continue
            place, intended_ns, sent_ns, tried = call
            self._in_flight -= 1
            if kind == AGAIN:
                if tried + 1 < _MOST_TRIES and not self._stopping:
                    self._waiting.appendleft((place, intended_ns, tried + 1))
                    continue
                kind = "unreachable"
            elif kind == UNFINISHED:  # the server says CANCELLED, which it does when the request's time is over
                kind = "timeout" if now - sent_ns >= self._timeout_ns - 10 * _MS else "failed"
            else:
                line.had_answers = True
            self._done(place, intended_ns, sent_ns, now, kind, message)

    def _done(self, place: int, intended_ns: int, sent_ns: int, now: int, kind: str, message: bytes | None) -> None:
        self._sink.record(place, intended_ns, sent_ns, now, kind, message)
        if self._plan.concurrency and not self._stopping:
            self._waiting.append((next(self._numbers), now, 0))

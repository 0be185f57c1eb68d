"""A worker process of the load test: it sends its share of the requests, and hands on what became of them.

It reads the end of its standard input as the word to stop, so it never outlives the one that started it.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import resource
import struct
import sys
import threading
import time
from typing import IO

from npu_serving import process
from npu_serving.errors import NpuServingError
from npu_serving.load.frames import (
    ANSWER,
    ANSWERED,
    BEGIN,
    CODES,
    CPU,
    END,
    FAILED,
    OUTCOME,
    OUTCOMES,
    PLAN,
    READY,
    SAID,
    TIMES,
    read_frame,
    unpack_plan,
    write_frame,
)
from npu_serving.load.generator import Plan

_MOST_IN_A_BATCH = 2000
_NS_BETWEEN_BATCHES = 50_000_000
_NS_BETWEEN_TIMES = 200_000_000
_MOST_SAID = 300  # bytes of what was said of an error


def answer_parent() -> None:
    """Does what the process that started this one says on standard input; the answers go to standard output."""
    process.end_with_parent()
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=1 << 16)
    os.dup2(2, 1)  # what a library prints is not for the parent
    frame = read_frame(stdin)
    if frame is None or frame[0] != PLAN:
        return
    plan = unpack_plan(frame[1])
    _allow_connections()
    write_frame(stdout, READY)
    frame = read_frame(stdin)
    if frame is None or frame[0] != BEGIN:
        return
    (begin_ns,) = struct.unpack("<q", frame[1])
    sink = WorkerSink(stdout)
    threading.Thread(target=_stop_at_the_end, args=(stdin, sink), daemon=True).start()
    gc.collect()
    gc.freeze()  # what is there now is there at the end: no collection looks at it again
    try:
        _send(dataclasses.replace(plan, begin_ns=begin_ns), sink)
    except NpuServingError as error:
        told = {"what": error.what, "cause": error.cause, "cure": error.cure, "class": type(error).__name__}
        write_frame(stdout, FAILED, json.dumps(told).encode())
    sink.close()
    write_frame(stdout, END)


def _send(plan: Plan, sink: WorkerSink) -> None:
    if plan.path == "grpcio":
        from npu_serving.load.grpcio_path import send_requests as send_over_grpcio

        send_over_grpcio(plan, sink)
    elif plan.path == "http1":
        from npu_serving.load.http1_path import send_requests as send_over_http1

        send_over_http1(plan, sink)
    else:
        from npu_serving.load.http2_path import send_requests as send_over_http2

        send_over_http2(plan, sink)


def _allow_connections() -> None:
    """Raises the number of files that may be open, each connection being one, as far as this user may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _stop_at_the_end(stdin: IO[bytes], sink: WorkerSink) -> None:
    while stdin.read(1 << 16):
        continue
    sink.stop()


class WorkerSink:
    """What became of the requests, handed on in batches; each answer once, however often it comes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stopped = False
        self.stop_fd, self._write_fd = os.pipe()
        self._stream = stream
        self._batch = bytearray(_MOST_IN_A_BATCH * OUTCOME.size)
        self._used = 0
        self._flushed_ns = self._timed_ns = 0
        self._last: dict[int, tuple[bytes, int]] = {}
        self._numbers: dict[tuple[int, int], int] = {}
        self._said: set[str] = set()
        self._tell_times()

    def stop(self) -> None:
        """Says that nothing new is to be sent."""
        self.stopped = True
        os.write(self._write_fd, b".")

    def record(
        self, request: int, intended_ns: int, sent_ns: int, done_ns: int, kind: str, answer: bytes | None = None
    ) -> None:
        """See generator.py."""
        number = 0
        if answer is not None:
            if kind:
                self._say(kind, answer)
            else:
                number = self._number_of(request, answer)
        OUTCOME.pack_into(self._batch, self._used, intended_ns, sent_ns, done_ns, request, number, CODES[kind])
        self._used += OUTCOME.size
        if self._used == len(self._batch) or done_ns - self._flushed_ns > _NS_BETWEEN_BATCHES:
            self._flush(done_ns)

    def close(self) -> None:
        """Hands on what is left."""
        self._flush(time.monotonic_ns())
        self._tell_times()

    def _flush(self, now_ns: int) -> None:
        if self._used:
            write_frame(self._stream, OUTCOMES, memoryview(self._batch)[: self._used])
            self._used = 0
        self._flushed_ns = now_ns
        if now_ns - self._timed_ns > _NS_BETWEEN_TIMES:
            self._tell_times()

    def _tell_times(self) -> None:
        self._timed_ns = time.monotonic_ns()
        write_frame(self._stream, CPU, TIMES.pack(self._timed_ns, time.process_time_ns()))

    def _say(self, kind: str, said: bytes) -> None:
        if kind not in self._said:
            self._said.add(kind)
            write_frame(self._stream, SAID, bytes([CODES[kind]]), said[:_MOST_SAID])

    def _number_of(self, request: int, answer: bytes) -> int:
        """The number of this answer to this request; it is handed on when it comes for the first time."""
        last = self._last.get(request)
        if last is not None and last[0] == answer:
            return last[1]
        key = (request, hash(answer))
        number = self._numbers.get(key, 0)
        if not number:
            number = self._numbers[key] = len(self._numbers) + 1
            write_frame(self._stream, ANSWER, ANSWERED.pack(number, request), answer)
        self._last[request] = (answer, number)
        return number

"""What a path of the load test hands its results to in tests."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from npu_serving.load.generator import Plan, Sink

Record = tuple[int, int, int, int, str, "bytes | None"]


class Kept:
    """A sink that keeps what it is handed, and says stop after so many requests or when told."""

    def __init__(self, most: int) -> None:
        self.stopped = False
        self.stop_fd, self._write_fd = os.pipe()
        self.most = most
        self.records: list[Record] = []

    def stop(self) -> None:
        self.stopped = True
        os.write(self._write_fd, b".")

    def record(self, request: int, intended: int, sent: int, done: int, kind: str, answer: bytes | None = None) -> None:
        self.records.append((request, intended, sent, done, kind, answer))
        if len(self.records) == self.most:
            self.stop()

    def close(self) -> None:
        os.close(self.stop_fd)
        os.close(self._write_fd)


def recorded(send_requests: Callable[[Plan, Sink], None], plan: Plan, most: int) -> list[Record]:
    """What became of the requests of a plan that is stopped after so many; of all of them with -1."""
    sink = Kept(most)
    guard = threading.Timer(30, sink.stop)
    guard.start()
    try:
        send_requests(plan, sink)
    finally:
        guard.cancel()
        sink.close()
    return sink.records

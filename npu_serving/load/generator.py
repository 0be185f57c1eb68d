"""What a load generator is given and what it hands back: the interface between the load test and its paths.

A path is a module beside this one with a function `send_requests(plan, sink)`: grpcio_path, http2_path, http1_path. It
runs in a worker process of its own, sends ready-made requests, and returns when the sink says stop (or the schedule has
ended) and nothing is in flight any more.

Closed loop (`plan.concurrency`): that many requests are kept in flight, and a request is intended for the moment at
which its place became free. Open loop (`plan.schedule`): each request is intended for a time that does not depend on
answers, and one that can't be sent then is late, not left out. Times are those of time.monotonic_ns(), which all
processes of a machine share.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from npu_serving.load.arrivals import Schedule

UNFINISHED = "unfinished"
"""The kind of what was given up because the run had ended. The others are in kinds.py, "" for an answer."""
MOST_IN_FLIGHT = 10_000
"""Of one process in an open loop. A request beyond them waits, and is late by that."""
SECONDS_AFTER_UNREACHABLE = 0.05
"""A closed loop waits so long after a request that found nobody: thousands of them a second would say nothing more."""
SECONDS_TO_FINISH = 10.0
"""For how long what is in flight is waited for when a run ends, where the requests' own timeout is not shorter."""


@dataclass(frozen=True)
class ReadyRequest:
    """A request as it is sent: the gRPC method or the path of the URL, and the bytes of the message or the body."""

    path: str
    body: bytes


@dataclass(frozen=True)
class LoadTls:
    """Certificates in PEM: those that the server's is checked with (b"" for those of this machine), and a client's."""

    ca: bytes = b""
    cert: bytes = b""
    key: bytes = b""


@dataclass(frozen=True)
class Plan:
    """One process's share of a level.

    `url` is grpc://, grpcs://, http:// or https:// HOST:PORT, or unix:PATH. `begin_ns` is when the first request may be
    sent. `concurrency` is this process's own (0 in an open loop), `schedule` that of all processes. `compares` says
    that answers are handed to the sink. `connections` of 0 leaves their number to `path`, which is grpcio, http2 or
    http1.
    """

    url: str
    requests: tuple[ReadyRequest, ...]
    begin_ns: int
    concurrency: int = 0
    schedule: Schedule | None = None
    process: int = 0
    processes: int = 1
    timeout_s: float = 60.0
    connections: int = 0
    compares: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    tls: LoadTls = LoadTls()
    path: str = "grpcio"

    def numbers(self) -> Iterator[int]:
        """The places in `requests` of what this process sends, one after the other, without an end."""
        count = len(self.requests)
        return (number % count for number in itertools.count(self.process, self.processes))

    def intended_ns(self) -> Iterator[int]:
        """When this process is to send, in an open loop; ends where the schedule does."""
        assert self.schedule is not None
        for offset_ns in self.schedule.offsets_ns(self.process, self.processes):
            yield self.begin_ns + offset_ns


class Sink(Protocol):
    """Where a path hands what became of its requests, from one thread."""

    stopped: bool
    """Whether nothing new is to be sent. It is set from another thread."""
    stop_fd: int
    """Becomes readable when `stopped` is set, for a path that waits in a selector; nothing may be read from it."""

    def record(
        self, request: int, intended_ns: int, sent_ns: int, done_ns: int, kind: str, answer: bytes | None = None
    ) -> None:
        """One request has ended: its place in the plan's, when it was intended, sent and done, and its kind (kinds.py).

        `answer` is the message or the body, where the plan compares and there is one; of an error, what was said of it
        (in UTF-8), where something was. For one that was never sent (`unreachable`), `sent_ns` is when that was tried.
        """

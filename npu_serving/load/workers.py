"""The worker processes of one level of load: started, told to begin and to stop, and what they hand on."""

from __future__ import annotations

import json
import queue
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from npu_serving import errors, process
from npu_serving.errors import NpuServingError
from npu_serving.load import frames
from npu_serving.load.generator import Plan
from npu_serving.load.kinds import DIFFERS, KINDS
from npu_serving.load.outcomes import dtype
from npu_serving.settings import PROJECT_ROOT

if TYPE_CHECKING:
    import numpy

    Outcomes = numpy.ndarray[Any, Any]

_START = (
    "import sys; sys.path.insert(0, sys.argv.pop()); from npu_serving.load.worker import answer_parent; answer_parent()"
)
_SECONDS_TO_START = 60.0
_DIFFERS = KINDS.index(DIFFERS)

Judge = Callable[[int, bytes], str]
"""How an answer to the request at that place differs from the one expected; "" where it doesn't."""


@dataclass
class _Worker:
    """One process, and what is known of it."""

    place: int
    stdin: IO[bytes]
    stdout: IO[bytes]
    complaints: IO[bytes]
    cpu: list[tuple[int, int]]
    wrong: dict[int, bool]
    is_over: bool = False


class Workers:
    """The processes that send one level of load. Outcomes are handed on as arrays, see outcomes.py."""

    def __init__(self, judge: Judge | None) -> None:
        self._judge = judge
        self._workers: list[_Worker] = []
        self._told: queue.SimpleQueue[tuple[_Worker, bytes, bytes]] = queue.SimpleQueue()
        self._under_way = 0
        self.said: dict[str, str] = {}
        """What was said of the first error of each kind; of an answer that differs, where it does."""

    def add(self, child: Any, complaints: IO[bytes], plan: Plan) -> None:
        """One more process, which gets its share."""
        worker = _Worker(len(self._workers), child.stdin, child.stdout, complaints, [], {})
        self._workers.append(worker)
        threading.Thread(target=self._give, args=(worker, plan), daemon=True).start()
        threading.Thread(target=self._read, args=(worker,), daemon=True).start()

    def begin(self, in_seconds: float) -> int:
        """Waits until all are ready, and has them begin at the time that is returned."""
        deadline = time.monotonic() + _SECONDS_TO_START
        ready = 0
        while ready < len(self._workers):
            try:
                worker, letter, _ = self._told.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise _not_started("none of them was ready within a minute") from None
            if letter == frames.END:
                raise _not_started(_complaint(worker))
            ready += letter == frames.READY
        begin_ns = time.monotonic_ns() + round(in_seconds * 1e9)
        self._under_way = len(self._workers)
        for worker in self._workers:
            frames.write_frame(worker.stdin, frames.BEGIN, struct.pack("<q", begin_ns))
        return begin_ns

    def stop(self) -> None:
        """Nothing new is sent from here on; what is in flight is still waited for."""
        for worker in self._workers:
            worker.stdin.close()

    @property
    def are_over(self) -> bool:
        """Whether all of them have ended, and nothing more comes."""
        return not self._under_way

    def outcomes(self, timeout_s: float) -> Outcomes:
        """What has come, waiting so long for something to come; an empty array where nothing has.

        Raises what a path raised, and NpuServingError where a process ended before it should.
        """
        found: list[Outcomes] = []
        wait_s = timeout_s
        while True:
            try:
                worker, letter, content = (
                    self._told.get(timeout=max(wait_s, 0.0)) if wait_s else self._told.get_nowait()
                )
            except queue.Empty:
                break
            wait_s = 0.0
            taken = self._take(worker, letter, content)
            if taken is not None:
                found.append(taken)
            if self.are_over:
                break
        import numpy

        return numpy.concatenate(found) if found else numpy.empty(0, dtype=dtype())

    def cpu_seconds(self, begin_ns: int, end_ns: int) -> float:
        """The processor time of all of them between two times."""
        return sum(_cpu_at(worker.cpu, end_ns) - _cpu_at(worker.cpu, begin_ns) for worker in self._workers)

    def _take(self, worker: _Worker, letter: bytes, content: bytes) -> Outcomes | None:
        if letter == frames.OUTCOMES:
            return self._judged(worker, content)
        if letter == frames.ANSWER:
            number, request = frames.ANSWERED.unpack_from(content)
            difference = self._judge(request, content[frames.ANSWERED.size :]) if self._judge is not None else ""
            worker.wrong[number] = bool(difference)
            if difference:
                self.said.setdefault(DIFFERS, difference)
        elif letter == frames.SAID:
            self.said.setdefault(KINDS[content[0]], content[1:].decode(errors="replace"))
        elif letter == frames.CPU:
            worker.cpu.append(frames.TIMES.unpack(content))
        elif letter == frames.FAILED:
            told = json.loads(content)
            kind = getattr(errors, told["class"], NpuServingError)
            raise kind(told["what"], cause=told["cause"], cure=told["cure"])
        elif letter == frames.END:
            self._under_way -= 1
            if content != b"whole":
                raise NpuServingError(
                    "A process that sends requests has ended before its time.",
                    cause=_complaint(worker),
                    cure="run the same command again, with --processes 1 or a lower rate if memory is short",
                )
        return None

    def _judged(self, worker: _Worker, content: bytes) -> Outcomes:
        import numpy

        batch = numpy.frombuffer(content, dtype=dtype())
        wrong = [number for number, is_wrong in worker.wrong.items() if is_wrong]
        if wrong:
            batch = batch.copy()
            batch["kind"][numpy.isin(batch["answer"], wrong)] = _DIFFERS
        return batch

    def _give(self, worker: _Worker, plan: Plan) -> None:
        """In a thread of its own: a plan may be larger than what a process takes before it reads."""
        try:
            frames.write_frame(worker.stdin, frames.PLAN, *frames.pack_plan(plan))
        except (OSError, ValueError):
            return  # it has ended, which the other thread tells

    def _read(self, worker: _Worker) -> None:
        is_whole = False
        try:
            while not is_whole:
                frame = frames.read_frame(worker.stdout)
                if frame is None:
                    break
                is_whole = frame[0] == frames.END
                if not is_whole:
                    self._told.put((worker, *frame))
        except (OSError, ValueError):
            is_whole = False  # the block that runs them has been left
        self._told.put((worker, frames.END, b"whole" if is_whole else b""))


@contextmanager
def working(plans: Sequence[Plan], judge: Judge | None = None) -> Iterator[Workers]:
    """A process for each plan, until the block ends; none outlives it."""
    argv = [sys.executable, "-I", "-c", _START, str(PROJECT_ROOT)]
    with ExitStack() as stack:
        workers = Workers(judge)
        for plan in plans:
            complaints = stack.enter_context(tempfile.TemporaryFile())
            child = stack.enter_context(process.conversing(argv, stderr=complaints, ends_itself=True))
            workers.add(child, complaints, plan)
        yield workers


def _cpu_at(times: Sequence[tuple[int, int]], at_ns: int) -> float:
    """Processor seconds until then, between what is known before and after."""
    if not times:
        return 0.0
    import numpy

    return float(numpy.interp(at_ns, [at for at, _ in times], [cpu for _, cpu in times])) / 1e9


def _not_started(why: str) -> NpuServingError:
    return NpuServingError(
        "The processes that send requests could not be started.",
        cause=why,
        cure="run the same command again when the machine is less busy, with fewer --processes",
    )


def _complaint(worker: _Worker) -> str:
    worker.complaints.seek(0)
    last = worker.complaints.read().decode(errors="replace").strip().rpartition("\n")[2][:500]
    return last or "it was killed: memory is short, or somebody ended it"

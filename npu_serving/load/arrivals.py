"""When the requests of an open loop are intended to be sent: at a rate, by chance, in steps, along a line, as recorded.

A schedule is divided between processes without their talking to each other: each sends every n-th request, and for
arrivals by chance each has a Poisson process of its own, whose sum is one of the whole rate.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CONSTANT, POISSON, STEP, LINE, RECORDED = "constant", "poisson", "step", "line", "recorded"
_NS = 1e9


@dataclass(frozen=True)
class Stage:
    """A part of a schedule: so many seconds, from one rate to another, in requests a second."""

    seconds: float
    from_rate: float
    to_rate: float

    @property
    def requests(self) -> float:
        """How many fall into it."""
        return self.seconds * (self.from_rate + self.to_rate) / 2

    def second_of(self, number: float) -> float:
        """When, within the stage, so many requests have come: its integral the other way round."""
        slope = (self.to_rate - self.from_rate) / self.seconds
        if abs(slope) < 1e-12:
            return number / self.from_rate
        root = math.sqrt(max(self.from_rate**2 + 2 * slope * number, 0.0))
        return 2 * number / (self.from_rate + root) if self.from_rate + root else 0.0


@dataclass(frozen=True)
class Schedule:
    """Arrivals: `rate` a second for constant and poisson, `stages` for step and line, `recorded_ns` since the first."""

    kind: str
    rate: float = 0.0
    stages: tuple[Stage, ...] = ()
    recorded_ns: tuple[int, ...] = ()
    seed: int = 0

    @property
    def seconds(self) -> float | None:
        """How long it is; None for one without an end."""
        if self.kind in (STEP, LINE):
            return sum(stage.seconds for stage in self.stages)
        if self.kind != RECORDED:
            return None
        count = len(self.recorded_ns)
        gap_ns = self.recorded_ns[-1] / (count - 1) if count > 1 else _NS  # behind the last one, as between the others
        return max(self.recorded_ns[-1] + gap_ns, _NS / 10) / _NS

    @property
    def mean_rate(self) -> float:
        """Requests a second, over all of it."""
        if self.kind in (CONSTANT, POISSON):
            return self.rate
        count = len(self.recorded_ns) if self.kind == RECORDED else sum(stage.requests for stage in self.stages)
        return count / self.seconds if self.seconds else float(count)

    def offsets_ns(self, process: int = 0, processes: int = 1) -> Iterator[int]:
        """Nanoseconds since the begin, never falling, of the requests of one of so many processes."""
        if self.kind == POISSON:
            yield from _by_chance(self.rate / processes, random.Random(f"{self.seed}/{process}"))  # noqa: S311
        elif self.kind == CONSTANT:
            for number in itertools.count(process, processes):
                yield round(number * _NS / self.rate)
        elif self.kind == RECORDED:
            yield from self.recorded_ns[process::processes]
        else:
            yield from itertools.islice(_staged(self.stages), process, None, processes)


def _by_chance(rate: float, chance: random.Random) -> Iterator[int]:
    at_s = 0.0
    while True:
        at_s += chance.expovariate(rate)
        yield round(at_s * _NS)


def _staged(stages: Sequence[Stage]) -> Iterator[int]:
    """The request numbered n comes when n have come before it, by the rates; what is left over goes into the next."""
    begin_s, left_over = 0.0, 0.0
    for stage in stages:
        number = left_over
        while number < stage.requests:
            yield round((begin_s + stage.second_of(number)) * _NS)
            number += 1
        left_over = number - stage.requests
        begin_s += stage.seconds

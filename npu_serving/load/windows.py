"""From outcomes to figures: windows, seconds, the latencies of a level, and when windows agree.

An answer belongs to the window and the second in which it came; its latency is from the time at which its request was
intended to be sent. The rule by which windows agree is that of Triton's perf_analyzer: throughput and mean latency of
the last three are within 10% of their mean; what chance does to a few answers counts for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from npu_serving.load.histogram import LatencyHistogram
from npu_serving.load.kinds import KINDS
from npu_serving.load.outcomes import dtype
from npu_serving.load.results import Second, Window

if TYPE_CHECKING:
    import numpy

    Outcomes = numpy.ndarray[Any, Any]

AGREEING_WINDOWS = 3
AGREEMENT = 0.10
_NS = 1_000_000_000
_NS_OF_A_BIN = 10_000_000


def agree(windows: Sequence[Window], *, by_chance: bool = False) -> bool:
    """Whether the last three agree, and had answers at all.

    One answer more or less is where the window's edge happens to be; where requests come `by_chance`, their number
    varies by its square root.
    """
    last = windows[-AGREEING_WINDOWS:]
    if len(last) < AGREEING_WINDOWS:
        return False
    answers = max(min(window.ok for window in last), 1)
    slack = 1 / answers + (3 / answers**0.5 if by_chance else 0.0)
    rates = [window.throughput for window in last]
    return _near(rates, AGREEMENT + slack) and _near([window.mean_ms or 0.0 for window in last], AGREEMENT)


def _near(values: Sequence[float], share: float) -> bool:
    mean = sum(values) / len(values)
    return mean > 0 and all(abs(value - mean) <= share * mean for value in values)


class Collected:
    """The outcomes of one level. Times are in nanoseconds of time.monotonic_ns().

    What is done before `warm_ns` is the warm-up's. From there on there are windows of `window_ns`; the last one has
    what was intended before its end and came later as well, but for its throughput: nothing slow is left out.
    """

    def __init__(self, begin_ns: int, window_ns: int) -> None:
        self.begin_ns = begin_ns
        self.window_ns = window_ns
        self.warm_ns: int | None = None
        self.windows: list[Window] = []
        self.in_warm_up: Counter[str] = Counter()
        """Outcomes by kind, "" for good answers."""
        self.histogram = LatencyHistogram()
        """Of the good answers of all windows."""
        self.lags = LatencyHistogram()
        """How much later than intended requests were sent."""
        self.errors: Counter[str] = Counter()
        self.sent = 0
        self.answers = 0
        """Good answers so far, those of the warm-up as well."""
        self._waiting: list[Outcomes] = []
        self._open: dict[int, list[Outcomes]] = {}
        self._last: Outcomes | None = None
        self._latencies = LatencyHistogram()  # of that last window
        self._seconds: dict[int, _Second] = {}
        self._flow: Counter[int] = Counter()

    @property
    def end_ns(self) -> int:
        """The end of the last window that is closed."""
        return (self.warm_ns or 0) + len(self.windows) * self.window_ns

    def add(self, outcomes: Outcomes) -> None:
        """Takes what has come from the processes."""
        if not len(outcomes):
            return
        self.answers += int((outcomes["kind"] == 0).sum())
        self._count_seconds(outcomes)
        if self.warm_ns is None:
            self._waiting.append(outcomes)
        else:
            self._sort_in(outcomes)

    def warmed_up(self, at_ns: int) -> None:
        """The warm-up is over at that time."""
        self.warm_ns = at_ns
        for outcomes in self._waiting:
            self._sort_in(outcomes)
        self._waiting = []

    def close_windows(self, until_ns: int) -> bool:
        """Closes those that are over by then, whose outcomes have all been added. Whether there were any."""
        before = len(self.windows)
        while self.warm_ns is not None and self.end_ns + self.window_ns <= until_ns:
            self._settle()
            self._last = _joined(self._open.pop(len(self.windows), []))
            self.windows.append(self._window(self._last, self._last))
        return len(self.windows) > before

    def finish(self) -> None:
        """Everything has ended: the last window gets what was intended before its end and came later."""
        if self.windows and self._last is not None:
            late = _joined([found for batches in self._open.values() for found in batches])
            late = late[late["intended"] < self.end_ns]
            whole = _joined([self._last, late])
            self.windows.pop()
            self.windows.append(self._window(whole, self._last))
            self._last = whole
        self._settle()

    def timeline(self) -> tuple[Second, ...]:
        """All seconds from the begin on, those without an answer as well."""
        last = max(self._seconds, default=-1)
        return tuple(self._seconds.get(second, _Second()).figures(second) for second in range(last + 1))

    def most_in_flight(self) -> int:
        """How many requests were on their way at once, at most."""
        most = now = 0
        for place in sorted(self._flow):
            now += self._flow[place]
            most = max(most, now)
        return most

    def _settle(self) -> None:
        """Counts the last window that was closed: nothing is added to it any more."""
        if self._last is None:
            return
        self.histogram.merge(self._latencies)
        self.lags.record_many((self._last["sent"] - self._last["intended"]) / 1e3)
        self.errors.update(_errors(self._last))
        self.sent += len(self._last)
        self._last = None

    def _sort_in(self, outcomes: Outcomes) -> None:
        import numpy

        assert self.warm_ns is not None
        places = (outcomes["done"] - self.warm_ns) // self.window_ns
        for place in numpy.unique(places).tolist():
            found = outcomes[places == place]
            if place < 0:
                self.in_warm_up.update(KINDS[code] for code in found["kind"].tolist())
            else:
                # What comes after its window was closed was handed on late: it counts in the next one.
                self._open.setdefault(max(place, len(self.windows)), []).append(found)

    def _window(self, outcomes: Outcomes, in_time: Outcomes) -> Window:
        place = len(self.windows)
        good = outcomes[outcomes["kind"] == 0]
        self._latencies = latencies = LatencyHistogram()
        latencies.record_many(_latencies_us(good))
        seconds = self.window_ns / _NS
        assert self.warm_ns is not None
        begin_s = (self.warm_ns - self.begin_ns) / _NS + place * seconds
        of = {name: latencies.percentile(percent) / 1e3 for name, percent in _PERCENTS.items()} if len(good) else {}
        return Window(
            begin_s=round(begin_s, 6),
            seconds=seconds,
            sent=len(outcomes),
            ok=len(good),
            errors=_errors(outcomes),
            throughput=int((in_time["kind"] == 0).sum()) / seconds,
            mean_ms=latencies.mean() / 1e3 if len(good) else None,
            **of,
        )

    def _count_seconds(self, outcomes: Outcomes) -> None:
        import numpy

        done, sent = ((outcomes[name] - self.begin_ns) // _NS for name in ("done", "sent"))
        for second in numpy.unique(done).tolist():
            self._seconds.setdefault(max(second, 0), _Second()).add(outcomes[done == second])
        for second, count in zip(*(found.tolist() for found in numpy.unique(sent, return_counts=True))):
            self._seconds.setdefault(max(second, 0), _Second()).sent += count
        for name, change in (("sent", 1), ("done", -1)):
            places, counts = numpy.unique(outcomes[name] // _NS_OF_A_BIN, return_counts=True)
            for place, count in zip(places.tolist(), counts.tolist()):
                self._flow[place] += change * count


_PERCENTS = {"p50_ms": 50.0, "p90_ms": 90.0, "p95_ms": 95.0, "p99_ms": 99.0}


class _Second:
    """What one second of the run counts."""

    def __init__(self) -> None:
        self.sent = 0
        self._ok = self._errors = 0
        self._latencies = LatencyHistogram()
        self._lags = LatencyHistogram()

    def add(self, outcomes: Outcomes) -> None:
        """Takes outcomes that were done in it."""
        good = outcomes[outcomes["kind"] == 0]
        self._ok += len(good)
        self._errors += len(outcomes) - len(good)
        self._latencies.record_many(_latencies_us(good))
        self._lags.record_many((outcomes["sent"] - outcomes["intended"]) / 1e3)

    def figures(self, at_s: int) -> Second:
        """They, as they are kept."""
        p50, p99 = (self._latencies.percentile(percent) / 1e3 if self._ok else None for percent in (50.0, 99.0))
        lag = self._lags.percentile(99.0) / 1e3 if self._lags.count else None
        return Second(at_s, self.sent, self._ok, self._errors, p50, p99, lag)


def _latencies_us(good: Outcomes) -> Any:
    return (good["done"] - good["intended"]) / 1e3


def _errors(outcomes: Outcomes) -> Mapping[str, int]:
    import numpy

    codes, counts = numpy.unique(outcomes["kind"], return_counts=True)
    return {KINDS[code]: count for code, count in zip(codes.tolist(), counts.tolist()) if code}


def _joined(batches: Sequence[Outcomes]) -> Outcomes:
    import numpy

    return numpy.concatenate(batches) if batches else numpy.empty(0, dtype=dtype())

"""One level of load, measured: warm-up, windows until they agree or for a given time, a change in the middle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from npu_serving.console import Progress
from npu_serving.load.arrivals import CONSTANT, POISSON, Schedule
from npu_serving.load.change import TimedChange
from npu_serving.load.generator import Plan
from npu_serving.load.live import live_view
from npu_serving.load.results import GeneratorFigures, Level, MarkedEvent, Window
from npu_serving.load.sampling import ServerSampler
from npu_serving.load.windows import AGREEING_WINDOWS, Collected, agree
from npu_serving.load.workers import Judge, working
from npu_serving.resources import usable_processors

SECONDS_OF_WARM_UP = 1.0
MOST_SHARE_OF_LAG = 0.05
MOST_CPU_SHARE = 0.95
_NS = 1e9
_SECONDS_BEFORE = 0.1  # between the word to begin and the begin
_SECONDS_UNTIL_HANDED_ON = 0.15  # what is done is in a batch by then
_SECONDS_BETWEEN_LOOKS = 0.05


@dataclass(frozen=True)
class Load:
    """How much, and how: so many at once, or a schedule."""

    concurrency: int = 0
    schedule: Schedule | None = None

    @property
    def is_steady(self) -> bool:
        """Whether it is the same all the time, so that windows can agree."""
        return self.schedule is None or self.schedule.kind in (CONSTANT, POISSON)

    @property
    def seconds(self) -> float | None:
        """How long it lasts by itself."""
        return None if self.schedule is None else self.schedule.seconds


@dataclass(frozen=True)
class Terms:
    """For how long a level is measured. `warm_up_s` and `duration_s` of None are up to the level."""

    warm_up_s: float | None = None
    window_s: float = 2.0
    most_windows: int = 10
    duration_s: float | None = None
    processes: int = 1


@dataclass(frozen=True)
class Measured:
    """A level, and what was said of errors, by their kinds."""

    level: Level
    said: dict[str, str]
    interruption: KeyboardInterrupt | None = None
    """What ended it before its time."""


def measure(
    request: Plan,
    load: Load,
    terms: Terms,
    progress: Progress,
    *,
    judge: Judge | None = None,
    change: TimedChange | None = None,
    sampler: ServerSampler | None = None,
    is_hopeless: Callable[[Sequence[Window]], bool] = lambda _windows: False,
) -> Measured:
    """The level of that load. `request` says what is sent where; `judge` holds answers against those expected.

    `is_hopeless` ends it early by the windows so far. Ctrl-C ends it with what there is by then.
    """
    return _Measuring(request, load, terms, progress, change, sampler, is_hopeless).run(judge)


class _Measuring:
    """A level while it is measured."""

    def __init__(
        self,
        request: Plan,
        load: Load,
        terms: Terms,
        progress: Progress,
        change: TimedChange | None,
        sampler: ServerSampler | None,
        is_hopeless: Callable[[Sequence[Window]], bool],
    ) -> None:
        self._request = request
        self._load = load
        self._terms = terms
        self._progress = progress
        self._change = change
        self._sampler = sampler
        self._is_hopeless = is_hopeless
        self._events: list[MarkedEvent] = []
        self._interruption: KeyboardInterrupt | None = None
        self._processes = _processes(load, terms)
        self._fixed_s = load.seconds if load.seconds is not None else terms.duration_s
        self._window_s, self._windows_wanted = _divided(self._fixed_s, terms)
        self._windows_at_change = -1

    def run(self, judge: Judge | None) -> Measured:
        with ExitStack() as stack:
            workers = stack.enter_context(working(self._plans(), judge))
            begin_ns = workers.begin(_SECONDS_BEFORE)
            collected = Collected(begin_ns, round(self._window_s * _NS))
            self._begin_ns, self._workers, self._collected = begin_ns, workers, collected
            try:
                while not self._is_over():
                    collected.add(workers.outcomes(_SECONDS_BETWEEN_LOOKS))
                    self._look(stack)
            except KeyboardInterrupt as interruption:
                self._interruption = interruption
            workers.stop()
            self._drain()
            collected.finish()
            return Measured(self._level(), dict(workers.said), self._interruption)

    def _plans(self) -> list[Plan]:
        concurrency = self._load.concurrency
        return [
            replace(
                self._request,
                schedule=self._load.schedule,
                concurrency=len(range(place, concurrency, self._processes)),
                process=place,
                processes=self._processes,
            )
            for place in range(self._processes)
        ]

    def _look(self, stack: ExitStack) -> None:
        """Goes on with what is due by now."""
        now_ns = time.monotonic_ns()
        collected = self._collected
        if collected.warm_ns is None:
            self._end_warm_up(now_ns)
        collected.close_windows(now_ns - round(_SECONDS_UNTIL_HANDED_ON * _NS))
        if self._change is not None:
            self._go_on_with(self._change, stack)
        self._show()

    def _end_warm_up(self, now_ns: int) -> None:
        wanted_s = self._terms.warm_up_s
        if wanted_s is None:
            wanted_s = SECONDS_OF_WARM_UP if self._load.is_steady else 0.0
        end_ns = self._begin_ns + round(wanted_s * _NS)
        waits = self._load.is_steady and self._terms.warm_up_s is None and not self._collected.answers
        if now_ns >= end_ns and not waits:
            if wanted_s:
                end_ns = max(end_ns, now_ns - round(_SECONDS_UNTIL_HANDED_ON * _NS))
                self._events.append(MarkedEvent(round((end_ns - self._begin_ns) / _NS, 3), "warm-up over"))
            self._collected.warmed_up(end_ns)

    def _go_on_with(self, change: TimedChange, stack: ExitStack) -> None:
        done = len(self._collected.windows)
        if not change.has_begun and done >= max(1, self._windows_wanted // 3):
            change.begin(stack)
            self._mark(f"{change.name} begun")
        elif change.has_begun and self._windows_at_change < 0 and change.is_over():
            self._windows_at_change = done
            self._mark(f"{change.name} ended" + change.how_it_ended)

    def _mark(self, name: str) -> None:
        self._events.append(MarkedEvent(round((time.monotonic_ns() - self._begin_ns) / _NS, 3), name))

    def _is_over(self) -> bool:
        if self._workers.are_over:
            return True
        windows = self._collected.windows
        if self._change is not None:
            after = self._windows_at_change + AGREEING_WINDOWS
            return self._windows_at_change >= 0 and len(windows) >= max(self._windows_wanted, after)
        if len(windows) >= self._windows_wanted or self._is_hopeless(windows):
            return True
        return self._fixed_s is None and self._windows_agree()

    def _windows_agree(self) -> bool:
        schedule = self._load.schedule
        return agree(self._collected.windows, by_chance=schedule is not None and schedule.kind == POISSON)

    def _drain(self) -> None:
        """Takes what still comes, until all processes have ended; an interruption is not kept waiting."""
        deadline = time.monotonic() + (1.0 if self._interruption is not None else 3600.0)
        try:
            while not self._workers.are_over and time.monotonic() < deadline:
                self._collected.add(self._workers.outcomes(_SECONDS_BETWEEN_LOOKS))
        except KeyboardInterrupt as interruption:
            self._interruption = interruption
        if self._collected.warm_ns is None:
            self._collected.warmed_up(self._begin_ns)
        self._collected.close_windows(self._end_of_schedule_ns())

    def _end_of_schedule_ns(self) -> int:
        """Until when windows are closed at the end: the whole of a schedule, what was measured of anything else."""
        collected = self._collected
        assert collected.warm_ns is not None
        if self._load.seconds is not None and self._interruption is None:
            return collected.warm_ns + self._windows_wanted * collected.window_ns
        if not collected.windows:  # interrupted: all that there is becomes one window
            collected.window_ns = max(time.monotonic_ns() - collected.warm_ns, 1)
            return collected.warm_ns + collected.window_ns
        return collected.end_ns

    def _show(self) -> None:
        collected = self._collected
        agrees = self._load.is_steady and agree(collected.windows)
        shown = live_view(collected.windows, collected.histogram, collected.errors, agrees=agrees)
        detail = f"{self._awaited()}{shown.detail}"
        self._progress.update(collected.answers, detail=detail, under_way=shown.lines)

    def _awaited(self) -> str:
        """That the load goes on only for a change that has not ended; "" while it would anyhow."""
        change = self._change
        if change is None or not change.has_begun or self._windows_at_change >= 0:
            return ""
        if len(self._collected.windows) < self._windows_wanted:
            return ""
        return f"until {change.name} ends (Ctrl-C ends both and keeps what was measured)  "

    def _level(self) -> Level:
        collected = self._collected
        schedule = self._load.schedule
        steady = self._load.is_steady and self._change is None
        in_flight = collected.most_in_flight() if schedule is not None else self._load.concurrency
        return Level(
            mode="closed" if schedule is None else "open",
            concurrency=in_flight,
            rate=None if schedule is None else round(schedule.mean_rate, 3),
            arrivals="" if schedule is None else schedule.kind,
            windows=tuple(collected.windows),
            stable=self._windows_agree() if steady else self._interruption is None,
            histogram=collected.histogram,
            errors=dict(sorted(collected.errors.items())),
            timeline=collected.timeline(),
            events=tuple(self._events),
            generator=self._figures(),
            samples=self._sampler.since(self._begin_ns) if self._sampler is not None else (),
        )

    def _figures(self) -> GeneratorFigures:
        collected = self._collected
        assert collected.warm_ns is not None
        seconds = max((collected.end_ns - collected.warm_ns) / _NS, 1e-9)
        cpu = self._workers.cpu_seconds(collected.warm_ns, collected.end_ns)
        processors = min(self._processes, usable_processors())
        figures = GeneratorFigures(
            path=self._request.path,  # type: ignore[arg-type]
            processes=self._processes,
            cpu_seconds=round(cpu, 6),
            cpu_per_request_us=round(1e6 * cpu / collected.sent, 3) if collected.sent else 0.0,
            cpu_share=round(cpu / seconds / processors, 4),
            lag_p50_ms=collected.lags.percentile(50) / 1e3,
            lag_p99_ms=collected.lags.percentile(99) / 1e3,
        )
        return replace(figures, bottleneck=bottleneck(figures, collected.histogram.percentile(99) / 1e3))


def bottleneck(figures: GeneratorFigures, p99_ms: float) -> str:
    """Why the figures are the generator's and not the server's; "" where they are the server's."""
    if figures.lag_p99_ms > MOST_SHARE_OF_LAG * p99_ms > 0:
        return (
            f"requests were sent up to {figures.lag_p99_ms:.3g} ms late (p99), which is more than "
            f"{MOST_SHARE_OF_LAG:.0%} of the latency measured ({p99_ms:.3g} ms)"
        )
    if figures.cpu_share > MOST_CPU_SHARE:
        return f"sending took {figures.cpu_share:.0%} of the processors that its {figures.processes} processes can use"
    return ""


def _processes(load: Load, terms: Terms) -> int:
    return min(terms.processes, load.concurrency) if load.schedule is None else terms.processes


def _divided(fixed_s: float | None, terms: Terms) -> tuple[float, int]:
    """The length of a window, and how many are wanted at most."""
    if fixed_s is None:
        return terms.window_s, terms.most_windows
    count = max(AGREEING_WINDOWS, round(fixed_s / terms.window_s))
    return fixed_s / count, count

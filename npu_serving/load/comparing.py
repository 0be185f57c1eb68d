"""Two runs beside each other: which of their differences are more than chance."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from npu_serving.console import table
from npu_serving.errors import EXIT_ACTION_NEEDED, RequestError
from npu_serving.load.intervals import Interval, of_difference, of_means, of_percentile, of_share
from npu_serving.load.results import Level, LoadRun, Window
from npu_serving.load.tables import ms_text
from npu_serving.shown_text import in_a_line

CONFIDENCE = 0.95
"""Of all statements of a comparison together: each of N is made with 1 - 0.05/N (Bonferroni)."""
METHOD = (
    "Throughput and mean: Student's interval over the windows. Percentiles: order statistics, or Student's interval "
    "over the windows' own where that is wider. Errors: Wilson's interval. Differences: MOVER. 95% for all together."
)
_PERCENTILES: tuple[tuple[str, float, Callable[[Window], float | None]], ...] = (
    ("p50", 50, lambda window: window.p50_ms),
    ("p90", 90, lambda window: window.p90_ms),
    ("p99", 99, lambda window: window.p99_ms),
)
_MEASURES = 3 + len(_PERCENTILES)


@dataclass(frozen=True)
class MeasuredDifference:
    """How one measure of one load differs: both values, and the change from A to B with its limits.

    The change is relative (0.1 is 10% more), or where A is 0, the difference itself.
    """

    load: str
    measure: str
    unit: str
    first: float | None
    second: float | None
    change: Interval | None
    is_relative: bool
    more_is_worse: bool

    @property
    def verdict(self) -> str:
        """`better` or `worse` where chance does not explain it, `same` where it may, `unknown` with too little data."""
        if self.change is None:
            return "unknown"
        if self.change.low <= 0 <= self.change.high:
            return "same"
        return "worse" if (self.change.value > 0) == self.more_is_worse else "better"

    def is_worse_by(self, share: float) -> bool:
        """Whether it is worse, and by more than that share of A."""
        if self.verdict != "worse" or self.change is None:
            return False
        return not self.is_relative or abs(self.change.value) > share

    def to_json(self) -> dict[str, object]:
        """All of it, and the verdict."""
        return {**asdict(self), "verdict": self.verdict}

    def row(self) -> tuple[str, ...]:
        """As a table shows it."""
        change, limits = "-", "too few windows or answers"
        if self.change is not None:
            change = _change_text(self.change.value, relative=self.is_relative)
            ends = (_change_text(each, relative=self.is_relative) for each in (self.change.low, self.change.high))
            limits = " to ".join(ends)
        shown = {"same": "no difference shown", "unknown": "can't be said"}.get(self.verdict, self.verdict.upper())
        return (
            self.load,
            self.measure,
            *(_value(each, self.unit) for each in (self.first, self.second)),
            change,
            limits,
            shown,
        )


@dataclass(frozen=True)
class RunComparison:
    """Two runs, and what of them differs."""

    first: LoadRun
    second: LoadRun
    differences: tuple[MeasuredDifference, ...]
    notes: tuple[str, ...]
    fail_above: float | None = None
    """The share from which worse is a failure; None where nothing is."""

    @property
    def failures(self) -> tuple[MeasuredDifference, ...]:
        """What is worse by more than is allowed."""
        limit = self.fail_above
        return () if limit is None else tuple(each for each in self.differences if each.is_worse_by(limit))

    @property
    def exit_code(self) -> int:
        """3 where something is worse by more than is allowed."""
        return EXIT_ACTION_NEEDED if self.failures else 0

    def to_json(self) -> dict[str, object]:
        """Each difference with its interval, and how it was judged."""
        return {
            "a": self.first.id,
            "b": self.second.id,
            "differences": [each.to_json() for each in self.differences],
            "notes": list(self.notes),
            "failures": [f"{each.load}: {each.measure}" for each in self.failures],
            "confidence": CONFIDENCE,
            "method": METHOD,
        }

    def text(self) -> str:
        """A line for each measure of each load, and what it comes to."""
        header = ("LOAD", "", "A", "B", "CHANGE", "BETWEEN", "")
        lines = [f"A: {in_a_line(self.first.id)}", f"B: {in_a_line(self.second.id)}", ""]
        lines += [table([each.row() for each in self.differences], header=header), ""]
        lines += [*self.notes, self._sum()]
        if self.fail_above is not None:
            found = ", ".join(f"{each.measure} ({each.load})" for each in self.failures)
            lines.append(
                f"Worse by more than {self.fail_above:.3g} of A: {found}." if found else "Within what is allowed."
            )
        return "\n".join(lines)

    def _sum(self) -> str:
        verdicts = [each.verdict for each in self.differences]
        worse, better = verdicts.count("worse"), verdicts.count("better")
        if not worse and not better:
            return "No difference is shown: what there is may be chance. A longer run shows smaller ones."
        return f"B is worse in {worse} and better in {better} of {len(verdicts)} measures; the others may be chance."


def compare_runs(first: LoadRun, second: LoadRun, *, fail_above: float | None = None) -> RunComparison:
    """How the second run differs from the first. RequestError where they did not measure the same."""
    _refuse_others(first, second)
    pairs = list(_pairs(first, second))
    if not pairs:
        loads = [", ".join(level.load for level in run.levels) for run in (first, second)]
        raise RequestError(
            f"{first.id} and {second.id} have no load in common: {loads[0]} in one, {loads[1]} in the other.",
            cause="latency and throughput depend on the load",
            cure="run the second load test with the loads of the first one",
        )
    confidence = 1 - (1 - CONFIDENCE) / (_MEASURES * len(pairs))
    differences = tuple(each for one, other in pairs for each in _differences(one, other, confidence))
    return RunComparison(first, second, differences, tuple(_notes(first, second, pairs)), fail_above)


def _refuse_others(first: LoadRun, second: LoadRun) -> None:
    fields = ("model", "api", "signature", "request")
    others = [(name, getattr(first, name), getattr(second, name)) for name in fields]
    said = [
        f"{name} is {in_a_line(one)} in one and {in_a_line(other)} in the other"
        for name, one, other in others
        if one != other
    ]
    if said:
        raise RequestError(
            f"{first.id} and {second.id} can't be compared: {'; '.join(said)}.",
            cause="they did not measure the same",
            cure="name two runs of the same requests; ./inv list-runs shows what each has measured",
        )
    for run in (first, second):
        if not run.valid:
            raise RequestError(
                f"{run.id} is not valid: {' '.join(run.reasons)}",
                cause="its figures are the sender's, not the server's",
                cure="run that load test again with more --processes, or from another machine",
            )


def _pairs(first: LoadRun, second: LoadRun) -> Iterator[tuple[Level, Level]]:
    """The levels with the same load in both; of several with the same load, the last."""
    theirs = {_load(level): level for level in second.levels}
    ours = {_load(level): level for level in first.levels}
    return ((level, theirs[load]) for load, level in ours.items() if load in theirs)


def _load(level: Level) -> tuple[object, ...]:
    return level.mode, level.concurrency if level.rate is None else level.rate, level.arrivals


def _notes(first: LoadRun, second: LoadRun, pairs: list[tuple[Level, Level]]) -> Iterator[str]:
    for name, ours, theirs in (("server", first.target, second.target), ("version", first.version, second.version)):
        if ours != theirs:
            yield f"The {name} differs: {in_a_line(ours) or 'the newest'} and {in_a_line(theirs) or 'the newest'}."
    for one, other in pairs:
        ways = [(level.generator.path, level.generator.processes) for level in (one, other)]
        if ways[0] != ways[1]:
            said = " and ".join(f"{path} with {processes} processes" for path, processes in ways)
            yield f"{one.load}: sent in two ways, {said}: a part of the difference may be the sender's."
        for name, level in (("A", one), ("B", other)):
            if not level.stable:
                yield f"{level.load}: {name} was not stable: the difference may be one between moments."
    left = {level.load for run in (first, second) for level in run.levels} - {one.load for one, _ in pairs}
    if left:
        yield f"In one of the two only, and not compared: {', '.join(sorted(left))}."


def _differences(one: Level, other: Level, confidence: float) -> Iterator[MeasuredDifference]:
    def measured(
        name: str, unit: str, of: Callable[[Level], Interval | None], *, more_is_worse: bool
    ) -> MeasuredDifference:
        first, second = of(one), of(other)
        values = (first.value if first else None, second.value if second else None)
        if first is None or second is None:
            return MeasuredDifference(one.load, name, unit, *values, None, True, more_is_worse)
        change, scale = of_difference(first, second), first.value or 1.0
        change = Interval(change.value / scale, change.low / scale, change.high / scale)
        return MeasuredDifference(one.load, name, unit, *values, change, first.value != 0, more_is_worse)

    def throughput(level: Level) -> Interval | None:
        return of_means([window.throughput for window in level.windows], confidence)

    def mean(level: Level) -> Interval | None:
        return of_means([window.mean_ms for window in level.windows if window.mean_ms is not None], confidence)

    def errors(level: Level) -> Interval | None:
        return of_share(level.failed, level.failed + level.ok, confidence)

    yield measured("throughput", "/s", throughput, more_is_worse=False)
    yield measured("mean", "ms", mean, more_is_worse=True)
    for name, percent, of_window in _PERCENTILES:
        yield measured(name, "ms", _percentile(percent, of_window, confidence), more_is_worse=True)
    yield measured("errors", "%", errors, more_is_worse=True)


def _percentile(
    percent: float, of_window: Callable[[Window], float | None], confidence: float
) -> Callable[[Level], Interval | None]:
    def of_level(level: Level) -> Interval | None:
        found = of_percentile(level.histogram, percent, confidence)
        batches = [value for value in map(of_window, level.windows) if value is not None]
        over_windows = of_means(batches, confidence)
        return None if found is None or over_windows is None else found.around(over_windows)

    return of_level


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "%":
        return f"{100 * value:.3g}%"
    return f"{ms_text(value)} ms" if unit == "ms" else f"{value:,.1f}/s"


def _change_text(value: float, *, relative: bool) -> str:
    return f"{100 * value:+.1f}%" if relative else f"{100 * value:+.3g} points"


def parse_share(text: str) -> float:
    """0.05 for "5%". RequestError for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if found is None:
        raise RequestError(
            f"--fail-if-worse {in_a_line(text)!r} is not a share.", cure="write a number with %: --fail-if-worse 5%"
        )
    return float(found[1]) / 100

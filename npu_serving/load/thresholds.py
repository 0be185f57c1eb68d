"""What a load test may not exceed: `p99>20ms`, `errors>1%`, `throughput<1000`; read, and held against a level.

A threshold says what is NOT accepted. What could not be measured counts as exceeded: nothing has shown that it is not.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Callable

from npu_serving.errors import RequestError
from npu_serving.load.results import KINDS, Level, LoadRun, ThresholdResult
from npu_serving.shown_text import in_a_line

SAYABLE = (
    "a latency (p50, p99, p99.9, mean, max) or the generator's lag, with us, ms or s; throughput, in answers a second; "
    f"errors or errors.KIND, as a number or with %, KIND one of {', '.join(KINDS)}; cpu, the generator's, with %"
)
_COMPARED: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(r"\s*([A-Za-z][A-Za-z0-9._]*)\s*(>=|<=|>|<)\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z%/µμ]*)\s*")
_PERCENTILE = re.compile(r"p([0-9]{1,3}(?:\.[0-9]{1,6})?)")
_MS = {"us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3}
_TIMES = ("mean", "max", "lag")
_OTHERS = ("throughput", "errors", "cpu")
_ERRORS = "errors."


@dataclass(frozen=True)
class Threshold:
    """One of them: `metric` as it was written, in lower case; `limit` in `unit` (ms, /s, % or "" for a number)."""

    metric: str
    comparison: str
    limit: float
    unit: str

    def __str__(self) -> str:
        return f"{self.metric}{self.comparison}{self.limit:.6f}".rstrip("0").rstrip(".") + self.unit

    def held_against(self, level: Level, place: int) -> ThresholdResult:
        """The result for one level, the one at `place` of the run's."""
        measured = _measured(self.metric, self.unit, level)
        exceeded = measured is None or _COMPARED[self.comparison](measured, self.limit)
        shown = "nothing was measured" if measured is None else f"{_digits(measured)}{_blank(self.unit)}"
        return ThresholdResult(str(self), place, measured, shown, exceeded)


def parse_threshold(text: str) -> Threshold:
    """The threshold that the text means. RequestError with what can be said where it means none."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise _refusal(text, "it does not have the form WHAT>NUMBER or WHAT<NUMBER, such as p99>20ms")
    metric, comparison, number, unit = found[1].lower(), found[2], float(found[3]), found[4]
    _check_metric(metric, text)
    if metric in _TIMES or _PERCENTILE.fullmatch(metric):
        if unit not in _MS:
            said = f"{unit!r} is not a unit of time" if unit else "a time needs its unit"
            raise _refusal(text, f"{said}: write {metric}{comparison}{found[3]}ms, or with us or s")
        return Threshold(metric, comparison, number * _MS[unit], "ms")
    allowed = {"throughput": ("/s", ""), "cpu": ("%",)}.get(metric, ("", "%"))
    if unit not in allowed:
        names = " or ".join(each or "no unit" for each in allowed)
        raise _refusal(text, f"{metric} takes {names}, not {unit!r}" if unit else f"{metric} takes {names}")
    return Threshold(metric, comparison, number, allowed[0] if metric == "throughput" else unit)


def hold_against(thresholds: Iterable[Threshold], run: LoadRun) -> Iterator[ThresholdResult]:
    """The result of each threshold for each level that counts: the one that was searched for, or all."""
    places = range(len(run.levels)) if run.best is None else (run.best,)
    for threshold in thresholds:
        for place in places:
            yield threshold.held_against(run.levels[place], place)


def _check_metric(metric: str, text: str) -> None:
    percentile = _PERCENTILE.fullmatch(metric)
    if percentile is not None:
        if not 0 < float(percentile[1]) <= 100:
            raise _refusal(text, f"{metric} is not between p0 and p100")
        return
    if metric in _TIMES or metric in _OTHERS:
        return
    if metric.startswith(_ERRORS):
        kind = metric[len(_ERRORS) :]
        if kind in KINDS:
            return
        known, prefix = list(KINDS), _ERRORS
    else:
        kind, known, prefix = metric, ["p99", *_TIMES, *_OTHERS], ""
    near = difflib.get_close_matches(kind, known, n=1)
    hint = f"; did you mean {prefix}{near[0]}?" if near else ""
    raise _refusal(text, f"{in_a_line(metric)} is not something that a load test measures{hint}")


def _refusal(text: str, why: str) -> RequestError:
    return RequestError(
        f"--fail-if {in_a_line(text)!r} can't be checked: {why}.".replace("?.", "?"),
        cure=f"say {SAYABLE}, followed by > or < and a number: --fail-if 'p99>20ms'",
    )


def _measured(metric: str, unit: str, level: Level) -> float | None:
    """The value in the threshold's unit; None where nothing of the kind was measured."""
    if metric.startswith("errors"):
        failed = level.errors.get(metric[len(_ERRORS) :], 0) if metric != "errors" else level.failed
        asked = level.ok + level.failed
        return failed if unit != "%" else 100 * failed / asked if asked else None
    if metric == "throughput":
        return level.throughput
    if metric == "cpu":
        return 100 * level.generator.cpu_share
    if metric == "lag":
        return level.generator.lag_p99_ms
    if not level.histogram.count:
        return None
    if metric == "mean":
        return level.histogram.mean() / 1e3
    return level.percentile_ms(100.0 if metric == "max" else float(metric[1:]))


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"


def _blank(unit: str) -> str:
    """The unit as it follows a number."""
    return f" {unit}" if unit == "ms" else unit

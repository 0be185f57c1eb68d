"""Confidence intervals of what a load test measures, and of how two runs differ.

A mean or a throughput: Student's interval over the windows (batch means: Law, Simulation Modeling and Analysis, 9.5).
A percentile: the order statistics between which it lies (Le Boudec, Performance Evaluation, theorem 2.1), or Student's
interval over the windows' own percentiles where that is wider: requests that follow each other are not independent.
A share of errors: Wilson's interval. The difference of two: MOVER (Zou and Donner, Statistics in Medicine 27, 2008).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from npu_serving.load.histogram import LatencyHistogram


@dataclass(frozen=True)
class Interval:
    """A value, and between which limits it is."""

    value: float
    low: float
    high: float

    def around(self, other: Interval) -> Interval:
        """Its own value, with limits as wide as those of either."""
        below, above = other.value - other.low, other.high - other.value
        return Interval(self.value, min(self.low, self.value - below), max(self.high, self.value + above))


def of_means(values: Sequence[float], confidence: float) -> Interval | None:
    """Of the mean that such values have, one from each window; None where there are too few to know."""
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    half = student(len(values) - 1, confidence) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def of_percentile(histogram: LatencyHistogram, percent: float, confidence: float) -> Interval | None:
    """Of a percentile in milliseconds; None where there are too few values to have a limit on both sides."""
    count, share = histogram.count, percent / 100
    half = statistics.NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(count * share * (1 - share))
    low, high = math.floor(count * share - half), math.ceil(count * share + half) + 1
    if low < 1 or high > count:
        return None
    return Interval(histogram.percentile(percent) / 1e3, histogram.at_rank(low) / 1e3, histogram.at_rank(high) / 1e3)


def of_share(part: int, whole: int, confidence: float) -> Interval | None:
    """Of the share that `part` of `whole` shows; None where there is nothing."""
    if not whole:
        return None
    deviations = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share, squared = part / whole, deviations**2
    middle = (part + squared / 2) / (whole + squared)
    half = deviations / (whole + squared) * math.sqrt(whole * share * (1 - share) + squared / 4)
    return Interval(share, max(0.0, middle - half) if part else 0.0, min(1.0, middle + half) if part < whole else 1.0)


def of_difference(first: Interval, second: Interval) -> Interval:
    """Of how much larger the second is than the first."""
    difference = second.value - first.value
    below = math.hypot(second.value - second.low, first.high - first.value)
    above = math.hypot(second.high - second.value, first.value - first.low)
    return Interval(difference, difference - below, difference + above)


def student(freedom: int, confidence: float) -> float:
    """How many standard errors Student's interval reaches to each side, with so many degrees of freedom."""
    low, high = 0.0, 2.0
    while _within(high, freedom) < confidence:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return high


def _within(reach: float, freedom: int) -> float:
    """The share of Student's distribution between -reach and reach (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(reach / math.sqrt(freedom))
    square = math.cos(angle) ** 2
    odd = freedom % 2
    term = total = math.cos(angle) if odd else 1.0
    for number in range(3 if odd else 2, freedom - 1, 2):
        term *= square * (number - 1) / number
        total += term
    if not odd:
        return math.sin(angle) * total
    return 2 / math.pi * (angle + (math.sin(angle) * total if freedom > 1 else 0.0))

"""Runs of a load test for tests of what is said of them: figures of the shape that real ones have."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from npu_serving.load.histogram import LatencyHistogram
from npu_serving.load.results import GeneratorFigures, Level, LoadRun, MarkedEvent, Sample, Second, Window

FIGURES = GeneratorFigures("http2", 2, 3.1, 81.0, 0.42, 0.08, 0.6)


def level(
    concurrency: int = 8,
    *,
    rate: float | None = None,
    middle_ms: float = 6.0,
    throughput: float = 400.0,
    windows: int = 4,
    window_s: float = 2.0,
    seed: int = 1,
    events: tuple[MarkedEvent, ...] = (),
    errors: dict[str, int] | None = None,
) -> Level:
    """A level whose latencies are spread like real ones (log-normal) around `middle_ms`."""
    chance = random.Random(seed)
    histogram = LatencyHistogram()
    found, timeline = [], []
    for number in range(windows):
        ok = round(throughput * window_s * chance.uniform(0.97, 1.03))
        own = LatencyHistogram()
        for _ in range(ok):
            own.record(middle_ms * 1e3 * math.exp(chance.gauss(0, 0.35)))
        histogram.merge(own)
        at = {percent: own.percentile(percent) / 1e3 for percent in (50, 90, 95, 99)}
        begin_s, each, mean_ms = 1.0 + number * window_s, round(ok / window_s), own.mean() / 1e3
        found.append(Window(begin_s, window_s, ok, ok, {}, ok / window_s, at[50], at[90], at[95], at[99], mean_ms))
        for second in range(int(window_s)):
            p99_ms = at[99] * chance.uniform(0.9, 1.1)
            timeline.append(Second(int(begin_s) + second, each, each, 0, at[50], p99_ms, 0.3))
    samples = tuple(Sample(each.at_s + 0.5, 1.4, 512 << 20, {}, {"NPU 0 utilisation": 61.0}) for each in timeline)
    return Level(
        "closed" if rate is None else "open",
        concurrency,
        rate,
        "" if rate is None else "poisson",
        tuple(found),
        True,
        histogram,
        errors or {},
        tuple(timeline),
        events,
        FIGURES,
        samples,
    )


def run(*levels: Level, **others: object) -> LoadRun:
    """A run of these levels, or of one."""
    made = LoadRun(
        "20261129-170000-half-plus-two",
        "2026-11-29T17:00:00Z",
        "grpc://127.0.0.1:8500",
        "half_plus_two",
        "",
        "serving_default",
        "grpc",
        "random: x float 1x3",
        levels or (level(),),
    )
    return replace(made, **others)  # type: ignore[arg-type]

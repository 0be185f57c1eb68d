"""What a load test has found, as it is kept: a run, its levels of load, their windows and seconds.

Times are in seconds from the level's begin, latencies in milliseconds from the time at which it was to be sent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from npu_serving.documents import FromText, Rule
from npu_serving.errors import EXIT_ACTION_NEEDED
from npu_serving.load.histogram import LatencyHistogram
from npu_serving.load.kinds import MEANINGS

FORMAT = 1
CLOSED, OPEN = "closed", "open"
KINDS = MEANINGS
"""The kinds of errors, and what each means; there are no others."""

Count = Annotated[int, Rule(minimum=0)]
Share = Annotated[float, Rule(minimum=0)]


def _histogram(text: str) -> str:
    """What is wrong with the text of a histogram."""
    try:
        LatencyHistogram(text)
    except ValueError as error:
        return f"must be a histogram as HdrHistogram writes it: {error}"
    return ""


@dataclass(frozen=True)
class MarkedEvent:
    """Something that happened during the run: a change that began or ended, the end of the warm-up."""

    at_s: float
    name: str


@dataclass(frozen=True)
class Second:
    """One second of the run. Latencies are of the answers that came in it; None where none came."""

    at_s: int
    sent: Count
    ok: Count
    errors: Count
    p50_ms: float | None = None
    p99_ms: float | None = None
    lag_p99_ms: float | None = None
    """How much later than intended requests were sent."""


@dataclass(frozen=True)
class Window:
    """A stretch of the run that is judged by itself. `throughput` is good answers a second."""

    begin_s: float
    seconds: float
    sent: Count
    ok: Count
    errors: Mapping[str, int]
    throughput: float
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    mean_ms: float | None = None


@dataclass(frozen=True)
class GeneratorFigures:
    """What sending took on the machine that sent: whether the figures are the server's, or the sender's."""

    path: Literal["grpcio", "http2", "rest", "http1"]
    processes: Count
    cpu_seconds: float
    cpu_per_request_us: float
    cpu_share: Share
    """Of the processors that the processes could use, 1 for all of them."""
    lag_p50_ms: float
    lag_p99_ms: float
    bottleneck: str = ""
    """Why the figures are not the server's; "" where they are."""


@dataclass(frozen=True)
class Sample:
    """What the server took at one time. `cpu_share` is 1 for one whole processor."""

    at_s: float
    cpu_share: Share | None = None
    memory_bytes: Count | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    npu: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Level:
    """One load, held for a while: so many requests under way at once (closed), or so many a second (open)."""

    mode: Literal["closed", "open"]
    concurrency: Count
    """How many are under way at once; with an open loop the most that were."""
    rate: float | None
    """Requests a second that were intended; None with a closed loop."""
    arrivals: str
    """How the open loop's requests follow each other: constant, poisson, a schedule; "" with a closed one."""
    windows: tuple[Window, ...]
    stable: bool
    """Whether the last windows agree in throughput and latency."""
    histogram: Annotated[LatencyHistogram, FromText("a histogram", _histogram)]
    """The latencies of all good answers of the windows that count."""
    errors: Mapping[str, int]
    timeline: tuple[Second, ...]
    events: tuple[MarkedEvent, ...]
    generator: GeneratorFigures
    samples: tuple[Sample, ...] = ()

    @property
    def ok(self) -> int:
        """Good answers in all windows."""
        return sum(window.ok for window in self.windows)

    @property
    def failed(self) -> int:
        """Requests without a good answer."""
        return sum(self.errors.values())

    @property
    def throughput(self) -> float:
        """Good answers a second over all windows."""
        seconds = sum(window.seconds for window in self.windows)
        return sum(window.throughput * window.seconds for window in self.windows) / seconds if seconds else 0.0

    @property
    def load(self) -> str:
        """The load in words: "16 at once", "200 a second (poisson)"."""
        if self.mode == CLOSED:
            return f"{self.concurrency} at once"
        how = f" ({self.arrivals})" if self.arrivals else ""
        return f"{self.rate or 0.0:,.4g} a second{how}"

    def percentile_ms(self, percent: float) -> float | None:
        """The latency that `percent` of the good answers do not exceed; None where there are none."""
        return self.histogram.percentile(percent) / 1e3 if self.histogram.count else None


@dataclass(frozen=True)
class ThresholdResult:
    """A threshold (`p99>20ms`) held against one level; `measured` is in the threshold's unit, None where unknown."""

    threshold: str
    level: int
    measured: float | None
    shown: str
    """The measured value with its unit."""
    exceeded: bool


@dataclass(frozen=True)
class LoadRun:
    """A whole load test."""

    id: str
    begun: str
    """UTC, such as 2026-11-29T17:00:00Z."""
    target: str
    model: str
    version: str
    """The version that was asked for, or its label; "" for the server's choice."""
    signature: str
    api: Literal["grpc", "rest"]
    request: str
    """What was sent, in words: "random: ids int64 4x16", "golden NAME", "requests.rec (1,200 requests)"."""
    levels: tuple[Level, ...]
    best: Count | None = None
    """The place among the levels of the one that a search has found; None where none was searched or found."""
    thresholds: tuple[ThresholdResult, ...] = ()
    valid: bool = True
    reasons: tuple[str, ...] = ()
    """Why the run is not valid, or not stable."""
    golden: Mapping[str, Any] = field(default_factory=dict)
    """How many answers were compared with those of golden requests, and how many differ."""

    @property
    def exit_code(self) -> int:
        """3 where the run is not valid, a threshold is exceeded, or one was given and a level is not stable."""
        unsteady = self.thresholds and not all(level.stable for level in self.judged())
        failed = not self.valid or any(each.exceeded for each in self.thresholds) or unsteady
        return EXIT_ACTION_NEEDED if failed else 0

    def judged(self) -> tuple[Level, ...]:
        """The levels that thresholds count for: the one that was searched for, or all."""
        return self.levels if self.best is None else (self.levels[self.best],)

    def to_json(self) -> dict[str, Any]:
        """The run as it is kept: read_document() makes the same of it."""
        return {"format": FORMAT, **{item.name: _plain(getattr(self, item.name)) for item in dataclasses.fields(self)}}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, LatencyHistogram) else value

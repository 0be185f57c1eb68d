"""What a person sees while a level of load is measured: how it goes now, what there is so far, whether it is stable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npu_serving.load.histogram import LatencyHistogram
from npu_serving.load.results import Window
from npu_serving.load.tables import ms_text

_FEWEST = 3


@dataclass(frozen=True)
class LiveView:
    """The words beside the answers and the time, and the lines above it."""

    detail: str
    lines: tuple[str, ...]


def live_view(
    windows: Sequence[Window], histogram: LatencyHistogram, errors: Mapping[str, int], *, agrees: bool
) -> LiveView:
    """The view after these windows: `histogram` and `errors` are of all of them."""
    if not windows:
        return LiveView("warm-up", ())
    last = windows[-1]
    so_far = ", ".join(f"p{percent} {ms_text(histogram.percentile(percent) / 1e3)} ms" for percent in (50, 99))
    failed = ", ".join(f"{count:,} {kind}" for kind, count in errors.items() if count)
    state = "stable" if agrees else "not stable yet" if len(windows) >= _FEWEST else ""
    now = f"{last.throughput:,.1f} a second, p50 {ms_text(last.p50_ms)} ms, p99 {ms_text(last.p99_ms)} ms"
    return LiveView(
        "  ".join(filter(None, [f"window {len(windows)}", state])),
        (f"now     {now}", f"so far  {so_far}", f"errors  {failed or 0}"),
    )

"""The percentiles of a level as HdrHistogram's own tools print them (.hgrm); its plotter reads such files."""

from __future__ import annotations

from npu_serving.load.histogram import LatencyHistogram

_BUCKETS, _SUB_BUCKETS = 22, 2048


def hgrm_text(histogram: LatencyHistogram) -> str:
    """The text of the file, in milliseconds."""
    lines = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}", ""]
    for step in histogram.curve():
        line = f"{step.value_us / 1e3:12.3f} {step.percentile / 100:2.12f} {step.count:10d}"
        lines.append(line if step.percentile == 100 else f"{line} {1 / (1 - step.percentile / 100):14.2f}")
    mean, deviation, most = histogram.mean() / 1e3, histogram.deviation() / 1e3, histogram.max() / 1e3
    lines += [
        f"#[Mean    = {mean:12.3f}, StdDeviation   = {deviation:12.3f}]",
        f"#[Max     = {most:12.3f}, TotalCount     = {histogram.count:12.3f}]",
        f"#[Buckets = {_BUCKETS:12d}, SubBuckets     = {_SUB_BUCKETS:12d}]",
    ]
    return "\n".join(lines) + "\n"

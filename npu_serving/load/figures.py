"""The charts of a report, as the plain data that Plotly's JavaScript draws. Colours of text and lines are the page's.

Every text from outside goes through chart_text(): Plotly reads tags in names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from npu_serving.load.results import Level, LoadRun, Sample
from npu_serving.writers.html import chart_text

Figure = dict[str, Any]

# After Okabe and Ito: told apart by the colour-blind too, and neighbours apart on light and dark ground.
COLOURS = ("#1f86cc", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a7f00", "#7f7f7f")
_GOOD, _MIDDLE, _SLOW, _BAD, _LAG = COLOURS[2], COLOURS[0], COLOURS[1], COLOURS[5], COLOURS[3]
_DASHES = ("solid", "dash", "dot")  # where there are more lines than colours
_TICKS = (0, 50, 90, 99, 99.9, 99.99, 99.999, 99.9999)
_WIDE = 25.0  # from this ratio on latencies are drawn on a logarithmic axis
_STEPS = 3  # heights at which the names of events stand in turn


def percentile_figure(levels: Sequence[Level]) -> Figure:
    """Latency by percentile, a line for each level; each halving of the rest takes the same width."""
    data, most = [], 2.0
    for place, level in enumerate(levels):
        steps = [step for step in level.histogram.curve() if step.percentile < 100]
        rests = [1 / (1 - step.percentile / 100) for step in steps]
        most = max([most, *rests])
        data.append(
            {
                **_line(chart_text(level.load), COLOURS[place % len(COLOURS)], dash=_DASHES[place // len(COLOURS) % 3]),
                "x": rests,
                "y": [step.value_us / 1e3 for step in steps],
                "customdata": [f"{step.percentile:.6g}" for step in steps],
                "hovertemplate": "p%{customdata}: %{y:.3~f} ms",
            }
        )
    ticks = [percent for percent in _TICKS if 1 / (1 - percent / 100) <= most * 1.5]
    values = [value for each in data for value in each["y"] if value]
    layout = {
        "xaxis": {
            "type": "log",
            "title": {"text": "percentile"},
            "tickvals": [1 / (1 - percent / 100) for percent in ticks],
            "ticktext": [f"{percent:g}%" for percent in ticks],
        },
        "yaxis": _latency_axis(values),
        "height": 400,
    }
    return {"data": data, "layout": layout}


def sweep_figure(levels: Sequence[Level]) -> Figure:
    """Latency against throughput, a point for each level."""
    kept = sorted((level for level in levels if level.histogram.count), key=lambda level: level.throughput)
    data = []
    for name, percent, colour in (("p50", 50, _MIDDLE), ("p99", 99, _SLOW)):
        data.append(
            {
                **_line(name, colour, mode="lines+markers"),
                "x": [level.throughput for level in kept],
                "y": [level.percentile_ms(percent) for level in kept],
                "customdata": [chart_text(level.load) for level in kept],
                "hovertemplate": "%{customdata}: %{x:,.1f} a second, %{y:.3~f} ms",
            }
        )
    layout = {
        "xaxis": {"title": {"text": "good answers a second"}, "rangemode": "tozero"},
        "yaxis": _latency_axis([value for each in data for value in each["y"] if value]),
        "height": 400,
        "hovermode": "closest",
    }
    return {"data": data, "layout": layout}


def timeline_figure(level: Level) -> Figure:
    """Throughput and errors, latencies, and the generator's lag by time, with the marked events."""
    seconds = level.timeline
    at = [each.at_s for each in seconds]
    data = [
        {**_line("answers a second", _GOOD), "x": at, "y": [each.ok for each in seconds], "yaxis": "y3"},
        {
            **({"type": "bar", "name": "errors a second", "marker": {"color": _BAD}}),
            "x": at,
            "y": [each.errors for each in seconds],
            "yaxis": "y3",
        },
        {**_line("p50 (ms)", _MIDDLE), "x": at, "y": [each.p50_ms for each in seconds], "yaxis": "y2"},
        {**_line("p99 (ms)", _SLOW), "x": at, "y": [each.p99_ms for each in seconds], "yaxis": "y2"},
        {**_line("lag p99 (ms)", _LAG), "x": at, "y": [each.lag_p99_ms for each in seconds], "yaxis": "y"},
    ]
    layout = {
        "xaxis": {"title": {"text": "seconds"}, "anchor": "y", "rangemode": "tozero"},
        "yaxis3": {"title": {"text": "a second"}, "domain": [0.62, 1], "rangemode": "tozero"},
        "yaxis2": {"title": {"text": "latency (ms)"}, "domain": [0.22, 0.58], "rangemode": "tozero"},
        "yaxis": {"title": {"text": "lag (ms)"}, "domain": [0, 0.17], "rangemode": "tozero"},
        "height": 560,
        **_events(level),
    }
    return {"data": data, "layout": layout}


def server_figure(level: Level) -> Figure | None:
    """What the server took by time: a row each for processors, memory, and what was read of the NPU; None without."""
    rows: list[tuple[str, list[dict[str, Any]]]] = []
    asked: tuple[tuple[str, Callable[[Sample], float | None]], ...] = (
        ("processors", lambda sample: sample.cpu_share),
        ("memory (MB)", lambda sample: None if sample.memory_bytes is None else sample.memory_bytes / 1e6),
    )
    colours = iter(COLOURS * 8)
    for title, value in asked:
        if any(value(sample) is not None for sample in level.samples):
            rows.append((title, [_sampled(title, level.samples, value, next(colours))]))
    for title, names in (("NPU", _names(level, "npu")), ("metrics", _names(level, "metrics"))):
        drawn = [_sampled(name, level.samples, _reader(title, name), colour) for name, colour in zip(names, colours)]
        if drawn:
            rows.append((title, drawn))
    if not rows:
        return None
    height = 1 / len(rows)
    seconds = {"title": {"text": "seconds"}, "anchor": "y", "rangemode": "tozero"}
    layout: Figure = {"xaxis": seconds, "height": 120 + 150 * len(rows), **_events(level)}
    data = []
    for place, (title, lines) in enumerate(reversed(rows)):
        axis = "y" if place == 0 else f"y{place + 1}"
        domain = [place * height + (0.02 if place else 0), (place + 1) * height - 0.02]
        layout[axis.replace("y", "yaxis")] = {"title": {"text": title}, "domain": domain, "rangemode": "tozero"}
        data += [{**line, "yaxis": axis} for line in lines]
    return {"data": data, "layout": layout}


def _reader(group: str, name: str) -> Callable[[Sample], float | None]:
    return lambda sample: (sample.npu if group == "NPU" else sample.metrics).get(name)


def _names(level: Level, group: str) -> list[str]:
    """The names that occur in the samples; most of a server's metrics never change, and those say nothing here."""
    found: dict[str, set[float]] = {}
    for sample in level.samples:
        for name, value in getattr(sample, group).items():
            found.setdefault(name, set()).add(value)
    return [name for name, values in found.items() if group == "npu" or len(values) > 1][: len(COLOURS)]


def _sampled(
    name: str, samples: Sequence[Sample], value: Callable[[Sample], float | None], colour: str
) -> dict[str, Any]:
    line = _line(chart_text(name), colour)
    return {**line, "x": [sample.at_s for sample in samples], "y": [_drawable(value(sample)) for sample in samples]}


def _drawable(value: float | None) -> float | None:
    """JSON has no infinity and no NaN, which a server's metrics may be."""
    return value if value is not None and math.isfinite(value) else None


def _line(name: str, colour: str, *, mode: str = "lines", dash: str = "solid") -> dict[str, Any]:
    line = {"color": colour, "width": 2, "dash": dash}
    return {"type": "scatter", "mode": mode, "name": name, "line": line, "marker": {"size": 8}}


def _latency_axis(values: Sequence[float]) -> dict[str, Any]:
    title = {"title": {"text": "latency (ms)"}}
    if not values or max(values) <= _WIDE * min(values):
        return {**title, "rangemode": "tozero"}
    decades = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    return {**title, "type": "log", "tickvals": ticks, "ticktext": [f"{tick:,g}" for tick in ticks]}


def _events(level: Level) -> dict[str, Any]:
    """Lines where something was marked, and the names above them."""
    shapes, notes = [], []
    for place, event in enumerate(level.events):
        at = {"x0": event.at_s, "x1": event.at_s, "y0": 0, "y1": 1}
        shapes.append({"type": "line", "xref": "x", "yref": "paper", **at, "line": {"width": 1.5, "dash": "dot"}})
        notes.append(
            {
                **{"x": event.at_s, "xref": "x", "y": 1.01 + 0.05 * (place % _STEPS), "yref": "paper"},
                **{"text": chart_text(event.name), "showarrow": False, "xanchor": "left", "yanchor": "bottom"},
            }
        )
    return {"shapes": shapes, "annotations": notes}


def figures_of(run: LoadRun) -> dict[str, Any]:
    """All charts of a report: `percentiles`, `sweep` where there are several levels, and those of each level."""
    return {
        "percentiles": percentile_figure(run.levels),
        "sweep": sweep_figure(run.levels) if len(run.levels) > 1 else None,
        "levels": [{"timeline": timeline_figure(level), "server": server_figure(level)} for level in run.levels],
    }

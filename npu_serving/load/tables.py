"""A run's figures in rows: for CSV, for the terminal, and for the tables of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from npu_serving.console import table
from npu_serving.load.results import KINDS, Level, LoadRun
from npu_serving.writers.csv import csv_text

PERCENTS = (50, 75, 90, 95, 99, 99.9, 99.99, 100)
_LEVEL_COLUMNS = (
    "level",
    "mode",
    "concurrency",
    "rate",
    "arrivals",
    "stable",
    "seconds",
    "sent",
    "ok",
    "errors",
    "throughput_per_s",
    "p50_ms",
    "p90_ms",
    "p95_ms",
    "p99_ms",
    "p99_9_ms",
    "max_ms",
    "mean_ms",
    "lag_p99_ms",
    "generator_cpu_share",
    "generator_cpu_per_request_us",
)
_SECOND_COLUMNS = ("level", "at_s", "sent", "ok", "errors", "p50_ms", "p99_ms", "lag_p99_ms", "events")


def levels_csv(run: LoadRun) -> str:
    """A line for each level, with a column for each kind of error that occurred."""
    kinds = [kind for kind in KINDS if any(level.errors.get(kind) for level in run.levels)]
    rows: list[Sequence[object]] = [(*_LEVEL_COLUMNS, *(f"errors_{kind}" for kind in kinds))]
    for place, level in enumerate(run.levels):
        rows.append([*_level_row(place, level), *(level.errors.get(kind, 0) for kind in kinds)])
    return csv_text(rows)


def timeline_csv(run: LoadRun) -> str:
    """A line for each second of each level, with the events that were marked in it."""
    rows: list[Sequence[object]] = [_SECOND_COLUMNS]
    for place, level in enumerate(run.levels):
        rows.extend(_seconds(place, level))
    return csv_text(rows)


def run_text(run: LoadRun) -> str:
    """The run as a terminal shows it: the levels in a table, and what is to be known before the figures are used."""
    lines = [_levels_table(run)]
    errors = error_rows(run)
    if errors:
        lines.append(table(errors, header=("ERRORS", "", "")))
    judged = [
        (each.threshold, run.levels[each.level].load, each.shown, "EXCEEDED" if each.exceeded else "within")
        for each in run.thresholds
    ]
    if judged:
        lines.append(table(judged, header=("MUST NOT BE", "LOAD", "MEASURED", "")))
    if run.golden:
        lines.append(golden_text(run))
    if not run.valid:
        lines.append("\n".join(["The figures are not the server's, and not to be used:", *run.reasons]))
    elif run.reasons:
        lines.append("\n".join(run.reasons))
    return "\n\n".join(lines)


def golden_text(run: LoadRun) -> str:
    """How many answers were compared with those of golden requests; "" where none were."""
    counts = ", ".join(f"{count:,} {name}" for name, count in run.golden.items() if isinstance(count, int))
    return f"Answers beside those of golden requests: {counts}." if counts else ""


def _levels_table(run: LoadRun) -> str:
    header = ("LOAD", "ANSWERS", "ERRORS", "PER SECOND", "P50", "P90", "P99", "P99.9", "MAX (ms)", "")
    rows = [(level.load, *level_cells(level), _remark(run, place)) for place, level in enumerate(run.levels)]
    return table(rows, header=header)


def level_cells(level: Level) -> tuple[str, ...]:
    """Answers, errors, throughput and latencies of a level, as a person reads them."""
    latencies = (ms_text(level.percentile_ms(percent)) for percent in (50, 90, 99, 99.9, 100))
    return f"{level.ok:,}", errors_text(level), f"{level.throughput:,.1f}", *latencies


def errors_text(level: Level) -> str:
    """How many requests failed, with their share."""
    if not level.failed:
        return "0"
    percent = 100 * level.failed / (level.ok + level.failed)
    return f"{level.failed:,} ({percent:.0f}%)" if percent >= 10 else f"{level.failed:,} ({percent:.2g}%)"


def ms_text(value: float | None) -> str:
    """Milliseconds with three digits; "-" where there is no figure."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def error_rows(run: LoadRun) -> list[tuple[str, str, str]]:
    """The kinds of errors that occurred: how many in all levels, and what each means."""
    counted = {kind: sum(level.errors.get(kind, 0) for level in run.levels) for kind in KINDS}
    return [(kind, f"{count:,}", KINDS[kind]) for kind, count in counted.items() if count]


def _remark(run: LoadRun, place: int) -> str:
    remarks = (("the best", run.best == place), ("not stable", not run.levels[place].stable))
    return ", ".join(text for text, is_so in remarks if is_so)


def _level_row(place: int, level: Level) -> list[object]:
    generator = level.generator
    latencies = [level.percentile_ms(percent) for percent in (50, 90, 95, 99, 99.9, 100)]
    return [
        place,
        level.mode,
        level.concurrency,
        level.rate,
        level.arrivals,
        str(level.stable).lower(),
        sum(window.seconds for window in level.windows),
        sum(window.sent for window in level.windows),
        level.ok,
        level.failed,
        round(level.throughput, 3),
        *latencies,
        round(level.histogram.mean() / 1e3, 3) if level.histogram.count else None,
        generator.lag_p99_ms,
        generator.cpu_share,
        generator.cpu_per_request_us,
    ]


def _seconds(place: int, level: Level) -> Iterator[list[object]]:
    for each in level.timeline:
        events = "; ".join(event.name for event in level.events if each.at_s <= event.at_s < each.at_s + 1)
        yield [place, each.at_s, each.sent, each.ok, each.errors, each.p50_ms, each.p99_ms, each.lag_p99_ms, events]

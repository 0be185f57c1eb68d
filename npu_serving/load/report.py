"""The report of a run: one page that works without a network, its charts drawn by Plotly's JavaScript within it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from npu_serving import fsutil
from npu_serving.console import amount_text
from npu_serving.errors import MissingToolError
from npu_serving.load.figures import figures_of
from npu_serving.load.results import KINDS, Level, LoadRun
from npu_serving.load.tables import PERCENTS, error_rows, errors_text, golden_text, level_cells, ms_text
from npu_serving.templating import render
from npu_serving.writers.html import html_text, script_json

_TEMPLATE = "templates/load-report.html.j2"
_SCRIPT = Path("package_data/plotly.min.js")


def report_html(run: LoadRun) -> str:
    """The page. MissingToolError where Plotly is not installed."""
    shown = run.best if run.best is not None else len(run.levels) - 1
    return render(
        _TEMPLATE,
        {"html": html_text, "script_json": script_json},
        run=run,
        figures=figures_of(run),
        plotly=_plotly(),
        shown=shown,
        verdict=_verdict(run),
        cards=_cards(run.levels[shown]) if run.levels else [],
        percents=[f"{percent:g}%" for percent in PERCENTS],
        percentiles=[[ms_text(level.percentile_ms(percent)) for percent in PERCENTS] for level in run.levels],
        cells=[level_cells(level) for level in run.levels],
        errors=error_rows(run),
        kinds=KINDS,
        ms=ms_text,
        amount=lambda size: amount_text(size, "bytes") if size is not None else "-",
        golden=golden_text(run),
        named=lambda values: ", ".join(f"{name} {value:,.6g}" for name, value in values.items()),
    )


def _plotly() -> str:
    """Plotly's JavaScript, which its package for Python holds."""
    found = importlib.util.find_spec("plotly")
    places = found.submodule_search_locations if found is not None else None
    if not places:
        raise MissingToolError(
            "The package plotly is not installed, which draws the charts of a report.",
            cause="requirements.txt was not installed whole",
            cure="remove .venv and run ./inv again: it installs what is needed",
        )
    return fsutil.read_text(Path(places[0]) / _SCRIPT)


def _verdict(run: LoadRun) -> tuple[str, str]:
    """The class of the verdict, and its sentence."""
    if not run.valid:
        return "bad", "Not valid: these figures are not the server's."
    if any(each.exceeded for each in run.thresholds):
        return "bad", "A threshold is exceeded."
    if not all(level.stable for level in run.judged()):
        return "warn", "Not stable: the last windows differ, so a longer run may give other figures."
    if run.thresholds:
        return "good", "Valid, and within all thresholds."
    return "good", "Valid: the sender was not what limited it."


def _cards(level: Level) -> list[tuple[str, str, str]]:
    """The figures that one looks for first: what, value, unit."""
    failed = errors_text(level)
    return [
        ("throughput", f"{level.throughput:,.1f}", "answers a second"),
        ("p50", ms_text(level.percentile_ms(50)), "ms"),
        ("p99", ms_text(level.percentile_ms(99)), "ms"),
        ("p99.9", ms_text(level.percentile_ms(99.9)), "ms"),
        ("errors", failed, f"of {level.ok + level.failed:,}"),
    ]

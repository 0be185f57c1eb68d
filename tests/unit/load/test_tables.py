"""A run's figures in rows."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

from load_runs import level, run

from npu_serving.load.results import MarkedEvent
from npu_serving.load.tables import levels_csv, run_text, timeline_csv
from npu_serving.load.thresholds import hold_against, parse_threshold


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_a_line_for_each_level_and_a_column_for_each_kind_of_error_that_occurred() -> None:
    found = run(level(1), replace(level(2), errors={"busy": 3, "timeout": 1}))
    rows = read(levels_csv(found))
    assert [row["concurrency"] for row in rows] == ["1", "2"]
    assert [(row["errors"], row["errors_busy"], row["errors_timeout"]) for row in rows] == [
        ("0", "0", "0"),
        ("4", "3", "1"),
    ]
    assert [float(row["p99_ms"]) for row in rows] == [each.percentile_ms(99) for each in found.levels]
    assert "errors_expired" not in rows[0]


def test_csv_of_the_timeline_has_every_second_with_the_events_that_fall_into_it() -> None:
    events = (MarkedEvent(1.2, 'change "a, b" begun'), MarkedEvent(1.9, "change ended"), MarkedEvent(2.0, "next"))
    found = run(level(events=events))
    rows = read(timeline_csv(found))
    assert len(rows) == len(found.levels[0].timeline)
    assert [row["events"] for row in rows[:2]] == ['change "a, b" begun; change ended', "next"]


def test_a_level_without_one_good_answer_has_no_latencies() -> None:
    nothing = replace(level(windows=0), errors={"unreachable": 5})
    assert read(levels_csv(run(nothing)))[0]["p99_ms"] == ""
    assert "5 (100%)" in run_text(run(nothing))


def test_the_table_says_which_level_is_the_best_and_which_are_not_stable() -> None:
    lines = run_text(run(level(1), replace(level(2), stable=False), best=0)).splitlines()
    assert lines[1].endswith("the best")
    assert lines[2].endswith("not stable")


def test_a_person_sees_errors_thresholds_and_why_a_run_is_not_valid() -> None:
    found = run(replace(level(), errors={"busy": 12}), valid=False, reasons=("the sender was at its end",))
    found = replace(found, thresholds=tuple(hold_against([parse_threshold("errors.busy>0")], found)))
    text = run_text(replace(found, golden={"names": ["a"], "compared": 3200, "differ": 1}))
    assert "8 at once" in text
    assert "the server's queue was full" in text
    assert "EXCEEDED" in text
    assert "3,200 compared, 1 differ." in text
    assert text.endswith("not to be used:\nthe sender was at its end")

"""Which load of a setting is its best within the budget, and how that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_serving.load.histogram import LatencyHistogram
from npu_serving.load.results import GeneratorFigures, Level, Window
from npu_serving.tuning.knobs import TunedSetting
from npu_serving.tuning.measured import KeptSettings, MeasuredSetting, best_load

SETTING = TunedSetting((("batch size", "4"),), ((("server", "batching", "max_batch_size"), 4),))


def level(throughput: float, p99_ms: float | None, failed: int = 0, bottleneck: str = "") -> Level:
    histogram = LatencyHistogram()
    if p99_ms is not None:
        histogram.record(round(1000 * p99_ms))
    window = Window(0, 10, 0, round(10 * throughput), {"busy": failed}, throughput)
    figures = GeneratorFigures("grpcio", 1, 1.0, 100.0, 0.1, 0.0, 0.0, bottleneck)
    return Level("closed", 1, None, "", (window,), True, histogram, {"busy": failed}, (), (), figures)


def measured(levels: dict[int, Level], asked: list[int]) -> MeasuredSetting:
    def measure(at_once: int) -> Level:
        asked.append(at_once)
        return levels[at_once]

    return best_load(SETTING, sorted(levels), 20.0, measure)


def test_the_best_load_is_the_last_within_the_budget_and_greater_ones_are_not_tried():
    asked: list[int] = []
    found = measured({1: level(100, 5), 2: level(190, 9), 4: level(300, 25), 8: level(600, 10)}, asked)
    assert (found.concurrency, found.throughput, round(found.p99_ms or 0), asked) == (2, 190, 9, [1, 2, 4])


def test_a_load_that_brings_no_more_ends_it():
    asked: list[int] = []
    found = measured({1: level(100, 5), 2: level(103, 9), 4: level(900, 9)}, asked)
    assert (found.concurrency, asked) == (2, [1, 2])


def test_a_load_of_which_the_sender_was_the_limit_is_the_last_and_says_so():
    asked: list[int] = []
    found = measured({1: level(100, 5), 2: level(200, 5, bottleneck="late"), 4: level(400, 5)}, asked)
    assert (found.concurrency, found.limit, asked) == (2, "late", [1, 2])


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (level(100, 21), "p99 was 21 ms with 1 at once"),
        (level(100, 5, failed=3), "3 requests failed with 1 at once"),
        (level(0, None), "0 requests failed with 1 at once"),
    ],
)
def test_a_setting_that_holds_the_budget_under_no_load_says_why(first, why):
    found = measured({1: first}, [])
    assert not found.is_within and found.why == why


def test_what_was_measured_is_found_again_and_what_is_damaged_is_measured_again(tmp_path: Path):
    kept = KeptSettings(tmp_path / "here")
    assert kept.of(SETTING) is None
    for found in (
        MeasuredSetting("batch size 4", 2, 190.5, 4.5, 9.0, False, "late", "", "2026-11-29"),
        MeasuredSetting("batch size 4", why="no"),
    ):
        kept.keep(SETTING, found)
        assert kept.of(SETTING) == found
    other = TunedSetting(SETTING.shown, ((("server", "batching", "max_batch_size"), 5),))
    assert kept.of(other) is None
    for file in kept.directory.iterdir():
        file.write_text(file.read_text()[:-20])
    assert kept.of(SETTING) is None

"""What a person sees while a level of load is measured."""

from __future__ import annotations

import pytest
from load_runs import level
from terminal import Terminal

from npu_serving.console import Console
from npu_serving.load.histogram import LatencyHistogram
from npu_serving.load.live import live_view


def test_a_terminal_shows_the_last_window_all_so_far_and_errors_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    found = level(middle_ms=6.0)
    terminal = Terminal(80, 12)
    now_s = [0.0]
    console = Console(terminal.stream, clock=lambda: now_s[0])
    with console.progress("2 of 3: 8 at once", unit="answers") as progress:
        now_s[0] = 9.4
        view = live_view(found.windows, found.histogram, {"busy": 3, "timeout": 0}, agrees=True)
        progress.update(3200, detail=view.detail, under_way=view.lines)
        last = found.windows[-1]
        assert terminal.shown() == [
            f"  now     {last.throughput:,.1f} a second, p50 {last.p50_ms:.2f} ms, p99 {last.p99_ms:.1f} ms",
            f"  so far  p50 {found.percentile_ms(50):.2f} ms, p99 {found.percentile_ms(99):.1f} ms",
            "  errors  3 busy",
            "2 of 3: 8 at once: 3,200 answers  9.4 s  window 4  stable",
        ]
    assert terminal.shown() == [""]
    terminal.close()


def test_before_the_first_window_it_is_the_warm_up() -> None:
    view = live_view((), LatencyHistogram(), {}, agrees=False)
    assert (view.detail, view.lines) == ("warm-up", ())


@pytest.mark.parametrize(("count", "agrees", "words"), [(2, False, "window 2"), (4, False, "window 4  not stable yet")])
def test_stable_is_not_spoken_of_before_it_can_be_known(count: int, agrees: bool, words: str) -> None:
    found = level()
    assert live_view(found.windows[:count], found.histogram, {}, agrees=agrees).detail == words

"""The search for the highest rate that a server bears: upwards until one is too much, then in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from npu_serving.load.results import Level, Window

STEP_UP = 2.0
NEAR_ENOUGH = 1.05
MOST_TRIED = 16
LEAST_RATE = 0.5
SHARE_OF_RATE = 0.95


def highest_rate(holds: Callable[[float], bool], lowest: float, highest: float | None = None) -> int | None:
    """Asks `holds` of one rate after the other; the place of the highest that it held of, None where of none.

    It is at most 5% below one that did not hold, unless `highest` was reached or 16 rates have been tried.
    """
    best: tuple[float, int] | None = None
    too_much: float | None = None
    rate = lowest
    for place in range(MOST_TRIED):
        if holds(rate):
            best = (rate, place)
        else:
            too_much = rate
        if best is None:
            rate = (too_much or rate) / STEP_UP  # what was thought low is too much
            if rate < LEAST_RATE:
                break
        elif too_much is None:
            if highest is not None and best[0] >= highest:
                break
            rate = min(best[0] * STEP_UP, highest or float("inf"))
        elif too_much <= best[0] * NEAR_ENOUGH:
            break
        else:
            rate = round((best[0] + too_much) / 2, 3)
    return best[1] if best is not None else None


def is_within(level: Level, p99_s: float) -> bool:
    """Whether the server bore the level: no error, the answers as fast as wanted, and as many as were asked for."""
    p99_ms = level.percentile_ms(99)
    seconds = sum(window.seconds for window in level.windows)
    as_many = (
        level.rate is None or level.ok + 1 >= SHARE_OF_RATE * level.rate * seconds
    )  # one is where an edge happens to be
    return p99_ms is not None and p99_ms <= 1e3 * p99_s and not level.failed and as_many and level.stable


def is_beyond(windows: Sequence[Window], p99_s: float) -> bool:
    """Whether it is clear before the end that the server does not bear it: two windows on end are too slow, or fail."""
    last = windows[-2:]
    return len(last) == 2 and all(
        window.p99_ms is None or window.p99_ms > 1e3 * p99_s or bool(window.errors) for window in last
    )

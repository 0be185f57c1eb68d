"""How the benchmarks time several pieces of work beside each other; the task bench passes it over for its name."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Callable


def medians(
    works: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Seconds for each, measured in turn, so that a busy moment of the machine meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            began = clock()
            work()
            times[name].append(clock() - began)
    return {name: statistics.median(found) for name, found in times.items()}

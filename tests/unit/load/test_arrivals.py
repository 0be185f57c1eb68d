"""Schedules: how many requests come when, whoever sends them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.load.arrivals import CONSTANT, LINE, POISSON, RECORDED, STEP, Schedule, Stage

RATES = st.floats(1, 5000)
STAGES = st.lists(st.builds(Stage, st.floats(0.1, 5), RATES, RATES), min_size=1, max_size=4).map(tuple)


def level(stage: Stage) -> Stage:
    return Stage(stage.seconds, stage.from_rate, stage.from_rate)


SCHEDULES = st.one_of(
    st.builds(lambda rate: Schedule(CONSTANT, rate=rate), RATES),
    st.builds(lambda rate, seed: Schedule(POISSON, rate=rate, seed=seed), RATES, st.integers(0, 100)),
    st.builds(lambda stages: Schedule(LINE, stages=stages), STAGES),
    st.builds(
        lambda stages: Schedule(
            STEP, stages=tuple(Stage(each.seconds, each.from_rate, each.from_rate) for each in stages)
        ),
        STAGES,
    ),
    st.builds(
        lambda gaps: Schedule(RECORDED, recorded_ns=tuple(itertools.accumulate(gaps))),
        st.lists(st.integers(0, 10**9), min_size=1, max_size=50),
    ),
)


@given(SCHEDULES, st.integers(1, 5))
def test_arrivals_never_go_back_and_never_come_before_the_begin(schedule: Schedule, processes: int) -> None:
    for process in range(processes):
        found = list(itertools.islice(schedule.offsets_ns(process, processes), 300))
        assert found == sorted(found)
        assert all(offset >= 0 for offset in found)


@given(SCHEDULES.filter(lambda schedule: schedule.kind != POISSON), st.integers(1, 5))
def test_processes_send_together_what_one_would_send(schedule: Schedule, processes: int) -> None:
    shares = [list(itertools.islice(schedule.offsets_ns(place, processes), 200)) for place in range(processes)]
    alone = list(itertools.islice(schedule.offsets_ns(), 200))
    assert sorted(itertools.chain(*shares))[: len(alone)] == alone


@given(STAGES, st.booleans())
def test_steps_and_lines_have_as_many_requests_as_their_rates_make_and_end_in_time(
    stages: tuple[Stage, ...], is_line: bool
) -> None:
    if not is_line:
        stages = tuple(map(level, stages))
    schedule = Schedule(LINE if is_line else STEP, stages=stages)
    found = list(schedule.offsets_ns())
    expected = sum(stage.requests for stage in stages)
    assert abs(len(found) - expected) <= 1.001
    assert schedule.seconds is not None
    assert found[-1] / 1e9 <= schedule.seconds + 1e-6
    assert schedule.mean_rate == pytest.approx(expected / schedule.seconds)


@given(RATES, st.integers(0, 10))
def test_constant_arrivals_are_even(rate: float, at: int) -> None:
    found = list(itertools.islice(Schedule(CONSTANT, rate=rate).offsets_ns(), at + 2))
    assert (found[-1] - found[-2]) / 1e9 == pytest.approx(1 / rate, abs=2e-9)


@pytest.mark.parametrize("processes", [1, 3])
def test_arrivals_by_chance_have_the_rate_and_the_spread_of_a_poisson_process(processes: int) -> None:
    """The times between them have the mean 1/rate and, being exponential, a standard deviation as large."""
    rate, count = 200.0, 6000
    shares = [
        list(itertools.islice(Schedule(POISSON, rate=rate).offsets_ns(at, processes), count)) for at in range(processes)
    ]
    merged = sorted(itertools.chain(*shares))[:count]
    gaps = [(later - earlier) / 1e9 for earlier, later in zip(merged, merged[1:])]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / rate, rel=0.06)
    assert deviation == pytest.approx(mean, rel=0.08)


def test_arrivals_by_chance_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    first, again, other = (
        list(itertools.islice(Schedule(POISSON, rate=50, seed=seed).offsets_ns(), 20)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_a_line_is_steeper_towards_its_end() -> None:
    found = list(Schedule(LINE, stages=(Stage(10, 0, 100),)).offsets_ns())
    halves = [sum(1 for offset in found if (offset >= 5e9) == late) for late in (False, True)]
    assert halves[1] == pytest.approx(3 * halves[0], rel=0.02)

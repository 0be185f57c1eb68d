"""Gears with the least padding, against every way to choose them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_serving.tuning.gear_choice import Sizes, Volume, choose_gears

NEAR = 1.05
"""What is found in several dimensions may compute so much of what the best choice does."""


def partitions(count: int, most: int) -> Iterator[list[list[int]]]:
    if count == 0:
        yield []
        return
    for groups in partitions(count - 1, most):
        for at in range(len(groups)):
            yield [[*group, count - 1] if at == place else group for place, group in enumerate(groups)]
        if len(groups) < most:
            yield [*groups, [count - 1]]


def best_of_all(shapes: list[Sizes], counts: list[int], volume: Volume, most: int) -> float:
    def computed(groups: list[list[int]]) -> float:
        tops = numpy.array(
            [[max(shapes[at][dim] for at in group) for dim in range(len(shapes[0]))] for group in groups]
        )
        return float(sum(top * sum(counts[at] for at in group) for top, group in zip(volume.of(tops), groups)))

    return min(map(computed, partitions(len(shapes), most)))


def cases(dimensions: int) -> st.SearchStrategy[tuple[list[Sizes], list[int]]]:
    shape = st.tuples(*[st.integers(1, 20)] * dimensions)
    return st.lists(shape, min_size=1, max_size=7, unique=True).flatmap(
        lambda shapes: st.tuples(
            st.just(shapes), st.lists(st.integers(0, 9), min_size=len(shapes), max_size=len(shapes))
        )
    )


@settings(deadline=None, max_examples=60)
@given(cases(1), st.integers(1, 5))
def test_in_one_dimension_no_choice_computes_less(case: tuple[list[Sizes], list[int]], most: int) -> None:
    shapes, counts = case
    volume = Volume(((3, (0,)), (2, (0, 0))))
    found = choose_gears(shapes, counts, volume, most)
    assert numpy.isclose(found.computed, best_of_all(shapes, counts, volume, most))


@settings(deadline=None, max_examples=60)
@given(st.one_of(cases(2), cases(3)), st.integers(1, 4))
def test_in_several_dimensions_hardly_any_choice_computes_less(case: tuple[list[Sizes], list[int]], most: int) -> None:
    shapes, counts = case
    volume = Volume(((3, tuple(range(len(shapes[0])))), (2, (0,))))
    found = choose_gears(shapes, counts, volume, most)
    assert found.computed <= NEAR * best_of_all(shapes, counts, volume, most) + 1e-6


@settings(deadline=None, max_examples=60)
@given(st.one_of(cases(1), cases(2)), st.integers(1, 5))
def test_each_shape_fits_the_gear_that_it_is_padded_to_and_no_gear_is_idle(
    case: tuple[list[Sizes], list[int]], most: int
) -> None:
    shapes, counts = case
    found = choose_gears(shapes, counts, Volume(((1, tuple(range(len(shapes[0])))),)), most)
    assert len(found.gears) <= most
    assert set(found.gear_of) == set(range(len(found.gears)))
    for shape, gear in zip(shapes, found.gear_of):
        assert all(size <= top for size, top in zip(shape, found.gears[gear]))


def test_a_shape_that_never_came_has_to_fit_and_costs_nothing() -> None:
    found = choose_gears([(10,), (500,)], [100, 0], Volume(((1, (0,)),)), 2)
    assert (found.gears, found.computed) == (((10,), (500,)), 1000.0)


def test_thousands_of_shapes_in_three_dimensions_are_put_together_first_and_all_fit() -> None:
    random = numpy.random.default_rng(0)
    shapes = [tuple(int(size) for size in row) for row in numpy.unique(random.integers(1, 300, (1500, 3)), axis=0)]
    found = choose_gears(shapes, [1] * len(shapes), Volume(((1, (0, 1, 2)),)), 4)
    whole = choose_gears(shapes, [1] * len(shapes), Volume(((1, (0, 1, 2)),)), 1)
    assert len(found.gears) == 4
    assert found.computed < 0.8 * whole.computed
    assert all((numpy.array(shape) <= found.gears[gear]).all() for shape, gear in zip(shapes, found.gear_of))


def test_a_hundred_thousand_sizes_of_one_dimension_are_put_together_first_and_cost_hardly_more() -> None:
    shapes = [(size,) for size in range(1, 100_001)]
    found = choose_gears(shapes, [1] * len(shapes), Volume(((1, (0,)),)), 2)
    assert abs(found.gears[0][0] - 50_000) < 100  # half of them, to the next whole step
    assert found.gears[1] == (100_000,)
    assert found.computed < 1.001 * (50_000 * 50_000 + 50_000 * 100_000)
    assert [found.gear_of[at] for at in (0, 40_000, 60_000, 99_999)] == [0, 0, 1, 1]

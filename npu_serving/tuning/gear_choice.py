"""Which gears cost least: shapes that were asked for, put together so that each is padded to the next gear above it.

A graph with gears takes their shapes alone (the guide, 5.6), so whoever asks pads. What a gear computes beyond what was
asked for is the cost. In one dimension the choice is exact, for up to 4,000 sizes; in several it is found by splitting
and moving shapes, since no method is known that is exact and ends in time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Whole = NDArray[numpy.int64]
    Real = NDArray[numpy.float64]

FEWEST, MOST = 2, 100
"""How many gears a graph may have (dynamic_dims; ATC takes as many)."""
_MOST_POINTS = 400  # different shapes that are looked at one by one; more are put together first
_MOST_VALUES = 4000  # likewise where one dimension changes: the time goes with their square
_MOST_ROUNDS = 10
_MOST_JOINED = 12  # gears: with more, trying all pairs costs much and spares little

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Volume:
    """How much of the inputs there is at given sizes of the changing dimensions.

    For each input the product of what never changes, and which of the changing dimensions it has.
    """

    inputs: tuple[tuple[int, tuple[int, ...]], ...]

    def of(self, sizes: Whole) -> Real:
        """The elements of all inputs, for each row of sizes."""
        import numpy

        total = numpy.zeros(sizes.shape[0])
        for fixed, places in self.inputs:
            total += fixed * numpy.prod(sizes[:, list(places)].astype(numpy.float64), axis=1)
        return total


@dataclass(frozen=True)
class GearChoice:
    """Some gears, the smallest first; for each shape the gear that it is padded to; and what all that computes."""

    gears: tuple[Sizes, ...]
    gear_of: tuple[int, ...]
    computed: float


def choose_gears(shapes: Sequence[Sizes], counts: Sequence[int], volume: Volume, most: int) -> GearChoice:
    """At most `most` gears for shapes that came so often; a shape that came 0 times has to fit all the same.

    The shapes are all of one length, and there is one at least. Fewer gears than `most` where more would spare nothing.
    """
    import numpy

    points = numpy.array(shapes, dtype=numpy.int64).reshape(len(shapes), -1)
    weights = numpy.array(counts, dtype=numpy.float64)
    if points.shape[1] == 1:
        tops = _in_one_dimension(*_fewer(points, weights, _MOST_VALUES), volume, most)
    else:
        tops = _in_several(*_fewer(points, weights, _MOST_POINTS), volume, most)
    return _assigned(points, weights, volume, tops)


def _assigned(points: Whole, weights: Real, volume: Volume, gears: Whole) -> GearChoice:
    """Each shape with the smallest gear that holds it; gears that are nobody's are left out."""
    import numpy

    gears = gears[numpy.argsort(volume.of(gears), kind="stable")]
    nearest, costs = _nearest(points, gears, volume.of(gears))
    used = numpy.unique(nearest)
    place = {int(old): new for new, old in enumerate(used)}
    return GearChoice(
        tuple(tuple(int(size) for size in gears[each]) for each in used),
        tuple(place[int(each)] for each in nearest),
        float((weights * costs).sum()),
    )


def _nearest(points: Whole, gears: Whole, volumes: Real) -> tuple[Whole, Real]:
    """For each point the gear of the least volume that holds it, and that volume; infinite where none does."""
    import numpy

    costs = numpy.full(len(points), numpy.inf)
    nearest = numpy.zeros(len(points), dtype=numpy.int64)
    for number, (gear, cost) in enumerate(zip(gears, volumes)):
        better = (points <= gear).all(axis=1) & (cost < costs)
        costs[better] = cost
        nearest[better] = number
    return nearest, costs


def _in_one_dimension(points: Whole, weights: Real, volume: Volume, most: int) -> Whole:
    import numpy

    order = numpy.argsort(points[:, 0], kind="stable")
    values, first = numpy.unique(points[order, 0], return_index=True)
    before = numpy.concatenate([[0.0], numpy.cumsum(weights[order])])[[*first, len(order)]]
    tops: Whole = values[_cut(volume.of(values[:, None]), before, min(most, len(values)))][:, None]
    return tops


def _cut(tops: Real, before: Real, most: int) -> list[int]:
    """Where a row of values is cut so that the sum of top * weight of the parts is least: the last of each part.

    `tops` is what the part that ends with a value costs for each of its weight, `before` the weight before each value.
    """
    import numpy

    count = len(tops)
    best = before[1:] * tops
    cuts = [numpy.zeros(count, dtype=numpy.int64)]
    for _ in range(most - 1):
        following = best.copy()
        cut = numpy.zeros(count, dtype=numpy.int64)
        for last in range(1, count):
            costs = best[:last] + (before[last + 1] - before[1 : last + 1]) * tops[last]
            at = int(costs.argmin())
            if costs[at] < following[last]:
                following[last], cut[last] = costs[at], at + 1
        cuts.append(cut)
        best = following
    return _ends(cuts, count - 1)


def _ends(cuts: Sequence[Whole], last: int) -> list[int]:
    found = [last]
    for cut in reversed(cuts):
        first = int(cut[found[-1]])
        if first == 0:
            continue
        found.append(first - 1)
    return sorted(set(found))


def _fewer(points: Whole, weights: Real, most: int) -> tuple[Whole, Real]:
    """The different points; those that are near each other as one, the largest of them, where there are too many."""
    import numpy

    step = 1
    while True:
        cells, member = numpy.unique(-(-points // step), axis=0, return_inverse=True)
        member = member.reshape(-1)
        if len(cells) <= most:
            break
        step *= 2
    largest = numpy.zeros_like(cells)
    numpy.maximum.at(largest, member, points)
    of_cells: Real = numpy.bincount(member, weights, len(cells)).astype(numpy.float64)
    return largest, of_cells


def _in_several(points: Whole, weights: Real, volume: Volume, most: int) -> Whole:
    """The best of what several beginnings come to by moving shapes, and joining two gears for one that is split."""
    import numpy

    search = _Search(points, weights, volume, most)
    beginnings = [*search.by_order(), search.by_splitting()]
    found = [search.improved(gears) for gears in beginnings]
    return numpy.array(min(found, key=search.cost))


class _Search:
    """Gears for points of several dimensions."""

    def __init__(self, points: Whole, weights: Real, volume: Volume, most: int) -> None:
        self._points, self._weights, self._volume, self._most = points, weights, volume, most

    def cost(self, gears: Whole) -> float:
        """What all requests compute with these gears."""
        _, costs = _nearest(self._points, gears, self._volume.of(gears))
        return float((self._weights * costs).sum()) if costs.max() < float("inf") else float("inf")

    def by_order(self) -> Iterator[Whole]:
        """The best cut of the points in the order of their volume, and in that of each of their dimensions."""
        import numpy

        points = self._points
        orders = [numpy.argsort(self._volume.of(points), kind="stable")]
        orders += [numpy.lexsort((self._volume.of(points), points[:, each])) for each in range(points.shape[1])]
        for order in orders:
            yield self._best_cut(points[order], self._weights[order])

    def _best_cut(self, points: Whole, weights: Real) -> Whole:
        import numpy

        count = len(points)
        before = numpy.concatenate([[0.0], numpy.cumsum(weights)])
        # tops[last, first]: what the gear over points first..last computes for a request.
        tops = numpy.full((count, count), numpy.inf)
        for last in range(count):
            largest = numpy.maximum.accumulate(points[last::-1], axis=0)[::-1]
            tops[last, : last + 1] = self._volume.of(largest)
        best = before[1:] * tops[:, 0]
        cuts = [numpy.zeros(count, dtype=numpy.int64)]
        for _ in range(min(self._most, count) - 1):
            following, cut = best.copy(), numpy.zeros(count, dtype=numpy.int64)
            for last in range(1, count):
                costs = best[:last] + (before[last + 1] - before[1 : last + 1]) * tops[last, 1 : last + 1]
                at = int(costs.argmin())
                if costs[at] < following[last]:
                    following[last], cut[last] = costs[at], at + 1
            cuts.append(cut)
            best = following
        ends = _ends(cuts, count - 1)
        firsts = [0, *(end + 1 for end in ends[:-1])]
        return numpy.array([points[first : end + 1].max(axis=0) for first, end in zip(firsts, ends)])

    def by_splitting(self) -> Whole:
        """One gear for all, then the split that spares most, again and again."""
        return self._filled_up(self._points.max(axis=0, keepdims=True))

    def improved(self, gears: Whole) -> Whole:
        """These gears with shapes moved, and two joined for one that is split, as long as it spares something."""
        import numpy

        gears = self._filled_up(self._settled(gears))
        cost = self.cost(gears)
        for _ in range(_MOST_ROUNDS if len(gears) <= _MOST_JOINED else 0):
            best = gears
            for one in range(len(gears)):
                for other in range(one):
                    joined = numpy.delete(gears, one, axis=0)
                    joined[other] = numpy.maximum(gears[one], gears[other])
                    candidate = self._settled(self._filled_up(self._settled(joined)))
                    if (found := self.cost(candidate)) < cost * (1 - 1e-12):
                        best, cost = candidate, found
            if best is gears:
                break
            gears = best
        return gears

    def _settled(self, gears: Whole) -> Whole:
        """Each gear as small as the points that it is nearest to, until nothing moves."""
        import numpy

        for _ in range(_MOST_ROUNDS):
            nearest, _ = _nearest(self._points, gears, self._volume.of(gears))
            tighter = numpy.array([self._points[nearest == each].max(axis=0) for each in numpy.unique(nearest)])
            if tighter.shape == gears.shape and (tighter == gears).all():
                break
            gears = tighter
        return gears

    def _filled_up(self, gears: Whole) -> Whole:
        """With more gears, each from the split of one that spares most, up to as many as there may be."""
        import numpy

        while len(gears) < self._most:
            nearest, costs = _nearest(self._points, gears, self._volume.of(gears))
            best, part = 0.0, None
            for each in range(len(gears)):
                spared, smaller = self._best_split(numpy.flatnonzero(nearest == each), costs)
                if spared > best:
                    best, part = spared, smaller
            if part is None:
                break
            gears = numpy.concatenate([gears, part[None]])
        return gears

    def _best_split(self, members: Whole, costs: Real) -> tuple[float, Whole | None]:
        """The gear for some of these points that spares most: those up to a size in a dimension, or up to a volume."""
        import numpy

        best: tuple[float, Whole | None] = (0.0, None)
        keys = [self._points[members, each] for each in range(self._points.shape[1])]
        for key in (*keys, self._volume.of(self._points[members])):
            order = members[numpy.argsort(key, kind="stable")]
            largest = numpy.maximum.accumulate(self._points[order], axis=0)
            spared = numpy.cumsum(self._weights[order] * costs[order])
            spared -= numpy.cumsum(self._weights[order]) * self._volume.of(largest)
            at = int(spared.argmax()) if len(spared) else 0
            if len(spared) and spared[at] > best[0]:
                best = float(spared[at]), largest[at]
        return best

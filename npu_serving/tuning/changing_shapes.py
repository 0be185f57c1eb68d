"""Shapes as gears see them: which sizes change, which of them together, and how often which sizes came."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npu_serving.deploy.gear_checks import plain_node_name
from npu_serving.errors import RequestError
from npu_serving.shown_text import in_a_line
from npu_serving.tuning.gear_choice import Volume
from npu_serving.tuning.seen_shapes import SeenShapes, Sizes

_COVER = re.compile(r"(.+):([0-9]{1,9}(?:,[0-9]{1,9})*)")


@dataclass(frozen=True)
class GearInput:
    """An input: its node, its name in requests, and for each dimension its size, or -1 where that changes."""

    node: str
    name: str
    sizes: Sizes

    def entry(self) -> str:
        """As input_shape has it: a name that CANN 6.3 takes as well, and 0 for a scalar."""
        return f"{plain_node_name(self.node)}:{','.join(map(str, self.sizes)) or '0'}"


@dataclass(frozen=True)
class ChangingShapes:
    """The inputs in the adapter's order, which of their dimensions change together, and how often sizes came.

    `coordinates` has for each -1 of the inputs, in their order, which of the changing sizes it is: dimensions that are
    always equal, such as those of ids and their mask, are one. `counts` is by these sizes; 0 for what has to fit only.
    """

    inputs: tuple[GearInput, ...]
    coordinates: tuple[int, ...]
    counts: Mapping[Sizes, int]

    @property
    def volume(self) -> Volume:
        """How much of the inputs there is at given sizes."""
        found, at = [], 0
        for each in self.inputs:
            fixed, places = 1, []
            for size in each.sizes:
                if size < 0:
                    places.append(self.coordinates[at])
                    at += 1
                else:
                    fixed *= size
            found.append((fixed, tuple(places)))
        return Volume(tuple(found))

    def shapes(self, sizes: Sizes) -> dict[str, Sizes]:
        """The shapes of the inputs at these sizes, by their names in requests."""
        values = iter(self.gear(sizes))
        return {each.name: tuple(next(values) if s < 0 else s for s in each.sizes) for each in self.inputs}

    def gear(self, sizes: Sizes) -> Sizes:
        """A value for each -1."""
        return tuple(sizes[each] for each in self.coordinates)


def changing_shapes(
    seen: SeenShapes, nodes: Mapping[str, str], cover: Sequence[Mapping[str, Sizes]] = ()
) -> ChangingShapes:
    """The shapes by what changes in them, with those to `cover` besides; `nodes` has the inputs' nodes by name."""
    order = sorted(range(len(seen.names)), key=lambda at: nodes[seen.names[at]].encode("utf-8", "surrogatepass"))
    places = [(at, dim) for at in order for dim in range(len(next(iter(seen.counts))[at]))]
    columns = {(at, dim): tuple(shapes[at][dim] for shapes in seen.counts) for at, dim in places}
    groups: dict[object, list[tuple[int, int]]] = {}
    for place in places:
        is_fixed = len(set(columns[place])) == 1
        groups.setdefault(place if is_fixed else columns[place], []).append(place)
    listed = list(groups.values())
    points = [tuple(columns[group[0]][row] for group in listed) for row in range(len(seen.counts))]
    counts = dict(zip(points, seen.counts.values()))
    for shapes in cover:
        wanted = {(seen.names.index(name), dim): size for name, of in shapes.items() for dim, size in enumerate(of)}
        counts.setdefault(
            tuple(
                max([wanted[place] for place in group if place in wanted] or [max(columns[group[0]])])
                for group in listed
            ),
            0,
        )
    changes = [number for number in range(len(listed)) if len({sizes[number] for sizes in counts}) > 1]
    of_place = {place: changes.index(number) for number in changes for place in listed[number]}
    inputs = tuple(
        GearInput(
            nodes[seen.names[at]],
            seen.names[at],
            tuple(-1 if (at, dim) in of_place else columns[at, dim][0] for here, dim in places if here == at),
        )
        for at in order
    )
    coordinates = tuple(of_place[place] for place in places if place in of_place)
    return ChangingShapes(
        inputs, coordinates, {tuple(sizes[number] for number in changes): count for sizes, count in counts.items()}
    )


def shape_to_cover(text: str, seen: SeenShapes) -> dict[str, Sizes]:
    """A shape that has to fit, as NAME:8,512. RequestError for another notation, input, or number of dimensions."""
    found = _COVER.fullmatch(text)
    if found is None:
        raise RequestError(
            f"--cover can't be {text!r}.", cure="write an input and its sizes, such as --cover ids:8,512"
        )
    name, sizes = found[1], tuple(map(int, found[2].split(",")))
    if name not in seen.names:
        there = ", ".join(in_a_line(each) for each in seen.names)
        raise RequestError(f"--cover names the input {name!r}, which no request has.", cure=f"use one of {there}")
    if 0 in sizes:
        raise RequestError(f"--cover {text} has a size of 0, which no gear has.", cure="give it sizes from 1")
    rank = len(next(iter(seen.counts))[seen.names.index(name)])
    if len(sizes) != rank:
        raise RequestError(f"--cover {text} has {len(sizes)} sizes, and {name} has {rank} dimensions.", cure="name all")
    return {name: sizes}

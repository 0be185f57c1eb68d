"""How often a model was asked with which shapes: from recorded files, and from counts that somebody else has made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from npu_serving.asking.recorded_file import read_recording
from npu_serving.asking.recorded_requests import PREDICT, NotUnderstoodError, asked_by
from npu_serving.client.model_types import DEFAULT_SIGNATURE
from npu_serving.documents import Rule, read_document
from npu_serving.errors import RequestError
from npu_serving.shown_text import in_a_line

Sizes = tuple[int, ...]
COUNTED_SUFFIXES = (".json", ".yaml", ".yml")
LARGEST_SIZE = 2**31 - 1
"""Of a dimension of a gear: far beyond what a device holds, and what the numbers of gears are computed with."""
_MOST_REQUESTS = 2**53
_NO_GEAR = f"with a size below 1 or above {LARGEST_SIZE}"


@dataclass(frozen=True)
class CountedShapes:
    """Requests with these shapes, in a file of counts."""

    shapes: Annotated[Mapping[str, Sizes], Rule(fewest=1)]
    requests: Annotated[int, Rule(minimum=1, maximum=_MOST_REQUESTS)] = 1


@dataclass(frozen=True)
class ShapeCounts:
    """A file of counts: `{"version": 1, "requests": [{"shapes": {"ids": [1, 37]}, "requests": 12}, ...]}`."""

    version: Literal[1]
    requests: Annotated[tuple[CountedShapes, ...], Rule(fewest=1)]


@dataclass(frozen=True)
class SeenShapes:
    """Shapes of all inputs together, in the order of `names`, and how many requests had them."""

    names: tuple[str, ...]
    counts: Mapping[tuple[Sizes, ...], int]
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Why requests don't count, and how many."""

    @property
    def requests(self) -> int:
        """How many count."""
        return sum(self.counts.values())


def seen_shapes(files: Sequence[Path], model: str, signature: str = "") -> SeenShapes:
    """What the files hold of requests for predictions by that model, or by the only one where it is "".

    RequestError where nothing is there to count, where several models or signatures were asked and none is named, and
    where an input came with different numbers of dimensions; DocumentError and FileAccessError for unfit files. A
    request with a size that no gear has, such as that of an empty batch, does not count.
    """
    counted: dict[tuple[str, str], Counter[frozenset[tuple[str, Sizes]]]] = {}
    strange = 0
    for file in files:
        if file.suffix.lower() in COUNTED_SUFFIXES:
            of_file = counted.setdefault((model, signature or DEFAULT_SIGNATURE), Counter())
            for item in read_document(file, ShapeCounts).requests:
                of_file[frozenset(item.shapes.items())] += item.requests
            continue
        for request in read_recording(file).requests():
            try:
                asked = asked_by(request)
            except NotUnderstoodError:
                strange += 1
                continue
            if asked.method != PREDICT or not asked.inputs:
                continue
            key = (asked.spec.name, asked.spec.signature_name or DEFAULT_SIGNATURE)
            shapes = frozenset((name, seen.shape) for name, seen in asked.inputs.items())
            counted.setdefault(key, Counter())[shapes] += 1
    return _together(_chosen(counted, model, signature), strange)


def _chosen(
    counted: Mapping[tuple[str, str], Counter[frozenset[tuple[str, Sizes]]]], model: str, signature: str
) -> Counter[frozenset[tuple[str, Sizes]]]:
    fitting = {
        key: of_key
        for key, of_key in counted.items()
        if (not model or key[0] == model) and (not signature or key[1] == signature)
    }
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    there = ", ".join(sorted(f"{in_a_line(name)} ({in_a_line(of)})" for name, of in (fitting or counted) if name))
    if not fitting:
        raise RequestError(
            "There is no request for a prediction by that model." if there else "There is no request for a prediction.",
            cause=f"the requests are to {there}" if there else "the files hold none",
            cure="name another model or signature" if there else "record some: ./inv record --help",
        )
    raise RequestError(
        f"The requests are to several: {there}.",
        cause="gears are of one graph",
        cure=" ".join(f"--{flag} NAME" for flag, several in _several(fitting) if several),
    )


def _can_be_a_gear(shapes: frozenset[tuple[str, Sizes]]) -> bool:
    return all(1 <= size <= LARGEST_SIZE for _, sizes in shapes for size in sizes)


def _several(keys: Mapping[tuple[str, str], object]) -> list[tuple[str, bool]]:
    return [("model", len({name for name, _ in keys}) > 1), ("signature", len({of for _, of in keys}) > 1)]


def _together(counted: Counter[frozenset[tuple[str, Sizes]]], strange: int) -> SeenShapes:
    """The shapes with every input in its place; a request that lacks an input, or has one more, does not count."""
    left_out = Counter({"not what their path says": strange} if strange else {})
    fitting = {shapes: count for shapes, count in counted.items() if _can_be_a_gear(shapes)}
    if len(fitting) < len(counted):
        left_out[_NO_GEAR] = sum(counted.values()) - sum(fitting.values())
    if not fitting:
        raise RequestError(
            f"No request has shapes that a gear can have: all are {_NO_GEAR}.",
            cause="a file of counts has -1 where a size belongs, or clients send nothing",
            cure="give the sizes that requests really have, or record others",
        )
    most = Counter[tuple[str, ...]]()
    for shapes, count in fitting.items():
        most[tuple(sorted(name for name, _ in shapes))] += count
    ((names, _),) = most.most_common(1)
    counts: Counter[tuple[Sizes, ...]] = Counter()
    for shapes, count in fitting.items():
        of_request = dict(shapes)
        if tuple(sorted(of_request)) == names:
            counts[tuple(of_request[name] for name in names)] += count
        else:
            left_out["with other inputs than most"] += count
    for place, name in enumerate(names):
        ranks = sorted({len(shapes[place]) for shapes in counts})
        if len(ranks) > 1:
            raise RequestError(
                f"The input {in_a_line(name)!r} came with {' and '.join(map(str, ranks))} dimensions.",
                cause="a gear has a size for each dimension, so their number can't change",
                cure="have all clients send the same number of dimensions, and record again",
            )
    return SeenShapes(names, counts, dict(left_out))

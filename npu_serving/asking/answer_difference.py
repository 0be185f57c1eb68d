"""How two answers differ, output by output: in numbers that say how much, and by tolerances whether too much.

NaN beside NaN, and an infinity beside the same one, count as equal; they are left out of the other figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_serving.asking.golden import Tolerance

Numbers = NDArray[np.float64]
MARGIN = 2.0
"""By how much tolerances that are made from a measurement are wider than it."""
_SMALL = 0.01  # of the largest value: below that a relative difference says little
_LEAST = 1e-6
_TINY = 1e-30  # as good as 0: nothing is relative to it


@dataclass(frozen=True)
class OutputDifference:
    """One output of two answers. The figures are None where they mean nothing, as for texts.

    `max_relative` is relative to the first answer, where that is not 0; `top_1` and `top_5` are the parts of the rows
    whose best value stands in the same place, and of the five best places that are the same.
    """

    output: str
    shape: tuple[int, ...]
    values: int
    outside: int
    """Values that differ by more than the tolerance; all of them where the shapes differ."""
    tolerance: Tolerance
    max_absolute: float | None = None
    max_relative: float | None = None
    cosine: float | None = None
    top_1: float | None = None
    top_5: float | None = None
    both_nan: int = 0
    note: str = ""
    """What is to be said besides, such as another shape."""
    measured: Tolerance | None = None
    """Tolerances that would just have allowed it, with a margin."""

    def to_json(self) -> dict[str, object]:
        """For `--json`."""
        return {**asdict(self), "shape": list(self.shape)}


def outputs_by_name(answer: object) -> dict[str, object]:
    """The outputs of an answer in JSON, of rows or by name; a single one without a name is called ""."""
    if isinstance(answer, dict) and set(answer) != {"b64"}:
        return dict(answer)
    rows = answer if isinstance(answer, list) else []
    if rows and all(isinstance(row, dict) and set(row) != {"b64"} and row.keys() == rows[0].keys() for row in rows):
        return {name: [row[name] for row in rows] for name in rows[0]}
    return {"": answer}


def difference(
    answers: tuple[object, object], tolerance: Tolerance, tolerances: Mapping[str, Tolerance]
) -> tuple[OutputDifference, ...]:
    """How the second of the two answers differs from the first, for each output of either."""
    one, other = map(outputs_by_name, answers)
    if list(one) == [""] and len(tolerances) == 1:
        tolerance = next(iter(tolerances.values()))  # the values of a single output come without its name
    missing = object()
    return tuple(
        _of_output(name, one.get(name, missing), other.get(name, missing), tolerances.get(name, tolerance), missing)
        for name in sorted({*one, *other})
    )


def _of_output(name: str, first: object, second: object, tolerance: Tolerance, missing: object) -> OutputDifference:
    if first is missing or second is missing:
        which = "first" if first is missing else "second"
        return OutputDifference(name, (), 1, 1, tolerance, note=f"the {which} server does not answer it")
    one, other = _array(first), _array(second)
    if one is None or other is None:
        return _of_texts(name, first, second, tolerance)
    if one.shape != other.shape:
        note = f"{list(one.shape)} and {list(other.shape)} are different shapes"
        return OutputDifference(name, one.shape, one.size, max(one.size, 1), tolerance, note=note)
    return _of_numbers(name, one, other, tolerance)


def _of_texts(name: str, first: object, second: object, tolerance: Tolerance) -> OutputDifference:
    one, other = _leaves(first), _leaves(second)
    outside = sum(a != b or isinstance(a, bool) != isinstance(b, bool) for a, b in zip(one, other))
    outside += abs(len(one) - len(other))
    return OutputDifference(name, (len(one),), len(one), outside, tolerance)


def _of_numbers(name: str, one: Numbers, other: Numbers, tolerance: Tolerance) -> OutputDifference:
    nan = np.isnan(one) & np.isnan(other)
    same = nan | (one == other)  # infinities as well
    finite = np.isfinite(one) & np.isfinite(other)
    size = np.abs(np.where(finite, one, 0.0))
    counts = size > _TINY
    with np.errstate(over="ignore"):  # the largest number stands for what is beyond it
        gap = np.nan_to_num(np.abs(np.where(finite, other, 0.0) - np.where(finite, one, 0.0)))
        allowed = same | (finite & (gap <= tolerance.atol + tolerance.rtol * size))
        relative = np.nan_to_num(gap[counts] / size[counts])
    strange = int(np.count_nonzero(~finite & ~same))
    return OutputDifference(
        output=name,
        shape=one.shape,
        values=one.size,
        outside=int(np.count_nonzero(~allowed)),
        tolerance=tolerance,
        max_absolute=float(gap.max(initial=0.0)),
        max_relative=float(relative.max(initial=0.0)),
        cosine=_cosine(one[finite], other[finite]),
        top_1=_top(one, other, 1),
        top_5=_top(one, other, 5),
        both_nan=int(np.count_nonzero(nan)),
        note=f"{strange} values are NaN or infinite in one answer only" if strange else "",
        measured=None if strange else _measured(gap, size),
    )


def _measured(gap: Numbers, size: Numbers) -> Tolerance:
    """Relative for values of some size, absolute for small ones."""
    large = size > max(_SMALL * float(size.max(initial=0.0)), _TINY)
    with np.errstate(over="ignore"):
        relative = np.nan_to_num(gap[large] / size[large])
    return Tolerance(
        rtol=_rounded_up(MARGIN * float(relative.max(initial=0.0))),
        atol=_rounded_up(MARGIN * float(gap[~large].max(initial=0.0))),
    )


def _rounded_up(value: float) -> float:
    """With two digits, and never so small that the last bit of a float32 would matter."""
    if value <= _LEAST:
        return _LEAST
    value = min(value, 1e300)
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step) * step:.2g}")


def _cosine(one: Numbers, other: Numbers) -> float | None:
    """Of the angle between the two as vectors; 1 for two of zeros, None for none."""
    if not one.size:
        return None
    largest = max(float(np.abs(one).max()), float(np.abs(other).max()))
    if not largest:
        return 1.0
    one, other = one / largest, other / largest  # so that no square is too large
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.clip(np.dot(one, other) / lengths, -1.0, 1.0)) if lengths else 0.0


def _top(one: Numbers, other: Numbers, count: int) -> float | None:
    """How far the places of the `count` best values of each row agree; None where rows are not scores of classes."""
    if one.ndim < 2 or one.shape[-1] < 2 or not one.size or count > 1 >= one.shape[-1] - 1:
        return None
    count = min(count, one.shape[-1])
    places = [
        np.argsort(-np.nan_to_num(each.reshape(-1, each.shape[-1])), axis=1, kind="stable")[:, :count]
        for each in (one, other)
    ]
    agree = [len(set(row) & set(beside)) / count for row, beside in zip(*(each.tolist() for each in places))]
    return float(np.mean(agree))


def _array(value: object) -> Numbers | None:
    """The numbers in lists within lists; None for other values, and for ragged lists."""
    leaves = _leaves(value)
    if not leaves or any(isinstance(leaf, bool) or not isinstance(leaf, (int, float)) for leaf in leaves):
        return None
    try:
        return np.array(value, dtype=np.float64)
    except (ValueError, OverflowError):
        return None


def _leaves(value: object) -> Sequence[Any]:
    level: list[object] = [value]
    while any(isinstance(item, list) for item in level):
        level = [leaf for item in level for leaf in (item if isinstance(item, list) else [item])]
    return level

"""Random inputs by a model's signature: which shapes, which values, and what has to be asked for before."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from npu_serving.client.data_types import BY_NAME, DataType
from npu_serving.client.model_types import Signature, TensorInfo
from npu_serving.errors import RequestError
from npu_serving.shown_text import in_a_line

if TYPE_CHECKING:
    import numpy

    Inputs = Mapping[str, numpy.ndarray[Any, Any]]

MOST_VARIANTS = 16
MOST_BYTES = 64 << 20
"""Of all variants; one is sent however large it is."""
_EXAMPLE_SIZE = 16
_EXAMPLE_RANGE = "0:2"  # which the smallest vocabulary has
_LETTERS = 8
_SIZES = re.compile(r"\d+(,\d+)*|")
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")


@dataclass(frozen=True)
class RandomWishes:
    """What a person says of them: shapes and ranges by the inputs' names, and the batch."""

    shapes: Mapping[str, tuple[int, ...]]
    ranges: Mapping[str, tuple[float, float]]
    batch_size: int | None = None


def read_wishes(shapes: Sequence[str], ranges: Sequence[str], batch_size: int | None) -> RandomWishes:
    """--shape NAME:4,16 and --range NAME:0:100, as they were typed. RequestError for those that say something else."""
    if batch_size is not None and batch_size < 1:
        raise RequestError(f"--batch-size can't be {batch_size}.", cure="use a number from 1 on")
    found_shapes = {}
    for text in shapes:
        name, _, sizes = text.rpartition(":")
        if not name or not _SIZES.fullmatch(sizes):
            raise RequestError(f"--shape can't be {in_a_line(text)!r}.", cure="write it like --shape ids:4,16")
        found_shapes[name] = tuple(int(size) for size in sizes.split(",") if size)
    found_ranges = {}
    for text in ranges:
        name, *bounds = text.rsplit(":", 2)
        fits = bool(name) and len(bounds) == 2 and all(_NUMBER.fullmatch(bound) for bound in bounds)
        low, high = (float(bounds[0]), float(bounds[1])) if fits else (1.0, 0.0)
        if not low < high:
            raise RequestError(
                f"--range can't be {in_a_line(text)!r}.",
                cause="it has a name, the lowest value, and the one below which all are",
                cure="write it like --range ids:0:100",
            )
        found_ranges[name] = (low, high)
    return RandomWishes(found_shapes, found_ranges, batch_size)


def random_inputs(signature: Signature, wishes: RandomWishes) -> list[Inputs]:
    """A few sets of inputs, the same for the same wishes.

    The first open dimension of an input is the batch. RequestError, with a line to paste, for other open dimensions
    without a shape, and for integers without a range: random ones would be outside of any vocabulary.
    """
    import numpy

    _refuse_unknown(signature, wishes)
    _ask_for_missing(signature, wishes)
    shapes = {info.name: _shape(info, wishes) for info in signature.inputs}
    chance = numpy.random.default_rng(0)
    variants: list[Inputs] = []
    size = 0
    while len(variants) < MOST_VARIANTS and (not variants or size * (len(variants) + 1) <= MOST_BYTES):
        made = {info.name: _array(info, shapes[info.name], wishes, chance) for info in signature.inputs}
        size = sum(array.nbytes for array in made.values())
        variants.append(made)
    return variants


def described(inputs: Inputs) -> str:
    """Such as `ids int64 [4, 16]`."""
    texts = ("text" if array.dtype == object else str(array.dtype) for array in inputs.values())
    return ", ".join(f"{name} {kind} {list(inputs[name].shape)}" for name, kind in zip(inputs, texts))


def _refuse_unknown(signature: Signature, wishes: RandomWishes) -> None:
    names = [info.name for info in signature.inputs]
    for flag, given in (("--shape", wishes.shapes), ("--range", wishes.ranges)):
        unknown = next((name for name in given if name not in names), None)
        if unknown is not None:
            raise RequestError(
                f"{flag} is for {in_a_line(unknown)!r}, which is not an input of the signature {signature.name!r}.",
                cause=f"it takes {'; '.join(info.text() for info in signature.inputs)}",
                cure=f"name one of these with {flag}",
            )


def _ask_for_missing(signature: Signature, wishes: RandomWishes) -> None:
    lines: list[str] = []
    open_ones: list[str] = []
    without_range: list[str] = []
    for info in signature.inputs:
        kind = BY_NAME.get(info.dtype)
        if kind is None or not kind.field:
            raise RequestError(
                f"The input {info.name!r} is of the type {info.dtype}, of which no random values are made.",
                cure="give requests of your own: --request FILE",
            )
        if info.name not in wishes.shapes and (info.shape is None or -1 in info.shape[1:]):
            open_ones.append(info.text())
            sizes = info.shape if info.shape is not None else (-1, -1)
            batch = wishes.batch_size or 1
            example = [_size(size, batch if at == 0 else _EXAMPLE_SIZE) for at, size in enumerate(sizes)]
            lines.append(f"--shape {info.name}:{','.join(map(str, example))}")
        if info.name not in wishes.ranges and _needs_range(kind):
            without_range.append(info.name)
            lines.append(f"--range {info.name}:{_EXAMPLE_RANGE}")
    if not lines:
        return
    whats = []
    if open_ones:
        whats.append(f"these inputs have open dimensions besides the batch: {'; '.join(open_ones)}")
    if without_range:
        names = ", ".join(without_range)
        whats.append(f"these are integers without a range, and random ones would be outside any vocabulary: {names}")
    raise RequestError(
        f"Random inputs can't be made for the signature {signature.name!r}.",
        cause="; ".join(whats),
        cure=f"add {' '.join(lines)} with the sizes and values of your model, or send real ones: --request FILE",
    )


def _needs_range(kind: DataType) -> bool:
    """Integers, but for bytes: those are mostly images, whose values may be any."""
    return not (kind.is_text or kind.is_real or kind.is_complex or kind.code in ("?", "B"))


def _size(size: int, otherwise: int) -> int:
    return otherwise if size < 0 else size


def _shape(info: TensorInfo, wishes: RandomWishes) -> tuple[int, ...]:
    own = info.shape
    wanted = wishes.shapes.get(info.name)
    if wanted is None:
        assert own is not None
        if own and own[0] >= 0 and wishes.batch_size not in (None, own[0]):
            raise RequestError(
                f"--batch-size can't be {wishes.batch_size}.",
                cause=f"the first dimension of an input is fixed: {info.text()}",
                cure=f"leave --batch-size out, or give {own[0]}",
            )
        return tuple(_size(size, wishes.batch_size or 1) for size in own)
    if own is not None and (
        len(own) != len(wanted) or any(size not in (-1, given) for size, given in zip(own, wanted))
    ):
        raise RequestError(
            f"The shape {list(wanted)} doesn't fit the input {info.text()}.",
            cause="--shape says all dimensions, the batch as well",
            cure="give as many sizes as that; -1 stands for any",
        )
    if wishes.batch_size is not None and wanted and wanted[0] != wishes.batch_size:
        raise RequestError(
            f"--batch-size {wishes.batch_size} contradicts the --shape of {info.name}, {list(wanted)}.",
            cure="leave --batch-size out: --shape says all dimensions, the batch as well",
        )
    return wanted


def _array(info: TensorInfo, shape: tuple[int, ...], wishes: RandomWishes, chance: Any) -> Any:
    import numpy

    kind = BY_NAME[info.dtype]
    low, high = wishes.ranges.get(info.name, (0.0, 1.0))
    if kind.is_text:
        letters = chance.integers(ord("a"), ord("z") + 1, (*shape, _LETTERS), dtype=numpy.uint8)
        texts = numpy.empty(shape, dtype=object)
        for place in numpy.ndindex(shape):
            texts[place] = letters[place].tobytes()
        return texts
    if kind.code == "?":
        return chance.integers(0, 2, shape).astype(bool)
    from npu_serving.client.arrays import STORED

    stored = STORED[kind]
    if kind.is_complex:
        return (chance.uniform(low, high, shape) + 1j * chance.uniform(low, high, shape)).astype(stored)
    if kind.is_real:
        return chance.uniform(low, high, shape).astype(numpy.float32 if kind.name == "DT_BFLOAT16" else stored)
    limits = numpy.iinfo(stored)
    if info.name not in wishes.ranges:
        low, high = 0, 256
    if not (limits.min <= low and high - 1 <= limits.max):
        raise RequestError(
            f"--range {info.name}:{low:g}:{high:g} is beyond what {info.dtype} holds.",
            cure=f"use values from {limits.min} to {limits.max}",
        )
    return chance.integers(int(low), int(high), shape, dtype=stored)

"""The shapes that a model is compiled for: those of --input-shape, what is left open, and gears, by ATC's rules.

The rules, with their numbers, are those of ATC's checks before it reads a model (E10001 to E10049): found out here,
they cost no minute of waiting, and the model's own names can be said.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from npu_serving.conversion.om_request import OmRequest, om_options
from npu_serving.errors import RequestError

OPEN = -1
_IMAGE_SIZES = {"NHWC": (1, 2), "NCHW": (2, 3)}
_LARGEST = 2**31 - 1

Shape = tuple[int, ...]


@dataclass(frozen=True)
class OpenInput:
    """An input before it is compiled: its node, its name in the signature, its shape; None for an unknown rank."""

    node: str
    name: str
    shape: Shape | None


@dataclass(frozen=True)
class Gears:
    """The sizes that an om is compiled for, of which each request has one; `option` is ATC's name for their kind."""

    option: str = ""
    typed: str = ""
    sizes: tuple[Shape, ...] = ()

    @property
    def word(self) -> str:
        """As it stands on the compiler's command line; "" without gears."""
        rows = [",".join(map(str, row)) for row in self.sizes]
        return f"--{self.option}={(',' if self.option == BATCH else ';').join(rows)}" if rows else ""


BATCH, IMAGE, DIMS = "dynamic_batch_size", "dynamic_image_size", "dynamic_dims"
NO_GEARS = Gears()


@dataclass(frozen=True)
class CompiledShapes:
    """What an om is compiled for: the shape of each input by its node, where -1 is a size that a gear gives.

    `became_one` names the inputs whose open sizes became 1, and their shapes.
    """

    shapes: Mapping[str, Shape]
    gears: Gears = NO_GEARS
    became_one: Mapping[str, Shape] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """The options for them. A scalar has no place in --input_shape."""
        listed = [f"{node}:{','.join(map(str, shape))}" for node, shape in self.shapes.items() if shape]
        words = [f"--input_shape={';'.join(listed)}"] if listed else []
        return [*words, self.gears.word] if self.gears.word else words


def gears_of(request: OmRequest) -> Gears:
    """The gears that the flags say. RequestError for two kinds of them, too few, too many, or what is not a number."""
    typed = {BATCH: request.dynamic_batch_size, IMAGE: request.dynamic_image_size, DIMS: request.dynamic_dims}
    given = [option for option, text in typed.items() if text]
    if not given:
        return NO_GEARS
    if len(given) > 1:
        raise RequestError(
            f"{' and '.join(_flag(option) for option in given)} exclude each other.",
            cause="an om has gears of one kind (ATC's E10009)",
            cure=f"use {_flag(DIMS)} alone: its gears may have every open size, the batch too",
        )
    (option,) = given
    text = typed[option]
    rows = [row.strip() for row in text.rstrip(",;" if option == BATCH else ";").split("," if option == BATCH else ";")]
    sizes = tuple(_row(row, option) for row in rows)
    limits = om_options().gears
    _check_count(sizes, option, text)
    if option == IMAGE and any(len(row) != 2 for row in sizes):
        raise RequestError(
            f"{_flag(option)} {text!r} has a gear that is not a height and a width.",
            cause='such gears are "HEIGHT,WIDTH;HEIGHT,WIDTH" (ATC\'s E10020)',
            cure='such as --dynamic-image-size "416,416;832,832"',
        )
    lengths = sorted({len(row) for row in sizes})
    if len(lengths) > 1:
        raise RequestError(
            f"{_flag(option)} {text!r} has gears of {lengths[0]} and of {lengths[-1]} sizes.",
            cause="each gear has a size for each -1 of the shapes, in their order (ATC's E10037)",
            cure="give each as many",
        )
    if option == BATCH and (large := [row[0] for row in sizes if row[0] > limits.largest_batch]):
        raise RequestError(
            f"{_flag(option)} has the batch size {large[0]}.",
            cause=f"ATC's largest is {limits.largest_batch}",
            cure="leave it out; a client sends larger batches in parts",
        )
    return Gears(option, text, sizes)


def compiled_shapes(inputs: Sequence[OpenInput], text: str, gears: Gears, input_format: str = "") -> CompiledShapes:
    """The shape of each input: as --input-shape (`text`) says, else the model's own; sizes left open become 1.

    Without --input-shape, an open size is one that the gears give. `input_format` is ATC's, NHWC where it is "".
    RequestError where a shape is not known, does not fit the model, or the gears don't fit the shapes.
    """
    given = _given_shapes(text, inputs)
    shapes: dict[str, Shape] = {}
    became_one: dict[str, Shape] = {}
    for each in inputs:
        shape = given.get(each.node, each.shape)
        if shape is None:
            raise _without_shape(each, inputs)
        _check_fits(each, shape)
        is_left_open = OPEN in shape and not gears.option
        if is_left_open and not text:
            raise _left_open(inputs)
        if is_left_open or (OPEN in shape and text and each.node not in given):
            shape = tuple(1 if size == OPEN else size for size in shape)
            became_one[each.name] = shape
        shapes[each.node] = tuple(1 if size == _UNSAID else size for size in shape)
        if _UNSAID in shape:
            became_one[each.name] = shapes[each.node]
    if gears.option:
        _check_gears(shapes, gears, input_format or "NHWC")
    return CompiledShapes(shapes, gears, became_one)


_UNSAID = -2  # a size that --input-shape leaves out or gives as ?, which becomes 1 whatever the gears


def _row(text: str, option: str) -> Shape:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < int(part[:12]) <= _LARGEST for part in parts):
        wanted = '"1,2,4,8"' if option == BATCH else '"416,416;832,832"' if option == IMAGE else '"1,128;8,128"'
        raise RequestError(
            f"{_flag(option)} has the gear {text!r}.",
            cause="the sizes of gears are whole numbers from 1 on (ATC's E10038)",
            cure=f"such as {_flag(option)} {wanted}",
        )
    return tuple(int(part) for part in parts)


def _check_count(sizes: Sequence[Shape], option: str, text: str) -> None:
    limits = om_options().gears
    double = next((row for row in sizes if list(sizes).count(row) > 1), None)
    if double is not None:
        raise RequestError(
            f"{_flag(option)} has the gear {','.join(map(str, double))} twice.",
            cause="each gear is one",
            cure="leave one out",
        )
    if len(sizes) < limits.fewest:
        plain = "with the size in --input-shape instead, which needs no gears"
        raise RequestError(
            f"{_flag(option)} {text!r} is a single gear.",
            cause=f"ATC takes {limits.fewest} to {limits.most} gears (E10035)",
            cure=f"add a second gear, or compile {plain}",
        )
    if len(sizes) > limits.most:
        raise RequestError(
            f"{_flag(option)} has {len(sizes)} gears.",
            cause=f"ATC takes {limits.fewest} to {limits.most} gears (E10036); 3 or 4 are usual, as each costs memory",
            cure="leave some out: a request of a size between two gears is padded to the larger one",
        )


def _given_shapes(text: str, inputs: Sequence[OpenInput]) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for entry in (part.strip() for part in text.split(";")):
        if not entry:
            continue
        name, colon, sizes = entry.rpartition(":")
        if not colon or not name.strip():
            raise _unreadable_shape(entry, inputs)
        node = _node_named(name.strip(), inputs)
        if node in found:
            raise RequestError(f"--input-shape names {name.strip()!r} twice.", cure="leave one of the two out")
        found[node] = tuple(_size(part.strip(), entry, inputs) for part in sizes.split(",")) if sizes.strip() else ()
    return found


def _size(text: str, entry: str, inputs: Sequence[OpenInput]) -> int:
    if text in ("?", ""):
        return _UNSAID
    if text == "-1":
        return OPEN
    if "~" in text:
        raise RequestError(
            f"--input-shape: {entry!r} has a range.",
            cause="an om for a range of sizes is asked for by another option of ATC, without --input-shape",
            cure="leave --input-shape out, and give --atc-arg=--input_shape_range=…; or gears: --dynamic-dims",
        )
    if not (text.isascii() and text.isdigit() and 0 < int(text[:12]) <= _LARGEST):
        raise _unreadable_shape(entry, inputs)
    return int(text)


def _node_named(text: str, inputs: Sequence[OpenInput]) -> str:
    """The node that is meant: by its own name, by that of its tensor, or by its name in the signature."""
    plain = text[:-2] if text.endswith(":0") else text
    by_node = [each.node for each in inputs if each.node == plain]
    by_name = [each.node for each in inputs if each.name == text]
    if by_node or by_name:
        return (by_node or by_name)[0]
    nodes = [each.node for each in inputs]
    near = difflib.get_close_matches(plain, nodes, n=1, cutoff=0.0) or nodes[:1]
    raise RequestError(
        f"--input-shape names {text!r}, which is not an input of the model.",
        cause=f"its inputs are {', '.join(nodes)}",
        cure=f"--input-shape {near[0]}:… is the nearest",
    )


def _check_fits(each: OpenInput, shape: Shape) -> None:
    if each.shape is None:
        return
    if len(shape) != len(each.shape):
        raise RequestError(
            f"--input-shape gives {each.node} {len(shape)} sizes, and the model's has {len(each.shape)}: "
            f"{_text(each.shape)}.",
            cause="the number of sizes can't be changed",
            cure=f'--input-shape "{each.node}:{_suggested(each.shape)}"',
        )
    wrong = [(size, own) for size, own in zip(shape, each.shape) if own != OPEN and size >= 0 and size != own]
    if wrong:
        size, own = wrong[0]
        raise RequestError(
            f"--input-shape gives {each.node} the size {size} where the model has {own}: {_text(each.shape)}.",
            cause="only sizes that the model leaves open, -1, can be chosen",
            cure=f'--input-shape "{each.node}:{_suggested(each.shape)}"',
        )
    opened = [own for size, own in zip(shape, each.shape) if own != OPEN and size == OPEN]
    if opened:
        raise RequestError(
            f"--input-shape gives {each.node} -1 where the model has {opened[0]}: {_text(each.shape)}.",
            cause="a size that the model fixes has no gears",
            cure=f'--input-shape "{each.node}:{",".join(map(str, each.shape))}"',
        )


def _check_gears(shapes: Mapping[str, Shape], gears: Gears, input_format: str) -> None:
    opened = {node: [at for at, size in enumerate(shape) if size == OPEN] for node, shape in shapes.items()}
    moving = {node: places for node, places in opened.items() if places}
    if not moving:
        raise RequestError(
            f"{_flag(gears.option)} is given, and no input has an open size.",
            cause="gears stand for the -1 of the shapes (ATC's E10031)",
            cure=f"write -1 for that size in --input-shape, or leave {_flag(gears.option)} out",
        )
    if gears.option == BATCH:
        _check_batches(shapes, moving)
    elif gears.option == IMAGE:
        _check_images(shapes, moving, input_format)
    else:
        count = sum(len(places) for places in moving.values())
        if any(len(row) != count for row in gears.sizes):
            raise RequestError(
                f"{_flag(DIMS)} has gears of {len(gears.sizes[0])} sizes, and the shapes have {count} times -1.",
                cause=f"each gear has a size for each -1, in the order {_all_text(shapes)} (ATC's E10003)",
                cure=f'such as {_flag(DIMS)} "{_sample(count, 1)};{_sample(count, 8)}"',
            )


def _check_batches(shapes: Mapping[str, Shape], moving: Mapping[str, list[int]]) -> None:
    for node, places in moving.items():
        if places == [0]:
            continue
        where = "beside the batch" if 0 in places else "not in the first place"
        count = sum(map(len, moving.values()))
        raise RequestError(
            f"{_flag(BATCH)}: {node} has -1 {where}: {_text(shapes[node])}.",
            cause="batch gears are for the first size alone, which may be the only one that is open (ATC's E10018)",
            cure=f'use gears of dimensions instead: {_flag(DIMS)} "{_sample(count, 1)};{_sample(count, 8)}"'
            + (", or fix the other sizes in --input-shape" if 0 in places else ""),
        )


def _check_images(shapes: Mapping[str, Shape], moving: Mapping[str, list[int]], input_format: str) -> None:
    wanted = list(_IMAGE_SIZES.get(input_format, _IMAGE_SIZES["NHWC"]))
    for node, places in moving.items():
        if len(shapes[node]) == 4 and places == wanted:
            continue
        count = sum(map(len, moving.values()))
        raise RequestError(
            f"{_flag(IMAGE)}: {node} is {_text(shapes[node])}.",
            cause=f"image gears are for height and width of {input_format}, which are -1 both, and nothing else is "
            "(ATC's E10019)",
            cure="write 1,-1,-1,3 or the like, or use gears of dimensions: "
            f'{_flag(DIMS)} "{_sample(count, 1)};{_sample(count, 8)}"',
        )


def _without_shape(each: OpenInput, inputs: Sequence[OpenInput]) -> RequestError:
    return RequestError(
        f"The shape of the input {each.node} is not known.",
        cause="the model says neither its sizes nor how many they are, and the compiler needs them",
        cure=f'give it: --input-shape "{_suggestion(inputs)}"',
    )


def _left_open(inputs: Sequence[OpenInput]) -> RequestError:
    opened = [each for each in inputs if each.shape is not None and OPEN in each.shape]
    named = ", ".join(f"{each.node} {_text(each.shape or ())}" for each in opened)
    first_only = all((each.shape or ()).count(OPEN) == 1 and (each.shape or (0,))[0] == OPEN for each in opened)
    gears = f'{_flag(BATCH)} "1,2,4,8"' if first_only else f'{_flag(DIMS)} "…;…"'
    return RequestError(
        f"{named}: the size{'s' if len(opened) > 1 else ''} to compile for {'are' if len(opened) > 1 else 'is'} open.",
        cause="an om is for the sizes that it was compiled for; ATC refuses -1 without gears (E10001)",
        cure=f'--input-shape "{_suggestion(inputs)}", or several sizes: {gears}',
    )


def _unreadable_shape(entry: str, inputs: Sequence[OpenInput]) -> RequestError:
    return RequestError(
        f"--input-shape: {entry!r} can't be read.",
        cause='it is "NODE:SIZE,SIZE,…;NODE:SIZE,…" (ATC\'s E10002)',
        cure=f'such as --input-shape "{_suggestion(inputs)}"',
    )


def _suggestion(inputs: Iterable[OpenInput]) -> str:
    return ";".join(f"{each.node}:{_suggested(each.shape)}" for each in inputs if each.shape is None or each.shape)


def _suggested(shape: Shape | None) -> str:
    return "1,…" if shape is None else ",".join("1" if size == OPEN else str(size) for size in shape)


def _text(shape: Shape) -> str:
    return f"({','.join(map(str, shape))})"


def _all_text(shapes: Mapping[str, Shape]) -> str:
    return ", ".join(f"{node} {_text(shape)}" for node, shape in shapes.items() if OPEN in shape)


def _sample(count: int, size: int) -> str:
    return ",".join([str(size), *["64"] * (count - 1)])


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"

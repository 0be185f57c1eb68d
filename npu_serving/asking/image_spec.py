"""How an image becomes a model's input: a small file, an entry of a deployment.yaml, or a name. images.py does it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from npu_serving import fsutil
from npu_serving.documents import Rule, parse_document, read_document
from npu_serving.errors import RequestError
from npu_serving.settings import user_path

PRESETS = Path(__file__).with_name("image_presets.yaml")
_MOST_PIXELS = 1 << 16  # along one side

Pixels = Annotated[int, Rule(minimum=1, maximum=_MOST_PIXELS)]
Share = Annotated[float, Rule(minimum=0, maximum=1)]


@dataclass(frozen=True)
class ImageSpec:
    """What is done to an image, in this order: box, size, crop, channels, scale, mean, std, dtype, layout."""

    box: tuple[Share, ...] = field(
        default=(),
        metadata={
            "help": "top, left, bottom, right of the part that is sampled, as shares of the image, such as "
            "[0.1, 0.1, 0.9, 0.9]; as tf.image.crop_and_resize does it"
        },
    )
    size: tuple[Pixels, ...] = field(
        default=(), metadata={"help": "height and width it is resized to; those of the model's input by default"}
    )
    resize: Literal["stretch", "fit", "fill"] = field(
        default="stretch",
        metadata={
            "help": "stretch to that size; fit the whole image into it, black beside it; or fill it, and cut what is "
            "over at the sides"
        },
    )
    filter: Literal["bilinear", "nearest", "bicubic", "lanczos"] = field(
        default="bilinear", metadata={"help": "how Pillow resizes"}
    )
    crop: tuple[Pixels, ...] = field(
        default=(), metadata={"help": "height and width of the middle that is kept after resizing"}
    )
    channels: Literal["rgb", "bgr", "grey"] = field(default="rgb", metadata={"help": "the channels, and their order"})
    scale: float = field(default=1.0, metadata={"help": "what each value, 0 to 255, is multiplied by first"})
    mean: tuple[float, ...] = field(
        default=(), metadata={"help": "what is subtracted: one number, or one for each channel in their order"}
    )
    std: tuple[float, ...] = field(
        default=(), metadata={"help": "what it is divided by then: one number, or one for each channel"}
    )
    dtype: Literal["float16", "float32", ""] = field(
        default="", metadata={"help": "the precision of the values before they become the input's own type"}
    )
    layout: Literal["nhwc", "nchw"] = field(
        default="nhwc", metadata={"help": "channels last, as TensorFlow has them, or first"}
    )
    input: str = field(default="", metadata={"help": "the input that takes the image, where there are several"})

    def problems(self) -> Iterator[tuple[str, str]]:
        """Lists of a wrong length, and what has no effect beside a box."""
        for name in ("size", "crop"):
            if len(getattr(self, name)) not in (0, 2):
                yield name, "must be a height and a width, such as [224, 224]"
        if self.box and len(self.box) != 4:
            yield "box", "must be top, left, bottom and right, such as [0.1, 0.1, 0.9, 0.9]"
        elif self.box and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            yield "box", "must have its top above its bottom, and its left before its right"
        if self.box and (self.resize != "stretch" or self.filter != "bilinear"):
            yield "resize" if self.resize != "stretch" else "filter", "has no effect beside box: remove one of the two"
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (0, 1, self.depth):
                one = "one number" if self.depth == 1 else f"one number, or {self.depth}, one for each channel"
                yield name, f"must be {one}"
        if 0 in self.std:
            yield "std", "must not have a zero: values are divided by it"
        if self.size and self.crop and any(inner > outer for inner, outer in zip(self.crop, self.size)):
            yield "crop", f"must not be larger than size, {list(self.size)}"

    @property
    def depth(self) -> int:
        """How many channels there are."""
        return 1 if self.channels == "grey" else 3


AS_IT_IS = ImageSpec()
"""Resized to the input's size, values from 0 to 255."""


def read_image_spec(text: str) -> ImageSpec:
    """The spec of that name, or in that YAML or JSON file.

    Raises RequestError for what is neither, and DocumentError with every mistake of the file.
    """
    presets = image_presets()
    if text in presets:
        return presets[text]
    path = user_path(text, "--image-spec")
    with fsutil.explained(path, doing="read"):
        if "/" not in text and not path.exists():
            (meant,) = difflib.get_close_matches(text, presets, n=1) or [""]
            raise RequestError(
                f"The image spec {text!r} is neither a file nor one of the names {', '.join(presets)}.",
                cause="the file is in another directory, or the name was mistyped",
                cure=f"--image-spec {meant}" if meant else "name a YAML file: --image-spec ./image.yaml",
            )
    return read_document(path, ImageSpec)


def image_presets() -> Mapping[str, ImageSpec]:
    """Those that have a name."""
    return parse_document(PRESETS.read_text(encoding="utf-8"), dict[str, ImageSpec], where=PRESETS.name)

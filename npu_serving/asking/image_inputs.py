"""Which input of a model takes an image, in which type, shape and batches; and the images of files and directories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_serving import fsutil
from npu_serving.asking.given_requests import GivenFile, is_image_name
from npu_serving.asking.image_spec import AS_IT_IS, ImageSpec
from npu_serving.asking.images import Wanted, prepared_image
from npu_serving.client.arrays import STORED
from npu_serving.client.data_types import BY_NAME
from npu_serving.client.model_types import Signature, TensorInfo
from npu_serving.errors import RequestError

MOST_IN_A_BATCH = 4096


@dataclass(frozen=True)
class ImageInput:
    """The input that takes images, and how one becomes its values."""

    info: TensorInfo
    spec: ImageSpec
    wanted: Wanted
    most_megapixels: int

    @property
    def name(self) -> str:
        """What the input is called."""
        return self.info.name

    @property
    def takes_files(self) -> bool:
        """Whether it takes the files themselves, as texts of bytes, and the model decodes them."""
        return self.info.dtype == "DT_STRING"

    @property
    def fixed_batch(self) -> int | None:
        """How many images a request has where the model says it."""
        shape = self.info.shape
        return shape[0] if shape and shape[0] != -1 else None

    def values_of(self, path: Path) -> NDArray[Any]:
        """The values of one image. RequestError, FileAccessError."""
        if self.takes_files:
            found = np.empty((), object)
            found[()] = fsutil.read_bytes(path)
            return found
        return prepared_image(path, self.spec, self.wanted, self.most_megapixels)

    def batch(self, values: Sequence[NDArray[Any]], size: int) -> NDArray[Any]:
        """The images as one batch of that size: filled up with black ones in the same type, files with the last one."""
        if self.takes_files:
            files = np.empty(size, object)
            files[:] = [value[()] for value in (*values, *[values[-1]] * (size - len(values)))]
            return files
        whole = np.zeros((size, *values[0].shape), values[0].dtype)
        whole[: len(values)] = values
        return whole


def image_input(signature: Signature, spec: ImageSpec | None, chosen: str, most_megapixels: int) -> ImageInput:
    """The input for images: the one that was named, by --request NAME=FILE or by the spec, or the only one.

    RequestError where that is not clear, and where it takes no images of the spec's channels and layout.
    """
    wanted = "; ".join(info.text() for info in signature.inputs) or "no inputs"
    name = chosen or (spec.input if spec is not None else "")
    found = [info for info in signature.inputs if name in ("", info.name)]
    if len(signature.inputs) != 1 or not found:
        what = f"has no input {name!r}" if name and not found else "does not take an image alone"
        raise RequestError(
            f"The signature {signature.name!r} {what}.",
            cause=f"it takes {wanted}",
            cure="name its only input, or give all inputs as arrays: --request FILE.npz"
            if len(signature.inputs) != 1
            else "leave out the name",
        )
    info, used = found[0], spec or AS_IT_IS
    if info.dtype == "DT_STRING":
        if spec is not None:
            raise RequestError(
                f"The input {info.name!r} takes the image's file as it is, and an image spec has no effect.",
                cause=f"it is {info.text()}: the model decodes images itself",
                cure="leave out --image-spec",
            )
        return ImageInput(info, used, Wanted("object"), most_megapixels)
    kind = BY_NAME.get(info.dtype)
    stored = STORED.get(kind) if kind is not None else None
    if stored is None or stored.kind not in "fiu":
        raise RequestError(f"The input {info.text()} takes no image.", cure="give it as an array: --request FILE.npz")
    dtype = "float32" if info.dtype == "DT_BFLOAT16" else stored.name
    height = width = None
    if info.shape is not None:
        height, width = _sizes(info, used)
    made = used.crop or used.size
    for fixed, size, word in zip((height, width), made, ("height", "width")):
        if fixed not in (None, size):
            raise RequestError(
                f"The image spec makes images of {list(made)}, and the input {info.name!r} has the {word} {fixed}.",
                cause=f"the signature takes {info.text()}",
                cure="leave size and crop out of the image spec, or correct them",
            )
    return ImageInput(info, used, Wanted(dtype, height, width), most_megapixels)


def batch_size_of(taken: ImageInput, asked: int | None) -> int:
    """How many images a request has: as asked, as the model fixes it, or one. RequestError where these differ."""
    fixed = taken.fixed_batch
    if asked is not None and not 1 <= asked <= MOST_IN_A_BATCH:
        raise RequestError(
            f"--batch-size can't be {asked}.", cure=f"use a number from 1 to {MOST_IN_A_BATCH}, such as --batch-size 8"
        )
    if asked is not None and fixed is not None and asked != fixed:
        raise RequestError(
            f"--batch-size {asked} does not fit the model, which takes {fixed} images at a time.",
            cause=f"the signature takes {taken.info.text()}",
            cure="leave it out; for other sizes the model has to be saved with an open first dimension",
        )
    return asked or fixed or 1


def image_files(files: Sequence[GivenFile]) -> tuple[tuple[Path, ...], int]:
    """The images that were named, and those of directories in the order of their names; how much was passed over there.

    Of a directory whatever is called as images are; not what is in directories within it, and nothing hidden.
    RequestError where there is none.
    """
    found: list[Path] = []
    passed_over = 0
    for file in files:
        assert isinstance(file.source, Path)
        if not file.source.is_dir():
            found.append(file.source)
            continue
        with fsutil.explained(file.source, doing="read"):
            entries = sorted(path for path in file.source.iterdir() if not path.name.startswith("."))
        images = [path for path in entries if is_image_name(path) and path.is_file()]
        if not images:
            raise RequestError(
                f"There is no image in {file.source}.",
                cause="images are known by their names (.jpg, .png and so on); directories within are left alone",
                cure="name the directory that they are in",
            )
        passed_over += len(entries) - len(images)
        found += images
    return tuple(found), passed_over


def _sizes(info: TensorInfo, spec: ImageSpec) -> tuple[int | None, int | None]:
    """Height and width of the input, None where they are open."""
    shape = info.shape or ()
    if len(shape) != 4:
        raise RequestError(
            f"The input {info.text()} takes no batches of images.",
            cause="these have four dimensions: the batch, height, width, channels",
            cure="give it as an array: --request FILE.npz",
        )
    rows, columns, channels = shape[1:] if spec.layout == "nhwc" else (*shape[2:], shape[1])
    if channels not in (-1, spec.depth):
        cures = {1: "channels: grey", 3: "channels: rgb"}
        cure = f"set {cures[channels]} in the image spec" if channels in cures else "give another image spec"
        other = shape[1] if spec.layout == "nhwc" else shape[3]
        if other == spec.depth:
            cure = f"set layout: {'nchw' if spec.layout == 'nhwc' else 'nhwc'} in the image spec"
        raise RequestError(
            f"The input {info.name!r} has {channels} channels, and the image spec makes {spec.depth}.",
            cause=f"the signature takes {info.text()}, and the layout is {spec.layout}",
            cure=f"{cure}: --image-spec FILE",
        )
    return (None if rows == -1 else rows, None if columns == -1 else columns)

"""From the file of an image to the values that a model takes, by an ImageSpec. Pillow decodes and resizes.

What comes in: the orientation that EXIF names is applied; CMYK, palettes and grey become the spec's channels, as
Pillow converts them; an alpha channel is left out, as TensorFlow's decoders leave it out; of 16 bits the upper eight
count; of an animation the first picture.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_serving import fsutil
from npu_serving.asking.image_spec import ImageSpec
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

MOST_MEGAPIXELS = 64
"""Of an image, unless another bound is given: 200 MB as it is decoded."""
_MILLION = 1_000_000
_OF_16_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")


@dataclass(frozen=True)
class Wanted:
    """What the model takes for one image: NumPy's name of the type, and height and width where they are fixed."""

    dtype: str
    height: int | None = None
    width: int | None = None


def prepared_image(path: Path, spec: ImageSpec, wanted: Wanted, most_megapixels: int = MOST_MEGAPIXELS) -> NDArray[Any]:
    """The values of the image in the spec's layout: [height, width, channels], or channels first.

    RequestError, naming the file, for what is not an image, is cut off, or has more than `most_megapixels` million
    pixels; and where the size that the spec makes is not the wanted one.
    """
    import numpy as np

    image = _decoded(path, spec, most_megapixels)
    pixels = _sampled(image, spec, wanted)
    if spec.channels == "bgr":
        pixels = pixels[:, :, ::-1]
    sizes = (wanted.height, wanted.width)
    if any(size not in (None, own) for size, own in zip(sizes, pixels.shape)):
        raise RequestError(
            f"{path} becomes {pixels.shape[0]} pixels high and {pixels.shape[1]} wide, and the model takes "
            f"{wanted.height or 'any'} and {wanted.width or 'any'}.",
            cause="the image spec names another size",
            cure="correct size or crop in the image spec, or leave them out",
        )
    values = pixels.astype(np.float32)
    if spec.scale != 1.0:
        values *= np.float32(spec.scale)
    if spec.mean:
        values -= np.asarray(spec.mean, np.float32)
    if spec.std:
        values /= np.asarray(spec.std, np.float32)
    if spec.dtype:
        values = values.astype(spec.dtype)
    if np.dtype(wanted.dtype).kind in "iu":
        values = _whole(values, np.dtype(wanted.dtype), path)
    values = values.astype(wanted.dtype)
    return np.ascontiguousarray(values.transpose(2, 0, 1) if spec.layout == "nchw" else values)


def _decoded(path: Path, spec: ImageSpec, most_megapixels: int) -> Image:
    """The image, upright, as grey or RGB."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # Pillow's own bound only warns; the one here is said beforehand
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata, in this and in other threads
    with fsutil.explained(path, doing="read"), path.open("rb") as file:
        try:
            with Image.open(file) as opened:
                width, height = opened.size
                if width * height > most_megapixels * _MILLION:
                    raise _too_large(path, width, height, most_megapixels)
                if opened.mode == "F":
                    raise RequestError(
                        f"{path} can't be decoded: its values are decimal numbers.",
                        cause="the brightness of a pixel goes from 0 to 255",
                        cure="save it as JPEG or PNG, or give its values as an array: --request FILE.npy",
                    )
                opened.load()
                image = _of_eight_bits(ImageOps.exif_transpose(opened))
                return image.convert("L" if spec.channels == "grey" else "RGB")
        except RequestError:
            raise
        except UnidentifiedImageError:
            raise RequestError(
                f"{path} is not an image, or is of a kind that Pillow does not know.",
                cause=_beginning(path),
                cure="remove it from what is asked, or save it as JPEG or PNG",
            ) from None
        except Exception as error:  # decoders of damaged files raise whatever they stumble over
            raise RequestError(
                f"{path} can't be decoded: {str(error) or type(error).__name__}.",
                cause="it is cut off or damaged",
                cure="copy it again, or remove it from what is asked",
            ) from error


def _too_large(path: Path, width: int, height: int, most_megapixels: int) -> RequestError:
    megapixels = -(-width * height // _MILLION)
    return RequestError(
        f"{path} has {width} x {height} pixels, {megapixels} million, and no more than {most_megapixels} million are "
        "decoded.",
        cause="a small file may hold an image that fills the memory",
        cure=f"where it is as it should be: --max-megapixels {megapixels}",
    )


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    return f"it begins with {start!r}" if start else "it is empty"


def _of_eight_bits(image: Image) -> Image:
    """The image with 16 bits for a pixel reduced to eight."""
    import numpy as np
    from PIL import Image as Pillow

    if image.mode not in _OF_16_BITS:
        return image
    values = np.asarray(image).astype(np.int64)
    if values.size and not 0 <= values.min() <= values.max() < 1 << 16:
        raise ValueError("its values have more than 16 bits")
    return Pillow.fromarray((values >> 8).astype(np.uint8))


def _sampled(image: Image, spec: ImageSpec, wanted: Wanted) -> NDArray[Any]:
    """The pixels, [height, width, channels], of the size that is asked for."""
    import numpy as np

    height, width = spec.size or (wanted.height or image.height, wanted.width or image.width)
    if spec.crop and not spec.size:
        height, width = max(image.height, spec.crop[0]), max(image.width, spec.crop[1])
    if spec.box:
        pixels = crop_and_resize(_as_array(image), (*spec.box,), height, width)
    elif (height, width) == (image.height, image.width):
        pixels = _as_array(image)
    else:
        pixels = _as_array(_resized(image, spec, height, width))
    if spec.crop:
        top, left = (pixels.shape[0] - spec.crop[0]) // 2, (pixels.shape[1] - spec.crop[1]) // 2
        pixels = pixels[top : top + spec.crop[0], left : left + spec.crop[1]]
    clipped: NDArray[Any] = np.clip(pixels, 0, 255)
    return clipped


def _as_array(image: Image) -> NDArray[Any]:
    import numpy as np

    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _resized(image: Image, spec: ImageSpec, height: int, width: int) -> Image:
    from PIL import Image as Pillow

    filter = Pillow.Resampling[spec.filter.upper()]
    if spec.resize == "stretch":
        return image.resize((width, height), filter)
    choose = min if spec.resize == "fit" else max
    factor = choose(width / image.width, height / image.height)
    inner = (max(round(image.width * factor), 1), max(round(image.height * factor), 1))
    scaled = image.resize(inner, filter)
    left, top = (width - scaled.width) // 2, (height - scaled.height) // 2
    if spec.resize == "fill":
        return scaled.crop((-left, -top, width - left, height - top))
    whole = Pillow.new(image.mode, (width, height))
    whole.paste(scaled, (left, top))
    return whole


def crop_and_resize(pixels: NDArray[Any], box: tuple[float, ...], height: int, width: int) -> NDArray[Any]:
    """What tf.image.crop_and_resize makes of one image, [height, width, channels], by its bilinear method.

    Its corners are sampled where the box has its corners, between the pixels' centres, and nothing is averaged: a large
    image made small is as coarse as there (crop_and_resize_op.cc at 1.15.0).
    """
    import numpy as np

    def places(size: int, begin: float, end: float, count: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        first, last = np.float32(begin), np.float32(end)
        if count > 1:
            step = (last - first) * np.float32(size - 1) / np.float32(count - 1)
            at = first * np.float32(size - 1) + np.arange(count, dtype=np.float32) * step
        else:
            at = np.full(1, np.float32(0.5) * (first + last) * np.float32(size - 1), np.float32)
        at = np.clip(at, 0, size - 1)
        below = np.floor(at).astype(np.intp)
        return below, np.ceil(at).astype(np.intp), at - below.astype(np.float32)

    top, bottom, down = places(pixels.shape[0], box[0], box[2], height)
    left, right, across = places(pixels.shape[1], box[1], box[3], width)
    across, down = across[None, :, None], down[:, None, None]

    def row(at: NDArray[Any]) -> NDArray[Any]:
        lines = pixels[at]
        one, other = lines[:, left].astype(np.float32), lines[:, right].astype(np.float32)
        return one + (other - one) * across  # type: ignore[no-any-return]

    upper, lower = row(top), row(bottom)
    return upper + (lower - upper) * down  # type: ignore[no-any-return]


def _whole(values: NDArray[Any], dtype: Any, path: Path) -> NDArray[Any]:
    """The values rounded, for an input of whole numbers; RequestError where it can't hold them."""
    import numpy as np

    rounded: NDArray[Any] = np.rint(values)
    limits = np.iinfo(dtype)
    if rounded.size and not limits.min <= rounded.min() <= rounded.max() <= limits.max:
        raise RequestError(
            f"{path} becomes values from {rounded.min():g} to {rounded.max():g}, which {dtype.name} can't hold.",
            cause="the model takes whole numbers, and the image spec's scale, mean and std make others of the pixels",
            cure="leave scale, mean and std out of the image spec",
        )
    return rounded

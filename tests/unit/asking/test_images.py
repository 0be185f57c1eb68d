"""From the file of an image to a model's input: every kind of image, every step of a spec, and what is no image."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from npu_serving.asking.given_requests import is_image_name
from npu_serving.asking.image_spec import AS_IT_IS, ImageSpec, image_presets, read_image_spec
from npu_serving.asking.images import Wanted, crop_and_resize, prepared_image
from npu_serving.errors import DocumentError, NpuServingError, RequestError

FLOAT = Wanted("float32")
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def _quarters(size: int = 4) -> Image.Image:
    """Red over blue on the left, green over black on the right."""
    image = Image.new("RGB", (size, size))
    half = size // 2
    image.paste(RED, (0, 0, half, half))
    image.paste(GREEN, (half, 0, size, half))
    image.paste(BLUE, (0, half, half, size))
    return image


def _saved(tmp_path: Path, image: Image.Image, name: str = "image.png", **how) -> Path:
    image.save(tmp_path / name, **how)
    return tmp_path / name


def test_the_pixels_of_an_image_come_in_rows_and_channels(tmp_path: Path) -> None:
    values = prepared_image(_saved(tmp_path, _quarters()), AS_IT_IS, FLOAT)
    assert values.shape == (4, 4, 3)
    assert values.dtype == np.float32
    assert [tuple(values[at]) for at in ((0, 0), (0, 3), (3, 0), (3, 3))] == [RED, GREEN, BLUE, (0, 0, 0)]


def test_the_orientation_in_exif_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image = _quarters(16).resize((32, 16))
    values = prepared_image(_saved(tmp_path, image, "turned.png", exif=exif), AS_IT_IS, FLOAT)
    assert values.shape == (32, 16, 3)
    assert [tuple(values[at]) for at in ((0, 0), (0, 15), (31, 15))] == [BLUE, RED, GREEN]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "RGB", "CMYK", "I;16", "I"])
def test_every_kind_of_image_becomes_the_channels_of_the_spec(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 4), 0xCCFF, np.uint16))
    elif mode == "I":
        image = Image.fromarray(np.full((4, 4), 0xCCFF, np.int32))
    else:
        image = Image.new("RGB", (4, 4), (204, 204, 204)).convert(mode)
    path = _saved(tmp_path, image, "image.tif" if mode in ("CMYK", "I") else "image.png")
    colours = prepared_image(path, AS_IT_IS, FLOAT)
    grey = prepared_image(path, ImageSpec(channels="grey"), FLOAT)
    assert (colours.shape, grey.shape) == ((4, 4, 3), (4, 4, 1))
    if mode != "1":
        assert set(np.unique(colours)) <= {203.0, 204.0, 205.0}
        assert set(np.unique(grey)) <= {203.0, 204.0, 205.0}


def test_a_palette_and_an_alpha_channel_give_the_colours_beneath(tmp_path: Path) -> None:
    palette = prepared_image(_saved(tmp_path, _quarters().convert("P"), "p.gif"), AS_IT_IS, FLOAT)
    assert tuple(palette[0, 0]) == RED
    clear = _quarters()
    clear.putalpha(0)
    assert tuple(prepared_image(_saved(tmp_path, clear), AS_IT_IS, FLOAT)[0, 0]) == RED


def test_each_step_of_a_spec_does_what_it_says(tmp_path: Path) -> None:
    path = _saved(tmp_path, _quarters())
    assert tuple(prepared_image(path, ImageSpec(channels="bgr"), FLOAT)[0, 0]) == (0, 0, 255)
    first = prepared_image(path, ImageSpec(layout="nchw"), FLOAT)
    assert first.shape == (3, 4, 4)
    assert first[0, 0, 0] == 255
    scaled = prepared_image(path, ImageSpec(scale=1 / 255, mean=(0.5,), std=(0.5, 0.25, 1.0)), FLOAT)
    assert np.allclose(scaled[0, 0], [1.0, -2.0, -0.5])
    half = prepared_image(path, ImageSpec(mean=(0.1,), dtype="float16"), FLOAT)
    assert half[0, 0, 0] == np.float32(np.float16(254.9))
    assert prepared_image(path, ImageSpec(crop=(2, 2)), FLOAT).shape == (2, 2, 3)
    assert prepared_image(path, AS_IT_IS, Wanted("uint8")).dtype == np.uint8


def test_an_image_is_stretched_fitted_or_fills_the_size(tmp_path: Path) -> None:
    wide = Image.new("RGB", (8, 4), RED)
    wide.paste(GREEN, (0, 0, 2, 4))
    path = _saved(tmp_path, wide)
    sizes = {how: prepared_image(path, ImageSpec(size=(4, 4), resize=how), FLOAT) for how in ("stretch", "fit", "fill")}
    assert {values.shape for values in sizes.values()} == {(4, 4, 3)}
    assert tuple(sizes["stretch"][0, 3]) == RED
    assert tuple(sizes["fit"][0, 0]) == (0, 0, 0)
    assert sizes["fit"][1, 3, 0] > 250
    assert tuple(sizes["fill"][0, 0]) == RED  # the green quarter is cut off


def test_the_size_is_that_of_the_models_input_where_the_spec_names_none(tmp_path: Path) -> None:
    path = _saved(tmp_path, _quarters())
    assert prepared_image(path, AS_IT_IS, Wanted("float32", 2, 3)).shape == (2, 3, 3)
    with pytest.raises(RequestError, match="becomes 5 pixels high and 5 wide, and the model takes 2 and 3"):
        prepared_image(path, ImageSpec(size=(5, 5)), Wanted("float32", 2, 3))


def test_values_that_whole_numbers_can_not_hold_are_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path, _quarters())
    with pytest.raises(RequestError, match="values from -128 to 127, which uint8 can't hold"):
        prepared_image(path, ImageSpec(mean=(128.0,)), Wanted("uint8"))
    assert prepared_image(path, ImageSpec(mean=(128.0,)), Wanted("int8"))[0, 0, 0] == 127


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(*[st.floats(0, 0.5, width=16)] * 2),
    st.tuples(*[st.floats(0.5, 1, width=16)] * 2),
)
def test_a_sampled_box_stays_within_the_images_values_and_keeps_an_even_one(size, wanted, begin, end) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    sampled = crop_and_resize(pixels, (*begin, *end), *wanted)
    assert sampled.shape == (*wanted, 3)
    assert pixels.min() - 0.01 <= sampled.min() <= sampled.max() <= pixels.max() + 0.01
    assert np.all(crop_and_resize(np.full((*size, 1), 7, np.uint8), (*begin, *end), *wanted) == 7)
    assert np.array_equal(crop_and_resize(pixels, (0, 0, 1, 1), *size), pixels)


_BY_TENSORFLOW = """
import json, sys
import numpy as np
import tensorflow as tf
made = []
with tf.compat.v1.Session() as session:
    for case in json.load(sys.stdin):
        pixels = tf.constant(np.array(case["pixels"], np.uint8)[None])
        made.append(session.run(tf.image.crop_and_resize(pixels, [case["box"]], [0], case["size"]))[0].tolist())
json.dump(made, sys.stdout)
"""


def test_a_box_is_sampled_as_tensorflow_does() -> None:
    python = os.environ.get("NPU_SERVING_TENSORFLOW_PYTHON")
    if not python:
        pytest.skip("NPU_SERVING_TENSORFLOW_PYTHON does not name a Python with TensorFlow 1.15.0")
    numbers = np.random.default_rng(1)
    cases = [
        {
            "pixels": numbers.integers(0, 256, (height, width, 3)).tolist(),
            "box": box,
            "size": size,
        }
        for height, width, box, size in [
            (50, 37, [0.1, 0.1, 0.9, 0.9], [22, 24]),
            (9, 9, [0.1, 0.1, 0.9, 0.9], [24, 24]),
            (5, 7, [0.25, 0.0, 1.0, 0.5], [1, 4]),
        ]
    ]
    ran = subprocess.run(
        [python, "-c", _BY_TENSORFLOW], input=json.dumps(cases), capture_output=True, text=True, check=True
    )
    for case, theirs in zip(cases, json.loads(ran.stdout)):
        ours = crop_and_resize(np.array(case["pixels"], np.uint8), tuple(case["box"]), *case["size"])
        assert np.abs(ours - np.array(theirs)).max() < 1e-3


def test_the_guides_two_samples_have_names(tmp_path: Path) -> None:
    assert set(image_presets()) == {"resnet50", "mobilenet"}
    image = Image.new("RGB", (500, 300), (121, 115, 170))
    values = prepared_image(_saved(tmp_path, image), read_image_spec("resnet50"), Wanted("float16"))
    assert values.shape == (224, 224, 3)
    assert values.dtype == np.float16
    assert np.all(values.reshape(-1, 3) == np.array([0, 0, np.float16(70 / 71)], np.float16))
    theirs = np.asarray(image.resize((304, 304), Image.Resampling.BILINEAR), np.float32) - [123, 117, 104]
    assert np.array_equal(prepared_image(tmp_path / "image.png", read_image_spec("mobilenet"), FLOAT), theirs)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("size: [224]", "size: must be a height and a width"),
        ("box: [0.1, 0.2, 0.3]", "box: must be top, left, bottom and right"),
        ("box: [0.9, 0.1, 0.1, 0.9]", "box: must have its top above its bottom"),
        ("{box: [0, 0, 1, 1], resize: fit}", "resize: has no effect beside box"),
        ("mean: [1, 2]", "mean: must be one number, or 3"),
        ("{channels: grey, std: [1, 2, 3]}", "std: must be one number"),
        ("std: [1, 0, 1]", "std: must not have a zero"),
        ("{size: [10, 10], crop: [20, 5]}", "crop: must not be larger than size"),
        ("sise: [10, 10]", "did you mean size"),
        ("channels: rgba", "channels: must be"),
    ],
)
def test_a_spec_with_a_mistake_is_refused_with_the_place(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "image.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DocumentError) as error:
        read_image_spec(str(tmp_path / "image.yaml"))
    assert what in error.value.what


def test_a_mistyped_name_of_a_spec_is_told_with_the_one_that_was_meant() -> None:
    with pytest.raises(RequestError, match="neither a file nor one of the names resnet50, mobilenet") as error:
        read_image_spec("resnet5")
    assert error.value.cure == "--image-spec resnet50"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("text.png", b"not an image", "is not an image"),
        ("empty.jpg", b"", "is not an image"),
        ("page.html.jpg", b"<html>", "is not an image"),
    ],
)
def test_what_is_no_image_is_refused_by_its_name(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=what) as error:
        prepared_image(tmp_path / name, AS_IT_IS, FLOAT)
    assert name in error.value.what


def test_an_image_of_decimal_numbers_is_refused_with_a_cure_that_is_for_it(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="decimal numbers") as refused:
        prepared_image(_saved(tmp_path, Image.new("F", (4, 4), 1.0), "image.tiff"), AS_IT_IS, FLOAT)
    assert "copy it again" not in refused.value.cure
    assert ".npy" in refused.value.cure


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"]), st.data())
def test_an_image_cut_off_or_damaged_anywhere_is_decoded_or_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    written = io.BytesIO()
    numbers = np.random.default_rng(2).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(numbers).save(written, kind)
    content = bytearray(written.getvalue())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "image"
    path.write_bytes(content)
    try:
        assert prepared_image(path, AS_IT_IS, FLOAT).ndim == 3
    except NpuServingError as error:
        assert str(path) in error.what


def test_an_image_over_the_bound_is_refused_before_it_is_decoded_and_the_cure_helps(tmp_path: Path) -> None:
    path = _saved(tmp_path, Image.new("1", (2000, 1500)))
    with pytest.raises(RequestError, match="has 2000 x 1500 pixels, 3 million, and no more than 2 million") as error:
        prepared_image(path, AS_IT_IS, FLOAT, 2)
    assert error.value.cure.endswith("--max-megapixels 3")
    assert prepared_image(path, ImageSpec(size=(2, 2)), FLOAT, 3).shape == (2, 2, 3)


def test_names_of_images_are_told_by_their_endings() -> None:
    names = ["a.jpg", "b.JPEG", "c.png", "d.txt", "e", "f.npy"]
    assert [is_image_name(Path(name)) for name in names] == [True, True, True, False, False, False]

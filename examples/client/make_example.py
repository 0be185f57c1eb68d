"""Makes all that it takes to try predictions of images: a model, its images, their labels, a deployment.

usage: .venv/bin/python examples/client/make_example.py DIRECTORY

The model, `colours`, says which of five colours an image has. Its SavedModel is written byte by byte: no TensorFlow.
"""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout

from npu_serving.wire_bytes import bytes_field, entry_field, number_field, text_field  # noqa: E402

COLOURS = {"black": (0, 0, 0), "red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
IMAGES_OF_EACH = 5
SIZE = 32  # of the model's input; the images are larger
FLOAT, INT32 = 1, 3  # types.proto
DEPLOYMENT = """\
version: 1
models:
- name: colours
  base_path: {base_path}
  preprocess: {{scale: 0.00392156862745098}}  # values from 0 to 1; the size is that of the model's input
"""


def shape(*sizes: int) -> bytes:
    """A TensorShapeProto; -1 stands for any size."""
    return b"".join(bytes_field(2, number_field(1, size)) for size in sizes)


def node(name: str, op: str, *inputs: str, **attributes: bytes) -> bytes:
    """A NodeDef within a GraphDef; the attributes are AttrValues."""
    named = b"".join(bytes_field(3, each.encode()) for each in inputs)
    valued = b"".join(entry_field(5, key, value) for key, value in sorted(attributes.items()))
    return bytes_field(1, text_field(1, name) + text_field(2, op) + named + valued)


def constant(name: str, kind: int, sizes: tuple[int, ...], content: bytes) -> bytes:
    """A constant with its values in TensorFlow's own layout."""
    tensor = number_field(1, kind) + bytes_field(2, shape(*sizes)) + bytes_field(4, content)
    return node(name, "Const", dtype=number_field(6, kind), value=bytes_field(8, tensor))


def colours_model() -> bytes:
    """The SavedModel: scores = mean of the pixels x weights + biases, the largest for the colour of the image."""
    # Of an image in one colour the mean is that colour. White is the largest only where all three channels are.
    weights = [-1, 2, -1, -1, 0.5, -1, -1, 2, -1, 0.5, -1, -1, -1, 2, 0.5]
    biases = [0.6, 0, 0, 0, 0]
    is_float = number_field(6, FLOAT)
    graph = b"".join(
        [
            node("image", "Placeholder", dtype=is_float, shape=bytes_field(7, shape(-1, SIZE, SIZE, 3))),
            constant("rows_and_columns", INT32, (2,), struct.pack("<2i", 1, 2)),
            node("mean", "Mean", "image", "rows_and_columns", T=is_float, Tidx=number_field(6, INT32)),
            constant("weights", FLOAT, (3, 5), struct.pack("<15f", *weights)),
            node("weighted", "MatMul", "mean", "weights", T=is_float),
            constant("biases", FLOAT, (5,), struct.pack("<5f", *biases)),
            node("scores", "BiasAdd", "weighted", "biases", T=is_float),
            bytes_field(4, number_field(1, 134)),  # the version of TensorFlow 1.15's graphs
        ]
    )

    def tensor(name: str, *sizes: int) -> bytes:
        return text_field(1, name) + number_field(2, FLOAT) + bytes_field(3, shape(*sizes))

    signature = (
        entry_field(1, "image", tensor("image:0", -1, SIZE, SIZE, 3))
        + entry_field(2, "scores", tensor("scores:0", -1, 5))
        + text_field(3, "tensorflow/serving/predict")
    )
    info = text_field(4, "serve") + text_field(5, "1.15.0")
    meta_graph = bytes_field(1, info) + bytes_field(2, graph) + entry_field(5, "serving_default", signature)
    return number_field(1, 1) + bytes_field(2, meta_graph)


def colour_image(colour: tuple[int, int, int], numbers: random.Random) -> Image.Image:
    """An image in nearly that colour, in some size."""
    image = Image.new("RGB", (numbers.randint(40, 200), numbers.randint(40, 200)), colour)
    width, height = image.size
    for _ in range(width * height // 20):
        spot = tuple(max(0, min(255, part + numbers.randint(-60, 60))) for part in colour)
        image.putpixel((numbers.randrange(width), numbers.randrange(height)), spot)
    return image


def main(directory: Path) -> None:
    """Writes all of it below the directory."""
    numbers = random.Random(1)
    version, images = directory / "models" / "colours" / "1", directory / "images"
    version.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    (version / "saved_model.pb").write_bytes(colours_model())
    labels = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        for at in range(IMAGES_OF_EACH):
            file = f"{name}_{at}.{'png' if at % 2 else 'jpg'}"
            colour_image(colour, numbers).save(images / file, quality=95)
            labels.append(f"{file} {number}\n")
    (directory / "val_label.txt").write_text("".join(labels), encoding="utf-8")
    (directory / "names.txt").write_text("".join(f"{name}\n" for name in COLOURS), encoding="utf-8")
    base_path = version.parent.resolve()
    (directory / "deployment.yaml").write_text(DEPLOYMENT.format(base_path=f'"{base_path}"'), encoding="utf-8")
    print(f"{len(labels)} images, their labels, the model and its deployment.yaml are in {directory}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

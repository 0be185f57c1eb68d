"""The SavedModels that tensorflow_peer.py serves, made by TensorFlow 1.15.0: run by its Python.

usage: PYTHON tensorflow_models.py DIRECTORY   (makes DIRECTORY/NAME/VERSION for each; the directory is not there yet)

- `half_plus_two`: x float (-1) -> y = x/2 + 2, with a variable. `versions`: the same; version 2 adds three.
- `echo_all`: a signature for each dtype, by TensorFlow's name for it: x of any shape -> y, the same.
  `echo_rows`: the same for (-1, -1); signature `half_8` has x half (-1, 8).
- `image`: image float (-1, 8, 8, 3) -> logits (-1, 5). Of a picture of one colour the largest is: 0 for black, 1 for
  red, 2 for green, 3 for blue, 4 for white (colours from 0 to 1).
- `ids_mask`: ids and mask int64 (-1, -1) -> score (-1): the ids are looked up in a vocabulary of 100.
- `wide`: x float (-1) -> y float (-1, 1024, 1024, 3), 12.6 MB for one row. `sum`: x float (-1, -1) -> y (-1).
- `texts`: t string (-1) -> echo, `gbk` (Chinese, not in UTF-8), `png_bytes` (not text at all).
- `nan`: x float (-1) -> y (-1, 3): [1, NaN, -Infinity] for each, and echo.
- `classify`: over tf.Example with the feature x: signatures `classify` (the default), `regress`, and `predict`.
- `slow`: x float (-1) -> y = 2 x. `scalar`: x float () -> y (): no batch.
"""

# mypy: ignore-errors

import sys
from pathlib import Path

import numpy
import tensorflow

tf = tensorflow.compat.v1
PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{kind}" for kind in ("predict", "classify", "regress"))
DTYPES = (
    tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16,
    tf.uint32, tf.uint64, tf.bool, tf.string, tf.complex64, tf.complex128, tf.qint8, tf.quint8, tf.qint16, tf.quint16,
    tf.qint32,
)  # fmt: skip
PNG = b"\x89PNG\r\n\x1a\n\x00\xff\xfe\x80"
GBK = "\u6a21\u578b".encode("gbk")


def save(root, name, version, make):
    """One version of a model; `make` returns its signatures as name: (inputs, outputs, method)."""
    with tf.Graph().as_default(), tf.Session() as session:
        signatures = {}
        for key, (inputs, outputs, method) in make().items():
            signatures[key] = tf.saved_model.build_signature_def(
                inputs={alias: tf.saved_model.build_tensor_info(tensor) for alias, tensor in inputs.items()},
                outputs={alias: tf.saved_model.build_tensor_info(tensor) for alias, tensor in outputs.items()},
                method_name=method,
            )
        session.run(tf.global_variables_initializer())
        builder = tf.saved_model.Builder(str(Path(root) / name / str(version)))
        builder.add_meta_graph_and_variables(session, [tf.saved_model.tag_constants.SERVING], signatures)
        builder.save()


def half_plus(number):
    def make():
        x = tf.placeholder(tf.float32, [None], "x")
        return {"serving_default": ({"x": x}, {"y": x * tf.get_variable("half", initializer=0.5) + number}, PREDICT)}

    return make


def echo(shape, more=()):
    def make():
        signatures = {}
        for name, dtype, of in [(dtype.name, dtype, shape) for dtype in DTYPES] + list(more):
            x = tf.placeholder(dtype, of, "x_" + name)
            signatures[{"float32": "float", "float64": "double", "float16": "half"}.get(name, name)] = (
                {"x": x},
                {"y": tf.identity(x)},
                PREDICT,
            )
        signatures["serving_default"] = signatures["float"]
        return signatures

    return make


def image():
    pixels = tf.placeholder(tf.float32, [None, 8, 8, 3], "image")
    mean = tf.reduce_mean(pixels, axis=[1, 2])
    weights = numpy.array([[-1, 2, -1, -1, 0.5], [-1, -1, 2, -1, 0.5], [-1, -1, -1, 2, 0.5]], numpy.float32)
    logits = tf.matmul(mean, tf.constant(weights)) + tf.constant([0.6, 0, 0, 0, 0.0])
    return {"serving_default": ({"image": pixels}, {"logits": logits}, PREDICT)}


def ids_mask():
    ids, mask = (tf.placeholder(tf.int64, [None, None], name) for name in ("ids", "mask"))
    vocabulary = tf.constant(numpy.linspace(0, 1, 100, dtype=numpy.float32))
    score = tf.reduce_sum(tf.gather(vocabulary, ids) * tf.cast(mask, tf.float32), axis=1)
    return {"serving_default": ({"ids": ids, "mask": mask}, {"score": score}, PREDICT)}


def wide():
    x = tf.placeholder(tf.float32, [None], "x")
    one = tf.reshape(tf.range(3, dtype=tf.float32), [1, 1, 1, 3]) + tf.zeros([1, 1024, 1024, 3])
    return {"serving_default": ({"x": x}, {"y": tf.reshape(x, [-1, 1, 1, 1]) + one}, PREDICT)}


def summed():
    x = tf.placeholder(tf.float32, [None, None], "x")
    return {"serving_default": ({"x": x}, {"y": tf.reduce_sum(x, axis=1)}, PREDICT)}


def texts():
    t = tf.placeholder(tf.string, [None], "t")
    outputs = {"echo": tf.identity(t)}
    for alias, text in (("gbk", GBK), ("png_bytes", PNG)):
        outputs[alias] = tf.fill(tf.shape(t), text)
    return {"serving_default": ({"t": t}, outputs, PREDICT)}


def nan():
    x = tf.placeholder(tf.float32, [None], "x")
    row = tf.constant([1, numpy.nan, -numpy.inf], tf.float32)
    y = tf.tile(tf.expand_dims(row, 0), [tf.shape(x)[0], 1])
    return {"serving_default": ({"x": x}, {"y": y, "echo": tf.identity(x)}, PREDICT)}


def classify():
    examples = tf.placeholder(tf.string, [None], "examples")
    x = tf.parse_example(examples, {"x": tf.FixedLenFeature([1], tf.float32, 0.0)})["x"]
    scores = tf.concat([x, 1 - x], axis=1)
    classes = tf.tile([["cat", "dog"]], [tf.shape(x)[0], 1])
    return {
        "serving_default": ({"inputs": examples}, {"classes": classes, "scores": scores}, CLASSIFY),
        "classify": ({"inputs": examples}, {"classes": classes, "scores": scores}, CLASSIFY),
        "regress": ({"inputs": examples}, {"outputs": 10 * x}, REGRESS),
        "predict": ({"examples": examples}, {"scores": scores}, PREDICT),
    }


def doubled(shape):
    def make():
        x = tf.placeholder(tf.float32, shape, "x")
        return {"serving_default": ({"x": x}, {"y": 2 * x}, PREDICT)}

    return make


MODELS = {
    ("half_plus_two", 1): half_plus(2),
    ("versions", 1): half_plus(2),
    ("versions", 2): half_plus(3),
    ("echo_all", 1): echo(None),
    ("echo_rows", 1): echo([None, None], [("half_8", tf.float16, [None, 8])]),
    ("image", 1): image,
    ("ids_mask", 1): ids_mask,
    ("wide", 1): wide,
    ("sum", 1): summed,
    ("texts", 1): texts,
    ("nan", 1): nan,
    ("classify", 1): classify,
    ("slow", 1): doubled([None]),
    ("scalar", 1): doubled([]),
}


if __name__ == "__main__":
    for (model, number), maker in MODELS.items():
        save(sys.argv[1], model, number, maker)

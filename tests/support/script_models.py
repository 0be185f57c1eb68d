"""The models that the scripts of new-script run, made by TensorFlow 1.15.0, and what it answers: run by its Python.

usage: PYTHON script_models.py DIRECTORY   (makes what is named below in it; the directory is there)

- `text.pb`, `text/1` (SavedModel), `ckpt/text` (checkpoint): ids int32 (-1, -1) and scope/mask float (-1, -1) ->
  score float (-1): for each row the sum of w[ids] * mask, and of r. `w` is a ref variable, `r` a resource one that is
  not trained. In the frozen graph `all` is the product itself.
- `image.pb`: pixels float (2, 4, 4, 3) -> logits (2, 3): the mean of each colour.
- `begin.pb`: image float (-1, -1, 3) -> expanded -> shifted -> result: a part whose first node has one changing input.
- `text.npz`: values for ids and scope/mask; `text-expected.npz` what TensorFlow answers, `text-new.npz` new variables,
  `text-updated.npz` what it answers with those.
"""

# mypy: ignore-errors

import sys
from pathlib import Path

import numpy
import tensorflow

tf = tensorflow.compat.v1


def text(place):
    with tf.Graph().as_default() as graph, tf.Session() as session:
        ids = tf.placeholder(tf.int32, [None, None], "ids")
        mask = tf.placeholder(tf.float32, [None, None], "scope/mask")
        w = tf.get_variable("w", initializer=numpy.linspace(0, 1, 10, dtype=numpy.float32))
        r = tf.get_variable("r", [3], trainable=False, use_resource=True, initializer=tf.ones_initializer())
        product = tf.multiply(tf.gather(w, ids, name="gathered"), mask, name="product")
        score = tf.add(tf.reduce_sum(product, 1), tf.reduce_sum(r), name="score")
        tf.identity(product, "all")
        tf.no_op("nothing")
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(place / "ckpt" / "text"))
        signature = {"ids": ids, "mask": mask}
        tf.saved_model.simple_save(session, str(place / "text" / "1"), signature, {"score": score})
        frozen = tf.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ["score", "all", "nothing"]
        )
        (place / "text.pb").write_bytes(frozen.SerializeToString())
        values = {ids: numpy.array([[1, 2, 3], [4, 9, 0]], numpy.int32)}
        values[mask] = numpy.array([[1, 0.5, 2], [0, 1, 1]], numpy.float32)
        numpy.savez(str(place / "text.npz"), **{tensor.op.name: value for tensor, value in values.items()})
        numpy.savez(str(place / "signature.npz"), ids=values[ids], mask=values[mask])
        numpy.savez(str(place / "text-expected.npz"), score=session.run(score, values))
        new = {"w": numpy.arange(10, dtype=numpy.float32), "r": numpy.array([1, 2, 4], numpy.float32)}
        numpy.savez(str(place / "text-new.npz"), **new)
        numpy.savez(str(place / "text-wrong.npz"), w=numpy.arange(9, dtype=numpy.float32), other=new["r"])
        for variable in tf.global_variables():
            variable.load(new[variable.op.name], session)
        numpy.savez(str(place / "text-updated.npz"), score=session.run(score, values))


def image(place):
    with tf.Graph().as_default() as graph:
        pixels = tf.placeholder(tf.float32, [2, 4, 4, 3], "pixels")
        tf.reduce_mean(pixels, axis=[1, 2], name="logits")
        (place / "image.pb").write_bytes(graph.as_graph_def().SerializeToString())


def begin(place):
    with tf.Graph().as_default() as graph:
        pixels = tf.placeholder(tf.float32, [None, None, 3], "image")
        expanded = tf.expand_dims(pixels, 0, name="expanded")
        shifted = tf.add(tf.transpose(expanded, [0, 3, 1, 2], name="turned"), 1.0, name="shifted")
        tf.reduce_sum(shifted, name="result")
        (place / "begin.pb").write_bytes(graph.as_graph_def().SerializeToString())


if __name__ == "__main__":
    for make in (text, image, begin):
        make(Path(sys.argv[1]))

"""The files that docs/models.md names, made by TensorFlow 1.15.0: run by its Python.

usage: PYTHON page_models.py DIRECTORY   (which is not there yet)

- `frozen.pb`: images float (-1, 4) -> probabilities (-1, 3), by a layer whose weights are constants.
- `checkpoint/model`: the same with variables.
- `training/model.ckpt-2000`: other values of the variables; `weights.npz`: others again.
- `models/classifier/1`, `exported`, `another`: SavedModels of it, each with weights of its own.
"""

# mypy: ignore-errors

import sys
from pathlib import Path

import numpy
import tensorflow

tf = tensorflow.compat.v1


def main(place):
    place.mkdir()
    with tf.Graph().as_default() as graph, tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, 4], "images")
        values = numpy.linspace(-1, 1, 12, dtype=numpy.float32).reshape(4, 3)
        weights = tf.get_variable("layer/weights", initializer=values)
        probabilities = tf.nn.softmax(tf.matmul(images, weights, name="layer/logits"), name="probabilities")
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(place / "checkpoint" / "model"))
        frozen = tf.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["probabilities"])
        (place / "frozen.pb").write_bytes(frozen.SerializeToString())
        for factor, name in ((1, "models/classifier/1"), (2, "exported"), (3, "another")):
            weights.load(values * factor, session)
            directory = str(place / name)
            tf.saved_model.simple_save(session, directory, {"images": images}, {"probabilities": probabilities})
        weights.load(values / 2, session)
        tf.train.Saver().save(session, str(place / "training" / "model.ckpt"), 2000)
        numpy.savez(place / "weights.npz", **{"layer/weights": values / 4})


if __name__ == "__main__":
    main(Path(sys.argv[1]))

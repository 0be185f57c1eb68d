"""Graphs without variables run by TensorFlow 1.15.0: run by its Python.

usage: PYTHON tensorflow_runs.py DIRECTORY MODELS   (prints one JSON document)

DIRECTORY has NAME.pb, a frozen graph, or NAME/VERSION, a SavedModel; MODELS is what
tensorflow_variables.py made. For each graph, by its name: "equal", or in what it differs from the graph with variables,
or the error. An output has to be equal to the bit.
"""

# mypy: ignore-errors

import json
import sys
from pathlib import Path

import numpy
import tensorflow

tf = tensorflow.compat.v1


def verdict(file, place):
    wanted = numpy.load(str(place / "answers.npz"), allow_pickle=True)
    inputs = numpy.load(str(place / "inputs.npz"))
    with tf.Graph().as_default() as imported, tf.Session() as session:
        if file.is_dir():
            tf.saved_model.loader.load(session, ["serve"], str(file / "1"))
        else:
            graph = tf.GraphDef()
            graph.ParseFromString(file.read_bytes())
            tf.import_graph_def(graph, name="")
        there = {operation.name for operation in imported.get_operations()}
        variables = [op.name for op in imported.get_operations() if op.type in ("VarHandleOp", "VariableV2")]
        if variables:
            return f"variables: {variables}"
        fed = {name.replace("|", "/"): inputs[name] for name in inputs.files}
        outputs = [name.replace("|", "/") + ":0" for name in wanted.files]
        found = session.run(outputs, {f"{name}:0": value for name, value in fed.items() if name in there})
    differing = [name for name, value in zip(wanted.files, found) if not same(value, wanted[name])]
    return f"differs: {differing}" if differing else "equal"


def same(one, other):
    one, other = numpy.asarray(one), numpy.asarray(other)
    return one.dtype == other.dtype and one.shape == other.shape and bool(numpy.all(one == other))


def main(directory, models):
    verdicts = {}
    for file in sorted(Path(directory).iterdir()):
        try:
            verdicts[file.stem] = verdict(file, Path(models, file.stem.partition("-")[0]))
        except Exception as error:
            verdicts[file.stem] = str(error)
    print(json.dumps(verdicts))


if __name__ == "__main__":
    main(*sys.argv[1:])

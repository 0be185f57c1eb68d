"""Models for the tests of partition-graph, and the graphs that TensorFlow 1.15.0 really runs: by its Python.

usage: PYTHON partition_models.py DIRECTORY   (makes DIRECTORY/NAME/1; prints one JSON document of the graphs that ran)

- `middle`: x (-1, 8) -> y, h: dense layers, Unique in their middle, dense layers.
- `texts`: t string -> y: strings, a lookup table and an embedding before dense layers.
- `loops`: x -> y: a v1 loop of matrices, one with Unique in it, a dense layer.
- `calls`: x -> y, u, and the signature `second`, x -> u: a function with Unique in it.
- `references`: x -> y: reference variables.
- `frozen.pb`: `middle` as a graph alone.
"""

# mypy: ignore-errors

import json
import sys
from pathlib import Path

import numpy
import tensorflow

tf = tensorflow.compat.v1
PREDICT = "tensorflow/serving/predict"


def dense(x, size, name):
    with tf.name_scope(name):
        w = tf.constant(numpy.full((int(x.shape[-1]), size), 0.1, "f"), name="w")
        return tf.nn.relu(tf.matmul(x, w, name="matmul"), name="relu")


def middle():
    x = tf.placeholder(tf.float32, [None, 8], "x")
    h = dense(dense(dense(x, 16, "a"), 16, "b"), 16, "c")
    values = tf.unique(tf.reshape(h, [-1]))[0]
    y = tf.identity(dense(tf.reshape(values[:1], [1, 1]), 4, "d"), "y")
    return {"serving_default": ({"x": x}, {"y": y, "h": h})}


def texts():
    t = tf.placeholder(tf.string, [None], "t")
    words = tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b"]), tf.constant([0, 1], tf.int64))
    ids = tf.lookup.StaticVocabularyTable(words, 1).lookup(tf.strings.lower(tf.strings.strip(t)))
    embedding = tf.get_variable("embedding", [3, 8], use_resource=True)
    y = dense(dense(tf.nn.embedding_lookup(embedding, ids), 8, "a"), 4, "b")
    return {"serving_default": ({"t": t}, {"y": y})}


def loops():
    x = tf.placeholder(tf.float32, [None, 8], "x")

    def round_of(body):
        return lambda i, h: (i + 1, body(h))

    matrix = numpy.eye(8, dtype="f")
    _, h = tf.while_loop(
        lambda i, _: i < 3, round_of(lambda h: tf.nn.relu(tf.matmul(h, tf.constant(matrix)))), [0, x], name="fast"
    )
    shapes = [tf.TensorShape([]), tf.TensorShape([None, None])]
    _, h = tf.while_loop(
        lambda i, _: i < 3,
        round_of(lambda h: tf.reshape(tf.gather(tf.unique(tf.reshape(h, [-1]))[0], [[0] * 8]), [-1, 8])),
        [0, h],
        shape_invariants=shapes,
        name="slow",
    )
    return {"serving_default": ({"x": x}, {"y": dense(tf.reshape(h, [-1, 8]), 3, "last")})}


def calls():
    @tensorflow.function
    def called(a, b):
        return tf.nn.relu(tf.matmul(a, b, name="inner")) + 1.0, tf.unique(tf.reshape(a, [-1]))[0]

    x = tf.placeholder(tf.float32, [None, 8], "x")
    y, u = called(x, tf.constant(numpy.eye(8, dtype="f")))
    return {"serving_default": ({"x": x}, {"y": y, "u": u}), "second": ({"x": x}, {"u": u})}


def references():
    x = tf.placeholder(tf.float32, [None, 8], "x")
    w = tf.get_variable("w", [8, 4], use_resource=False)
    return {"serving_default": ({"x": x}, {"y": tf.nn.relu(tf.matmul(x, w), name="y")})}


def nodes_of(session, inputs, outputs):
    """The nodes of the graph that runs, with their inputs: after TensorFlow's optimizers, as the adapter gets it."""
    fed = {tensor: [b" a"] if tensor.dtype == tf.string else numpy.ones((1, 8), "f") for tensor in inputs.values()}
    metadata = tf.RunMetadata()
    session.run(outputs, fed, tf.RunOptions(output_partition_graphs=True), metadata)
    return {node.name: [node.op, list(node.input)] for graph in metadata.partition_graphs for node in graph.node}


def main(root):
    ran = {}
    for make in (middle, texts, loops, calls, references):
        with tf.Graph().as_default() as graph, tf.Session() as session:
            signatures, ran[make.__name__] = {}, {}
            for name, (inputs, outputs) in make().items():
                infos = [
                    {key: tf.saved_model.build_tensor_info(tensor) for key, tensor in side.items()}
                    for side in (inputs, outputs)
                ]
                signatures[name] = (tf.saved_model.build_signature_def(*infos, PREDICT), inputs, outputs)
            session.run([tf.global_variables_initializer(), tf.tables_initializer()])
            builder = tf.saved_model.Builder(str(root / make.__name__ / "1"))
            of_requests = {name: signature for name, (signature, _, _) in signatures.items()}
            builder.add_meta_graph_and_variables(session, ["serve"], of_requests, main_op=tf.tables_initializer())
            builder.save()
            for name, (_, inputs, outputs) in signatures.items():
                ran[make.__name__][name] = nodes_of(session, inputs, outputs)
            if make is middle:
                (root / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    print(json.dumps(ran))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

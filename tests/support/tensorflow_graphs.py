"""Graphs made by TensorFlow 1.15.0, and what its protobuf reads in them and in damaged copies: run by its Python.

usage: PYTHON tensorflow_graphs.py DIRECTORY [DAMAGED]   (makes DIRECTORY, which is not there yet)

- `frozen.pb`, `frozen.pbtxt`: two inputs x float (-1, 4) and t string (-1), two outputs scores and texts; a constant of
  8 KB, a device left on a node. `loops.pb`: control flow v1; `functions.pb`: v2, a function that calls another.
- `saved/1`: three signatures, a ref variable, a resource variable, a partitioned one, a table with its asset.
- `training.meta` with its checkpoint: a loss, a summary, an optimiser.
- `read.json`: by file, what protobuf reads; `tensors.json`: the type and the shape of each tensor once imported.
- `damaged.bin`, `damaged.json`: DAMAGED (1,500) damaged copies of graphs, each behind its length in 4 bytes, and what
  protobuf reads in each; null where it refuses it.
"""

# mypy: ignore-errors

import json
import random
import struct
import sys
from pathlib import Path

import numpy
import tensorflow
from google.protobuf.message import DecodeError
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

tf = tensorflow.compat.v1


class SeveralKindsError(Exception):
    """A list of values of several kinds, which nothing of TensorFlow has."""


def shape_of(shape):
    return None if shape.unknown_rank else [dim.size for dim in shape.dim]


def tensor_of(tensor):
    return [tensor.dtype, shape_of(tensor.tensor_shape), tensor.tensor_content.hex()]


def call_of(call):
    return [call.name, {name: value_of(value) for name, value in call.attr.items()}]


PLAIN = {
    "s": bytes.hex, "i": int, "f": lambda f: struct.pack("<f", f).hex(), "b": bool, "type": int, "shape": shape_of,
    "tensor": tensor_of, "func": call_of, "placeholder": str,
}  # fmt: skip


def value_of(value):
    kind = value.WhichOneof("value")
    if kind != "list":
        return [kind, PLAIN[kind](getattr(value, kind))] if kind else None
    found = {name: [PLAIN[name](each) for each in getattr(value.list, name)] for name in list(PLAIN)[:-1]}
    there = {name: values for name, values in found.items() if values}
    if len(there) > 1:
        raise SeveralKindsError
    return ["list", there]


def node_of(node):
    attributes = {name: value_of(value) for name, value in node.attr.items()}
    return [node.name, node.op, list(node.input), node.device, attributes]


def graph_of(graph):
    functions = {
        function.signature.name: [
            [argument.name for argument in function.signature.input_arg],
            [argument.name for argument in function.signature.output_arg],
            [node_of(node) for node in function.node_def],
            dict(function.ret),
        ]
        for function in graph.library.function
    }
    return [[node_of(node) for node in graph.node], functions]


def parsed(data):
    graph = graph_pb2.GraphDef()
    try:
        graph.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError, ValueError):
        return None
    try:
        return graph_of(graph)
    except SeveralKindsError:
        return "several kinds"


def tensors_of(file):
    definition = graph_pb2.GraphDef()
    definition.ParseFromString(file.read_bytes())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
    tensors = [tensor for operation in graph.get_operations() for tensor in operation.outputs]
    return {
        tensor.name: [tensor.dtype.base_dtype.name, None if tensor.shape.rank is None else tensor.shape.as_list()]
        for tensor in tensors
    }


def two_of_each():
    x = tf.placeholder(tf.float32, [None, 4], "x")
    t = tf.placeholder(tf.string, [None], "t")
    big = tf.constant(numpy.arange(2048, dtype=numpy.float32).reshape(4, 512), name="big")
    with tf.device("/device:GPU:0"):
        product = tf.matmul(x, big, name="product")
    tf.nn.softmax(product, name="scores")
    tf.strings.join([t, tf.constant("!")], name="texts")


def loops():
    x = tf.placeholder(tf.int32, [], "x")
    result = tf.while_loop(lambda i: i < 10, lambda i: i + x, [tf.constant(0)])
    tf.identity(tf.cond(x > 3, lambda: result * 2, lambda: result), "y")


def functions():
    tf.enable_control_flow_v2()

    @tensorflow.function
    def inner(a):
        return a * 2.0

    @tensorflow.function
    def outer(a, b):
        if tf.reduce_sum(a) > 0.0:
            return inner(a) + b
        return b

    x = tf.placeholder(tf.float32, [None], "x")
    tf.identity(outer(x, x + 1.0), "y")
    tf.disable_control_flow_v2()


def saved(directory):
    vocabulary = directory / "vocabulary.txt"
    vocabulary.write_text("cat\ndog\n")
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 3], "x")
        word = tf.placeholder(tf.string, [None], "word")
        ref = tf.get_variable("ref", [3, 2], use_resource=False)
        resource = tf.get_variable("resource", [2], use_resource=True)
        parts = tf.get_variable("parts", [6, 2], partitioner=tf.fixed_size_partitioner(3), use_resource=False)
        table = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(
                str(vocabulary), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ), 1,
        )  # fmt: skip
        y = tf.add(tf.matmul(x, ref), resource, name="y")
        z = tf.nn.embedding_lookup(parts, table.lookup(word), name="z")
        signatures = {
            name: tf.saved_model.predict_signature_def(inputs, outputs)
            for name, inputs, outputs in (
                ("serving_default", {"x": x}, {"y": y}),
                ("words", {"word": word}, {"z": z}),
                ("both", {"x": x, "word": word}, {"y": y, "z": z}),
            )
        }
        session.run([tf.global_variables_initializer(), tf.tables_initializer()])
        builder = tf.saved_model.Builder(str(directory / "saved" / "1"))
        builder.add_meta_graph_and_variables(
            session, ["serve"], signatures, main_op=tf.tables_initializer(), assets_collection=tf.get_collection(
                tf.GraphKeys.ASSET_FILEPATHS)
        )  # fmt: skip
        builder.save()


def training(directory):
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 3], "x")
        y = tf.layers.dense(x, 1, name="y")
        loss = tf.reduce_mean(tf.square(y), name="loss")
        tf.summary.scalar("loss", loss)
        tf.train.AdamOptimizer().minimize(loss)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(directory / "training"))


def damaged(data, randomly):
    data = bytearray(data)
    for _ in range(1 + int(randomly.random() * 3)):
        at = int(randomly.random() * len(data)) if data else 0
        kind = int(randomly.random() * 5)
        if kind == 0 and data:
            data[at] = int(randomly.random() * 256)
        elif kind == 1 and data:
            data[at] = (data[at] + (1 if randomly.random() < 0.5 else -1)) % 256
        elif kind == 2:
            del data[at : at + 1 + int(randomly.random() * 8)]
        elif kind == 3:
            data[at:at] = bytes(int(randomly.random() * 256) for _ in range(1 + int(randomly.random() * 3)))
        else:
            other = int(randomly.random() * max(len(data), 1))
            data[at:at] = data[other : other + int(randomly.random() * 40)]
    return bytes(data[: int(randomly.random() * len(data))] if randomly.random() < 0.1 else data)


def main(directory, count):
    directory = Path(directory).resolve()
    directory.mkdir(parents=True)
    read = {}
    for name, make in (("frozen", two_of_each), ("loops", loops), ("functions", functions)):
        with tf.Graph().as_default() as graph:
            make()
            definition = graph.as_graph_def(add_shapes=name == "loops")
            tf.io.write_graph(definition, str(directory), name + ".pb", as_text=False)
            tf.io.write_graph(definition, str(directory), name + ".pbtxt", as_text=True)
            read[name + ".pb"] = graph_of(definition)
    saved(directory)
    training(directory)
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((directory / "saved/1/saved_model.pb").read_bytes())
    read["saved/1"] = graph_of(model.meta_graphs[0].graph_def)
    meta = meta_graph_pb2.MetaGraphDef()
    meta.ParseFromString((directory / "training.meta").read_bytes())
    read["training.meta"] = graph_of(meta.graph_def)
    (directory / "read.json").write_text(json.dumps(read))
    graphs = {name: tensors_of(directory / name) for name in ("frozen.pb", "loops.pb", "functions.pb")}
    (directory / "tensors.json").write_text(json.dumps(graphs))
    randomly = random.Random(15)
    originals = [(directory / name).read_bytes() for name in ("loops.pb", "functions.pb")]
    verdicts = []
    with (directory / "damaged.bin").open("wb") as file:
        for at in range(count):
            data = originals[at % len(originals)]
            first = int(randomly.random() * len(data))
            data = damaged(data if at % 4 == 0 else graph_part(originals[at % 2], first), randomly)
            file.write(struct.pack("<I", len(data)) + data)
            verdicts.append(parsed(data))
    (directory / "damaged.json").write_text(json.dumps(verdicts))


def graph_part(data, start):
    """Some nodes of a graph, or of a function: short, so that damage is everywhere in it now and then."""
    graph = graph_pb2.GraphDef()
    graph.ParseFromString(data)
    part = graph_pb2.GraphDef()
    first = start % len(graph.node)
    part.node.extend(graph.node[first : first + 3])
    if len(graph.library.function):
        function = graph.library.function[start % len(graph.library.function)]
        added = part.library.function.add()
        added.signature.CopyFrom(function.signature)
        added.node_def.extend(function.node_def[:2])
    return part.SerializeToString()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1500)

"""Graphs with variables and their checkpoints, made by TensorFlow 1.15.0, with what they answer: run by its Python.

usage: PYTHON tensorflow_variables.py DIRECTORY   (the directory is not there yet)

Each NAME/ has model.meta, model.index and the data (but `saved`: a SavedModel), inputs.npz with the inputs by the names
of their nodes, and answers.npz with the outputs, whose / is written as |.
"""

# mypy: ignore-errors

import sys
from pathlib import Path

import numpy
import tensorflow
from tensorflow.python.framework import function
from tensorflow.python.ops import control_flow_v2_toggles

tf = tensorflow.compat.v1
RANDOM = numpy.random.RandomState(1)


def numbers(*shape):
    return RANDOM.standard_normal(shape).astype(numpy.float32)


def ref():
    """Variables by reference, one of them large, batch normalisation that doesn't train, and training beside it."""
    x = tf.placeholder(tf.float32, [None, 60], "x")
    w = tf.get_variable("dense/w", initializer=numbers(60, 70))
    b = tf.get_variable("dense/b", initializer=numbers(70))
    y = tf.layers.batch_normalization(tf.reshape(tf.matmul(x, w) + b, [-1, 7, 10, 1]), training=False)
    y = tf.identity(y, "y")
    tf.train.AdamOptimizer().minimize(tf.reduce_mean(y))
    return {"x": numbers(3, 60)}, ["y"]


def resource():
    """Variables by handles: read, gathered from, asked for their shape."""
    ids = tf.placeholder(tf.int64, [None], "ids")
    table = tf.get_variable("table", initializer=numbers(100, 30), use_resource=True)
    w = tf.get_variable("w", initializer=numbers(30, 4), use_resource=True)
    rows = tf.nn.embedding_lookup(table, ids)
    picked = tf.gather_nd(table, tf.stack([ids, ids % 30], 1))
    shape = tf.raw_ops.VariableShape(input=table.handle, out_type=tf.int64)
    tf.identity(tf.matmul(rows, w), "y")
    tf.identity(picked, "scope/picked")
    tf.identity(shape, "shape")
    tf.assign_add(w, tf.ones([30, 4]))
    return {"ids": numpy.array([3, 99, 0])}, ["y", "scope/picked", "shape"]


def counted(name, shape, partitioner, **more):
    def part(shape_of_part, dtype, partition_info):
        whole = numpy.arange(numpy.prod(shape), dtype=numpy.float32).reshape(shape) / 7
        return tf.constant(
            whole[tuple(slice(first, first + n) for first, n in zip(partition_info.var_offset, shape_of_part))]
        )

    return tf.get_variable(name, shape, tf.float32, part, partitioner=partitioner, **more)


def parts():
    """Variables in parts, along the first and along the second dimension."""
    ids = tf.placeholder(tf.int64, [None], "ids")
    rows = counted("rows", [700, 3], tf.fixed_size_partitioner(3))
    columns = counted("columns", [3, 900], tf.fixed_size_partitioner(2, axis=1), use_resource=True)
    found = tf.nn.embedding_lookup(rows, ids, partition_strategy="div")
    tf.matmul(found, tf.convert_to_tensor(columns), name="y")
    return {"ids": numpy.array([0, 699, 350])}, ["y"]


def types():
    """Variables of other types than float32, texts and an empty one among them; some by reference, some by handles."""
    x = tf.placeholder(tf.float32, [], "x")
    outputs = []
    for dtype in (tf.float64, tf.float16, tf.bfloat16, tf.int32, tf.int64, tf.uint8, tf.int8, tf.bool, tf.complex64):
        for use_resource in (False, True):
            name = f"{dtype.name}_{use_resource}".lower()
            v = tf.get_variable(name, initializer=tf.cast(tf.constant([[1, 0, 3]]), dtype), use_resource=use_resource)
            y = tf.cast(v, tf.complex64 if dtype.is_complex else tf.float32)
            outputs.append(tf.multiply(y, tf.cast(x, y.dtype), "y_" + name).op.name)
    texts = tf.get_variable("texts", initializer=tf.constant([[b"a", b""], [b"\xff\x00", b"xyz"]]))
    outputs.append(tf.identity(texts, "y_texts").op.name)
    empty = tf.get_variable("empty", initializer=tf.zeros([0, 3]), use_resource=True)
    outputs.append(tf.concat([empty, [[1.0, 2, 3]]], 0, "y_empty").op.name)
    return {"x": numpy.float32(2)}, outputs


def control_v1():
    """tf.cond and tf.while_loop of Switch, Merge and Enter, with variables by reference and by handle inside."""
    x = tf.placeholder(tf.float32, [], "x")
    a = tf.get_variable("a", initializer=2.5)
    b = tf.get_variable("b", initializer=[1.5, 2.5], use_resource=True)
    chosen = tf.cond(x > 1, lambda: a * b[0], lambda: a + b[1])
    looped = tf.while_loop(lambda i: i < 20, lambda i: i * a + b.read_value()[0], [chosen])
    picked = tf.cond(x > 1, lambda: tf.gather(b, 1), lambda: tf.constant(0.0))
    tf.identity(looped + picked, "y")
    return {"x": numpy.float32(2)}, ["y"]


def control_v2():
    """The same of If, While and Case, whose functions get the handles; nested."""
    control_flow_v2_toggles.enable_control_flow_v2()
    x = tf.placeholder(tf.float32, [], "x")
    a = tf.get_variable("a", initializer=numbers(3), use_resource=True)
    b = tf.get_variable("b", initializer=[1.5, 2.5], use_resource=True)

    def body(i, total):
        more = tf.cond(total[0] > 3, lambda: tf.gather(b, 0), lambda: b.read_value()[1] + a.read_value()[2])
        return i + 1, total + a * more

    _, total = tf.while_loop(lambda i, _: i < tf.cast(b.read_value()[1], tf.int32) + 2, body, [0, tf.stack([x, x, x])])
    tf.identity(total, "y")
    tf.identity(tf.switch_case(tf.cast(x, tf.int32), [lambda: a[0] - x, lambda: a[1] * x, lambda: b[1] + x]), "case")
    control_flow_v2_toggles.disable_control_flow_v2()
    return {"x": numpy.float32(2)}, ["y", "case"]


def functions():
    """Functions that capture variables, one within another, called with different ones; one called by its name."""
    x = tf.placeholder(tf.float32, [None, 3], "x")
    a = tf.get_variable("a", initializer=numbers(3, 3), use_resource=True)
    b = tf.get_variable("b", initializer=numbers(3, 3), use_resource=True)

    @tensorflow.function
    def inner(value):
        return tf.matmul(value, a) + tf.nn.embedding_lookup(b, tf.constant([1]))

    @tensorflow.function
    def outer(value):
        return inner(value) * 2 + inner(tf.matmul(value, b))

    @function.Defun(tf.resource, tf.float32)
    def by_name(handle, value):
        read = tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)
        return tf.matmul(value, tf.reshape(read, [3, 3]))

    tf.identity(outer(x) + by_name(a.handle, x) - by_name(b.handle, x), "y")
    return {"x": numbers(2, 3)}, ["y"]


def renamed():
    """A Saver that has other names for the variables than the graph, and swaps two."""
    a, b = (tf.get_variable(name, initializer=value) for name, value in (("a", [1.0]), ("b", [2.0])))
    tf.identity(a * 10 + b, "y")
    return {}, ["y"], tf.train.Saver({"b": a, "other/b": b})


def updating():
    """Batch normalisation that a placeholder lets train, or not: its updates run in any case."""
    x = tf.placeholder(tf.float32, [None, 2, 2, 3], "x")
    is_training = tf.placeholder_with_default(True, [], "is_training")
    y = tf.layers.batch_normalization(x * 3 + 1, training=is_training)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        tf.identity(y, "y")
    return {"x": numbers(4, 2, 2, 3), "is_training": numpy.bool_(False)}, ["y"]


def training():
    """Averages that are updated in a branch of training: references of variables go through a Switch."""
    x = tf.placeholder(tf.float32, [None, 3], "x")
    is_training = tf.placeholder(tf.bool, [], "is_training")
    mean = tf.get_variable("mean", initializer=numbers(3), trainable=False)
    now = tf.reduce_mean(x, 0)
    update = tf.cond(is_training, lambda: tf.assign_sub(mean, (mean - now) * 0.1), lambda: mean + 0)
    with tf.control_dependencies([update]):
        centre = tf.cond(is_training, lambda: now, lambda: mean * 1)
        tf.subtract(x, centre, "y")
    return {"x": numbers(4, 3), "is_training": numpy.bool_(False)}, ["y"]


def saved():
    """A SavedModel, with variables in parts, by reference and by handles."""
    ids = tf.placeholder(tf.int64, [None], "ids")
    rows = counted("rows", [700, 3], tf.fixed_size_partitioner(3))
    w = tf.get_variable("w", initializer=numbers(3, 4), use_resource=True)
    tf.matmul(tf.nn.embedding_lookup(rows, ids, partition_strategy="div"), w, name="y")
    return {"ids": numpy.array([0, 699, 350])}, ["y"]


def main(directory):
    for make in (ref, resource, parts, types, control_v1, control_v2, functions, renamed, updating, training, saved):
        place = Path(directory, make.__name__)
        place.mkdir(parents=True)
        with tf.Graph().as_default() as graph, tf.Session() as session:
            inputs, outputs, *saver = make()
            session.run(tf.global_variables_initializer())
            answers = session.run([f"{name}:0" for name in outputs], {f"{name}:0": of for name, of in inputs.items()})
            numpy.savez(str(place / "inputs.npz"), **{name.replace("/", "|"): of for name, of in inputs.items()})
            numpy.savez(
                str(place / "answers.npz"), **{name.replace("/", "|"): of for name, of in zip(outputs, answers)}
            )
            if make is saved:
                tf.saved_model.simple_save(
                    session, str(place / "1"), {"ids": graph.get_tensor_by_name("ids:0")},
                    {"y": graph.get_tensor_by_name("y:0")},
                )  # fmt: skip
            else:
                (saver[0] if saver else tf.train.Saver()).save(session, str(place / "model"))


if __name__ == "__main__":
    main(sys.argv[1])

"""Checkpoints made by TensorFlow 1.15.0: run by its Python.

usage: PYTHON tensorflow_checkpoints.py DIRECTORY   (the directory is not there yet)

- `all`: a variable of each dtype, by TensorFlow's name for it, then scalar, empty, texts; values.npz has the same.
- `many`: 15,000 variables, whose index has more than one block.
- `parts`: `rows` float (7, 3) in three parts by a partitioner, `columns` int32 (4, 6) in two parts, `whole`.
- `sharded`: variables on two devices, each with a data file.
- `objects`: tf.train.Checkpoint with a variable `w`. `v1`: the older format.
"""

# mypy: ignore-errors

import sys
from pathlib import Path

import numpy
import tensorflow

tf = tensorflow.compat.v1
DTYPES = (
    tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16,
    tf.uint32, tf.uint64, tf.bool, tf.complex64, tf.complex128, tf.qint8, tf.quint8, tf.qint16, tf.quint16, tf.qint32,
)  # fmt: skip
PLAIN = {"qint8": "int8", "quint8": "uint8", "qint16": "int16", "quint16": "uint16", "qint32": "int32"}


def save(prefix, tensors, slices=None):
    """The tensors as they are: SaveV2 without a Saver."""
    names = [name for name, _ in tensors]
    with tf.Session() as session:
        session.run(
            tf.raw_ops.SaveV2(
                prefix=prefix,
                tensor_names=names,
                shape_and_slices=slices or [""] * len(names),
                tensors=[tensor for _, tensor in tensors],
            )
        )


def all_types(directory):
    values = {}
    tensors = []
    for dtype in DTYPES:
        numbers = numpy.array([[1, 0, 3], [100, 5, 6]])
        if dtype == tf.bfloat16:
            tensor = tf.cast(tf.constant(numbers, tf.float32), dtype)
            value = (numbers.astype(numpy.float32).view(numpy.uint32) >> 16).astype(numpy.uint16)
        elif dtype.name in PLAIN:
            value = numbers.astype(PLAIN[dtype.name])
            tensor = tf.bitcast(tf.constant(value), dtype)
        else:
            value = numbers.astype(dtype.as_numpy_dtype)
            tensor = tf.constant(value)
        tensors.append((dtype.name, tensor))
        values[dtype.name] = value
    tensors += [("scalar", tf.constant(7, tf.int64)), ("empty", tf.zeros([0, 3])), ("texts", tf.constant(TEXTS))]
    save(directory + "/all", tensors)
    numpy.savez(directory + "/values.npz", scalar=numpy.int64(7), empty=numpy.zeros([0, 3], numpy.float32), **values)


TEXTS = [[b"abc", b"", b"\xff\x00"], ["模型".encode(), b"x" * 300, b"y"]]


def many(directory):
    with tf.Graph().as_default():
        one = tf.constant([1.0, 2.0])
        save(directory + "/many", [(f"scope_{n % 7}/layer_{n * 7919 % 15000}/kernel", one) for n in range(15000)])


def counted(name, shape, dtype, partitioner):
    """A partitioned variable of the numbers from 0 on."""

    def part(shape_of_part, dtype, partition_info):
        whole = numpy.arange(numpy.prod(shape), dtype=dtype.as_numpy_dtype).reshape(shape)
        at = tuple(slice(first, first + n) for first, n in zip(partition_info.var_offset, shape_of_part))
        return tf.constant(whole[at])

    return tf.get_variable(name, shape, dtype, part, partitioner=partitioner)


def parts(directory):
    with tf.Graph().as_default(), tf.Session() as session:
        rows = counted("rows", [7, 3], tf.float32, tf.fixed_size_partitioner(3))
        columns = counted("columns", [4, 6], tf.int32, tf.fixed_size_partitioner(2, axis=1))
        whole = tf.get_variable("whole", initializer=[1, 2, 3], use_resource=True)
        session.run(tf.global_variables_initializer())
        tf.train.Saver([rows, columns, whole]).save(session, directory + "/parts")


def sharded(directory):
    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
        for number in range(4):
            with tf.device(f"/cpu:{number % 2}"):
                tf.get_variable(f"v{number}", initializer=[float(number)] * 5, use_resource=number > 1)
        session.run(tf.global_variables_initializer())
        tf.train.Saver(sharded=True).save(session, directory + "/sharded", global_step=9)


def objects(directory):
    with tf.Graph().as_default(), tf.Session() as session:
        checkpoint = tf.train.Checkpoint(w=tf.get_variable("w", initializer=[1.5, 2.5], use_resource=True))
        session.run(tf.global_variables_initializer())
        checkpoint.save(directory + "/objects", session)


def v1(directory):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("v", initializer=[1.0])
        session.run(tf.global_variables_initializer())
        tf.train.Saver(write_version=tf.train.SaverDef.V1).save(session, directory + "/v1")


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir()
    for make in (all_types, many, parts, sharded, objects, v1):
        make(sys.argv[1])

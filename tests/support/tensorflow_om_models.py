"""SavedModels that convert-om is tried with, made by TensorFlow 1.15.0: run by its Python.

usage: PYTHON tensorflow_om_models.py DIRECTORY   (makes DIRECTORY/NAME/1 for each; the directory is not there yet)

- `plain`: images float (-1, 4), scale int32 (), unused float (-1) -> scores float (-1, 2), best int64 (-1); a variable.
- `resources`: x float (-1, 8, 8, 3) -> y (-1, 5): a convolution with resource variables, and partitioned weights.
- `texts`: t string (-1) -> length int32 (-1), doubled float (-1): strings become numbers in the node `numbers`.
- `split`: x float (4, 6) -> y float (4, 2): in the middle the node `parts` of three outputs.
- `signatures`: serving_default, `other` and `third` (x -> y, each its own), and `echo`, whose output is its input too.
- `default`: x float (-1, 2) -> y: x plus a placeholder with the default 3, on the device GPU:0.
- `conditional`: x float () -> y: control flow of version 1. `functions`: the same of version 2.
- `looped`: n int32 () -> total: a loop of version 1.
"""

# mypy: ignore-errors

import sys
from pathlib import Path

import tensorflow

tf = tensorflow.compat.v1
PREDICT = "tensorflow/serving/predict"


def save(root, name, make):
    soft = tf.ConfigProto(allow_soft_placement=True)
    with tf.Graph().as_default(), tf.Session(config=soft) as session:
        made = {
            key: tf.saved_model.build_signature_def(
                {alias: tf.saved_model.build_tensor_info(tensor) for alias, tensor in inputs.items()},
                {alias: tf.saved_model.build_tensor_info(tensor) for alias, tensor in outputs.items()},
                PREDICT,
            )
            for key, (inputs, outputs) in make().items()
        }
        session.run(tf.global_variables_initializer())
        builder = tf.saved_model.Builder(str(Path(root) / name / "1"))
        builder.add_meta_graph_and_variables(session, ["serve"], made)
        builder.save()


def one(inputs, outputs):
    return {"serving_default": (inputs, outputs)}


def plain():
    x = tf.placeholder(tf.float32, [None, 4], "x")
    scale = tf.placeholder(tf.int32, [], "scale")
    unused = tf.placeholder(tf.float32, [None], "unused")
    weights = tf.get_variable("w", initializer=tf.reshape(tf.range(8.0), [4, 2]))
    scores = tf.identity(tf.matmul(x, weights) * tf.cast(scale, tf.float32), "scores")
    return one(
        {"images": x, "scale": scale, "unused": unused}, {"scores": scores, "best": tf.argmax(scores, 1, name="best")}
    )


def resources():
    x = tf.placeholder(tf.float32, [None, 8, 8, 3], "x")
    with tf.variable_scope("net", use_resource=True):
        kernel = tf.get_variable("kernel", initializer=tf.reshape(tf.range(3 * 3 * 3 * 4.0) / 100, [3, 3, 3, 4]))
        pooled = tf.reduce_mean(tf.nn.conv2d(x, kernel, strides=[1, 2, 2, 1], padding="SAME"), [1, 2])
    parts = tf.get_variable(
        "parts", [4, 5], initializer=tf.ones_initializer(), partitioner=tf.fixed_size_partitioner(2)
    )
    return one({"x": x}, {"y": tf.nn.softmax(tf.matmul(pooled, tf.convert_to_tensor(parts)), name="y")})


def texts():
    t = tf.placeholder(tf.string, [None], "t")
    numbers = tf.string_to_number(t, name="numbers")
    doubled = tf.multiply(numbers, tf.get_variable("two", initializer=2.0), name="doubled")
    return one({"t": t}, {"length": tf.strings.length(t), "doubled": doubled})


def split():
    x = tf.placeholder(tf.float32, [4, 6], "x")
    parts = tf.split(x + tf.get_variable("one", initializer=1.0), 3, axis=1, name="parts")
    return one({"x": x}, {"y": tf.add(parts[0], parts[1] * parts[2], name="y")})


def signatures():
    made = {}
    for number, key in enumerate(("serving_default", "other", "third")):
        x = tf.placeholder(tf.float32, [None, number + 1], f"x_{key}")
        made[key] = ({"x": x}, {"y": tf.identity(x * (number + 2), f"y_{key}")})
    x = tf.placeholder(tf.float32, [None], "x_echo")
    made["echo"] = ({"x": x}, {"same": x, "half": tf.multiply(x, 0.5, name="half")})
    return made


def default():
    x = tf.placeholder(tf.float32, [None, 2], "x")
    with tf.device("/device:GPU:0"):
        return one({"x": x}, {"y": tf.add(x, tf.placeholder_with_default(3.0, [], "more"), name="y")})


def conditional():
    x = tf.placeholder(tf.float32, [], "x")
    return one({"x": x}, {"y": tf.identity(tf.cond(x > 0, lambda: x * 2, lambda: x - 1), "y")})


def looped():
    n = tf.placeholder(tf.int32, [], "n")
    return one({"n": n}, {"total": tf.while_loop(lambda i, _: i < n, lambda i, t: (i + 1, t + i), (0, 0))[1]})


def functions():
    tf.enable_control_flow_v2()
    made = conditional()
    tf.disable_control_flow_v2()
    return made


def main(root):
    for make in (plain, resources, texts, split, signatures, default, conditional, looped, functions):
        save(root, make.__name__, make)


if __name__ == "__main__":
    main(sys.argv[1])

"""Graphs that TensorFlow 1.15.0 makes, for the conversion; and what it makes of the converted: run by its Python.

usage: PYTHON convertible_models.py make DIRECTORY    writes NAME.pb and the like, and cases.json:
           by name, the values of tensors that are fed and those that the graph then answers, and the types and shapes
           that TensorFlow gives to all of its tensors
       PYTHON convertible_models.py run DIRECTORY     loads each DIRECTORY/converted/NAME/VERSION, asks it with the
           cases' values, and prints what it answers, or the error, as JSON
"""

# mypy: ignore-errors

import ctypes
import json
import os
import sys
from pathlib import Path

import numpy
import tensorflow

tf = tensorflow.compat.v1
CASES = {}


def plain(value):
    array = numpy.asarray(value)
    if array.dtype.kind in "OS":
        return numpy.vectorize(lambda each: each.decode("utf-8", "replace") if isinstance(each, bytes) else each,
                               otypes=[object])(array).tolist()  # fmt: skip
    return array.tolist()


def tensors_of(graph_def):
    """Each tensor's type and shape, as the import of the graph gives it."""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        return {
            tensor.name: [
                tensor.dtype.base_dtype.name,
                None
                if tensor.shape.ndims is None
                else [-1 if size is None else size for size in tensor.shape.as_list()],
            ]
            for operation in graph.get_operations()
            for tensor in operation.outputs
        }


def keep(root, name, graph_def, feeds, fetches, session):
    """A case: the graph in a file, what is fed, what it answers."""
    answers = session.run(list(fetches), feeds) if session is not None else []
    (root / (name + ".pb")).write_bytes(graph_def.SerializeToString())
    CASES[name] = {
        "feeds": {getattr(key, "name", key): plain(value) for key, value in feeds.items()},
        "answers": {tensor: plain(value) for tensor, value in zip(fetches, answers)},
        "tensors": tensors_of(graph_def),
    }


def frozen(session, outputs):
    return tf.graph_util.convert_variables_to_constants(session, session.graph.as_graph_def(), outputs)


def session_of(graph):
    session = tf.Session(graph=graph, config=tf.ConfigProto(allow_soft_placement=True))
    session.run(tf.global_variables_initializer())
    session.run(tf.tables_initializer())
    return session


def classifier(root):
    """Convolutions, all on a GPU, with the operators of training beside them."""
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(1)
        with tf.device("/device:GPU:0"):
            image = tf.placeholder(tf.float32, [None, 8, 8, 3], "image")
            hidden = tf.layers.conv2d(image, 4, 3, padding="same", activation=tf.nn.relu)
            hidden = tf.layers.max_pooling2d(hidden, 2, 2)
            hidden = tf.layers.batch_normalization(hidden)
            hidden = tf.reshape(hidden, [-1, 4 * 4 * 4])
            logits = tf.layers.dense(hidden, 5, name="logits")
        tf.nn.softmax(logits, name="probabilities")
        tf.argmax(logits, axis=1, name="best", output_type=tf.int32)
        labels = tf.placeholder(tf.int64, [None], "labels")
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits), name="loss")
        tf.train.AdamOptimizer().minimize(loss)
        session = session_of(graph)
        outputs = ["probabilities", "best"]
        feeds = {"image:0": numpy.random.RandomState(1).rand(2, 8, 8, 3)}
        keep(root, "classifier", frozen(session, outputs), feeds, [name + ":0" for name in outputs], session)
        constants = frozen(session, outputs)
        tf.io.write_graph(constants, str(root), "classifier.pbtxt", as_text=True)
        whole = graph.as_graph_def()
        values = {node.name: node for node in constants.node if node.op == "Const"}
        for number, node in enumerate(whole.node):  # frozen by hand, with all that only training needs
            if node.op == "VariableV2" and node.name in values:
                whole.node[number].CopyFrom(values[node.name])
        (root / "unpruned.pb").write_bytes(whole.SerializeToString())
        CASES["unpruned"] = {**CASES["classifier"], "tensors": {}}


def several(root):
    """Three inputs of three types, three outputs; texts; an output that is an operator's second."""
    with tf.Graph().as_default() as graph:
        words = tf.placeholder(tf.string, [None], "words")
        numbers = tf.placeholder(tf.int64, [None, 2], "in/numbers")
        scale = tf.placeholder(tf.float32, [], "scale")
        tf.identity(tf.strings.regex_replace(words, "a", "b"), "out/replaced")
        tf.multiply(tf.cast(numbers, tf.float32), scale, name="scaled")
        tf.nn.top_k(tf.cast(numbers, tf.float32), 1, name="top")
        tf.strings.length(words, name="lengths")
        fetches = ["out/replaced:0", "scaled:0", "top:0", "top:1", "lengths:0"]
        feeds = {"words:0": ["abab", "\u00e4"], "in/numbers:0": [[1, 2], [4, 3]], "scale:0": 0.5}
        keep(root, "several", graph.as_graph_def(), feeds, fetches, tf.Session(graph=graph))


def control_flow(root, name):
    """A condition and a loop, as Switch and Merge or as If and While."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None], "x")
        positive = tf.placeholder(tf.bool, [], "positive")
        chosen = tf.cond(positive, lambda: x * 2.0, lambda: tf.reverse(x, [0]) - 1.0)
        loop = tf.while_loop(lambda i, _: i < 5, lambda i, y: (i + 1, y * 1.5 + tf.cast(i, tf.float32)), [0, chosen])
        tf.identity(loop[1], "y")
        feeds = {"x:0": [1.0, 2.0, -3.0], "positive:0": False}
        keep(root, name, graph.as_graph_def(), feeds, ["y:0"], tf.Session(graph=graph))


def functions(root):
    """Functions that call each other, whose nodes are on a GPU, beside one that nothing calls."""
    with tf.Graph().as_default() as graph:

        @tensorflow.function
        def inner(a):
            with tf.device("/device:GPU:0"):
                return tf.nn.max_pool(a, 2, 2, "SAME", name="pool")

        @tensorflow.function
        def outer(a, b):
            return inner(a) + b, tf.shape(a)

        @tensorflow.function
        def unused(a):
            return a * 3.0

        image = tf.placeholder(tf.float32, [None, 4, 4, 1], "image")
        total, size = outer(image, tf.constant(1.5))
        unused(image)
        tf.identity(total, "total")
        tf.identity(size, "size")
        feeds = {"image:0": numpy.arange(32.0).reshape([2, 4, 4, 1])}
        config = tf.ConfigProto(allow_soft_placement=True)
        keep(
            root,
            "functions",
            graph.as_graph_def(),
            feeds,
            ["total:0", "size:0"],
            tf.Session(graph=graph, config=config),
        )


def tables(root):
    """A table that a file fills, and one that constants fill."""
    vocabulary = root / "words.txt"
    vocabulary.write_text("one\ntwo\nthree\n")
    with tf.Graph().as_default() as graph:
        words = tf.placeholder(tf.string, [None], "words")
        by_file = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(str(vocabulary), tf.string, -2, tf.int64, -1), 1
        )
        keys, values = tf.constant(["one", "two"]), tf.constant([1.5, 2.5])
        by_constants = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1.0)
        tf.identity(by_file.lookup(words), "ids")
        tf.identity(by_constants.lookup(words), "values")
        session = tf.Session(graph=graph)
        session.run(tf.tables_initializer())
        feeds = {"words:0": ["two", "three", "none"]}
        keep(root, "tables", graph.as_graph_def(), feeds, ["ids:0", "values:0"], session)
        keep(root, "tables_lost", frozen(session, ["ids"]), {}, [], None)


def training_branch(root):
    """Frozen with the branch of training, which updates what is a constant now; not importable as it is."""
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(2)
        x = tf.placeholder(tf.float32, [None, 3], "x")
        training = tf.placeholder(tf.bool, [], "is_training")
        mean = tf.get_variable("mean", initializer=[1.0, 2.0, 3.0], trainable=False, use_resource=False)

        def update():
            with tf.control_dependencies([tf.assign_sub(mean, 0.5 * mean)]):
                return x - tf.reduce_mean(x, axis=0)

        tf.identity(tf.cond(training, update, lambda: x - mean), "y")
        session = session_of(graph)
        feeds = {"x:0": [[1.0, 2.0, 5.0]], "is_training:0": False}
        answers = session.run(["y:0"], feeds)
        whole = graph.as_graph_def()
        for node in whole.node:
            if node.name == "mean":
                node.op = "Const"
                for attribute in list(node.attr):
                    del node.attr[attribute]
                node.attr["dtype"].type = 1
                node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto([1.0, 2.0, 3.0]))
        (root / "training_branch.pb").write_bytes(whole.SerializeToString())
        feeds.pop("is_training:0")
        CASES["training_branch"] = {"feeds": feeds, "answers": {"y:0": plain(answers[0])}, "tensors": {}}


def later_attributes(root):
    """What a later release writes: attributes that 1.15 does not know, at their defaults, in a function as well."""
    source = CASES["functions"]
    graph_def = tf.GraphDef.FromString((root / "functions.pb").read_bytes())
    pools = [node for function in graph_def.library.function for node in function.node_def if node.op == "MaxPool"]
    assert pools
    for node in pools:
        node.attr["explicit_paddings"].list.SetInParent()
    (root / "later_defaults.pb").write_bytes(graph_def.SerializeToString())
    CASES["later_defaults"] = {**source, "tensors": {}}
    pools[0].attr["explicit_paddings"].list.i.extend([0, 0, 1, 1, 1, 1, 0, 0])
    (root / "later_values.pb").write_bytes(graph_def.SerializeToString())
    CASES["later_values"] = {**source, "tensors": {}}


def shapes(root):
    """Operators that models end with, for the types and shapes alone."""
    with tf.Graph().as_default() as graph:
        image = tf.placeholder(tf.float32, [None, 16, 12, 3], "image")
        fixed = tf.placeholder(tf.float32, [2, 6, 4], "fixed")
        ids = tf.placeholder(tf.int32, [None, 7], "ids")
        anything = tf.placeholder(tf.float32, None, "anything")
        kernel = tf.constant(numpy.ones([3, 2, 3, 4], numpy.float32))
        for padding in ("SAME", "VALID"):
            tf.nn.conv2d(image, kernel, [1, 2, 2, 1], padding)
            tf.nn.conv2d(image, kernel, 1, padding, dilations=2)
            tf.nn.depthwise_conv2d_native(image, kernel, [1, 1, 1, 1], padding)
            tf.nn.max_pool(image, 3, 2, padding)
            tf.nn.avg_pool(image, [1, 2, 3, 1], [1, 1, 2, 1], padding)
        flat = tf.layers.flatten(image)
        tf.matmul(flat, tf.zeros([576, 5]))
        tf.matmul(fixed, fixed, transpose_a=True)
        tf.matmul(anything, tf.zeros([4, 5]), transpose_b=False)
        for keep_dims in (True, False):
            tf.reduce_mean(image, [1, -2], keepdims=keep_dims)
            tf.reduce_max(anything, 1, keepdims=keep_dims)
            tf.reduce_sum(fixed, keepdims=keep_dims)
        tf.argmax(fixed, -1)
        tf.reshape(fixed, [4, -1])
        tf.reshape(image, [-1, 16, 36])
        tf.reshape(image, tf.stack([tf.shape(image)[0], 576]))
        tf.reshape(anything, tf.concat([tf.shape(ids)[:1], [3, 2]], 0))
        tf.squeeze(tf.expand_dims(image, -2), [3])
        tf.squeeze(tf.zeros([1, 3, 1]))
        tf.expand_dims(fixed, 0)
        tf.transpose(image, [0, 3, 1, 2])
        tf.stack([fixed, fixed], 1)
        tf.unstack(fixed, axis=1)
        tf.concat([image, image], -1)
        tf.concat([image, anything], 3)
        tf.gather(fixed, ids)
        tf.gather(fixed, ids, axis=2)
        tf.nn.embedding_lookup(tf.zeros([10, 4]), ids)
        tf.one_hot(ids, 11)
        tf.one_hot(ids, 11, axis=1)
        tf.nn.top_k(fixed, 2)
        tf.slice(image, [0, 1, 1, 0], [-1, 4, -1, 2])
        image[:, 2:9:3, ::-1, 0]
        fixed[..., 1]
        fixed[:, tf.newaxis, 1:, -1]
        tf.pad(fixed, [[0, 0], [1, 2], [3, 0]])
        tf.tile(fixed, [1, 2, 3])
        tf.tile(image, [2, 1, 1, 1])
        tf.split(fixed, 2, axis=1)
        tf.split(image, [4, 12], axis=1)
        tf.fill([3, 2], 1.0)
        tf.image.resize_bilinear(image, [5, 7])
        tf.where(tf.greater(fixed, 0.0), fixed, fixed * 2.0)
        fixed + tf.zeros([4])
        image * tf.zeros([1, 12, 1])
        anything + fixed
        tf.cast(ids, tf.float32) / 2.0
        tf.nn.fused_batch_norm(image, tf.ones([3]), tf.zeros([3]), tf.zeros([3]), tf.ones([3]), is_training=False)
        tf.nn.softmax(fixed)
        tf.nn.bias_add(image, tf.zeros([3]))
        tf.rank(fixed)
        tf.size(ids)
        tf.shape(image)
        tf.placeholder_with_default(tf.zeros([2, 3]), [None, 3])
        tf.get_variable("by_reference", [3, 4], use_resource=False)
        tf.get_variable("resource", [3, 4], use_resource=True).read_value()
        tf.linspace(0.0, 1.0, 5)
        tf.nn.moments(image, [0, 1, 2])
        keep(root, "shapes", graph.as_graph_def(), {}, [], None)


def variables(root):
    """The same model three ways: variables by reference, as resources, and in parts; as checkpoints."""
    for name, resource, parts in (("by_reference", False, None), ("resources", True, None), ("in_parts", False, 2)):
        with tf.Graph().as_default() as graph:
            tf.set_random_seed(3)
            x = tf.placeholder(tf.float32, [None, 6], "x")
            partitioner = tf.fixed_size_partitioner(parts) if parts else None
            with tf.variable_scope("layer", use_resource=resource, partitioner=partitioner):
                weights = tf.get_variable("weights", [6, 4], initializer=tf.random_normal_initializer())
                bias = tf.get_variable("bias", [4], initializer=tf.random_normal_initializer(), partitioner=None)
            tf.nn.relu(tf.matmul(x, tf.convert_to_tensor(weights)) + bias, name="y")
            loss = tf.reduce_sum(tf.square(graph.get_tensor_by_name("y:0")), name="loss")
            tf.train.AdamOptimizer().minimize(loss)
            session = session_of(graph)
            tf.train.Saver().save(session, str(root / name / "model.ckpt"))
            feeds = {"x:0": numpy.random.RandomState(4).rand(3, 6)}
            keep(root, name, graph.as_graph_def(), feeds, ["y:0"], session)
            CASES[name]["tensors"] = {}


def three_signatures(root):
    """A SavedModel with three signatures, a variable, and a table with its file as an asset."""
    with tf.Graph().as_default() as graph:
        words = tf.placeholder(tf.string, [None], "words")
        table = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(str(root / "words.txt"), tf.string, -2, tf.int64, -1), 1
        )
        ids = tf.identity(table.lookup(words), "ids")
        embedding = tf.get_variable("embedding", [4, 3], initializer=tf.random_normal_initializer(seed=5))
        vectors = tf.gather(embedding, ids, name="vectors")
        score = tf.reduce_sum(vectors, axis=1, name="score")
        session = session_of(graph)
        build = tf.saved_model.build_signature_def
        info = tf.saved_model.build_tensor_info
        signatures = {
            key: build({"words": info(words)}, {"out": info(tensor)}, "tensorflow/serving/predict")
            for key, tensor in (("serving_default", score), ("ids", ids), ("vectors", vectors))
        }
        builder = tf.saved_model.Builder(str(root / "three_signatures"))
        builder.add_meta_graph_and_variables(
            session, ["serve"], signatures, main_op=tf.tables_initializer(),
            assets_collection=tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS),
        )  # fmt: skip
        builder.save()
        keep(root, "three_signatures", graph.as_graph_def(), {"words:0": ["two", "none"]},
             ["score:0", "ids:0", "vectors:0"], session)  # fmt: skip
        CASES["three_signatures"]["tensors"] = {}


def big(root):
    """Constants of several sizes and types, of which the large ones may become variables."""
    with tf.Graph().as_default() as graph:
        random = numpy.random.RandomState(6)
        x = tf.placeholder(tf.float32, [None, 300], "x")
        with tf.device("/device:GPU:0"):
            first = tf.constant(random.rand(300, 200).astype(numpy.float32), name="first")
            second = tf.constant(random.rand(200, 100), name="variable/second")
        ids = tf.constant(random.randint(0, 99, [20000]), name="ids")
        zeros = tf.zeros([300, 200], name="zeros")  # a constant whose bytes are not written out
        hidden = tf.cast(tf.matmul(x, first + zeros), tf.float64)
        with tf.control_dependencies([hidden]):
            late = tf.constant(random.rand(100, 200), name="late")
        tf.gather(tf.matmul(hidden, second) + tf.reduce_sum(late), ids, axis=1, name="y")
        config = tf.ConfigProto(allow_soft_placement=True)
        feeds = {"x:0": random.rand(1, 300)}
        keep(root, "big", graph.as_graph_def(), feeds, ["y:0"], tf.Session(graph=graph, config=config))
        CASES["big"]["tensors"] = {}


def make(root):
    root.mkdir(parents=True, exist_ok=True)
    classifier(root)
    several(root)
    control_flow(root, "control_flow_v1")
    tf.enable_control_flow_v2()
    control_flow(root, "control_flow_v2")
    tf.disable_control_flow_v2()
    functions(root)
    tables(root)
    training_branch(root)
    later_attributes(root)
    shapes(root)
    variables(root)
    big(root)
    three_signatures(root)
    (root / "cases.json").write_text(json.dumps(CASES))


def loaded_by_the_servers_own_loader(directory, tags):
    """The error of TensorFlow's C++ loader, which the server calls; "" for none."""
    from tensorflow.python import _pywrap_tensorflow_internal

    library = ctypes.CDLL(_pywrap_tensorflow_internal.__file__)
    for name in ("TF_NewStatus", "TF_NewSessionOptions", "TF_NewGraph", "TF_LoadSessionFromSavedModel"):
        getattr(library, name).restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    status, options, graph = library.TF_NewStatus(), library.TF_NewSessionOptions(), library.TF_NewGraph()
    encoded = [tag.encode() for tag in tags]
    library.TF_LoadSessionFromSavedModel(
        ctypes.c_void_p(options), None, ctypes.c_char_p(str(directory).encode()),
        (ctypes.c_char_p * len(encoded))(*encoded), len(encoded), ctypes.c_void_p(graph), None, ctypes.c_void_p(status),
    )  # fmt: skip
    return library.TF_Message(ctypes.c_void_p(status)).decode()


def answers_of(directory, feeds):
    error = loaded_by_the_servers_own_loader(directory, ["serve"])
    if error:
        return {"error": error}
    found = {}
    with tf.Graph().as_default(), tf.Session() as session:
        meta = tf.saved_model.loader.load(session, ["serve"], str(directory))
        for key, signature in meta.signature_def.items():
            values = {info.name: numpy.array(feeds[info.name], tf.as_dtype(info.dtype).as_numpy_dtype)
                      for info in signature.inputs.values()}  # fmt: skip
            names = {name: info.name for name, info in signature.outputs.items()}
            answers = session.run(names, values)
            found[key] = {name: {"tensor": names[name], "value": plain(value)} for name, value in answers.items()}
    return {"signatures": found, "assets": sorted(os.listdir(str(directory / "assets"))) if (
        directory / "assets").is_dir() else []}  # fmt: skip


def run(root):
    cases = json.loads((root / "cases.json").read_text())
    found = {}
    for place in sorted((root / "converted").iterdir()):
        case = cases[place.name.partition("--")[0]]
        try:
            found[place.name] = answers_of(next(place.iterdir()), case["feeds"])
        except Exception as error:
            found[place.name] = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(found))


if __name__ == "__main__":
    {"make": make, "run": run}[sys.argv[1]](Path(sys.argv[2]))

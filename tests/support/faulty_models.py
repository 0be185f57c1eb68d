"""Faulty SavedModels, and what TensorFlow 1.15.0 does with each, loaded as a server loads it: run by its Python.

usage: PYTHON faulty_models.py DIRECTORY   (makes DIRECTORY/NAME/1 for each; prints {NAME: verdict} as JSON)

A verdict is {"load": why it does not load, "asked": {signature: why a request fails}}, "" where all is well. The graph
goes into a session as the server's loader puts it there, unlike tf.saved_model.load, which reads it into Python first.
"""

# mypy: ignore-errors

import json
import os
import sys
from functools import partial
from pathlib import Path

import numpy
import tensorflow
from google.protobuf import text_format  # noqa: F401 - protobuf's own, before TensorFlow's
from tensorflow.core.framework import attr_value_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow.python import pywrap_tensorflow as c
from tensorflow.python.framework import errors_impl, function
from tensorflow_serving.apis import prediction_log_pb2

tf = tensorflow.compat.v1
PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"


# ---- the models


def saved(root, name, make, change=None, after=None):
    """DIRECTORY/NAME/1 of the graph that `make` builds, changed by `change(meta graph)`, then by `after(directory)`."""
    place = Path(root) / name / "1"
    with tf.Graph().as_default(), tf.Session() as session:
        inputs, outputs, more = (*make(), {})[:3]
        infos = [
            {key: tf.saved_model.build_tensor_info(each) for key, each in side.items()} for side in (inputs, outputs)
        ]
        signature = tf.saved_model.build_signature_def(*infos, PREDICT)
        session.run(tf.global_variables_initializer())
        builder = tf.saved_model.Builder(str(place))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature}, **more)
        builder.save()
    path = place / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    if change:
        change(model.meta_graphs[0])
        path.write_bytes(model.SerializeToString())
    if after:
        after(place)


def with_variable():
    x = tf.placeholder(tf.float32, [None, 3], "x")
    weights = tf.get_variable("weights", initializer=numpy.ones([3, 2], numpy.float32))
    return {"x": x}, {"y": tf.matmul(x, weights, name="y")}


def with_resource():
    x = tf.placeholder(tf.float32, [None, 3], "x")
    weights = tf.get_variable("weights", initializer=numpy.ones([3, 2], numpy.float32), use_resource=True)
    return {"x": x}, {"y": tf.matmul(x, weights, name="y")}


def plain():
    x = tf.placeholder(tf.float32, [None, 3], "x")
    return {"x": x}, {"y": tf.add(x, 1.0, name="y")}


def pooled():
    x = tf.placeholder(tf.float32, [None, 4, 4, 1], "x")
    return {"x": x}, {"y": tf.nn.max_pool2d(x, 2, 2, "VALID", name="y")}


def normalised():
    x = tf.placeholder(tf.float32, [None, 4, 4, 1], "x")
    one = tf.placeholder_with_default([1.0], [1], "one")
    return {"x": x}, {"y": tf.nn.fused_batch_norm(x, one, one, is_training=True, name="y")[0]}


def convolved():
    x = tf.placeholder(tf.float32, [None, 4, 4, 1], "x")
    return {"x": x}, {"y": tf.nn.conv2d(x, tf.ones([2, 2, 1, 1]), strides=1, padding="SAME", name="y")}


def called():
    @function.Defun(tf.float32, func_name="pool")
    def pool(value):
        return tf.nn.max_pool2d(value, 2, 2, "VALID", name="inner")

    x = tf.placeholder(tf.float32, [None, 4, 4, 1], "x")
    y = pool(x)
    y.set_shape([None, 2, 2, 1])
    return {"x": x}, {"y": tf.identity(y, name="y")}


def looped():
    x = tf.placeholder(tf.float32, [None], "x")
    (_, result) = tf.while_loop(lambda i, _: i < 3, lambda i, v: (i + 1, v * 2), [tf.constant(0), x])
    return {"x": x}, {"y": tf.identity(result, name="y")}


def branched():
    x = tf.placeholder(tf.float32, [], "x")
    return {"x": x}, {"y": tf.identity(tf.cond(x > 0, lambda: x * 2, lambda: x * 3), name="y")}


def looked_up(path, as_asset):
    def make():
        text = tf.placeholder(tf.string, [None], "x")
        file = tf.constant(str(path), name="vocabulary")
        if as_asset:
            tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, file)
        table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(file, tf.string, -2, tf.int64, -1), tf.constant(-1, tf.int64)
        )
        more = {"main_op": tf.tables_initializer()}
        if as_asset:
            more["assets_collection"] = tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS)
        return {"x": text}, {"y": tf.identity(table.lookup(text), name="y")}, more

    return make


def node(meta, name, among=None):
    return next(each for each in (among or meta.graph_def.node) if each.name == name)


def with_attribute(name, attribute, value, op=None):
    def change(meta):
        node(meta, name).attr[attribute].CopyFrom(value)

    return change


def added(op, name="more", inputs=(), function=None, **attributes):
    def change(meta):
        nodes = meta.graph_def.library.function[0].node_def if function else meta.graph_def.node
        new = nodes.add(op=op, name=name, input=inputs)
        for key, value in attributes.items():
            new.attr[key].CopyFrom(value)

    return change


def value(**fields):
    return attr_value_pb2.AttrValue(**fields)


FLOAT = value(type=1)
TYPES = value(list=attr_value_pb2.AttrValue.ListValue(type=[1]))
EMPTY = value(list=attr_value_pb2.AttrValue.ListValue())
FILLED = value(list=attr_value_pb2.AttrValue.ListValue(i=[0, 0, 1, 1, 1, 1, 0, 0]))


def nowhere():
    return value(func=attr_value_pb2.NameAttrList(name="nowhere"))


def input_of(name, at, new):
    def change(meta):
        node(meta, name).input[at] = new

    return change


def in_function(meta):
    pool = meta.graph_def.library.function[0]
    next(each for each in pool.node_def if each.op == "MaxPool").attr["explicit_paddings"].CopyFrom(EMPTY)


def signature(meta):
    return meta.signature_def["serving_default"]


def cycle(meta):
    node(meta, "y").input[0] = "more"
    added("Identity", inputs=["y"], T=FLOAT)(meta)


def without(attribute, name):
    def change(meta):
        del node(meta, name).attr[attribute]

    return change


def tensor_of(side, name=None, dtype=None):
    def change(meta):
        (info,) = getattr(signature(meta), side).values()
        if name:
            info.name = name
        if dtype:
            info.dtype = dtype

    return change


def renamed_function(meta):
    meta.graph_def.library.function[0].signature.name = "another"


def without_function(meta):
    del meta.graph_def.library.function[:]


def versions(**fields):
    def change(meta):
        for key, number in fields.items():
            setattr(meta.graph_def.versions, key, number)

    return change


def twice(meta):
    meta.graph_def.node.add().CopyFrom(node(meta, "y"))


def device(name, text):
    def change(meta):
        node(meta, name).device = text

    return change


def colocated(meta):
    node(meta, "y").attr["_class"].list.s.append(b"loc:@nowhere")


def method(text):
    def change(meta):
        signature(meta).method_name = text

    return change


def bytes_of(name, change):
    def after(place):
        path = place / "variables" / name
        path.write_bytes(change(path.read_bytes()))

    return after


def away(name):
    return lambda place: (place / name).unlink()


DATA, INDEX = "variables.data-00000-of-00001", "variables.index"


def weights_are(dtype=None, shape=None):
    """The variable with another shape in the graph; the checkpoint keeps the old one."""

    def change(meta):
        variable = node(meta, "weights")
        if shape:
            variable.attr["shape"].shape.Clear()
            for size in shape:
                variable.attr["shape"].shape.dim.add(size=size)

    return change


def renamed_in_checkpoint(meta):
    names = node(meta, "save/RestoreV2/tensor_names")
    names.attr["value"].tensor.string_val[0] = b"weights_of_old"


def without_main_op(meta):
    del meta.collection_def["saved_model_main_op"]


def assigned_elsewhere(meta):
    node(meta, "save/restore_all").input[0] = "^save/RestoreV2"


def restored_as_double(meta):
    node(meta, "save/RestoreV2").attr["dtypes"].list.type[0] = 2
    node(meta, "save/Assign").input[1] = "cast"
    added("Cast", "cast", ["save/RestoreV2"], SrcT=value(type=2), DstT=FLOAT)(meta)


def with_index(place):
    (place / "variables").mkdir(exist_ok=True)
    (place / "variables" / INDEX).write_bytes(b"")


def two_main_ops(meta):
    meta.collection_def["saved_model_main_op"].node_list.value.extend(["y", "x"])


def main_op_gone(meta):
    meta.collection_def["saved_model_main_op"].node_list.value.append("nowhere")


def restore_gone(meta):
    meta.saver_def.restore_op_name = "save/nowhere"


def warmed(*records):
    def after(place):
        from tensorflow.python.lib.io import tf_record

        (place / "assets.extra").mkdir()
        with tf_record.TFRecordWriter(str(place / "assets.extra/tf_serving_warmup_requests")) as out:
            for record in records:
                out.write(record)

    return after


def request(array, name="x", signature_name="serving_default", outputs=()):
    log = prediction_log_pb2.PredictionLog()
    asked = log.predict_log.request
    asked.model_spec.signature_name = signature_name
    asked.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    asked.output_filter.extend(outputs)
    return log.SerializeToString()


GOOD = numpy.ones([1, 3], numpy.float32)


def session_log():
    log = prediction_log_pb2.PredictionLog()
    log.session_run_log.SetInParent()
    return log.SerializeToString()


def cut_warm_up(place):
    warmed(request(GOOD), request(GOOD))(place)
    path = place / "assets.extra/tf_serving_warmup_requests"
    path.write_bytes(path.read_bytes()[:-3])


def bad_sum_warm_up(place):
    warmed(request(GOOD))(place)
    path = place / "assets.extra/tf_serving_warmup_requests"
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)


def unframed_warm_up(place):
    (place / "assets.extra").mkdir()
    (place / "assets.extra/tf_serving_warmup_requests").write_bytes(request(GOOD))


def models(root):
    here = Path(root)
    (here / "words").write_text("a\nb\n")
    yield "good", with_variable
    yield "good_resource", with_resource
    yield "good_plain", plain
    yield "good_loop", looped
    yield "good_branch", branched
    yield "good_function", called
    yield "unknown_op", plain, added("NobodyKnowsIt")
    yield "later_op", plain, added("BatchMatMulV3", inputs=["y", "y"], Ta=FLOAT, Tb=FLOAT, Tout=FLOAT)
    yield "unknown_op_in_function", called, added("NobodyKnowsIt", function=True)
    yield "attribute_default", pooled, with_attribute("y", "explicit_paddings", EMPTY)
    yield "attribute_filled", pooled, with_attribute("y", "explicit_paddings", FILLED)
    yield "attribute_factor", normalised, with_attribute("y", "exponential_avg_factor", value(f=1.0))
    yield "attribute_in_function", called, in_function
    yield "attribute_unreached", plain, added("Identity", inputs=["x"], T=FLOAT, novel=EMPTY)
    yield "attribute_private", plain, with_attribute("y", "_novel", EMPTY)
    yield "attribute_missing", convolved, without("strides", "y")
    yield "attribute_missing_type", plain, without("T", "y")
    yield "attribute_of_another_kind", convolved, with_attribute("y", "padding", value(i=1))
    yield "attribute_not_allowed", convolved, with_attribute("y", "padding", value(s=b"ROUND"))
    yield "type_not_allowed", plain, with_attribute("y", "T", value(type=7 + 3))
    yield "input_missing", plain, input_of("y", 0, "gone")
    yield "output_beyond", plain, input_of("y", 0, "x:5")
    yield "input_too_few", plain, lambda meta: node(meta, "y").input.pop()
    yield "input_too_many", plain, lambda meta: node(meta, "y").input.append("x")
    yield "control_missing", plain, lambda meta: node(meta, "y").input.append("^gone")
    yield "control_before_data", plain, lambda meta: node(meta, "y").input.insert(0, "^x")
    yield "input_of_another_type", plain, added("ReadFile", inputs=["x"])
    yield "cycle", plain, cycle
    yield "function_missing", called, without_function
    yield "function_renamed", called, renamed_function
    yield "function_unknown", called, added("PartitionedCall", inputs=["x"], Tin=TYPES, Tout=TYPES, f=nowhere())
    yield (
        "function_unknown_in_function",
        called,
        added("PartitionedCall", function=True, Tin=TYPES, Tout=TYPES, f=nowhere()),
    )
    yield "two_nodes_of_one_name", plain, twice
    yield "name_illegal", plain, added("NoOp", name="a b")
    yield "name_empty", plain, added("NoOp", name="")
    yield "device_gpu", plain, device("y", "/device:GPU:0")
    yield "device_gpu_old", plain, device("y", "/gpu:0")
    yield "device_cpu", plain, device("y", "/device:CPU:0")
    yield "device_cpu_one", plain, device("y", "/device:CPU:1")
    yield "device_ps", plain, device("y", "/job:ps/task:0")
    yield "device_worker", plain, device("y", "/job:worker/replica:0/task:0/device:CPU:0")
    yield "device_localhost", plain, device("y", "/job:localhost/replica:0/task:0/device:CPU:0")
    yield "device_garbage", plain, device("y", "nonsense")
    yield "device_npu", plain, device("y", "/device:NPU:0")
    yield "device_on_unreached", plain, lambda m: [added("NoOp", name="n")(m), device("n", "/device:GPU:0")(m)]
    yield (
        "device_in_function",
        called,
        lambda m: setattr(m.graph_def.library.function[0].node_def[0], "device", "/gpu:0"),
    )
    yield "colocated_with_nothing", plain, colocated
    yield "min_consumer", plain, versions(min_consumer=1000)
    yield "min_consumer_135", plain, versions(min_consumer=135)
    yield "min_consumer_134", plain, versions(min_consumer=134)
    yield "producer_new", plain, versions(producer=2000)
    yield "producer_none", plain, versions(producer=0)
    yield "bad_consumer", plain, lambda meta: meta.graph_def.versions.bad_consumers.append(134)
    yield "constant_without_value", plain, without("value", "y/y")
    yield "signature_input_missing", plain, tensor_of("inputs", "gone:0")
    yield "signature_output_missing", plain, tensor_of("outputs", "gone:0")
    yield "signature_output_beyond", plain, tensor_of("outputs", "y:3")
    yield "signature_input_type", plain, tensor_of("inputs", dtype=3)
    yield "signature_output_type", plain, tensor_of("outputs", dtype=3)
    yield "signature_output_unnamed", plain, tensor_of("outputs", "y")
    yield "signature_input_computed", plain, tensor_of("inputs", "y/y:0")
    yield "method_unknown", plain, method("mine")
    yield "method_empty", plain, method("")
    yield "method_classify", plain, method(CLASSIFY)
    yield "signatures_none", plain, lambda meta: meta.signature_def.clear()
    yield "tags_other", plain, lambda meta: meta.meta_info_def.tags.append("gpu")
    yield "index_missing", with_variable, None, away("variables/" + INDEX)
    yield "data_missing", with_variable, None, away("variables/" + DATA)
    yield "data_short", with_variable, None, bytes_of(DATA, lambda data: data[:-1])
    yield "data_changed", with_variable, None, bytes_of(DATA, lambda data: bytes([data[0] ^ 1]) + data[1:])
    yield "data_empty", with_variable, None, bytes_of(DATA, lambda data: b"")
    yield "index_empty", with_variable, None, bytes_of(INDEX, lambda data: b"")
    yield "index_short", with_variable, None, bytes_of(INDEX, lambda data: data[:-1])
    yield "variable_not_in_checkpoint", with_variable, renamed_in_checkpoint
    yield "variable_of_another_shape", with_variable, weights_are(shape=(3, 5))
    yield "resource_of_another_shape", with_resource, weights_are(shape=(3, 5))
    yield "restore_gone", with_variable, restore_gone
    yield "main_op_gone", plain, main_op_gone
    yield "two_main_ops", plain, two_main_ops
    yield "table_not_filled", looked_up(here / "words", as_asset=True), without_main_op
    yield "variable_not_restored", with_variable, assigned_elsewhere
    yield "variable_of_another_type", with_variable, restored_as_double
    yield "index_without_restore", plain, None, with_index
    yield "name_underscore", plain, added("NoOp", name="_a")
    yield "name_angle", plain, added("NoOp", name="a>b")
    yield "name_dot", plain, added("NoOp", name=".a/b-c_d")
    yield "vocabulary_absent", looked_up(here / "words_gone", as_asset=False)
    yield "vocabulary_present", looked_up(here / "words", as_asset=False)
    yield "vocabulary_asset", looked_up(here / "words", as_asset=True)
    yield "asset_missing", looked_up(here / "words", as_asset=True), None, away("assets/words")
    yield "warm_up_good", plain, None, warmed(request(GOOD))
    yield "warm_up_1000", plain, None, warmed(*[request(GOOD)] * 1000)
    yield "warm_up_1001", plain, None, warmed(*[request(GOOD)] * 1001)
    yield "warm_up_double", plain, None, warmed(request(GOOD.astype(float)))
    yield "warm_up_signature", plain, None, warmed(request(GOOD, signature_name="other"))
    yield "warm_up_input", plain, None, warmed(request(GOOD, name="z"))
    yield "warm_up_output", plain, None, warmed(request(GOOD, outputs=["z"]))
    yield "warm_up_shape", plain, None, warmed(request(numpy.ones([2, 4], numpy.float32)))
    yield "warm_up_cut", plain, None, cut_warm_up
    yield "warm_up_bad_sum", plain, None, bad_sum_warm_up
    yield "warm_up_unframed", plain, None, unframed_warm_up
    yield "warm_up_garbage", plain, None, warmed(b"\xff\xff\xff")
    yield "warm_up_empty_record", plain, None, warmed(b"")
    yield "warm_up_session_run", plain, None, warmed(session_log())
    yield "warm_up_none", plain, None, warmed()


# ---- as the server loads and asks


class Fails(Exception):
    pass


def run(session, feeds, outputs=(), targets=()):
    fed = {name.encode(): numpy.array(array) for name, array in feeds.items()}
    names = [[name.encode() for name in of] for of in (outputs, targets)]
    with errors_impl.raise_exception_on_not_ok_status() as status:
        return c.TF_Run(session, None, fed, *names, status, None)


def verdict(place):
    path = place / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    meta = next((each for each in model.meta_graphs if set(each.meta_info_def.tags) == {"serve"}), None)
    if meta is None:
        return {"load": "no graph with the tags", "asked": {}}
    session = c.TF_NewDeprecatedSession(c.TF_NewSessionOptions())
    try:
        load(session, meta, place)
    except (errors_impl.OpError, Fails) as error:
        return {"load": str(error)[:200], "asked": {}}
    asked = {}
    for name, of_name in meta.signature_def.items():
        feeds = {info.name: zeros(info) for info in of_name.inputs.values()}
        try:
            ask(session, of_name, feeds)
            asked[name] = ""
        except (errors_impl.OpError, Fails) as error:
            asked[name] = str(error)[:200]
    return {"load": "", "asked": asked}


def load(session, meta, place):
    with errors_impl.raise_exception_on_not_ok_status() as status:
        c.TF_ExtendGraph(session, meta.graph_def.SerializeToString(), status)
    assets = {}
    if "saved_model_assets" in meta.collection_def:
        for each in meta.collection_def["saved_model_assets"].any_list.value:
            asset = meta_graph_pb2.AssetFileDef.FromString(each.value)
            assets[asset.tensor_info.name] = str(place / "assets" / asset.filename)
    if (place / "variables" / INDEX).exists():
        feeds = {meta.saver_def.filename_tensor_name: str(place / "variables/variables"), **assets}
        run(session, feeds, targets=[meta.saver_def.restore_op_name])
    if "saved_model_main_op" in meta.collection_def:
        main = meta.collection_def["saved_model_main_op"]
        if len(main.node_list.value) != 1:
            raise Fails("Expected exactly one main op")
        run(session, assets, targets=[main.node_list.value[0]])
    warm_up = place / "assets.extra/tf_serving_warmup_requests"
    if warm_up.exists():
        replay(session, meta, warm_up)


def replay(session, meta, path):
    for count, record in enumerate(tf.python_io.tf_record_iterator(str(path)), start=1):
        try:
            log = prediction_log_pb2.PredictionLog.FromString(record)
        except Exception:
            raise Fails("Failed to parse warmup record") from None
        kind = log.WhichOneof("log_type")
        if kind == "session_run_log":
            raise Fails("Unsupported log_type for warmup")
        if kind == "predict_log":
            asked = log.predict_log.request
            name = asked.model_spec.signature_name or "serving_default"
            if name not in meta.signature_def:
                raise Fails("Serving signature key not found")
            of_name = meta.signature_def[name]
            if set(asked.inputs) != set(of_name.inputs):
                raise Fails("input tensor alias not found in signature")
            if not set(asked.output_filter) <= set(of_name.outputs):
                raise Fails("output tensor alias not found in signature")
            feeds = {of_name.inputs[key].name: tf.make_ndarray(tensor) for key, tensor in asked.inputs.items()}
            ask(session, of_name, feeds)
        if count > 1000:
            raise Fails("Number of warmup records exceeeds the maximum")


def ask(session, signature, feeds):
    if signature.method_name not in (PREDICT, CLASSIFY, "tensorflow/serving/regress"):
        raise Fails("Expected prediction signature method_name to be one of")
    run(session, feeds, [info.name for info in signature.outputs.values()])


def zeros(info):
    sizes = [max(dim.size, 1) for dim in info.tensor_shape.dim]
    dtype = tf.as_dtype(info.dtype).as_numpy_dtype
    return numpy.full(sizes, "", object) if info.dtype == 7 else numpy.zeros(sizes, dtype)


def apart(work):
    """What `work()` returns, run in a process of its own: some of the models end TensorFlow's with a signal."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writer, "w") as out:
            out.write(json.dumps(work()))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as text:
        said = text.read()
    _, status = os.waitpid(child, 0)
    return json.loads(said) if said else {"load": "", "asked": {"serving_default": f"ended by the signal {status}"}}


def main(root):
    names = apart(lambda: [saved(root, *each) or each[0] for each in models(root)])
    print(json.dumps({name: apart(partial(verdict, Path(root) / name / "1")) for name in names}))


if __name__ == "__main__":
    main(sys.argv[1])

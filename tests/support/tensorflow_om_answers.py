"""What models, and the servables that load their oms, answer in TensorFlow 1.15.0: run by its Python.

usage: PYTHON tensorflow_om_answers.py LIBRARY REQUESTS   (prints one JSON document)

LIBRARY has the operator LoadAndExecuteOm, made of load_and_execute_om.cc. REQUESTS is a JSON list of {model, signature,
served, inputs}, with inputs as {name: [type, value]}; of each, the outputs are printed in the same form, or the error.
"""

# mypy: ignore-errors

import json
import sys

import numpy
import tensorflow
from tensorflow.core.protobuf import config_pb2

tf = tensorflow.compat.v1


def served(session, values, outputs):
    """As a server asks: without Python's check of shapes, and without its leave to fetch what is fed."""
    options = config_pb2.CallableOptions(feed=list(values), fetch=outputs)
    return session._make_callable_from_options(options)(*values.values())


def answer(request):
    with tf.Session(graph=tf.Graph(), config=tf.ConfigProto(allow_soft_placement=True)) as session:
        model = tf.saved_model.load(session, ["serve"], request["model"])
        signature = model.signature_def[request.get("signature", "serving_default")]
        values = {
            signature.inputs[name].name: numpy.array(value, kind) for name, (kind, value) in request["inputs"].items()
        }
        outputs = [signature.outputs[name].name for name in sorted(signature.outputs)]
        try:
            found = served(session, values, outputs) if request["served"] else session.run(outputs, values)
        except tf.errors.OpError as error:
            return {"error": error.message}
        return {name: [value.dtype.name, value.tolist()] for name, value in zip(sorted(signature.outputs), found)}


def main(library, requests):
    tensorflow.load_op_library(library)
    print(json.dumps([answer(request) for request in json.loads(requests)]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

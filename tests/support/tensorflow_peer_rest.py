"""The REST API of tensorflow_peer.py: what util/json_tensor.cc and http_rest_api_handler.cc do with JSON at 1.15.0.

Left out: the white space of its answers, and where in a text rapidjson finds a mistake.
"""

# mypy: ignore-errors

import base64
import json
import re

import numpy
import tensorflow
from google.protobuf import json_format
from tensorflow.core.example import feature_pb2
from tensorflow.core.framework import types_pb2
from tensorflow_peer_faults import INVALID_ARGUMENT, UNIMPLEMENTED, Refusal
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

ASKED = re.compile(r"(?i)/v1/models/([^/:]+)(?:/versions/(\d+))?:(classify|regress|predict)")
LOOKED_UP = re.compile(r"(?i)/v1/models(?:/([^/:]+))?(?:/versions/(\d+))?(?:/(metadata))?")
HTTP = {
    0: 200, 1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 13: 500,
    14: 503, 15: 500, 16: 401,
}  # fmt: skip
NAMES = {0: "OK", INVALID_ARGUMENT: "Invalid argument", UNIMPLEMENTED: "Unimplemented"}
INT32 = (types_pb2.DT_INT32, types_pb2.DT_INT16, types_pb2.DT_INT8, types_pb2.DT_UINT8)
RANGES = {
    **dict.fromkeys(INT32, (-(1 << 31), (1 << 31) - 1)),
    types_pb2.DT_INT64: (-(1 << 63), (1 << 63) - 1),
    types_pb2.DT_UINT32: (0, (1 << 32) - 1),
    types_pb2.DT_UINT64: (0, (1 << 64) - 1),
}
FIELDS = {
    **dict.fromkeys(INT32, "int_val"), types_pb2.DT_INT64: "int64_val", types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val", types_pb2.DT_FLOAT: "float_val", types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_BOOL: "bool_val", types_pb2.DT_STRING: "string_val",
}  # fmt: skip


def error_body(message):
    """`{ "error": "…" }` with the text escaped as C does it, which is often no JSON."""
    escaped = []
    named = {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 39: "\\'", 92: "\\\\"}
    for byte in message.encode():
        escaped.append(named.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}"))
    return ('{ "error": "' + "".join(escaped) + '" }').encode()


def _refuse(message, code=INVALID_ARGUMENT):
    raise Refusal(code, message)


def _shown(value):
    return json.dumps(value, ensure_ascii=False)


def _kind(value):
    kinds = {type(None): "Null", bool: str(value), dict: "Object", list: "Array", str: "String"}
    return kinds.get(type(value), "Number")


def _document(body):
    if not body:
        _refuse("JSON Parse error: The document is empty")
    try:
        document = json.loads(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        _refuse(f"JSON Parse error: Invalid value. at offset: {getattr(error, 'pos', 0)}")
    if not isinstance(document, dict):
        _refuse(f"JSON Value: {_shown(document)} Is not object")
    if not isinstance(document.get("signature_name", ""), str):
        what = f"JSON Value: {_shown(document)} not formatted correctly. 'signature_name' key must be a string value."
        _refuse(what)
    return document


def _is_base64(value):
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _decoded(value):
    if not _is_base64(value):
        _refuse(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except ValueError:
        return _refuse("Unable to base64 decode")


def _checked(value, dtype):
    """A value as its tensor takes it."""
    name = tensorflow.as_dtype(dtype).name
    name = {"float32": "float", "float64": "double", "float16": "half"}.get(name, name)
    mismatch = f"JSON Value: {_shown(value)} Type: {_kind(value)} is not of expected type: {name}"
    if dtype not in FIELDS:
        _refuse(f"Conversion of JSON Value: {_shown(value)} to type: {name}", UNIMPLEMENTED)
    if dtype == types_pb2.DT_STRING:
        return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else _refuse(mismatch)
    if dtype == types_pb2.DT_BOOL:
        return value if isinstance(value, bool) else _refuse(mismatch)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(mismatch)
    if dtype in RANGES:
        least, most = RANGES[dtype]
        if not isinstance(value, int) or not least <= value <= most:
            _refuse(mismatch)
    elif isinstance(value, int):
        if abs(value) >= 1 << (24 if dtype == types_pb2.DT_FLOAT else 53):
            _refuse(f"Cannot convert JSON value: {_shown(value)} to {name} without loss of precision.")
    elif dtype == types_pb2.DT_FLOAT and numpy.isfinite(value) and abs(value) > numpy.finfo(numpy.float32).max:
        _refuse(f"Cannot convert JSON value: {_shown(value)} to {name} without loss of precision.")
    return value


def _shape(value):
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _fill(value, level, shape, dtype, values):
    if not isinstance(value, list):
        if level != len(shape):
            what = f"JSON Value: {_shown(value)} found at incorrect level: {level + 1} in the JSON DOM."
            _refuse(f"{what} Expected at level: {len(shape)}")
        if isinstance(value, dict):
            if dtype != types_pb2.DT_STRING:
                name = tensorflow.as_dtype(dtype).name
                _refuse(f"JSON Value: {_shown(value)} Type: Object is not of expected type: {name}")
            values.append(_decoded(value))
        else:
            values.append(_checked(value, dtype))
        return
    if level >= len(shape):
        _refuse(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        what = f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        _refuse(what)
    for one in value:
        _fill(one, level + 1, shape, dtype, values)


def _put(proto, dtype, shape, values):
    proto.dtype = dtype
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    field = getattr(proto, FIELDS.get(dtype, "int_val"))
    if dtype == types_pb2.DT_FLOAT:
        with numpy.errstate(over="ignore"):
            values = numpy.array(values, numpy.float64).astype(numpy.float32).tolist()
    field.extend(values)


def predict_request(spec, body, info_of):
    """The request in JSON as a PredictRequest, and whether it is in rows; `info_of` has the inputs by name."""
    document = _document(body)
    request = predict_pb2.PredictRequest(model_spec=spec)
    request.model_spec.signature_name = document.get("signature_name", "")
    inputs = info_of(request.model_spec)
    rows, columns = "instances" in document, "inputs" in document
    if rows and columns:
        what = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        _refuse(f"JSON Value: {_shown(document)} {what}")
    if not rows and not columns:
        _refuse("Missing 'inputs' or 'instances' key")
    if columns:
        _columns(document["inputs"], inputs, request)
        return request, False
    instances = document["instances"]
    if not isinstance(instances, list):
        _refuse(f"JSON Value: {_shown(document)} Excepting 'instances' to be an list/array")
    if not instances:
        _refuse(f"JSON Value: {_shown(document)} No values in 'instances' array")
    _rows(instances, inputs, request)
    return request, True


def _columns(given, inputs, request):
    if not isinstance(given, dict) or _is_base64(given):
        if len(inputs) > 1:
            what = "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            _refuse(what + "tensorinfo_map")
        given = {next(iter(inputs)): given}
    for name, info in inputs.items():
        if name not in given:
            _refuse(f"Missing named input: {name} in 'inputs' object.")
        values, shape = [], _shape(given[name])
        _fill(given[name], 0, shape, info.dtype, values)
        _put(request.inputs[name], info.dtype, shape, values)


def _rows(instances, inputs, request):
    if not isinstance(instances[0], dict) and len(inputs) > 1:
        _refuse(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    as_objects = isinstance(instances[0], dict) and not _is_base64(instances[0])
    values, shapes = {}, {}
    for place, element in enumerate(instances):
        failed = f"Failed to process element: {place} "
        is_object = isinstance(element, dict) and not _is_base64(element)
        if as_objects != is_object:
            wanted = "Expecting object but got list" if as_objects else "Expecting value/list but got object"
            _refuse(f"{wanted} at item {place} of input list")
        for name, value in element.items() if as_objects else [(next(iter(inputs)), element)]:
            try:
                if name not in inputs:
                    _refuse("JSON object: does not have named input: " + name)
                shape, found = _shape(value), []
                _fill(value, 0, shape, inputs[name].dtype, found)
                if shapes.setdefault(name, shape) != shape:
                    _refuse(f"Expecting shape {_dims(shapes[name])} but got: {_dims(shape)}")
                values.setdefault(name, []).extend(found)
            except Refusal as refusal:
                key = f"key: {name} " if as_objects else ""
                _refuse(f"{failed}{key}of 'instances' list. Error: {NAMES[refusal.code]}: {refusal.message}")
        if as_objects and set(element) != set(inputs):
            keys = ",".join(sorted(inputs))
            _refuse(f"{failed}of 'instances' list. JSON object: {_shown(element)} must only have keys: {keys}")
    for name, found in values.items():
        _put(request.inputs[name], inputs[name].dtype, [len(instances), *shapes[name]], found)


def _dims(shape):
    return "[" + ",".join(map(str, shape)) + "]"


def _text(data):
    """A text of any bytes: only what JSON needs is escaped."""
    named = {8: b"\\b", 9: b"\\t", 10: b"\\n", 12: b"\\f", 13: b"\\r", 34: b'\\"', 92: b"\\\\"}
    single = (named.get(byte) or (b"\\u%04X" % byte if byte < 32 else bytes([byte])) for byte in data)
    return b'"' + b"".join(single) + b'"'


def _decimal(value, kind):
    if numpy.isnan(value):
        return b"NaN"
    if numpy.isinf(value):
        return b"Infinity" if value > 0 else b"-Infinity"
    text = f"{value:g}"
    if kind(float(text)) != kind(value):
        text = f"{value:.{9 if kind is numpy.float32 else 17}g}"
    return (text if "." in text or "e" in text else text + ".0").encode()


def _value(value, dtype, in_base64):
    if dtype == types_pb2.DT_FLOAT:
        return _decimal(value, numpy.float32)
    if dtype == types_pb2.DT_DOUBLE:
        return _decimal(value, numpy.float64)
    if dtype == types_pb2.DT_STRING:
        return b'{"b64": "' + base64.b64encode(value) + b'"}' if in_base64 else _text(value)
    if dtype == types_pb2.DT_BOOL:
        return b"true" if value else b"false"
    if dtype in RANGES:
        return str(int(value)).encode()
    name = tensorflow.as_dtype(dtype).name
    name = {"float16": "half"}.get(name, name)
    return _refuse("Failed to write JSON value for tensor type: " + name)


def _nested(array, dtype, in_base64):
    if array.ndim == 0:
        return _value(array.item() if array.dtype != object else array[()], dtype, in_base64)
    if array.ndim == 1:
        return b"[" + b", ".join(_value(one, dtype, in_base64) for one in array.tolist()) + b"]"
    return b"[" + b", ".join(_nested(one, dtype, in_base64) for one in array) + b"]"


def predict_body(outputs, rows):
    """The answer in JSON for outputs as alias: (array, type)."""
    if rows:
        sizes = {}
        for name, (array, _) in outputs.items():
            if array.ndim == 0:
                _refuse(f"Tensor name: {name} has no shape information ")
            if len(array) < 1:
                _refuse(f"Tensor name: {name} has invalid batch size: {len(array)}")
            if sizes and len(array) not in sizes.values():
                expected = next(iter(sizes.values()))
                _refuse(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {expected}")
            sizes[name] = len(array)
        items = [
            _named({name: (array[place, ...], dtype) for name, (array, dtype) in outputs.items()})
            for place in range(len(next(iter(outputs.values()))[0]))
        ]
        return b'{\n    "predictions": [' + b", ".join(items) + b"\n    ]\n}"
    return b'{\n    "outputs": ' + _named(outputs) + b"\n}"


def _named(outputs):
    texts = {
        name: _nested(numpy.asarray(array) if dtype != types_pb2.DT_STRING else _as_objects(array), dtype, is_bytes)
        for name, (array, dtype) in outputs.items()
        for is_bytes in [dtype == types_pb2.DT_STRING and name.endswith("_bytes")]
    }
    if len(texts) == 1:
        return next(iter(texts.values()))
    return b"{" + b", ".join(_text(name.encode()) + b": " + text for name, text in texts.items()) + b"}"


def _as_objects(array):
    if isinstance(array, numpy.ndarray):
        return array
    single = numpy.empty((), object)
    single[()] = array
    return single


def example_request(spec, body, method):
    """The request in JSON as a ClassificationRequest or a RegressionRequest."""
    document = _document(body)
    kinds = {"classify": classification_pb2.ClassificationRequest, "regress": regression_pb2.RegressionRequest}
    request = kinds[method](model_spec=spec)
    request.model_spec.signature_name = document.get("signature_name", "")
    given = request.input.example_list
    if "context" in document:
        given = request.input.example_list_with_context
        _example(document["context"], given.context)
    if "examples" not in document:
        _refuse(f"JSON Value: {_shown(document)} When method is classify, key 'examples' is expected and was not found")
    if not isinstance(document["examples"], list):
        _refuse(f"JSON Value: {_shown(document)} Expecting 'examples' value to be an list/array")
    if not document["examples"]:
        _refuse(f"JSON Value: {_shown(document)} 'examples' value is an empty array")
    for one in document["examples"]:
        _example(one, given.examples.add())
    return request


def _example(given, example):
    if not isinstance(given, dict):
        _refuse(f"Example must be JSON object but got JSON {_kind(given)}")
    for name, content in given.items():
        feature = feature_pb2.Feature()
        for value in content if isinstance(content, list) else [content]:
            _add_to_feature(value, name, feature)
        example.features.feature[name].CopyFrom(feature)


def _add_to_feature(value, name, feature):
    if isinstance(value, (str, dict)):
        if isinstance(value, dict) and not _is_base64(value):
            _refuse(f"Feature: {name} has element with unexpected JSON type: Object")
        field, value = "bytes_list", _decoded(value) if isinstance(value, dict) else value.encode()
    elif isinstance(value, float):
        field = "float_list"
    elif isinstance(value, int):
        field, value = "int64_list", int(value)
    else:
        _refuse(f"Feature: {name} has element with unexpected JSON type: {_kind(value)}")
    if feature.WhichOneof("kind") not in (None, field):
        _refuse(f"Unexpected element type in feature: {name} expecting type: {feature.WhichOneof('kind')[:-5]}")
    getattr(feature, field).value.append(value)


def handle(calls, verb, path, body, timeout_s):
    """The status and the body for a request; `calls` are those of the gRPC API, by method."""
    asked, looked_up = ASKED.fullmatch(path), LOOKED_UP.fullmatch(path)
    try:
        if verb == "POST" and asked:
            return 200, _asked(calls, *asked.groups(), body, timeout_s)
        if verb == "GET" and looked_up:
            return 200, _looked_up(calls, *looked_up.groups())
        _refuse(f"Malformed request: {verb} {path}")
    except Refusal as refusal:
        return HTTP[refusal.code], error_body(refusal.message)


def _spec(name, version):
    spec = model_pb2.ModelSpec(name=name)
    if version:
        spec.version.value = int(version)
    return spec


def _asked(calls, name, version, method, body, timeout_s):
    spec = _spec(name, version)
    if method == "predict":
        request, rows = predict_request(spec, body, calls.inputs_of)
        return predict_body(calls.outputs(request, timeout_s), rows)
    response = calls.of_examples(example_request(spec, body, method), timeout_s)
    if method == "classify":
        results = [b"[" + b", ".join(map(_class, row.classes)) + b"]" for row in response.result.classifications]
    else:
        results = [_decimal(one.value, numpy.float32) for one in response.result.regressions]
    return b'{\n    "results": [' + b", ".join(results) + b"\n    ]\n}"


def _class(found):
    return b"[" + _text(found.label.encode()) + b", " + _decimal(found.score, numpy.float32) + b"]"


def _looked_up(calls, name, version, of):
    if not name:
        _refuse("Missing model name in request.")
    spec = _spec(name, version)
    if not of:
        response = calls.status(get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
        return json_format.MessageToJson(response, including_default_value_fields=True, indent=1).encode()
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
    response = calls.metadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    parts = [
        json_format.MessageToJson(
            one, including_default_value_fields=True, preserving_proto_field_name=True, indent=1
        ).encode()
        for one in (response.model_spec, signatures)
    ]
    return b'{\n"model_spec":%s,\n"metadata": {"signature_def": %s}\n}\n' % tuple(parts)

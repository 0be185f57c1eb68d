"""The messages of TensorFlow Serving 1.15.0 that ours are held against, read by protobuf itself: not by our code.

Only the fields that ours may have, with the names, numbers and kinds of the published .proto files.
"""

from __future__ import annotations

import functools
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

SERVING, TENSORFLOW = "tensorflow.serving", "tensorflow"

# message: its fields as (name, number, type); repeated with *, a map as key>value.
MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "tensorflow.AttrValue": [("s", 2, "bytes"), ("i", 3, "int64"), ("f", 4, "float"), ("b", 5, "bool")],
    "tensorflow.RewriterConfig": [
        ("memory_optimization", 4, "tensorflow.MemOptType"),
        ("remapping", 14, "tensorflow.Toggle"),
        ("custom_optimizers", 200, "*tensorflow.CustomGraphOptimizer"),
    ],
    "tensorflow.CustomGraphOptimizer": [("name", 1, "string"), ("parameter_map", 2, "string>tensorflow.AttrValue")],
    "tensorflow.GraphOptions": [("rewrite_options", 10, "tensorflow.RewriterConfig")],
    "tensorflow.ConfigProto": [
        ("intra_op_parallelism_threads", 2, "int32"),
        ("inter_op_parallelism_threads", 5, "int32"),
        ("graph_options", 10, "tensorflow.GraphOptions"),
    ],
    "tensorflow.TensorShapeDim": [("size", 1, "int64"), ("name", 2, "string")],
    "tensorflow.TensorShapeProto": [("dim", 2, "*tensorflow.TensorShapeDim"), ("unknown_rank", 3, "bool")],
    "tensorflow.TensorProto": [
        ("dtype", 1, "int32"),  # an enum there, which is the same on the wire
        ("tensor_shape", 2, "tensorflow.TensorShapeProto"),
        ("version_number", 3, "int32"),
        ("tensor_content", 4, "bytes"),
        ("float_val", 5, "*float"),
        ("double_val", 6, "*double"),
        ("int_val", 7, "*int32"),
        ("string_val", 8, "*bytes"),
        ("scomplex_val", 9, "*float"),
        ("int64_val", 10, "*int64"),
        ("bool_val", 11, "*bool"),
        ("dcomplex_val", 12, "*double"),
        ("half_val", 13, "*int32"),
        ("uint32_val", 16, "*uint32"),
        ("uint64_val", 17, "*uint64"),
    ],
    "tensorflow.TensorInfo": [
        ("name", 1, "string"),
        ("dtype", 2, "int32"),
        ("tensor_shape", 3, "tensorflow.TensorShapeProto"),
    ],
    "tensorflow.SignatureDef": [
        ("inputs", 1, "string>tensorflow.TensorInfo"),
        ("outputs", 2, "string>tensorflow.TensorInfo"),
        ("method_name", 3, "string"),
    ],
    "tensorflow.serving.ModelSpec": [
        ("name", 1, "string"),
        ("version", 2, "google.protobuf.Int64Value"),
        ("signature_name", 3, "string"),
        ("version_label", 4, "string"),
    ],
    "tensorflow.serving.PredictRequest": [
        ("model_spec", 1, "tensorflow.serving.ModelSpec"),
        ("inputs", 2, "string>tensorflow.TensorProto"),
        ("output_filter", 3, "*string"),
    ],
    "tensorflow.serving.PredictResponse": [
        ("outputs", 1, "string>tensorflow.TensorProto"),
        ("model_spec", 2, "tensorflow.serving.ModelSpec"),
    ],
    "tensorflow.BytesList": [("value", 1, "*bytes")],
    "tensorflow.FloatList": [("value", 1, "*float")],
    "tensorflow.Int64List": [("value", 1, "*int64")],
    "tensorflow.Feature": [
        ("bytes_list", 1, "tensorflow.BytesList"),
        ("float_list", 2, "tensorflow.FloatList"),
        ("int64_list", 3, "tensorflow.Int64List"),
    ],
    "tensorflow.Features": [("feature", 1, "string>tensorflow.Feature")],
    "tensorflow.Example": [("features", 1, "tensorflow.Features")],
    "tensorflow.serving.ExampleList": [("examples", 1, "*tensorflow.Example")],
    "tensorflow.serving.ExampleListWithContext": [
        ("examples", 1, "*tensorflow.Example"),
        ("context", 2, "tensorflow.Example"),
    ],
    "tensorflow.serving.Input": [
        ("example_list", 1, "tensorflow.serving.ExampleList"),
        ("example_list_with_context", 2, "tensorflow.serving.ExampleListWithContext"),
    ],
    "tensorflow.serving.Class": [("label", 1, "string"), ("score", 2, "float")],
    "tensorflow.serving.Classifications": [("classes", 1, "*tensorflow.serving.Class")],
    "tensorflow.serving.ClassificationResult": [("classifications", 1, "*tensorflow.serving.Classifications")],
    "tensorflow.serving.ClassificationRequest": [
        ("model_spec", 1, "tensorflow.serving.ModelSpec"),
        ("input", 2, "tensorflow.serving.Input"),
    ],
    "tensorflow.serving.ClassificationResponse": [
        ("result", 1, "tensorflow.serving.ClassificationResult"),
        ("model_spec", 2, "tensorflow.serving.ModelSpec"),
    ],
    "tensorflow.serving.Regression": [("value", 1, "float")],
    "tensorflow.serving.RegressionResult": [("regressions", 1, "*tensorflow.serving.Regression")],
    "tensorflow.serving.RegressionRequest": [
        ("model_spec", 1, "tensorflow.serving.ModelSpec"),
        ("input", 2, "tensorflow.serving.Input"),
    ],
    "tensorflow.serving.RegressionResponse": [
        ("result", 1, "tensorflow.serving.RegressionResult"),
        ("model_spec", 2, "tensorflow.serving.ModelSpec"),
    ],
    "tensorflow.serving.InferenceTask": [
        ("model_spec", 1, "tensorflow.serving.ModelSpec"),
        ("method_name", 2, "string"),
    ],
    "tensorflow.serving.InferenceResult": [
        ("model_spec", 1, "tensorflow.serving.ModelSpec"),
        ("classification_result", 2, "tensorflow.serving.ClassificationResult"),
        ("regression_result", 3, "tensorflow.serving.RegressionResult"),
    ],
    "tensorflow.serving.MultiInferenceRequest": [
        ("tasks", 1, "*tensorflow.serving.InferenceTask"),
        ("input", 2, "tensorflow.serving.Input"),
    ],
    "tensorflow.serving.MultiInferenceResponse": [("results", 1, "*tensorflow.serving.InferenceResult")],
    "tensorflow.serving.StatusProto": [("error_code", 1, "int32"), ("error_message", 2, "string")],
    "tensorflow.serving.GetModelStatusRequest": [("model_spec", 1, "tensorflow.serving.ModelSpec")],
    "tensorflow.serving.ModelVersionStatus": [
        ("version", 1, "int64"),
        ("state", 2, "int32"),
        ("status", 3, "tensorflow.serving.StatusProto"),
    ],
    "tensorflow.serving.GetModelStatusResponse": [
        ("model_version_status", 1, "*tensorflow.serving.ModelVersionStatus")
    ],
    "tensorflow.serving.ReloadConfigResponse": [("status", 1, "tensorflow.serving.StatusProto")],
    "tensorflow.serving.SignatureDefMap": [("signature_def", 1, "string>tensorflow.SignatureDef")],
    "tensorflow.serving.GetModelMetadataRequest": [
        ("model_spec", 1, "tensorflow.serving.ModelSpec"),
        ("metadata_field", 2, "*string"),
    ],
    "tensorflow.serving.GetModelMetadataResponse": [
        ("model_spec", 1, "tensorflow.serving.ModelSpec"),
        ("metadata", 2, "string>google.protobuf.Any"),
    ],
    "tensorflow.serving.PredictLog": [
        ("request", 1, "tensorflow.serving.PredictRequest"),
        ("response", 2, "tensorflow.serving.PredictResponse"),
    ],
    "tensorflow.serving.PredictionLog": [("predict_log", 6, "tensorflow.serving.PredictLog")],
    "tensorflow.serving.BatchingParameters": [
        ("max_batch_size", 1, "google.protobuf.Int64Value"),
        ("batch_timeout_micros", 2, "google.protobuf.Int64Value"),
        ("max_enqueued_batches", 3, "google.protobuf.Int64Value"),
        ("num_batch_threads", 4, "google.protobuf.Int64Value"),
        ("thread_pool_name", 5, "google.protobuf.StringValue"),
        ("allowed_batch_sizes", 6, "*int64"),
        ("pad_variable_length_inputs", 7, "bool"),
    ],
    "tensorflow.serving.ModelWarmupOptions": [("num_request_iterations", 1, "google.protobuf.Int32Value")],
    "tensorflow.serving.SessionBundleConfig": [
        ("session_target", 1, "string"),
        ("session_config", 2, "tensorflow.ConfigProto"),
        ("batching_parameters", 3, "tensorflow.serving.BatchingParameters"),
        ("saved_model_tags", 6, "*string"),
        ("enable_model_warmup", 779, "bool"),
        ("model_warmup_options", 780, "tensorflow.serving.ModelWarmupOptions"),
        ("remove_unused_fields_from_bundle_metagraph", 782, "bool"),
    ],
    "tensorflow.serving.SavedModelBundleSourceAdapterConfig": [
        ("legacy_config", 1000, "tensorflow.serving.SessionBundleConfig")
    ],
    "tensorflow.serving.PlatformConfig": [("source_adapter_config", 1, "google.protobuf.Any")],
    "tensorflow.serving.PlatformConfigMap": [("platform_configs", 1, "string>tensorflow.serving.PlatformConfig")],
    "tensorflow.serving.Latest": [("num_versions", 1, "uint32")],
    "tensorflow.serving.All": [],
    "tensorflow.serving.Specific": [("versions", 1, "*int64")],
    "tensorflow.serving.ServableVersionPolicy": [
        ("latest", 100, "tensorflow.serving.Latest"),
        ("all", 101, "tensorflow.serving.All"),
        ("specific", 102, "tensorflow.serving.Specific"),
    ],
    "tensorflow.serving.ModelConfig": [
        ("name", 1, "string"),
        ("base_path", 2, "string"),
        ("model_platform", 4, "string"),
        ("model_version_policy", 7, "tensorflow.serving.ServableVersionPolicy"),
        ("version_labels", 8, "string>int64"),
    ],
    "tensorflow.serving.ModelConfigList": [("config", 1, "*tensorflow.serving.ModelConfig")],
    "tensorflow.serving.ModelServerConfig": [("model_config_list", 1, "tensorflow.serving.ModelConfigList")],
    "tensorflow.serving.ReloadConfigRequest": [("config", 1, "tensorflow.serving.ModelServerConfig")],
    "tensorflow.serving.PrometheusConfig": [("enable", 1, "bool"), ("path", 2, "string")],
    "tensorflow.serving.MonitoringConfig": [("prometheus_config", 1, "tensorflow.serving.PrometheusConfig")],
    "tensorflow.serving.SSLConfig": [
        ("server_key", 1, "string"),
        ("server_cert", 2, "string"),
        ("custom_ca", 3, "string"),
        ("client_verify", 4, "bool"),
    ],
}
# Within RewriterConfig there; their values have to differ in name here, as they do.
ENUMS = {
    "tensorflow.MemOptType": {"DEFAULT_MEM_OPT": 0, "NO_MEM_OPT": 1, "MANUAL": 2},
    "tensorflow.Toggle": {"DEFAULT": 0, "ON": 1, "OFF": 2},
}
ONE_OF = {"tensorflow.AttrValue": "value", "tensorflow.serving.ServableVersionPolicy": "policy_choice"}
"""Messages of which one field is set, and what that choice is called."""
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: getattr(_Field, f"TYPE_{name.upper()}")
    for name in ("bytes", "int64", "float", "bool", "string", "int32", "uint32", "double", "uint64")
}


def read_message(text: str, name: str) -> Any:
    """The message of that name that the text holds; text_format.ParseError where it is another one, or none."""
    pool = _pool()
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))()
    return text_format.Parse(text, message, descriptor_pool=pool)


def message_class(name: str) -> Any:
    """The class of the message of that name, such as tensorflow.serving.PredictRequest."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(name))


def session_bundles(text: str) -> dict[str, Any]:
    """The SessionBundleConfig of each platform of a platform config."""
    pool = _pool()
    kind = pool.FindMessageTypeByName("tensorflow.serving.SavedModelBundleSourceAdapterConfig")
    bundles = {}
    for name, config in read_message(text, "PlatformConfigMap").platform_configs.items():
        adapter: Any = message_factory.GetMessageClass(kind)()
        assert config.source_adapter_config.type_url.endswith("/" + kind.full_name)
        adapter.ParseFromString(config.source_adapter_config.value)
        bundles[name] = adapter.legacy_config
    return bundles


@functools.cache
def _pool() -> Any:
    pool = descriptor_pool.DescriptorPool()
    for module in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for package in (TENSORFLOW, SERVING):
        file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
        file.dependency.extend(["google/protobuf/any.proto", "google/protobuf/wrappers.proto"])
        if package == SERVING:
            file.dependency.append(f"{TENSORFLOW}.proto")
        for name, values in ENUMS.items():
            if name.rpartition(".")[0] == package:
                enum = file.enum_type.add(name=name.rpartition(".")[2])
                for value, number in values.items():
                    enum.value.add(name=value, number=number)
        for name, fields in MESSAGES.items():
            if name.rpartition(".")[0] == package:
                _add_message(file, name, fields)
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def _add_message(file: descriptor_pb2.FileDescriptorProto, name: str, fields: list[tuple[str, int, str]]) -> None:
    message = file.message_type.add(name=name.rpartition(".")[2])
    if name in ONE_OF:
        message.oneof_decl.add(name=ONE_OF[name])
    for field, number, kind in fields:
        key, is_map, value = kind.partition(">")
        if is_map:
            entry = message.nested_type.add(name="".join(part.title() for part in field.split("_")) + "Entry")
            entry.options.map_entry = True
            _add_field(entry, "key", 1, key)
            _add_field(entry, "value", 2, value)
            kind = f"*{name}.{entry.name}"
        _add_field(message, field, number, kind)
        if name in ONE_OF:
            message.field[-1].oneof_index = 0


def _add_field(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number)
    field.label = _Field.LABEL_REPEATED if kind.startswith("*") else _Field.LABEL_OPTIONAL
    kind = kind.removeprefix("*")
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _Field.TYPE_ENUM if kind in ENUMS else _Field.TYPE_MESSAGE
        field.type_name = f".{kind}"

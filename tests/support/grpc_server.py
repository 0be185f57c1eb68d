"""A gRPC server with TensorFlow Serving's service names, whose messages protobuf reads and writes: not our code."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from typing import Any, Callable

import grpc
from serving_messages import message_class

SERVICE = "tensorflow.serving.PredictionService"
SIGNATURES: Mapping[str, Mapping[str, tuple[int, tuple[int, ...]]]] = {
    "serving_default": {"x": (1, (-1, 2))},
    "two": {"x": (1, (-1, 2)), "n": (9, (-1,))},
    "texts": {"t": (7, (-1,))},
}
"""The inputs of each: type and shape."""
Answer = Callable[[bytes, grpc.ServicerContext], bytes]


class ModelServer:
    """One model, `m`, of versions 1 and 2 (labelled `stable`), which doubles floats and joins texts."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.answer: Answer | None = None
        """What answers a prediction in its place."""
        self.url = ""

    def metadata(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        asked = message_class("tensorflow.serving.GetModelMetadataRequest").FromString(data)
        self._refuse_unknown(asked.model_spec, context)
        assert list(asked.metadata_field) == ["signature_def"]
        signatures = message_class("tensorflow.serving.SignatureDefMap")()
        for name, inputs in SIGNATURES.items():
            signature = signatures.signature_def[name]
            signature.method_name = "tensorflow/serving/predict"
            for tensor, (dtype, shape) in inputs.items():
                _describe(signature.inputs[tensor], dtype, shape)
            _describe(signature.outputs["y"], 1, (-1, 2))
        answer = message_class("tensorflow.serving.GetModelMetadataResponse")()
        answer.model_spec.name, answer.model_spec.version.value = "m", 2
        answer.metadata["signature_def"].Pack(signatures)
        return bytes(answer.SerializeToString())

    def predict(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        if self.answer is not None:
            return self.answer(data, context)
        asked = message_class("tensorflow.serving.PredictRequest").FromString(data)
        self._refuse_unknown(asked.model_spec, context)
        self.requests.append(asked)
        answer = message_class("tensorflow.serving.PredictResponse")()
        answer.model_spec.name, answer.model_spec.version.value = "m", asked.model_spec.version.value or 2
        for name, tensor in asked.inputs.items():
            output = answer.outputs[{"x": "y", "t": "t"}.get(name, name)]
            output.dtype = tensor.dtype
            output.tensor_shape.CopyFrom(tensor.tensor_shape)
            count = math.prod(dim.size for dim in tensor.tensor_shape.dim)
            if tensor.dtype == 1:
                output.float_val.extend(2 * value for value in struct.unpack(f"<{count}f", tensor.tensor_content))
            elif tensor.dtype == 9:
                output.int64_val.extend(struct.unpack(f"<{count}q", tensor.tensor_content))
            else:
                output.string_val.extend(tensor.string_val)
        return bytes(answer.SerializeToString())

    def _refuse_unknown(self, spec: Any, context: grpc.ServicerContext) -> None:
        if spec.name != "m" or spec.version.value not in (0, 1, 2) or spec.version_label not in ("", "stable"):
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")


def _describe(info: Any, dtype: int, shape: tuple[int, ...]) -> None:
    info.name, info.dtype = "node:0", dtype
    for size in shape:
        info.tensor_shape.dim.add(size=size)


@contextmanager
def serving(
    methods: Mapping[str, Answer] | None = None,
    *,
    port: int = 0,
    service: str = SERVICE,
    credentials: grpc.ServerCredentials | None = None,
    **options: int,
) -> Iterator[ModelServer]:
    """The server on that or a free port of this machine, with grpc's own options; `methods` in place of its own."""
    server = ModelServer()
    found = methods if methods is not None else {"Predict": server.predict, "GetModelMetadata": server.metadata}
    handlers: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(answer) for name, answer in found.items()}
    settings = [(f"grpc.{name}", value) for name, value in options.items()]
    running = grpc.server(futures.ThreadPoolExecutor(2), options=settings)
    running.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    if credentials is not None:
        port = running.add_secure_port(f"127.0.0.1:{port}", credentials)
        server.url = f"grpcs://localhost:{port}"
    else:
        port = running.add_insecure_port(f"127.0.0.1:{port}")
        server.url = f"grpc://127.0.0.1:{port}"
    running.start()
    try:
        yield server
    finally:
        running.stop(None).wait()

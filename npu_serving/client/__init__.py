"""Asking a TensorFlow Serving from Python, without TensorFlow: npu-serving-client's public names.

The wire format is written and read by hand, so that this lives beside any TensorFlow and any protobuf. A name is
imported when it is first used: `import npu_serving.client` imports neither NumPy nor grpc.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from npu_serving.client.arrays import WireArray, decode_tensor
    from npu_serving.client.async_client import AsyncGrpcClient
    from npu_serving.client.errors import (
        AnswerTooLargeError,
        BusyError,
        ClientError,
        DeadlineError,
        ExpiredError,
        FailedError,
        FromGatewayError,
        MalformedAnswerError,
        NotReachedError,
        NotSentError,
        RefusedError,
        TooLargeForGatewayError,
        UnknownModelError,
    )
    from npu_serving.client.example_messages import InferenceAnswer
    from npu_serving.client.example_types import CLASSIFY, REGRESS, ScoredLabel
    from npu_serving.client.grpc_client import GrpcClient
    from npu_serving.client.model_messages import ModelEntry
    from npu_serving.client.model_spec import ModelSpec
    from npu_serving.client.model_types import ModelMetadata, ModelStatus, Signature, TensorInfo, VersionStatus
    from npu_serving.client.prediction import Classification, Prediction, Regression
    from npu_serving.client.prediction_messages import decode_predict, decode_predict_request, encode_predict
    from npu_serving.client.rest_client import RestClient
    from npu_serving.client.tls import Tls

_PLACES = {
    "AnswerTooLargeError": "errors",
    "AsyncGrpcClient": "async_client",
    "BusyError": "errors",
    "CLASSIFY": "example_types",
    "Classification": "prediction",
    "ClientError": "errors",
    "DeadlineError": "errors",
    "ExpiredError": "errors",
    "FailedError": "errors",
    "FromGatewayError": "errors",
    "GrpcClient": "grpc_client",
    "InferenceAnswer": "example_messages",
    "MalformedAnswerError": "errors",
    "ModelEntry": "model_messages",
    "ModelMetadata": "model_types",
    "ModelSpec": "model_spec",
    "ModelStatus": "model_types",
    "NotReachedError": "errors",
    "NotSentError": "errors",
    "Prediction": "prediction",
    "REGRESS": "example_types",
    "RefusedError": "errors",
    "Regression": "prediction",
    "RestClient": "rest_client",
    "ScoredLabel": "example_types",
    "Signature": "model_types",
    "TensorInfo": "model_types",
    "Tls": "tls",
    "TooLargeForGatewayError": "errors",
    "UnknownModelError": "errors",
    "VersionStatus": "model_types",
    "WireArray": "arrays",
    "decode_predict": "prediction_messages",
    "decode_predict_request": "prediction_messages",
    "decode_tensor": "arrays",
    "encode_predict": "prediction_messages",
}
"""The module that each public name is in."""

__all__ = [
    "CLASSIFY",
    "REGRESS",
    "AnswerTooLargeError",
    "AsyncGrpcClient",
    "BusyError",
    "Classification",
    "ClientError",
    "DeadlineError",
    "ExpiredError",
    "FailedError",
    "FromGatewayError",
    "GrpcClient",
    "InferenceAnswer",
    "MalformedAnswerError",
    "ModelEntry",
    "ModelMetadata",
    "ModelSpec",
    "ModelStatus",
    "NotReachedError",
    "NotSentError",
    "Prediction",
    "RefusedError",
    "Regression",
    "RestClient",
    "ScoredLabel",
    "Signature",
    "TensorInfo",
    "Tls",
    "TooLargeForGatewayError",
    "UnknownModelError",
    "VersionStatus",
    "WireArray",
    "decode_predict",
    "decode_predict_request",
    "decode_tensor",
    "encode_predict",
]


def __getattr__(name: str) -> object:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{place}"), name)
    globals()[name] = value  # the next time it is found at once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

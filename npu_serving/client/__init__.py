"""Asking a TensorFlow Serving from Python, without TensorFlow: npu-serving-client's public names.

The wire format is written and read by hand, so that this lives beside any TensorFlow and any protobuf. A name is
imported when it is first used: `import npu_serving.client` imports neither NumPy nor grpc.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from npu_serving.client.arrays import WireArray, decode_tensor
    from npu_serving.client.example_messages import CLASSIFY, REGRESS, InferenceAnswer, ScoredLabel
    from npu_serving.client.model_spec import ModelSpec
    from npu_serving.client.prediction_messages import decode_predict, decode_predict_request, encode_predict

_PLACES = {
    "CLASSIFY": "example_messages",
    "InferenceAnswer": "example_messages",
    "ModelSpec": "model_spec",
    "REGRESS": "example_messages",
    "ScoredLabel": "example_messages",
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
    "InferenceAnswer",
    "ModelSpec",
    "ScoredLabel",
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

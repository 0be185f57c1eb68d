"""A request in values, from JSON or CSV, as NumPy's arrays of the types that a signature takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from npu_serving.asking.request import PredictRequest
from npu_serving.asking.request_tensors import request_columns, request_tensors
from npu_serving.client.arrays import STORED
from npu_serving.client.model_types import Signature


def request_arrays(request: PredictRequest, signature: Signature, *, cast: bool = False) -> Mapping[str, object]:
    """The inputs by name; those of bfloat16 as float32. RequestError for what the signature does not take.

    With `cast` only the names have to be right: the values are as they stand there.
    """
    if cast:
        return request_columns(request, signature)
    found: dict[str, object] = {}
    for name, tensor in request_tensors(request, signature).items():
        kind = tensor.data_type
        if kind.is_text:
            values: Any = np.empty(len(tensor.values), object)
            values[:] = list(tensor.values)
        else:
            values = np.array(tensor.values, np.float32 if kind.name == "DT_BFLOAT16" else STORED[kind])
        found[name] = values.reshape(tensor.shape)
    return found

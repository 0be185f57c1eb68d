"""The request by which a model is proven to answer: its golden request, or zeros of the shapes in its metadata."""

from __future__ import annotations

import math
from dataclasses import dataclass

from npu_serving.client.answers import DEFAULT_SIGNATURE, ModelMetadata, Signature, TensorInfo
from npu_serving.client.request import COLUMN, PredictRequest
from npu_serving.deploy.platform_config import ServedModel
from npu_serving.serving.golden_request import GoldenRequest

GOLDEN, ZEROS = "its golden request", "zeros"
MOST_VALUES = 1 << 22
"""Of the zeros of one request: as JSON some 8 MB."""
_ZEROS: dict[str, object] = {"DT_FLOAT": 0.0, "DT_DOUBLE": 0.0, "DT_BOOL": False, "DT_STRING": ""}
_INTEGERS = ("DT_INT8", "DT_INT16", "DT_INT32", "DT_INT64", "DT_UINT8", "DT_UINT16", "DT_UINT32", "DT_UINT64")


@dataclass(frozen=True)
class FirstRequest:
    """A request, and what it is; or why none can be made, in a few words."""

    request: PredictRequest | None
    kind: str = ""
    why_not: str = ""


def golden_of_model(model: ServedModel, golden: GoldenRequest | None) -> FirstRequest | None:
    """The golden request, where it was recorded for this model; None where it wasn't."""
    if golden is None or (golden.model_name, str(golden.model_base_path)) != (model.name, model.base_path):
        return None
    return FirstRequest(golden.request, GOLDEN)


def zeros_for(metadata: ModelMetadata) -> FirstRequest:
    """A request of zeros to the default signature, or to the only one; one row, where the number of rows is open."""
    by_name = {signature.name: signature for signature in metadata.signatures}
    if DEFAULT_SIGNATURE not in by_name and len(by_name) != 1:
        return FirstRequest(None, why_not=f"it has no signature {DEFAULT_SIGNATURE}")
    signature = by_name.get(DEFAULT_SIGNATURE) or metadata.signatures[0]
    why = _why_no_zeros(signature)
    if why:
        return FirstRequest(None, why_not=why)
    values = {tensor.name: _filled(_shape(tensor), _zero(tensor)) for tensor in signature.inputs}
    return FirstRequest(PredictRequest(COLUMN, values, signature.name), ZEROS)


def _why_no_zeros(signature: Signature) -> str:
    count = 0
    for tensor in signature.inputs:
        if tensor.shape is None or any(size < 0 for size in tensor.shape[1:]):
            return f"the shape of its input is not known ({tensor.text()})"
        if _zero(tensor) is None:
            return f"the REST API does not take its input ({tensor.text()})"
        count += math.prod(_shape(tensor))
    if not signature.inputs:
        return f"its signature {signature.name} has no inputs"
    return f"a request would have {count} values" if count > MOST_VALUES else ""


def _shape(tensor: TensorInfo) -> tuple[int, ...]:
    return tuple(1 if size < 0 else size for size in tensor.shape or ())


def _zero(tensor: TensorInfo) -> object:
    return 0 if tensor.dtype in _INTEGERS else _ZEROS.get(tensor.dtype)


def _filled(shape: tuple[int, ...], value: object) -> object:
    return [_filled(shape[1:], value) for _ in range(shape[0])] if shape else value

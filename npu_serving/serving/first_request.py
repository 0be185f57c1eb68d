"""The requests by which a model is proven to answer: its golden requests, and zeros to the signatures without one."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from npu_serving.asking.answers import ShownPrediction
from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.request import COLUMN, PredictRequest
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.model_types import DEFAULT_SIGNATURE, ModelMetadata, Signature, TensorInfo
from npu_serving.serving.server_apis import ServerApis

MOST_VALUES = 1 << 22
"""Of the zeros of one request: as JSON some 8 MB."""
PREDICT = "tensorflow/serving/predict"
_ZEROS: dict[str, object] = {"DT_FLOAT": 0.0, "DT_DOUBLE": 0.0, "DT_BOOL": False, "DT_STRING": ""}
_INTEGERS = ("DT_INT8", "DT_INT16", "DT_INT32", "DT_INT64", "DT_UINT8", "DT_UINT16", "DT_UINT32", "DT_UINT64")
OVER_GRPC = ("DT_HALF", "DT_BFLOAT16")
"""Types with a zero that the REST API takes none of (json_tensor.cc at 1.15.0)."""


@dataclass(frozen=True)
class FirstRequest:
    """A request to one signature; or why none can be made, in a few words.

    `golden` is set for a golden request. Without `is_needed` a model is ready that does not answer it: nobody may ever
    ask that signature.
    """

    signature: str
    request: PredictRequest | None = None
    why_not: str = ""
    golden: GoldenRequest | None = None
    is_needed: bool = True
    has_half_floats: bool = False

    @property
    def needs_grpc(self) -> bool:
        """Whether the REST API takes no such request."""
        return self.has_half_floats or (self.golden is not None and self.golden.needs_grpc)

    def sent(self, apis: ServerApis, model: str, *, timeout_s: float) -> ShownPrediction:
        """What the model answers."""
        assert self.request is not None
        if self.golden is not None:
            return apis.ask(self.golden, timeout_s=timeout_s)
        return apis.predict(ModelSpec(model), self.request, timeout_s=timeout_s, over_grpc=self.needs_grpc)


def first_requests(
    metadata: ModelMetadata, golden: Sequence[GoldenRequest], served: Collection[int] = ()
) -> Iterator[FirstRequest]:
    """The golden requests, and zeros for each signature that none of them asks; `served` are the versions, if known.

    The default signature, or the only one, has to answer; of the others those for predictions are asked.
    """
    asked = set()
    for each in golden:
        if each.version is not None and served and each.version not in served:
            why = f"version {each.version}, which the golden request {each.name} asks, is not served"
            yield FirstRequest(each.signature, None, why, each, is_needed=False)
            continue
        asked.add(each.signature)
        yield FirstRequest(each.signature, each.request, "", each)
    main = _main_signature(metadata)
    if main is None and not asked:
        yield FirstRequest(DEFAULT_SIGNATURE, None, f"it has no signature {DEFAULT_SIGNATURE}", is_needed=False)
    for signature in metadata.signatures:
        is_main = main is not None and signature.name == main.name
        if signature.name not in asked and (is_main or signature.method_name == PREDICT):
            yield zeros_for(signature, is_needed=is_main)


def zeros_for(signature: Signature, *, is_needed: bool = True) -> FirstRequest:
    """A request of zeros; one row, where the number of rows is open."""
    why = _why_no_zeros(signature)
    if why:
        return FirstRequest(signature.name, None, why, is_needed=is_needed)
    values = {tensor.name: _filled(_shape(tensor), _zero(tensor)) for tensor in signature.inputs}
    half = any(tensor.dtype in OVER_GRPC for tensor in signature.inputs)
    request = PredictRequest(COLUMN, values, signature.name)
    return FirstRequest(signature.name, request, is_needed=is_needed, has_half_floats=half)


def answered_text(done: Sequence[FirstRequest]) -> str:
    """What a model has answered, in a few words: `its 2 golden requests, zeros`."""
    golden = sum(first.golden is not None for first in done)
    said = [f"its {golden} golden requests" if golden > 1 else "its golden request"] if golden else []
    of_zeros = [first for first in done if first.golden is None]
    alone = len(of_zeros) == 1 and not golden
    return ", ".join([*said, *("zeros" if alone else f"zeros to {first.signature}" for first in of_zeros)])


def _main_signature(metadata: ModelMetadata) -> Signature | None:
    by_name = {signature.name: signature for signature in metadata.signatures}
    return by_name.get(DEFAULT_SIGNATURE) or (metadata.signatures[0] if len(by_name) == 1 else None)


def _why_no_zeros(signature: Signature) -> str:
    count = 0
    for tensor in signature.inputs:
        if tensor.shape is None or any(size < 0 for size in tensor.shape[1:]):
            return f"the shape of its input is not known ({tensor.text()})"
        if _zero(tensor) is None:
            return f"no request can give its input ({tensor.text()})"
        count += math.prod(_shape(tensor))
    if not signature.inputs:
        return f"its signature {signature.name} has no inputs"
    return f"a request would have {count} values" if count > MOST_VALUES else ""


def _shape(tensor: TensorInfo) -> tuple[int, ...]:
    return tuple(1 if size < 0 else size for size in tensor.shape or ())


def _zero(tensor: TensorInfo) -> object:
    if tensor.dtype in OVER_GRPC:
        return 0.0
    return 0 if tensor.dtype in _INTEGERS else _ZEROS.get(tensor.dtype)


def _filled(shape: tuple[int, ...], value: object) -> object:
    return [_filled(shape[1:], value) for _ in range(shape[0])] if shape else value

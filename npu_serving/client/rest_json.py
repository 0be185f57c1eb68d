"""Arrays to and from the JSON of TensorFlow Serving's REST API, by columns (util/json_tensor.cc at 1.15.0).

By columns the shape of a tensor is that of its lists, in a request as in an answer. By rows it would be cut into
instances, which fails for outputs whose first dimension the signature does not know.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_serving.client.arrays import STORED, array_of
from npu_serving.client.data_types import BY_NAME
from npu_serving.client.errors import NotSentError
from npu_serving.client.model_types import Signature, TensorInfo
from npu_serving.client.rest_documents import text_bytes

TYPES_OF_JSON = frozenset(
    "DT_" + name
    for name in ("FLOAT", "DOUBLE", "INT64", "INT32", "INT16", "INT8", "UINT8", "UINT32", "UINT64", "BOOL", "STRING")
)
"""Those that the server reads from JSON and writes into it."""
_BASE64 = "b64"


def refuse_other_types(signature: Signature) -> None:
    """NotSentError for a signature with an input or output that JSON can't carry: the server has no way to do it."""
    for direction, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for tensor in tensors:
            if tensor.dtype not in TYPES_OF_JSON:
                raise NotSentError(
                    f"The {direction} {tensor.name!r} is of the type {tensor.dtype}, which the REST API can't carry.",
                    cause="TensorFlow Serving reads and writes no half, bfloat16, complex or quantised numbers in JSON",
                    cure="use gRPC: GrpcClient('HOST:8500') (--url grpc://HOST:8500)",
                    reason="not-by-rest",
                )


def predict_body(signature: Signature, values: Mapping[str, object]) -> bytes:
    """The body of a request for a prediction, of arrays that cast_inputs() has made."""
    inputs = {name: _nested(name, np.asarray(value)) for name, value in values.items()}
    document = {"signature_name": signature.name, "inputs": inputs}
    return json.dumps(document, separators=(",", ":")).encode()


def outputs_of(document: object, signature: Signature, wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The outputs by name. ValueError for a document that has not those of the signature."""
    if not isinstance(document, dict) or "outputs" not in document:
        raise ValueError("it lacks 'outputs'")
    found = document["outputs"]
    by_name = {item.name: item for item in signature.outputs}
    if len(by_name) == 1:  # the server leaves the name of an only output out
        found = {next(iter(by_name)): found}
    if not isinstance(found, dict) or set(found) != set(by_name):
        raise ValueError(f"its outputs are not {', '.join(map(repr, sorted(by_name)))}")
    return {name: _array(by_name[name], found[name]) for name in (wanted or found)}


def examples_body(
    signature_name: str, examples: Sequence[Mapping[str, object]], context: Mapping[str, object] | None
) -> bytes:
    """The body of a request to classify examples or to regress them: their features by name."""
    document: dict[str, object] = {"signature_name": signature_name} if signature_name else {}
    if context is not None:
        document["context"] = _features("context", context)
    document["examples"] = [_features(f"examples[{at}]", example) for at, example in enumerate(examples)]
    return json.dumps(document, separators=(",", ":")).encode()


def _features(where: str, example: Mapping[str, object]) -> dict[str, object]:
    return {name: _nested(f"{name}' of '{where}", np.asarray(array_of(value))) for name, value in example.items()}


def _nested(name: str, array: NDArray[Any]) -> object:
    if not array.size and array.ndim > array.shape.index(0) + 1:
        raise NotSentError(
            f"The input {name!r} has the shape {list(array.shape)}, which JSON can't say.",
            cause="in lists without an item the sizes below them are lost",
            cure="send values, or use gRPC: GrpcClient('HOST:8500') (--url grpc://HOST:8500)",
            reason="not-by-rest",
        )
    if array.dtype.kind in "OSUT":
        return (
            np.array([_text(name, item) for item in array.reshape(-1).tolist()], object).reshape(array.shape).tolist()
        )
    return array.tolist()


def _text(name: str, item: object) -> object:
    if isinstance(item, bytes):
        return {_BASE64: base64.b64encode(item).decode("ascii")}
    if isinstance(item, str):
        try:
            item.encode()
        except UnicodeEncodeError as error:
            raise NotSentError(
                f"A text of the input {name!r} can't be written in UTF-8.", cure="give it as bytes"
            ) from error
        return item
    raise NotSentError(
        f"The input {name!r} has a value that is {type(item).__name__}, not bytes or str.", cure="give bytes or texts"
    )


def _array(info: TensorInfo, value: object) -> NDArray[Any]:
    kind = BY_NAME[info.dtype]
    try:
        if not kind.is_text:
            return np.array(value, STORED[kind])
        array = np.array(value, object)
        flat = [_bytes_of(item) for item in array.reshape(-1).tolist()]
        found = np.empty(array.shape, object)
        found.reshape(-1)[:] = flat
        return found
    except (ValueError, TypeError, OverflowError, binascii.Error) as error:
        raise ValueError(f"its output {info.name!r} is not of the type {info.dtype} ({error})") from error


def _bytes_of(item: object) -> bytes:
    if isinstance(item, str):
        return text_bytes(item)
    if isinstance(item, dict) and set(item) == {_BASE64}:
        return base64.b64decode(item[_BASE64], validate=True)
    raise ValueError(f"{item!r:.40} is not a text")

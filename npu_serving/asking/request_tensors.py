"""From a request in JSON to the tensors that a signature takes, and from an answer's tensors back to JSON.

What is taken, and what an answer looks like, is as over the REST API (util/json_tensor.cc at 1.15.0): the same request
gives the same answer either way.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence

from npu_serving.asking.request import ROW, PredictRequest
from npu_serving.asking.tensor import Tensor, Value, nested, packed, shown_values
from npu_serving.client.data_types import BY_NAME, DataType
from npu_serving.client.model_types import Signature, TensorInfo
from npu_serving.client.number_rules import holds
from npu_serving.client.tensor_message import MOST_DIMENSIONS, MOST_ELEMENTS
from npu_serving.errors import RequestError

_BASE64 = "b64"
_NOT_OVER_REST = ("DT_HALF", "DT_BFLOAT16", "DT_COMPLEX64", "DT_COMPLEX128")
_AS_BYTES = "_bytes"  # an output whose name ends like this is shown in base64 whatever it holds


def request_tensors(request: PredictRequest, signature: Signature) -> dict[str, Tensor]:
    """The inputs by name. RequestError, naming the input and the place, for what the signature does not take."""
    by_name = {item.name: item for item in signature.inputs}
    return {name: _tensor(by_name[name], value) for name, value in request_columns(request, signature).items()}


def request_columns(request: PredictRequest, signature: Signature) -> dict[str, object]:
    """The values of each input, as they stand in the request. RequestError where these are not its names."""
    by_name = {item.name: item for item in signature.inputs}
    return _by_rows(request.values, by_name) if request.form == ROW else dict(_by_columns(request.values, by_name))


def refuse_over_rest(signature: Signature) -> None:
    """RequestError where the signature has a type that the REST API of TensorFlow Serving 1.15 can't carry."""
    found = next((info for info in (*signature.inputs, *signature.outputs) if info.dtype in _NOT_OVER_REST), None)
    if found is not None:
        where = "input" if found in signature.inputs else "output"
        raise RequestError(
            f"The {where} {found.name!r} is of the type {found.dtype}, which can't go over the REST API.",
            cause="TensorFlow Serving 1.15 has no JSON for it, and would answer with HTTP status 501",
            cure="use gRPC: --url grpc://HOST:8500",
        )


def answer_values(form: str, outputs: Mapping[str, Tensor]) -> object:
    """The outputs as the REST API shows them: row by row, or by name; those of a single output alone.

    ValueError where they can't be shown row by row.
    """
    if form != ROW:
        shown = {name: _shown(name, tensor) for name, tensor in sorted(outputs.items())}
        return next(iter(shown.values())) if len(shown) == 1 else shown
    sizes = {name: tensor.shape[0] if tensor.shape else None for name, tensor in sorted(outputs.items())}
    if None in sizes.values() or len(set(sizes.values())) > 1:
        of_each = ", ".join(f"{name} {list(outputs[name].shape)}" for name in sizes)
        raise ValueError(f"the outputs do not have one row for each instance: {of_each}")
    rows = {name: _shown(name, outputs[name]) for name in sizes}
    if len(rows) == 1:
        return next(iter(rows.values()))
    lists = [items for items in rows.values() if isinstance(items, list)]
    return [dict(zip(rows, row)) for row in zip(*lists)]


def resized(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The tensor cut to that shape, or filled by its own values again and again. ValueError where it has none."""
    if len(shape) != len(tensor.shape):
        raise ValueError(f"it has {len(tensor.shape)} dimensions, not {len(shape)}")
    if math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"a tensor of the shape {list(shape)} is too large to be sent")
    if 0 in tensor.shape:
        raise ValueError("it has no value")
    return Tensor(tensor.data_type, shape, _repeated(tensor.values, tensor.shape, shape))


def _repeated(values: Sequence[Value], own: tuple[int, ...], wanted: tuple[int, ...]) -> Sequence[Value]:
    if not wanted:
        return values
    stride = math.prod(own[1:])
    rows = [
        _repeated(values[at * stride : (at + 1) * stride], own[1:], wanted[1:]) for at in range(min(own[0], wanted[0]))
    ]
    return [value for at in range(wanted[0]) for value in rows[at % len(rows)]]


def _by_rows(instances: object, inputs: Mapping[str, TensorInfo]) -> dict[str, object]:
    if not isinstance(instances, list) or not instances:
        raise RequestError(
            '"instances" must be a list with at least one instance.', cause=_takes(inputs), cure=_example(inputs)
        )
    if not _is_object(instances[0]):
        return {_only_input(inputs): instances}
    columns: dict[str, list[object]] = {name: [] for name in inputs}
    for at, instance in enumerate(instances):
        if not isinstance(instance, dict) or not _is_object(instance):
            raise RequestError(f"instances[{at}] must be an object, as the first is.", cure=_example(inputs))
        _refuse_other_names(instance, inputs, f"instances[{at}]")
        for name, value in instance.items():
            columns[name].append(value)
    return dict(columns)


def _by_columns(values: object, inputs: Mapping[str, TensorInfo]) -> dict[str, object]:
    if not isinstance(values, dict) or not _is_object(values):
        return {_only_input(inputs): values}
    _refuse_other_names(values, inputs, '"inputs"')
    return values


def _refuse_other_names(given: Mapping[str, object], inputs: Mapping[str, TensorInfo], where: str) -> None:
    unknown, missing = sorted(set(given) - set(inputs)), sorted(set(inputs) - set(given))
    if unknown or missing:
        what = f"has {unknown[0]!r}, which is not an input" if unknown else f"lacks the input {missing[0]!r}"
        raise RequestError(f"{where} {what} of the signature.", cause=_takes(inputs), cure=_example(inputs))


def _only_input(inputs: Mapping[str, TensorInfo]) -> str:
    if len(inputs) != 1:
        raise RequestError(
            f"The signature has {len(inputs)} inputs, and the request does not name them.",
            cause=_takes(inputs),
            cure=_example(inputs),
        )
    return next(iter(inputs))


def _is_object(value: object) -> bool:
    """Whether it is an object with names, not bytes in base64."""
    return isinstance(value, dict) and set(value) != {_BASE64}


def _takes(inputs: Mapping[str, TensorInfo]) -> str:
    return f"the signature takes {'; '.join(item.text() for item in inputs.values()) or 'no inputs'}"


def _example(inputs: Mapping[str, TensorInfo]) -> str:
    named = dict.fromkeys(inputs, "...")
    return f"write it like {json.dumps({ROW: [named]})} or {json.dumps({'inputs': named})}"


def _tensor(info: TensorInfo, value: object) -> Tensor:
    kind = BY_NAME.get(info.dtype)
    if kind is None or not kind.field or kind.is_complex:
        raise RequestError(
            f"The input {info.name!r} is of the type {info.dtype}, which no request in JSON can give.",
            cause="JSON has numbers, texts, true and false only",
            cure="ask a signature with other inputs",
        )
    shape, leaves = _flattened(info, value)
    wrong = _misfit(info, shape)
    if wrong is not None:
        raise RequestError(
            f"The input {info.name!r} has the shape {list(wrong)}.",
            cause=f"the signature takes {info.text()}",
            cure="give as many values as that; -1 stands for any number of them",
        )
    values = [_value(info, kind, leaf, place) for place, leaf in enumerate(leaves)]
    if not kind.is_text:
        try:
            _refuse_inexact(kind, values)
            packed(kind, values)
        except ValueError as error:
            raise RequestError(
                f"The input {info.name!r}: {error}.",
                cause="it is too large, or too small, for that type, or has more digits than that type keeps",
                cure="correct the value; --cast sends what it becomes",
            ) from error
    filled = shape
    if info.shape is not None and 0 in shape and len(shape) < len(info.shape):
        filled = shape + tuple(max(size, 0) for size in info.shape[len(shape) :])
    return Tensor(kind, filled, values)


def _refuse_inexact(kind: DataType, values: Sequence[Value]) -> None:
    """ValueError for the first whole number that a type with fractions would round to another one."""
    if kind.is_real:
        for value in values:
            if isinstance(value, int) and not holds(kind, value):
                raise ValueError(f"{kind.name} can't hold {value}")


def _misfit(info: TensorInfo, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape, where it is not one that the signature takes. Of an empty list the inner dimensions aren't known."""
    own = info.shape
    if own is None:
        return None
    compared = own[: len(shape)] if 0 in shape else own
    fits = len(compared) == len(shape) and all(size in (-1, given) for size, given in zip(compared, shape))
    return None if fits else shape


def _flattened(info: TensorInfo, value: object) -> tuple[tuple[int, ...], Sequence[object]]:
    """The shape of nested lists, and what stands in them, one after the other."""
    shape: list[int] = []
    level: list[object] = [value]
    while level and isinstance(level[0], list):
        size = len(level[0])
        for item in level:
            if not isinstance(item, list) or len(item) != size:
                there = f"{len(item)} values" if isinstance(item, list) else "a single value"
                raise RequestError(
                    f"The input {info.name!r} is ragged: a list of {size} values has beside it {there}.",
                    cause=f"the signature takes {info.text()}",
                    cure="give lists of the same length at each level",
                )
        shape.append(size)
        if len(shape) > MOST_DIMENSIONS:
            raise RequestError(
                f"The input {info.name!r} has more than {MOST_DIMENSIONS} dimensions.",
                cause=f"the signature takes {info.text()}",
                cure="give fewer lists within lists",
            )
        level = [item for inner in level if isinstance(inner, list) for item in inner]
    return tuple(shape), level


def _value(info: TensorInfo, kind: DataType, leaf: object, place: int) -> Value:
    if kind.is_text:
        if isinstance(leaf, str):
            return leaf.encode("utf-8", "surrogatepass")
        if isinstance(leaf, dict) and set(leaf) == {_BASE64} and isinstance(leaf[_BASE64], str):
            try:
                return base64.b64decode(leaf[_BASE64], validate=True)
            except (binascii.Error, ValueError) as error:
                raise RequestError(
                    f"Value {place + 1} of the input {info.name!r} is not base64: {error}.",
                    cure='write it like {"b64": "aGVsbG8="}',
                ) from error
    elif isinstance(leaf, bool):
        if kind.code == "?":
            return leaf
    elif kind.code != "?" and (isinstance(leaf, int) or (kind.is_real and isinstance(leaf, float))):
        return leaf
    wanted = "a text" if kind.is_text else "true or false" if kind.code == "?" else "a number"
    if isinstance(leaf, float) and not kind.is_text:
        wanted = "true or false" if kind.code == "?" else "a whole number"
    shown = json.dumps(leaf)
    raise RequestError(
        f"Value {place + 1} of the input {info.name!r} is {shown if len(shown) <= 60 else shown[:57] + '...'}, "
        f"not {wanted}.",
        cause=f"the signature takes {info.text()}",
        cure="give values of that type",
    )


def _shown(name: str, tensor: Tensor) -> object:
    """As JSON has it: bytes as a text, of which those that are not UTF-8 stay apart (PEP 383), or in base64."""
    values = shown_values(tensor)
    if tensor.data_type.is_text:
        texts = [value for value in tensor.values if isinstance(value, bytes)]
        if name.endswith(_AS_BYTES):
            values = [{_BASE64: base64.b64encode(value).decode("ascii")} for value in texts]
        else:
            values = [value.decode("utf-8", "surrogateescape") for value in texts]
    return nested(tensor.shape, values)

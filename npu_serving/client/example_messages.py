"""Classify, Regress and MultiInference: features from plain dicts as tf.Example, and what a server answers.

The numbers of the fields are those of example.proto, feature.proto, input.proto, classification.proto, regression.proto
and inference.proto at 1.15.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_serving.client.arrays import array_of
from npu_serving.client.errors import NotSentError
from npu_serving.client.example_types import ScoredLabel
from npu_serving.client.model_spec import ModelSpec, read_model_spec, write_model_spec
from npu_serving.client.predict_wire import refuse_too_large
from npu_serving.wire_bytes import (
    BYTES,
    FIXED32,
    MalformedMessageError,
    bytes_field,
    entry_field,
    fields,
    lenient_text_of,
    tag,
    text_field,
    varint,
)

Features = Mapping[str, object]
"""One example: numbers, truth values, bytes and texts by name, alone or several in a list or an array."""
MOST_ENTRIES = 1 << 22  # labels and values of one answer: each is an object of Python's
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3


@dataclass(frozen=True)
class InferenceAnswer:
    """The answer to one task of a multi-inference: classes for each example, or a value for each."""

    spec: ModelSpec
    classes: tuple[tuple[ScoredLabel, ...], ...] | None
    values: NDArray[np.float32] | None


def write_examples_request(spec: ModelSpec, examples: Sequence[Features], context: Features | None = None) -> bytes:
    """The ClassificationRequest, which is the RegressionRequest too; each example has what is in the context as well.

    NotSentError, naming the example and the feature, for what a feature can't be, and for requests of 2 GiB.
    """
    return bytes_field(1, write_model_spec(spec)) + bytes_field(2, _input(examples, context))


def write_multi_inference_request(
    tasks: Iterable[tuple[ModelSpec, str]], examples: Sequence[Features], context: Features | None = None
) -> bytes:
    """The MultiInferenceRequest: each task is a model with its signature, and CLASSIFY or REGRESS.

    Raises what write_examples_request() raises.
    """
    asked = [bytes_field(1, bytes_field(1, write_model_spec(spec)) + text_field(2, method)) for spec, method in tasks]
    return b"".join((*asked, bytes_field(2, _input(examples, context))))


def read_classification(message: memoryview) -> tuple[ModelSpec, tuple[tuple[ScoredLabel, ...], ...]]:
    """Who answered, and the classes of each example, in a ClassificationResponse. MalformedMessageError for others."""
    spec, result = _spec_and_result(message)
    return spec, _classes(result)


def read_regression(message: memoryview) -> tuple[ModelSpec, NDArray[np.float32]]:
    """Who answered, and a value for each example, in a RegressionResponse. MalformedMessageError for other bytes."""
    spec, result = _spec_and_result(message)
    return spec, _values(result)


def read_multi_inference(message: memoryview) -> tuple[InferenceAnswer, ...]:
    """The answer to each task in a MultiInferenceResponse. MalformedMessageError for other bytes."""
    answers = []
    entries = 0
    for key, _, inner in fields(message):
        if key == tag(1, BYTES):
            answers.append(_inference_answer(inner))
            found = answers[-1].classes if answers[-1].classes is not None else answers[-1].values
            entries += 1 + (len(found) if found is not None else 0)
            _refuse_too_many(entries)
    return tuple(answers)


def _input(examples: Sequence[Features], context: Features | None) -> bytes:
    listed = b"".join(bytes_field(1, _example(f"examples[{at}]", example)) for at, example in enumerate(examples))
    refuse_too_large(len(listed))
    if context is None:
        return bytes_field(1, listed)
    return bytes_field(2, listed + bytes_field(2, _example("context", context)))


def _example(where: str, features: Features) -> bytes:
    written = []
    for name, value in sorted(features.items()):
        try:
            written.append(entry_field(1, name, _feature(value)))
        except (ValueError, TypeError, OverflowError) as error:
            raise NotSentError(
                f"The feature {name!r} of {where} can't be sent: {error}.",
                cure="give numbers, truth values, bytes or texts, alone or in a list",
            ) from error
    return bytes_field(1, b"".join(written))


def _feature(value: object) -> bytes:
    """A Feature; without values it has no kind either, which a server takes for a feature that is left out."""
    array = array_of(value)
    if not array.size:
        return b""
    kind = array.dtype.kind
    if kind in "OSUT":
        return bytes_field(_BYTES_LIST, b"".join(bytes_field(1, _text(item)) for item in array.reshape(-1).tolist()))
    if kind == "f":
        return bytes_field(_FLOAT_LIST, bytes_field(1, _floats(array)))
    if kind in "iub":
        if kind == "u" and int(array.max()) >> 63:
            raise ValueError(f"{int(array.max())} is more than an int64 holds")
        return bytes_field(_INT64_LIST, bytes_field(1, b"".join(varint(int(item)) for item in array.reshape(-1))))
    raise ValueError(f"a feature has no type for NumPy's {array.dtype.name}")


def _floats(array: NDArray[Any]) -> bytes:
    try:
        with np.errstate(over="raise"):
            return array.astype("<f4").tobytes()
    except FloatingPointError:
        raise ValueError("a float32 can't hold a number as large as one of its values") from None


def _text(item: object) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytes):
        return item
    raise TypeError(f"a value is {type(item).__name__}, not bytes or str")


def _spec_and_result(message: memoryview) -> tuple[ModelSpec, memoryview]:
    spec, result = ModelSpec(""), message[:0]
    for key, _, inner in fields(message):
        if key == tag(1, BYTES):
            result = inner
        elif key == tag(2, BYTES):
            spec = read_model_spec(inner)
    return spec, result


def _classes(result: memoryview) -> tuple[tuple[ScoredLabel, ...], ...]:
    found: list[tuple[ScoredLabel, ...]] = []
    entries = 0
    for key, _, inner in fields(result):
        if key == tag(1, BYTES):
            labels: list[ScoredLabel] = []
            for of_example, _, label in fields(inner):
                if of_example == tag(1, BYTES):
                    labels.append(_scored_label(label))
                    _refuse_too_many(entries + len(labels))
            found.append(tuple(labels))
            entries += 1 + len(labels)
            _refuse_too_many(entries)
    return tuple(found)


def _scored_label(message: memoryview) -> ScoredLabel:
    label, score = "", 0.0
    for key, _, inner in fields(message):
        if key == tag(1, BYTES):
            label = lenient_text_of(inner)
        elif key == tag(2, FIXED32):
            (score,) = struct.unpack("<f", inner)
    return ScoredLabel(label, score)


def _values(result: memoryview) -> NDArray[np.float32]:
    values: list[float] = []
    for key, _, inner in fields(result):
        if key == tag(1, BYTES):
            value = 0.0
            for of_regression, _, number in fields(inner):
                if of_regression == tag(1, FIXED32):
                    (value,) = struct.unpack("<f", number)
            values.append(value)
            _refuse_too_many(len(values))
    return np.array(values, np.float32)


def _inference_answer(message: memoryview) -> InferenceAnswer:
    spec, classes, values = ModelSpec(""), None, None
    for key, _, inner in fields(message):
        if key == tag(1, BYTES):
            spec = read_model_spec(inner)
        elif key == tag(2, BYTES):
            classes, values = _classes(inner), None
        elif key == tag(3, BYTES):
            classes, values = None, _values(inner)
    return InferenceAnswer(spec, classes, values)


def _refuse_too_many(entries: int) -> None:
    if entries > MOST_ENTRIES:
        raise MalformedMessageError(f"it has more than {MOST_ENTRIES} classes and values")

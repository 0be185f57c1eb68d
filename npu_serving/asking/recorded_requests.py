"""What a recorded request asks: the model, its version and signature, and the shapes of its inputs, not the values."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field

from npu_serving.asking.recorded_file import GRPC, RecordedRequest
from npu_serving.asking.request import COLUMN, ROW
from npu_serving.client.data_types import type_name
from npu_serving.client.model_spec import ModelSpec, read_model_spec
from npu_serving.client.tensor_message import read_shape
from npu_serving.wire_bytes import BYTES, VARINT, MalformedMessageError, entry_of, fields, tag

PREDICTION_SERVICE = "/tensorflow.serving.PredictionService/"
PREDICT, CLASSIFY, REGRESS, MULTI_INFERENCE = "Predict", "Classify", "Regress", "MultiInference"
METHODS = (PREDICT, CLASSIFY, REGRESS, MULTI_INFERENCE)
"""The calls that a model answers; those about its state or its signatures are left out."""
EXAMPLES = "examples"
_REST_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?:(predict|classify|regress)")


class NotUnderstoodError(ValueError):
    """The bytes of a request are not what its path says."""


@dataclass(frozen=True)
class SeenInput:
    """An input as a request has it; the type is "" where JSON does not say it."""

    dtype: str
    shape: tuple[int, ...]

    def text(self) -> str:
        """Such as `DT_FLOAT [1, 224, 224, 3]`."""
        return f"{self.dtype} {list(self.shape)}".strip()


@dataclass(frozen=True)
class Asked:
    """What a request asks. Of examples (classify, regress) the input is their number."""

    method: str
    spec: ModelSpec
    inputs: Mapping[str, SeenInput] = field(default_factory=dict)


def method_of(api: str, path: str) -> str:
    """Predict, Classify, Regress or MultiInference; "" for a call that no model answers."""
    if api == GRPC:
        name = path.removeprefix(PREDICTION_SERVICE)
        return name if path != name and name in METHODS else ""
    found = _REST_PATH.fullmatch(path)
    return found[4].capitalize() if found else ""


def asked_by(request: RecordedRequest) -> Asked:
    """What the request asks. NotUnderstoodError where its bytes are not what its path says."""
    method = method_of(request.api, request.path)
    if not method:
        raise NotUnderstoodError(f"no model answers a call of {request.path}")
    try:
        if request.api == GRPC:
            return _of_message(method, memoryview(request.body))
        return _of_json(method, request)
    except (MalformedMessageError, UnicodeError, RecursionError) as error:
        raise NotUnderstoodError(f"its bytes are another message ({error})") from error


def rest_document(body: bytes) -> dict[str, object]:
    """The JSON of a call to the REST API. NotUnderstoodError where it is something else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotUnderstoodError(f"it is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise NotUnderstoodError("it is JSON without names")
    return document


def _of_message(method: str, message: memoryview) -> Asked:
    spec = ModelSpec("")
    inputs: dict[str, SeenInput] = {}
    for key, _, inner in fields(message):
        if key == tag(1, BYTES):
            if method != MULTI_INFERENCE:
                spec = read_model_spec(inner)
            elif not spec.name:  # the first of its tasks
                specs = (of_task for found, _, of_task in fields(inner) if found == tag(1, BYTES))
                spec = read_model_spec(next(specs, inner[:0]))
        elif key == tag(2, BYTES) and method == PREDICT:
            name, tensor = entry_of(inner)
            inputs[name] = _tensor(tensor)
        elif key == tag(2, BYTES):
            inputs[EXAMPLES] = SeenInput("", (_examples(inner),))
    return Asked(method, spec, inputs)


def _tensor(message: memoryview) -> SeenInput:
    number = 0
    shape: tuple[int, ...] | None = ()
    for key, value, inner in fields(message):
        if key == tag(1, VARINT):
            number = value
        elif key == tag(2, BYTES):
            shape = read_shape(inner)
    return SeenInput(type_name(number), shape or ())


def _examples(message: memoryview) -> int:
    """How many examples an Input has, in a list alone or in one with a context."""
    return sum(
        found == tag(1, BYTES)
        for key, _, inner in fields(message)
        if key in (tag(1, BYTES), tag(2, BYTES))
        for found, _, _ in fields(inner)
    )


def _of_json(method: str, request: RecordedRequest) -> Asked:
    found = _REST_PATH.fullmatch(request.path)
    assert found is not None
    document = rest_document(request.body)
    examples = document.get(EXAMPLES)
    spec = ModelSpec(
        urllib.parse.unquote(found[1]),
        int(found[2]) if found[2] else None,
        urllib.parse.unquote(found[3] or ""),
        str(document.get("signature_name", "")),
    )
    if isinstance(examples, list):
        return Asked(method, spec, {EXAMPLES: SeenInput("", (len(examples),))})
    return Asked(method, spec, _json_inputs(document))


def _json_inputs(document: Mapping[str, object]) -> dict[str, SeenInput]:
    """The inputs by name; one without a name is called "", as the server takes the only one then."""
    rows = document.get(ROW)
    if isinstance(rows, list):
        first = rows[0] if rows else None
        if is_named(first):
            assert isinstance(first, dict)
            return {name: SeenInput("", (len(rows), *_json_shape(value))) for name, value in first.items()}
        return {"": SeenInput("", _json_shape(rows))}
    values = document.get(COLUMN)
    if is_named(values):
        assert isinstance(values, dict)
        return {name: SeenInput("", _json_shape(value)) for name, value in values.items()}
    return {"": SeenInput("", _json_shape(values))} if COLUMN in document else {}


def is_named(value: object) -> bool:
    """Whether a value in JSON has inputs by their names, and is not bytes in base64."""
    return isinstance(value, dict) and set(value) != {"b64"}


def _json_shape(value: object) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)

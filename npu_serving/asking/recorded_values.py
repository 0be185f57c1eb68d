"""Recorded requests as tasks take requests: one by its number (FILE#3), or the first of each shape that was asked."""

from __future__ import annotations

import re
from pathlib import Path

from npu_serving.asking.messages import read_predict_request
from npu_serving.asking.npy import json_values
from npu_serving.asking.recorded_file import GRPC, SUFFIX, RecordedRequest, read_recording
from npu_serving.asking.recorded_requests import PREDICT, NotUnderstoodError, asked_by
from npu_serving.asking.request import COLUMN, PredictRequest, request_in
from npu_serving.errors import RequestError
from npu_serving.settings import user_path
from npu_serving.wire_bytes import MalformedMessageError

_NUMBERED = re.compile(rf"(.+{re.escape(SUFFIX)})#([0-9]{{1,9}})", re.DOTALL)


def recorded_file_in(source: str) -> tuple[Path, int] | None:
    """The recorded file that a request names, and the number of the one in it (0 for all); None for another kind."""
    numbered = _NUMBERED.fullmatch(source)
    if numbered is not None:
        return user_path(numbered[1], "the request"), int(numbered[2])
    return (user_path(source, "the request"), 0) if source.endswith(SUFFIX) and source.strip() else None


def recorded_values(name: str, request: RecordedRequest) -> PredictRequest:
    """The values of a request for a prediction; `name` is what it is called in errors. RequestError for another one."""
    try:
        if asked_by(request).method != PREDICT:
            raise RequestError(
                f"{name} is a call of {request.path}, not a request for a prediction.",
                cause="a classification or a regression has examples in place of inputs",
                cure="name another one: ./inv show-recording FILE lists the methods",
            )
        if request.api != GRPC:
            return request_in(request.body, name)
        spec, tensors = read_predict_request(memoryview(request.body))
    except (NotUnderstoodError, MalformedMessageError) as error:
        raise RequestError(
            f"{name} can't be read: {error}.", cause="its client sent something else", cure="name another one"
        ) from error
    return PredictRequest(COLUMN, {key: json_values(tensor) for key, tensor in tensors.items()}, spec.signature_name)


def first_of_each_shape(path: Path, model: str, number: int = 0) -> list[tuple[str, PredictRequest]]:
    """The first request of each signature and shape to the model, or the one of that number, each with its name.

    RequestError where there is none: the file has other models.
    """
    recording = read_recording(path)
    if number:
        return [(f"{path}#{number}", recorded_values(f"{path}#{number}", recording.request(number)))]
    found: dict[tuple[object, ...], tuple[str, PredictRequest]] = {}
    models: set[str] = set()
    for at, request in enumerate(recording.requests(), start=1):
        try:
            asked = asked_by(request)
        except NotUnderstoodError:
            continue
        models.add(asked.spec.name)
        key = (asked.spec.signature_name, request.api, *sorted(asked.inputs.items(), key=lambda item: item[0]))
        if asked.method == PREDICT and asked.spec.name == model and key not in found:
            found[key] = (f"{path}#{at}", recorded_values(f"{path}#{at}", request))
    if not found:
        raise RequestError(
            f"{path} has no request for a prediction by the model {model!r}.",
            cause=f"its requests are to {', '.join(map(repr, sorted(models)))}" if models else "it holds no request",
            cure=f"name the one that is meant by its number: {path}#1" if models else "record again, while it is asked",
        )
    return list(found.values())

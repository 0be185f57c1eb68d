"""Requests in a file of records: a server's warm-up file or log (TFRecord of PredictionLog), or a recorded file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from npu_serving.asking.recorded_file import GRPC, SUFFIX, read_recording
from npu_serving.asking.recorded_requests import PREDICT, method_of
from npu_serving.asking.recorded_values import recorded_values
from npu_serving.asking.request import PredictRequest
from npu_serving.client.predict_wire import request_in_log
from npu_serving.client.prediction_messages import decode_predict_request
from npu_serving.errors import RequestError
from npu_serving.models.warm_up_file import records_in
from npu_serving.wire_bytes import MalformedMessageError


@dataclass(frozen=True)
class LoggedRequest:
    """One request, its number in the file, and the signature that it asks ("" for the default one)."""

    number: int
    signature: str
    inputs: Mapping[str, NDArray[Any]]
    values: PredictRequest | None = None
    """Of one that came over REST, in place of the inputs."""


def read_logged(path: Path, number: int = 0) -> list[LoggedRequest]:
    """The requests of the file, or the one of that number; the first is 1.

    RequestError for a record that is not a request for a prediction, and for a number that there is not; ModelFileError
    for a file that is damaged.
    """
    if path.suffix == SUFFIX:
        return _of_recording(path, number)
    found = [_read(path, at, memoryview(record)) for at, record in enumerate(records_in(path), 1) if number in (0, at)]
    if not found:
        raise RequestError(
            f"{path} has no request {number}." if number else f"{path} has no request.",
            cause="it has fewer" if number else "it is empty",
            cure="name another one, counted from 1" if number else "give a file with requests",
        )
    return found


def _of_recording(path: Path, number: int) -> list[LoggedRequest]:
    recording = read_recording(path)
    asked = [recording.request(number)] if number else recording.requests()
    found = []
    for at, request in enumerate(asked, start=number or 1):
        if request.api == GRPC and method_of(GRPC, request.path) == PREDICT:
            try:
                spec, inputs = decode_predict_request(request.body)
            except MalformedMessageError as error:
                raise RequestError(
                    f"Request {at} of {path} can't be read: {error}.",
                    cause="its client sent something else",
                    cure=f"name another one by its number, such as {path}#1",
                ) from error
            found.append(LoggedRequest(at, spec.signature_name, inputs))
        else:
            values = recorded_values(f"{path}#{at}", request)
            found.append(LoggedRequest(at, values.signature_name, {}, values))
    if not found:
        raise RequestError(f"{path} has no request.", cause="nothing was asked while it was made", cure="record again")
    return found


def _read(path: Path, number: int, record: memoryview) -> LoggedRequest:
    try:
        spec, inputs = decode_predict_request(request_in_log(record))
    except MalformedMessageError as error:
        raise RequestError(
            f"Record {number} of {path} is not the log of a request for a prediction: {error}.",
            cause="it is one of another kind (a classification, an example for training), or damaged",
            cure=f"name one that is, such as {path}#1, or give a file that ./inv write-warmup has made",
        ) from error
    return LoggedRequest(number, spec.signature_name, inputs)

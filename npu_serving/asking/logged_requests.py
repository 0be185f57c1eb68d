"""Requests in a file of records (TFRecord of PredictionLog): a server's warm-up file, and its log of requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

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


def read_logged(path: Path, number: int = 0) -> list[LoggedRequest]:
    """The requests of the file, or the one of that number; the first is 1.

    RequestError for a record that is not a request for a prediction, and for a number that there is not; ModelFileError
    for a file that is damaged.
    """
    found = [_read(path, at, memoryview(record)) for at, record in enumerate(records_in(path), 1) if number in (0, at)]
    if not found:
        raise RequestError(
            f"{path} has no request {number}." if number else f"{path} has no request.",
            cause="it has fewer" if number else "it is empty",
            cure="name another one, counted from 1" if number else "give a file with requests",
        )
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

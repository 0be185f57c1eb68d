"""Recorded files with requests of a test's own."""

from __future__ import annotations

from pathlib import Path

from npu_serving.asking.recorded_file import GRPC, REST, RecordedRequest, RecordingHeader, RecordingWriter

SERVICE = "/tensorflow.serving.PredictionService/"


def of_grpc(body: bytes, method: str = "Predict") -> RecordedRequest:
    return RecordedRequest(0, GRPC, SERVICE + method, body)


def of_rest(body: bytes, model: str = "m") -> RecordedRequest:
    return RecordedRequest(0, REST, f"/v1/models/{model}:predict", body)


def recorded(path: Path, *requests: RecordedRequest) -> Path:
    writer = RecordingWriter(path, RecordingHeader())
    for request in requests:
        writer.add(request)
    writer.close()
    return path

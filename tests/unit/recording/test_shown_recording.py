"""What show-recording says of a file: shapes with their counts, rates, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from npu_serving.asking.recorded_file import GRPC, REST, RecordedRequest, RecordingHeader, RecordingWriter
from npu_serving.client import encode_predict
from npu_serving.recording.shown_recording import MOST_SHAPES, show_recording

SECOND = 1_000_000_000
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def recorded(path: Path, requests: list[RecordedRequest], **header: object) -> Path:
    writer = RecordingWriter(path, RecordingHeader("2025-01-31T12:00:00Z", "grpc://h:8500", **header))  # type: ignore[arg-type]
    for request in requests:
        writer.add(request)
    writer.close()
    return path


def predict(at_s: float, rows: int) -> RecordedRequest:
    body = encode_predict("resnet", {"x": np.zeros((rows, 2), np.float32)}, version=3)
    return RecordedRequest(int(at_s * SECOND), GRPC, PREDICT, body)


def test_shapes_come_with_their_counts_the_most_frequent_first(tmp_path: Path) -> None:
    rest = RecordedRequest(4 * SECOND, REST, "/v1/models/m:predict", b'{"signature_name": "s", "instances": [[1]]}')
    requests = [*(predict(at, 4) for at in range(3)), predict(3, 8), rest]
    shown = show_recording(recorded(tmp_path / "a.rec", requests, share=0.5, redacted=("x",)))
    assert [(of.model, of.signature, of.api, of.requests) for of in shown.models] == [
        ("m", "s", "rest", 1),
        ("resnet", "serving_default", "grpc", 4),
    ]
    assert shown.models[1].shapes == {"x": (("DT_FLOAT [4, 2]", 3), ("DT_FLOAT [8, 2]", 1))}
    assert (shown.seconds, sum(shown.counts), shown.versions) == (4.0, 5, {"3": 4, "newest": 1})
    text = shown.text()
    assert "5 requests in 4.0 s" in text
    assert "50% of those that came" in text
    assert "without the values of x" in text
    assert "1.2 requests a second" in text
    assert json.loads(json.dumps(shown.to_json()))["models"][1]["shapes"]["x"][0] == {
        "shape": "DT_FLOAT [4, 2]",
        "requests": 3,
    }


def test_counts_by_time_are_of_equal_intervals(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 9.9, 10.0]
    shown = show_recording(recorded(tmp_path / "a.rec", [predict(at, 1) for at in times]))
    assert (shown.interval_s, shown.counts) == (2.0, (3, 0, 0, 0, 2))


def test_a_file_without_requests_and_one_with_a_single_one_are_shown(tmp_path: Path) -> None:
    assert "0 requests" in show_recording(recorded(tmp_path / "a.rec", [])).text()
    assert "1 request in" in show_recording(recorded(tmp_path / "b.rec", [predict(0, 1)])).text()


def test_what_was_cut_or_is_not_understood_is_said(tmp_path: Path) -> None:
    path = recorded(tmp_path / "a.rec", [RecordedRequest(0, GRPC, PREDICT, b"\xff"), predict(1, 1)])
    path.write_bytes(path.read_bytes() + b"cut")
    shown = show_recording(path)
    assert (shown.not_understood, shown.cut_bytes) == (1, 3)
    assert "3 B at its end" in shown.text()
    assert "1 of the requests" in shown.text()


def test_more_shapes_than_anybody_reads_are_counted_together(tmp_path: Path) -> None:
    shown = show_recording(recorded(tmp_path / "a.rec", [predict(at, at + 1) for at in range(MOST_SHAPES + 7)]))
    assert shown.models[0].shapes["x"][-1] == ("7 other shapes", 7)

"""The load test's paths against real SavedModels in the real TensorFlow 1.15.0: answers compared, kinds counted."""

from __future__ import annotations

import json
import struct
import time
from collections import Counter
from pathlib import Path

import pytest
from load_sink import Record, recorded
from serving_messages import message_class
from tensorflow_server import TensorFlowServer

from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.request import read_request
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.tls import Tls
from npu_serving.console import Silent
from npu_serving.load import grpcio_path, http1_path, http2_path
from npu_serving.load.generator import Plan, ReadyRequest
from npu_serving.load.level import Terms
from npu_serving.load.load_plan import AskedWishes, LoadWishes, plan_load_test
from npu_serving.load.load_test import run_load_test

METHOD = "/tensorflow.serving.PredictionService/Predict"
PATHS = {"grpcio": grpcio_path, "http2": http2_path, "http1": http1_path}
GOOD = GoldenRequest("good", "half_plus_two", read_request('{"instances": [1.0, 2.0]}'), [2.5, 3.0])
WRONG = GoldenRequest("wrong", "half_plus_two", read_request('{"instances": [1.0]}'), [7.0])


def url_of(server: TensorFlowServer, path: str) -> str:
    return server.rest_url if path == "http1" else server.grpc_url


@pytest.mark.parametrize("path", PATHS)
def test_answers_are_compared_with_the_golden_ones_under_load(
    tensorflow_server: TensorFlowServer, tmp_path: Path, path: str
) -> None:
    plan = plan_load_test(
        url_of(tensorflow_server, path),
        ModelSpec("half_plus_two"),
        Tls(),
        AskedWishes(golden=(GOOD, WRONG)),
        LoadWishes(concurrency="4", path=path),
        Terms(warm_up_s=0.1, window_s=0.2, duration_s=0.6, processes=2),
    )
    found = run_load_test(plan, tmp_path, Silent())
    (level,) = found.kept.run.levels
    assert level.generator.path == path
    assert set(level.errors) == {"differs"}
    assert level.ok > 0
    assert found.kept.run.golden["names"] == ["good", "wrong"]
    assert found.kept.run.golden["differ"] == level.errors["differs"]
    assert found.kept.run.golden["compared"] == level.ok + level.errors["differs"]
    assert found.said["differs"].startswith("wrong: ")


def floats(model: str, *values: float) -> bytes:
    made = message_class("tensorflow.serving.PredictRequest")()
    made.model_spec.name = model
    made.inputs["x"].dtype = 1
    made.inputs["x"].tensor_shape.dim.add(size=len(values))
    made.inputs["x"].tensor_content = struct.pack(f"<{len(values)}f", *values)
    return bytes(made.SerializeToString())


def request(path: str, model: str, *values: float) -> ReadyRequest:
    if path == "http1":
        return ReadyRequest(f"/v1/models/{model}:predict", json.dumps({"instances": values}).encode())
    return ReadyRequest(METHOD, floats(model, *values))


def closed(server: TensorFlowServer, path: str, request: ReadyRequest, concurrency: int, most: int) -> list[Record]:
    plan = Plan(url_of(server, path), (request,), time.monotonic_ns(), concurrency=concurrency, timeout_s=20)
    return recorded(PATHS[path].send_requests, plan, most)


@pytest.mark.parametrize("path", PATHS)
def test_each_kind_is_counted_as_often_as_the_server_answered_so(
    tensorflow_server: TensorFlowServer, path: str
) -> None:
    tensorflow_server.misbehave(delay_ms={"slow": 100})
    records = closed(tensorflow_server, path, request(path, "slow", 1.0), 16, 40)
    method, busy, ok = ("REST predict", "503", "200") if path == "http1" else ("Predict", "14", "0")
    statuses = tensorflow_server.counters()["statuses"][method]
    assert Counter(record[4] for record in records) == {"busy": statuses[busy], "": statuses[ok]}
    assert statuses[busy] > 0


@pytest.mark.parametrize("path", PATHS)
def test_what_is_wrong_has_its_kind_and_the_servers_words(tensorflow_server: TensorFlowServer, path: str) -> None:
    unknown = closed(tensorflow_server, path, request(path, "other", 1.0), 1, 1)[0]
    assert unknown[4] == "unknown_model"
    assert "Servable not found" in (unknown[5] or b"").decode()
    wrong = ReadyRequest(METHOD, floats("half_plus_two", 1.0).replace(b"\n\1x", b"\n\1z"))
    if path == "http1":
        wrong = ReadyRequest("/v1/models/half_plus_two:predict", b'{"instances": ["three"]}')
    refused = closed(tensorflow_server, path, wrong, 1, 1)[0]
    assert refused[4] == "refused"
    assert refused[5]


def test_an_answer_of_twelve_megabytes_is_read_whole(tensorflow_server: TensorFlowServer) -> None:
    ready = (request("http2", "wide", 3.0),)
    plan = Plan(tensorflow_server.grpc_url, ready, time.monotonic_ns(), concurrency=1, compares=True)
    answer = recorded(http2_path.send_requests, plan, 1)[0][5]
    assert answer is not None
    read = message_class("tensorflow.serving.PredictResponse").FromString(answer)
    assert list(read.outputs["y"].float_val[:3]) == [3.0, 4.0, 5.0]
    assert len(read.outputs["y"].float_val) == 3 << 20

"""The path through grpcio, against a server whose messages protobuf reads."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from grpc_server import ModelServer, serving
from load_sink import recorded

from npu_serving.asking.messages import write_predict_request
from npu_serving.asking.tensor import Tensor
from npu_serving.client.data_types import BY_NAME
from npu_serving.client.model_spec import ModelSpec
from npu_serving.load.arrivals import Schedule, Stage
from npu_serving.load.generator import Plan, ReadyRequest
from npu_serving.load.grpcio_path import send_requests

PREDICT = "/tensorflow.serving.PredictionService/Predict"


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with serving() as found:
        yield found


def request(model: str = "m") -> ReadyRequest:
    body = write_predict_request(ModelSpec(model), {"x": Tensor(BY_NAME["DT_FLOAT"], (1, 2), [1.0, 2.0])})
    return ReadyRequest(PREDICT, body)


def test_a_closed_loop_keeps_as_many_in_flight_as_asked_and_counts_what_the_server_counts(server: ModelServer) -> None:
    before = len(server.requests)
    records = recorded(
        send_requests, Plan(server.url, (request(),), time.monotonic_ns(), concurrency=3, compares=True), 50
    )
    assert len(records) == len(server.requests) - before
    assert 50 <= len(records) <= 53
    assert {kind for *_, kind, _ in records} == {""}
    assert all(intended <= sent_ns <= done for _, intended, sent_ns, done, _, _ in records)
    assert all(answer for *_, answer in records)


def test_an_open_loop_ends_with_its_schedule_and_sends_each_request_in_turn_at_its_time(server: ModelServer) -> None:
    begin = time.monotonic_ns()
    plan = Plan(
        server.url, (request(), request("other")), begin, schedule=Schedule("step", stages=(Stage(0.2, 100, 100),))
    )
    records = recorded(send_requests, plan, -1)
    assert Counter((number, kind) for number, *_, kind, _ in records) == {(0, ""): 10, (1, "unknown_model"): 10}
    assert sorted(intended - begin for _, intended, *_ in records) == [10_000_000 * at for at in range(20)]
    assert all(sent_ns >= intended for _, intended, sent_ns, *_ in records)


def test_where_nobody_listens_each_request_is_unreachable_and_they_do_not_come_by_the_thousand() -> None:
    with serving() as gone:
        url = gone.url
    begin = time.monotonic()
    records = recorded(send_requests, Plan(url, (request(),), time.monotonic_ns(), concurrency=1), 5)
    assert [kind for *_, kind, _ in records] == ["unreachable"] * 5
    assert time.monotonic() - begin >= 4 * 0.05

"""Levels of load against a server in this process: what is measured is what the server knows of itself."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest
from grpc_server import ModelServer, serving

from npu_serving.asking.messages import write_predict_request
from npu_serving.asking.tensor import Tensor
from npu_serving.client.data_types import BY_NAME
from npu_serving.client.model_spec import ModelSpec
from npu_serving.console import SilentProgress
from npu_serving.load.arrivals import CONSTANT, STEP, Schedule, Stage
from npu_serving.load.generator import Plan, ReadyRequest
from npu_serving.load.level import Load, Terms, bottleneck, measure
from npu_serving.load.results import GeneratorFigures
from npu_serving.process import descendants

PREDICT = "/tensorflow.serving.PredictionService/Predict"
BODY = write_predict_request(ModelSpec("m"), {"x": Tensor(BY_NAME["DT_FLOAT"], (1, 2), [1.0, 2.0])})
ANSWERS = {
    "busy": (grpc.StatusCode.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full"),
    "expired": (grpc.StatusCode.RESOURCE_EXHAUSTED, "Timed out in the queue"),
    "refused": (grpc.StatusCode.INVALID_ARGUMENT, "Expects arg[0] to be float but double is provided"),
    "unknown_model": (grpc.StatusCode.NOT_FOUND, "Servable not found for request"),
    "failed": (grpc.StatusCode.INTERNAL, "out of device memory"),
}


@pytest.fixture(scope="module")
def running() -> Iterator[ModelServer]:
    with serving() as found:
        yield found


@pytest.fixture
def server(running: ModelServer) -> Iterator[ModelServer]:
    running.requests.clear()
    yield running
    running.answer = None


def plan(server: ModelServer, *, compares: bool = False) -> Plan:
    return Plan(server.url, (ReadyRequest(PREDICT, BODY),), 0, compares=compares, timeout_s=10)


def after(seconds: float) -> bytes:
    time.sleep(seconds)
    return b""


def test_errors_are_counted_by_kind_as_the_server_counts_them(server: ModelServer) -> None:
    """A schedule has no warm-up, so that everything is counted."""
    kinds = ["", *ANSWERS]
    sent: Counter[str] = Counter()
    guard = threading.Lock()

    def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
        with guard:
            kind = kinds[sum(sent.values()) % len(kinds)]
            sent[kind] += 1
        if kind:
            context.abort(*ANSWERS[kind])
        return b""

    server.answer = answer
    load = Load(schedule=Schedule(STEP, stages=(Stage(1.2, 50, 50),)))
    measured = measure(plan(server), load, Terms(processes=2), SilentProgress())
    assert sum(sent.values()) == 60
    assert measured.level.errors == {kind: count for kind, count in sent.items() if kind}
    assert measured.level.ok == measured.level.histogram.count == sent[""]
    assert measured.said["busy"] == ANSWERS["busy"][1]
    assert sum(each.sent for each in measured.level.timeline) == 60


def test_a_server_that_stalls_is_as_slow_as_callers_at_a_rate_find_it(server: ModelServer) -> None:
    """Whoever waits for an answer before he asks again would see one slow answer among a hundred."""
    stalls = threading.Lock()
    calls: list[int] = []

    def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
        with stalls:
            calls.append(1)
            if len(calls) == 20:
                time.sleep(1.0)
        return b""

    server.answer = answer
    load = Load(schedule=Schedule(STEP, stages=(Stage(2.0, 50, 50),)))
    level = measure(plan(server), load, Terms(), SilentProgress()).level
    assert level.ok == 100
    assert level.percentile_ms(75) is not None
    assert (level.percentile_ms(75) or 0) > 400  # a half of them came into the stall
    assert (level.percentile_ms(99) or 0) > 900


def test_percentiles_are_those_that_the_server_has_within_five_percent(server: ModelServer) -> None:
    """With answers that take much longer than what a busy machine adds."""
    chance = random.Random(1)
    took: list[float] = []

    def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
        begun = time.monotonic()
        time.sleep(chance.uniform(0.5, 0.8))
        took.append(1e3 * (time.monotonic() - begun))
        return b""

    server.answer = answer
    load = Load(schedule=Schedule(STEP, stages=(Stage(4.0, 2, 2),)))  # two at a time: the server has two threads
    level = measure(plan(server), load, Terms(), SilentProgress()).level
    took.sort()
    assert level.ok == len(took) == 8
    for percent, own in ((50, took[3]), (99, took[-1])):
        assert level.percentile_ms(percent) == pytest.approx(own, rel=0.05)


def test_windows_go_on_until_three_agree_and_no_process_outlives_them(server: ModelServer) -> None:
    server.answer = lambda _data, _context: after(0.02)
    before = descendants(os.getpid())
    level = measure(plan(server), Load(concurrency=2), Terms(window_s=0.4, processes=2), SilentProgress()).level
    assert level.stable
    assert 3 <= len(level.windows) < 10
    assert [event.name for event in level.events] == ["warm-up over"]
    assert level.generator.processes == 2
    assert descendants(os.getpid()) == before


def test_a_server_that_gets_slower_and_slower_is_not_called_stable(server: ModelServer) -> None:
    begun = time.monotonic()
    server.answer = lambda _data, _context: after(0.01 * 4 ** (time.monotonic() - begun))
    terms = Terms(window_s=0.4, most_windows=4, warm_up_s=0.0)
    level = measure(plan(server), Load(concurrency=1), terms, SilentProgress()).level
    assert not level.stable
    assert len(level.windows) == 4


def test_an_answer_that_is_not_the_expected_one_is_an_error_of_its_own_kind(server: ModelServer) -> None:
    server.answer = lambda _data, _context: b"\n\x02ok" if int(time.monotonic() * 50) % 2 else b"\n\x02no"
    load = Load(schedule=Schedule(STEP, stages=(Stage(0.6, 50, 50),)))
    measured = measure(
        plan(server, compares=True),
        load,
        Terms(),
        SilentProgress(),
        judge=lambda request, answer: "" if answer == b"\n\x02ok" else f"request {request} is wrong",
    )
    assert set(measured.level.errors) == {"differs"}
    assert measured.level.ok > 0
    assert measured.level.ok + measured.level.failed == 30
    assert measured.said["differs"] == "request 0 is wrong"


def test_a_server_that_never_answers_is_counted_by_the_time_that_was_given_it(server: ModelServer) -> None:
    release = threading.Event()
    server.answer = lambda _data, _context: (release.wait(20) and b"") or b""
    slow = Plan(server.url, (ReadyRequest(PREDICT, BODY),), 0, timeout_s=0.5)
    try:
        load = Load(schedule=Schedule(STEP, stages=(Stage(0.5, 20, 20),)))
        level = measure(slow, load, Terms(), SilentProgress()).level
    finally:
        release.set()
    assert level.errors == {"timeout": 10}
    assert not level.ok


def figures(*, cpu_share: float = 0.1, lag_p99_ms: float = 0.0) -> GeneratorFigures:
    return GeneratorFigures("grpcio", 1, 1.0, 100.0, cpu_share, 0.0, lag_p99_ms)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ""),
        ({"lag_p99_ms": 0.4}, ""),
        ({"lag_p99_ms": 0.6}, "late"),
        ({"cpu_share": 0.94}, ""),
        ({"cpu_share": 0.99}, "processors"),
    ],
)
def test_a_run_whose_sender_was_late_or_had_no_processor_left_is_not_the_servers(
    given: dict[str, float], said: str
) -> None:
    found = bottleneck(figures(**given), p99_ms=10.0)
    assert said in found
    assert bool(said) == bool(found)


def test_a_rate_is_kept_though_answers_take_longer_than_the_time_between(server: ModelServer) -> None:
    server.answer = lambda _data, _context: after(0.06)
    load = Load(schedule=Schedule(CONSTANT, rate=30))
    level = measure(plan(server), load, Terms(duration_s=1.2, warm_up_s=0.3), SilentProgress()).level
    assert level.throughput == pytest.approx(30, rel=0.15)
    assert level.concurrency >= 2

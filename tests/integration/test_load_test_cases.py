"""What people who measure a TensorFlow Serving have reported, typed as `load-test`, against real SavedModels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gateways import haproxy
from tensorflow_server import TensorFlowServer
from typed_tasks import Ended, typed

SHORT = ("--window", "0.3s", "--warm-up", "0s")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def load_test(model: str, url: str, root: Path, *words: str) -> Ended:
    return typed("load-test", model, "--url", url, *words, "--json", build_root=root)


def the_level(ended: Ended) -> dict[str, Any]:
    (level,) = ended.document["levels"]
    assert isinstance(level, dict)
    return level


def errors_of(level: dict[str, Any]) -> dict[str, int]:
    """By kind, over the whole level: warm-up and windows."""
    return {kind: count for kind, count in level["errors"].items() if count}


@pytest.mark.parametrize("api", ["grpc", "rest"])
def test_a_full_queue_and_one_that_expired_in_it_are_counted_as_the_server_counts_them(
    tensorflow_server: TensorFlowServer, root: Path, api: str
) -> None:
    tensorflow_server.misbehave(delay_ms={"slow": 100}, queue_timeout_ms=60)
    url = tensorflow_server.grpc_url if api == "grpc" else tensorflow_server.rest_url
    words = ("--concurrency", "24", "--duration", "1s", "--batch-size", "1", "--range", "x:0:1", *SHORT)
    ended = load_test("slow", url, root, *words)
    assert ended.code in (0, 3), ended  # 3: the machine of the test may be the limit
    level = the_level(ended)
    found = errors_of(level)
    assert set(found) == {"busy", "expired"}, ended
    counted = tensorflow_server.counters()["statuses"]["Predict" if api == "grpc" else "REST predict"]
    busy, expired = ("14", "8") if api == "grpc" else ("503", "429")
    assert (found["busy"] <= counted[busy], found["expired"] <= counted[expired]) == (True, True)
    # what was still under way when the time was over, and the first answers, are not in the timeline
    in_all = sum(second["errors"] for second in level["timeline"])
    assert 0 <= counted[busy] + counted[expired] - in_all <= 24 + 8


def test_behind_a_proxy_a_full_queue_takes_no_server_out(
    tensorflow_server: TensorFlowServer, root: Path, tmp_path: Path
) -> None:
    with haproxy(tensorflow_server.grpc_port, tensorflow_server.rest_port, tmp_path) as gateway:
        words = ("--concurrency", "32", "--duration", "1s", "--batch-size", "1", "--range", "x:0:1", *SHORT)
        ended = load_test("slow", gateway.grpc("through"), root, *words, "--fail-if", "errors>0")
        assert errors_of(the_level(ended)).get("busy", 0) > 10
        assert ended.code == 3
        assert gateway.statistics("status")["grpc-model/one"] == "UP"


def test_open_dimensions_are_asked_for_before_any_load_with_a_line_to_paste(
    tensorflow_server: TensorFlowServer, root: Path
) -> None:
    refused = typed("load-test", "ids_mask", "--url", tensorflow_server.grpc_url, build_root=root)
    assert (refused.code, refused.out) == (2, "")
    assert "--shape ids:" in refused.said
    assert tensorflow_server.requests() == 0
    without_range = typed(
        "load-test", "ids_mask", "--url", tensorflow_server.grpc_url, "--shape", "ids:2,3", "--shape", "mask:2,3",
        build_root=root,
    )  # fmt: skip
    assert without_range.code == 2
    assert "--range ids:" in without_range.said
    assert tensorflow_server.requests() == 0


def test_with_shapes_and_a_range_every_random_id_is_in_the_vocabulary(
    tensorflow_server: TensorFlowServer, root: Path
) -> None:
    words = ("--shape", "ids:2,3", "--shape", "mask:2,3", "--range", "ids:0:100", "--range", "mask:0:2")
    ended = load_test("ids_mask", tensorflow_server.grpc_url, root, *words, "--duration", "0.5s", *SHORT)
    assert ended.code == 0, ended
    assert not errors_of(the_level(ended))


def test_a_server_whose_latency_drifts_is_not_stable_and_that_ends_with_three(
    tensorflow_server: TensorFlowServer, root: Path
) -> None:
    tensorflow_server.misbehave(drift_ms={"half_plus_two": 3})
    words = ("--batch-size", "1", "--range", "x:0:1", "--max-windows", "5", "--fail-if", "p99>10s")
    ended = load_test("half_plus_two", tensorflow_server.grpc_url, root, *words, *SHORT)
    assert the_level(ended)["stable"] is False
    assert ended.code == 3, ended


def test_several_processes_ask_together_and_leave_nobody_behind(
    tensorflow_server: TensorFlowServer, root: Path
) -> None:
    words = ("--batch-size", "1", "--range", "x:0:1", "--concurrency", "4", "--processes", "4", "--duration", "0.6s")
    ended = load_test("half_plus_two", tensorflow_server.grpc_url, root, *words, *SHORT)
    level = the_level(ended)
    assert ended.code in (0, 3), ended  # 3: the machine of the test may be the limit
    assert level["generator"]["processes"] == 4
    assert not errors_of(level)
    counters = tensorflow_server.counters()
    assert counters["most_at_a_time"] <= 5
    assert len(counters["peers"]["Predict"]) >= 4


def test_golden_answers_that_differ_under_load_are_errors_of_their_own_kind(
    tensorflow_server: TensorFlowServer, root: Path
) -> None:
    words = ("--url", tensorflow_server.grpc_url, "--request", '{"inputs": [1, 2]}', "--save-golden", "one")
    kept = typed("predict", "half_plus_two", *words, build_root=root)
    assert kept.code == 0, kept
    compared = ("--golden", "one", "--duration", "0.5s", *SHORT)
    same = load_test("half_plus_two", tensorflow_server.grpc_url, root, *compared)
    assert not errors_of(the_level(same)), same
    tensorflow_server.misbehave(answer={"half_plus_two": "other_shape"})
    other = load_test("half_plus_two", tensorflow_server.grpc_url, root, *compared, "--fail-if", "errors>0")
    assert other.code == 1, other  # none of its answers was right
    assert errors_of(the_level(other)).get("differs"), other


def test_a_server_that_is_not_there_is_told_before_any_load(tensorflow_server: TensorFlowServer, root: Path) -> None:
    gone = typed("load-test", "m", "--url", "grpc://127.0.0.1:1", build_root=root)
    assert (gone.code, gone.out) == (1, "")
    assert "Nothing listens" in gone.said

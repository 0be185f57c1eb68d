"""Ready: every port, every model, an answer of each, the adapter where it is meant; and why not, while it is not."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_builds import put_program
from model_server import Heard, go, planned, serve_until

from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.request import PredictRequest
from npu_serving.errors import ServerError
from npu_serving.serving import readiness
from npu_serving.serving.readiness import ReadyTerms

COMPILED = "The model has been compiled on the Ascend AI processor"


def ready(heard: Heard) -> bool:
    return "npu-serving: ready after" in heard.said()


def says(*words: str) -> Callable[[Heard], bool]:
    return lambda heard: all(word in heard.said() for word in words)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still waited for is said at once, and no failure is waited for."""
    monkeypatch.setattr(readiness, "PROGRESS_AT", (0.0, 0.3))
    monkeypatch.setattr(readiness, "SECONDS_TO_THE_NEXT_TRY", 0.1)
    monkeypatch.setattr(readiness, "SECONDS_BETWEEN_LATER_LOOKS", 0.1)


def test_ready_is_said_when_every_model_has_loaded_and_answered_zeros(artifact: Path, tmp_path: Path) -> None:
    made = planned(artifact, {"one": {"states": ["START", "LOADING", "AVAILABLE"]}, "two": {}})
    heard = serve_until(made, ready, tmp_path)
    assert "answered: one (zeros), two (zeros)" in heard.said()


def test_of_two_models_one_that_fails_to_load_is_told_with_its_reason_and_cure_and_keeps_it_from_being_ready(
    artifact: Path, tmp_path: Path
) -> None:
    broken = {"states": ["END"], "error": "Op type not registered 'Strange' in binary running on host"}
    made = planned(artifact, {"good": {}, "broken": broken})
    heard = serve_until(made, says("failed to load", "Next:", "broken: version 1: END"), tmp_path)
    assert "broken, version 1, has failed to load: Op type not registered 'Strange'" in heard.said()
    assert "Next: " in heard.said()
    assert not ready(heard)
    assert sum("has failed to load" in note for note in heard.notes) == 1


def test_while_a_first_request_runs_its_model_and_time_are_told_and_it_is_not_ready_before(
    artifact: Path, tmp_path: Path
) -> None:
    adapter = tmp_path / "_tf_adapter.so"
    adapter.write_bytes(b"x" * 4096)
    models = {"slow": {"answer": "wait", "prints": COMPILED}}
    made = planned(artifact, models, adapter=adapter, uses_npu=True)
    before: list[str] = []

    def enough(heard: Heard) -> bool:
        if not before and "its first request has run for" in heard.said():
            before.append(heard.said())
            go(artifact).touch()
        return ready(heard)

    heard = serve_until(made, enough, tmp_path)
    assert "slow: its first request has run for" in before[0]
    assert "compiles the model for the NPU, which takes minutes; the compile cache keeps that" in before[0]
    assert "npu-serving: ready" not in before[0]
    assert "the NPU is used" in heard.said()


@pytest.mark.parametrize("mapped", [True, False])
def test_where_the_npu_is_meant_neither_a_missing_adapter_nor_an_answer_of_the_cpu_is_ready(
    artifact: Path, tmp_path: Path, mapped: bool
) -> None:
    adapter = tmp_path / "_tf_adapter.so"
    adapter.write_bytes(b"x" * 4096)
    made = planned(artifact, {"m": {}}, adapter=adapter if mapped else None, uses_npu=True)
    reason = "the CPU has answered" if mapped else "the process has not loaded the adapter"
    heard = serve_until(made, says(reason), tmp_path)
    assert not ready(heard)


def test_a_model_of_unknown_shape_or_that_refuses_zeros_is_said_to_be_unproven_and_blocks_nothing(
    artifact: Path, tmp_path: Path
) -> None:
    models: dict[str, dict[str, object]] = {
        "open": {"shape": [-1, -1]},
        "strict": {"answer": 400, "says": "no zeros"},
        "good": {},
    }
    made = planned(artifact, models)
    heard = serve_until(made, ready, tmp_path)
    (said,) = [note for note in heard.notes if note.startswith("npu-serving: ready")]
    assert "answered: good (zeros)" in said
    assert "open (the shape of its input is not known (x: DT_FLOAT [-1, -1]))" in said
    assert f"prove it: ./inv predict open --url http://localhost:{made.rest_api_port} " in said
    assert re.search(r"strict \(it refuses zeros: .*no zeros", said)


def test_an_option_that_the_adapter_refuses_at_the_first_request_keeps_a_model_from_being_ready(
    artifact: Path, tmp_path: Path
) -> None:
    model: dict[str, object] = {"answer": 400, "says": "input_shape string style is invalid"}
    heard = serve_until(planned(artifact, {"m": model}), says("Next:"), tmp_path)
    assert "m does not answer: " in heard.said()
    assert "input_shape" in heard.said().partition("Next: ")[2]
    assert not ready(heard)


@pytest.mark.parametrize(
    ("status", "says_it", "cause"),
    [
        (412, "Batched output tensor has 0 dimensions", "an output of the model has no row for each row of the input"),
        (
            412,
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input",
            "an output of the model has no row for each row of the input",
        ),
        (400, "Batching session Run() input tensors must have at least one dimension", "no first dimension of rows"),
    ],
)
def test_a_golden_request_of_one_row_that_batching_makes_fail_keeps_a_model_from_being_ready_and_names_batching(
    artifact: Path, tmp_path: Path, status: int, says_it: str, cause: str
) -> None:
    request = PredictRequest("instances", ["one row"])
    golden = GoldenRequest("m", "m", request, [7.0], model_base_path="s3://bucket/m")
    made = planned(artifact, {"m": {"shape": [-1], "answer": status, "says": says_it}})
    heard = serve_until(made, says("Next:"), tmp_path, terms=ReadyTerms((golden,)))
    said, _, cure = heard.said().partition("Next: ")
    assert "m does not answer: " in said
    assert "Likely cause: batching is on" in said
    assert cause in said
    assert "batching: false" in cure
    assert not ready(heard)


def test_a_request_that_the_server_gave_up_while_it_compiled_is_sent_again(artifact: Path, tmp_path: Path) -> None:
    model = {"answer": 504, "times": 3, "says": "deadline exceeded"}
    heard = serve_until(planned(artifact, {"m": model}), ready, tmp_path)
    assert "answered: m (zeros)" in heard.said()
    assert "does not answer: " not in heard.said(), "the compilation goes on behind it"


def test_the_golden_request_goes_before_zeros_and_another_answer_is_a_warning(artifact: Path, tmp_path: Path) -> None:
    request = PredictRequest("instances", [[1.0, 2.0]])
    golden = GoldenRequest("m", "m", request, [7.0], model_base_path="s3://bucket/m")
    made = planned(artifact, {"m": {"shape": [-1, -1]}})
    heard = serve_until(made, ready, tmp_path, terms=ReadyTerms((golden,)))
    assert "answered: m (its golden request)" in heard.said()
    assert "warning: m does not give the recorded answer: predictions[0] is 0.0, not 7.0" in heard.said()


def test_a_port_that_never_opens_is_named(artifact: Path, tmp_path: Path) -> None:
    made = planned(artifact, {"m": {}}, ports=("grpc",))
    heard = serve_until(made, says(f"the REST port {made.rest_api_port} is not open yet"), tmp_path)
    assert not ready(heard)
    made = planned(artifact, {"m": {}}, ports=("rest",))
    heard = serve_until(made, says(f"not ready after 0.0 s: the gRPC port {made.port} is not open yet"), tmp_path)
    assert not ready(heard)


def test_without_the_rest_api_every_signature_is_asked_over_grpc(artifact: Path, tmp_path: Path) -> None:
    made = planned(artifact, {"m": {}}, ports=("PredictionService",), rest_api_port=0)
    heard = serve_until(made, ready, tmp_path)
    assert "answered: m (zeros to serving_default, zeros to texts, zeros to two)" in heard.said()
    assert "not proven" not in heard.said()


def test_golden_requests_are_asked_over_grpc_where_there_is_no_rest_api_and_where_they_want_it(
    artifact: Path, tmp_path: Path
) -> None:
    right = GoldenRequest("right", "m", PredictRequest("instances", [[1.0, 2.0]]), [[2.0, 4.0]])
    other = GoldenRequest("other", "m", PredictRequest("inputs", {"t": ["a"]}, "texts"), ["b"], label="stable")
    terms = ReadyTerms((right, other))
    made = planned(artifact, {"m": {}}, ports=("PredictionService",), rest_api_port=0)
    alone = serve_until(made, ready, tmp_path, terms=terms)
    assert "answered: m (its 2 golden requests, zeros to two)" in alone.said()
    difference = 'warning: m does not give the recorded answer of other: outputs[0] is "a", not "b"'
    assert difference in alone.said()
    assert "answer of right" not in alone.said()
    made = planned(artifact, {"m": {}}, ports=("PredictionService", "rest"))
    both = serve_until(made, ready, tmp_path, terms=terms)
    assert "answered: m (its 2 golden requests)" in both.said()
    assert difference in both.said(), "a label is asked over gRPC"


def test_what_only_a_grpc_api_with_tls_could_answer_is_unproven(artifact: Path, tmp_path: Path) -> None:
    golden = GoldenRequest("g", "m", PredictRequest("instances", [1.0]), [0.0], api="grpc")
    made = planned(artifact, {"m": {}}, ports=("grpc",), rest_api_port=0)
    made = dataclasses.replace(made, argv=(*made.argv, "--ssl_config_file=/x"))
    heard = serve_until(made, ready, tmp_path)
    assert "not proven to answer: m (its gRPC API wants TLS" in heard.said()
    made = planned(artifact, {"m": {}})
    made = dataclasses.replace(made, argv=(*made.argv, "--ssl_config_file=/x"))
    heard = serve_until(made, ready, tmp_path, terms=ReadyTerms((golden,)))
    assert "not proven to answer: m (its gRPC API wants TLS" in heard.said()


def test_a_signature_that_nobody_may_ask_is_tried_and_keeps_nothing_from_being_ready(
    artifact: Path, tmp_path: Path
) -> None:
    models: dict[str, dict[str, object]] = {"m": {"signatures": {"other": 500, "third": 200}}}
    heard = serve_until(planned(artifact, models), ready, tmp_path)
    assert "answered: m (zeros to serving_default, zeros to third)" in heard.said()
    assert "not proven to answer: m (other: it refuses zeros: " in heard.said()


def test_a_server_that_is_not_ready_in_time_is_ended_with_the_reason_though_it_heeds_no_sigterm(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "SECONDS_TO_END", 0.2)
    before = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    made = planned(artifact, {"m": {"states": ["LOADING"]}}, before=before)
    with pytest.raises(ServerError, match="was not ready within") as caught:
        serve_until(made, lambda _heard: False, tmp_path, terms=ReadyTerms(timeout_s=1))
    assert "--ready-timeout" in caught.value.cure
    ended = json.loads((tmp_path / "servers" / f"{made.rest_api_port}.ended.json").read_text())
    assert "was not ready within" in ended["what"]


def test_a_server_that_prints_megabytes_and_exits_while_it_is_waited_for_is_told_by_its_end(
    artifact: Path, tmp_path: Path
) -> None:
    text = "for i in range(40000): print('x' * 100, file=sys.stderr)\n"
    made = planned(artifact, {"m": {}}, before=text + "print('FATAL: kernel too old', file=sys.stderr); sys.exit(127)")
    heard = serve_until(made, lambda _heard: False, tmp_path)
    assert "The server has ended: exit status 127." in heard.notes[-1]
    assert not ready(heard)


def test_a_server_that_dies_at_the_first_request_is_told_by_its_signal_and_was_never_ready(
    artifact: Path, tmp_path: Path
) -> None:
    before = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))"
    heard = serve_until(planned(artifact, {"m": {"answer": "abort"}}, before=before), lambda _heard: False, tmp_path)
    assert "killed by SIGABRT (6)" in heard.notes[-1]
    assert not ready(heard), heard.said()


def test_a_list_of_models_that_can_not_be_read_is_left_to_the_server(artifact: Path, tmp_path: Path) -> None:
    made = planned(artifact, {"m": {}})
    (artifact / "models.config").write_text("model_config_list {")
    heard = serve_until(made, ready, tmp_path)
    assert "which models there are is not known" in heard.said()


def test_a_server_that_ends_at_once_is_not_waited_for(artifact: Path, tmp_path: Path) -> None:
    made = planned(artifact, {"m": {}})
    put_program(artifact, "#!/bin/sh\nexit 9\n")
    heard = serve_until(made, lambda _heard: False, tmp_path)
    assert "exit status 9" in heard.notes[-1]

"""Probes: the process by /livez, all models by /readyz, with the reasons as JSON."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from fake_builds import free_port
from model_server import Heard, go, planned, serve_until

from npu_serving.errors import RequestError, ServerError
from npu_serving.serving.probes import ProbeEndpoint, check_probe_port
from npu_serving.serving.readiness import Readiness, ReadyTerms
from npu_serving.serving.watched_model import ModelReadiness


def probe(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, dict[str, object]]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}:{port}{path}") as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_probe_gets_200_or_503_and_the_reasons() -> None:
    port, states = free_port(), [Readiness(True, ("m: version 1: LOADING",), (ModelReadiness("m"),))]
    endpoint = ProbeEndpoint(port, lambda: states[-1])
    try:
        assert probe(port, "/livez")[0] == 200
        code, body = probe(port, "/readyz?verbose")
        assert (code, body["ready"], body["reasons"]) == (503, False, ["m: version 1: LOADING"])
        states.append(Readiness(True, (), ()))
        assert probe(port, "/readyz")[0] == 200
        states.append(Readiness(False, ("the server has ended",), ()))
        assert [probe(port, path)[0] for path in ("/livez", "/readyz", "/", "/v1/models/m")] == [503, 503, 404, 404]
    finally:
        endpoint.close()
    check_probe_port(port)


def test_a_port_of_the_server_or_one_in_use_is_refused() -> None:
    with pytest.raises(RequestError, match="a port of the server itself"):
        check_probe_port(8501, 8500, 8501)
    with pytest.raises(RequestError, match="from 1 to 65535"):
        check_probe_port(65536)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServerError, match="for the probes is already in use"):
            check_probe_port(port)


def test_while_models_load_the_server_is_live_and_not_ready_and_afterwards_ready(
    artifact: Path, tmp_path: Path
) -> None:
    port = free_port()
    answers: list[tuple[tuple[int, dict[str, object]], tuple[int, dict[str, object]]]] = []

    def enough(heard: Heard) -> bool:
        if not answers:
            with contextlib.suppress(ConnectionError, urllib.error.URLError):  # nobody listens yet
                answers.append((probe(port, "/livez"), probe(port, "/readyz")))
                go(artifact).touch()
        if len(answers) == 1 and "npu-serving: ready" in heard.said():
            answers.append((probe(port, "/livez"), probe(port, "/readyz")))
        return len(answers) == 2

    serve_until(planned(artifact, {"m": {"answer": "wait"}}), enough, tmp_path, terms=ReadyTerms(probe_port=port))
    (live, unready), (_, ready) = answers
    assert (live[0], unready[0], ready[0]) == (200, 503, 200)
    assert ready[1]["models"] == [
        {
            "name": "m",
            "versions": [{"version": 1, "state": "AVAILABLE", "error_code": "OK", "error_message": ""}],
            "waits_for": "",
            "answered": "zeros",
            "unproven": "",
        }
    ]


def test_a_model_that_is_lost_afterwards_takes_readiness_away_and_gives_it_back(artifact: Path, tmp_path: Path) -> None:
    states = ["AVAILABLE", "END", "END", "AVAILABLE"]
    made = planned(artifact, {"m": {"states": states}})
    terms = ReadyTerms(probe_port=free_port())
    heard = serve_until(made, lambda heard: heard.said().count("npu-serving: ready") == 2, tmp_path, terms=terms)
    assert "npu-serving: no longer ready: m: " in heard.said()

"""`predict` over gRPC, typed as a person would, against a server of grpcio."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc_server import ModelServer, serving

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def running() -> Iterator[ModelServer]:
    with serving() as server:
        yield server


@pytest.fixture
def server(running: ModelServer) -> ModelServer:
    running.answer = None
    return running


def _predict(server: ModelServer, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "inv", "predict", *([] if "--url" in words else ["--url", server.url]), *words],
        cwd=ROOT,
        env={**os.environ, "NPU_SERVING_VENV": sys.prefix},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_model_answers_over_grpc(server: ModelServer) -> None:
    typed = _predict(server, "m", "--request", "[[1, 2]]")
    assert typed.returncode == 0, typed.stderr
    assert typed.stdout.startswith("[2.0, 4.0]\n(m version 2, ")
    piped = _predict(server, "m", "--label", "stable", "--json", text='{"inputs": [[1, 2]]}')
    assert json.loads(piped.stdout)["outputs"] == [[2, 4]]


def test_an_answer_is_waited_for_as_long_as_is_said(server: ModelServer) -> None:
    waiting = threading.Event()
    server.answer = lambda _data, _context: bytes(not waiting.wait(30))
    try:
        late = _predict(server, "m", "--request", "[[1, 2]]", "--timeout", "1")
    finally:
        waiting.set()
    assert late.returncode == 1
    assert "did not answer within 1 s" in late.stderr


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["m", "--request", "[[1, 2, 3]]"], "has the shape [1, 3]"),
        (["other", "--request", "[[1, 2]]"], "has no model 'other'"),
        (["m", "--request", "[[1, 2]]", "--label", "stable", "--version", "1"], "--version and --label"),
        (["m", "--request", "[[1, 2]]", "--signature", "none"], "no signature 'none'"),
        (["m", "--request", "[[1, 2]]", "--timeout", "0"], "--timeout can't be 0"),
        (["m", "--request", "[[1, 2]]", "--url", "http://127.0.0.1:9", "--label", "stable"], "--label has no effect"),
        (["m", "--request", "[[1, 2]]", "--url", "grpc://127.0.0.1:x"], "not the address of a gRPC server"),
    ],
)
def test_what_is_wrong_ends_with_two_and_a_cure(server: ModelServer, words: list[str], what: str) -> None:
    refused = _predict(server, *words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert what in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "Next: " in refused.stderr

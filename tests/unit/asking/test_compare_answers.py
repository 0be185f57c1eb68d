"""The same golden requests are asked of two servers, over either API; tolerances are kept beside the request."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_server import ModelServer, serving

from npu_serving.asking.compare_answers import ComparedAnswers, compare_answers
from npu_serving.asking.golden import GoldenRequest, Tolerance
from npu_serving.asking.golden_files import GoldenRequests, read_golden_requests, write_golden
from npu_serving.asking.request import PredictRequest
from npu_serving.console import Silent
from npu_serving.errors import RequestError, UnreachableError


class Handler(http.server.BaseHTTPRequestHandler):
    """Doubles what it gets, and a bit more; as the server of grpc_server.py does, but for that."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "/m:" not in self.path:
            return self.send(404, {"error": "Servable not found for request: Latest(n)"})
        if "inputs" in asked:
            return self.send(200, {"outputs": [[2.01 * value for value in row] for row in asked["inputs"]["x"]]})
        return self.send(200, {"predictions": [[2.01 * value for value in row] for row in asked["instances"]]})

    def send(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def rest() -> Iterator[str]:
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


@pytest.fixture(scope="module")
def grpc() -> Iterator[ModelServer]:
    with serving() as server:
        yield server


def golden(directory: Path, *names: str, **changes: Any) -> GoldenRequests:
    for name in names:
        request = PredictRequest("inputs", {"x": [[1.0, -3.0], [0.0, 5.0]]})
        given = {"name": name, "model": "m", "request": request, "tolerance": Tolerance(0.001, 0.0), **changes}
        write_golden(directory, GoldenRequest(**given))
    return read_golden_requests(directory)


def compared(found: GoldenRequests, first: str, second: str, *names: str, **how: bool) -> ComparedAnswers:
    return compare_answers(found, names, first, second, timeout_s=60, reporter=Silent(), **how)


def test_servers_of_either_api_are_compared(grpc: ModelServer, rest: str, tmp_path: Path) -> None:
    found = golden(tmp_path, "one", "two")
    same = compared(found, grpc.url, grpc.url)
    assert (same.exit_code, len(same.requests)) == (0, 2)
    assert "All 2 are within" in same.text()
    other = compared(found, grpc.url, rest, "two")
    assert other.exit_code == 3
    ((output,),) = [each.outputs for each in other.requests]
    assert (output.values, output.outside) == (4, 3)
    assert output.max_absolute == pytest.approx(0.05)
    assert output.max_relative == pytest.approx(0.005)
    assert output.top_1 == 1.0
    assert "1 of 1 differ" in other.text()
    assert json.loads(json.dumps(other.to_json()))["requests"][0]["within"] is False


def test_rows_are_compared_over_rest(rest: str, tmp_path: Path) -> None:
    found = golden(tmp_path, "rows", request=PredictRequest("instances", [[1.0, 2.0]]))
    assert compared(found, rest, rest).exit_code == 0


def test_measured_tolerances_are_kept_beside_the_request_and_nothing_else_changes(
    grpc: ModelServer, rest: str, tmp_path: Path
) -> None:
    found = golden(tmp_path, "one", expected=[[2.0]])
    before = json.loads((tmp_path / "one.json").read_text())
    updated = compared(found, grpc.url, rest, update=True)
    assert updated.exit_code == 0
    assert str(tmp_path / "one.json") in updated.text()
    after = json.loads((tmp_path / "one.json").read_text())
    assert after.pop("tolerance") == {"rtol": 0.01, "atol": 1e-06}  # twice the 0.005 of the largest
    before.pop("tolerance")
    assert after == before
    assert compared(read_golden_requests(tmp_path), grpc.url, rest).exit_code == 0


def test_a_server_without_the_model_is_said_and_one_that_is_not_there_ends_it(
    grpc: ModelServer, rest: str, tmp_path: Path
) -> None:
    found = golden(tmp_path, "n", model="n")
    shown = compared(found, grpc.url, rest)
    assert shown.exit_code == 3
    assert shown.requests[0].error.startswith(grpc.url)
    labelled = golden(tmp_path / "labels", "l", label="stable")
    assert "label" in compared(labelled, rest, grpc.url).requests[0].error
    with pytest.raises(UnreachableError):
        compared(found, "grpc://127.0.0.1:1", rest)


def test_a_name_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="No golden request"):
        compared(read_golden_requests(tmp_path / "none"), "http://h", "http://h")
    with pytest.raises(RequestError, match="'no'") as error:
        compared(golden(tmp_path, "one"), "http://h", "http://h", "no")
    assert "'one'" in error.value.cause


@pytest.mark.parametrize("mistyped", ["localhost:8500", "grpc://"])
def test_what_is_no_address_is_refused_and_not_counted_as_a_difference(mistyped: str, tmp_path: Path) -> None:
    found = golden(tmp_path, "one")
    for first, second in ((mistyped, "http://h"), ("http://h", mistyped)):
        with pytest.raises(RequestError) as error:
            compared(found, first, second)
        assert mistyped in error.value.what
        assert "grpc://HOST:8500" in error.value.cure


def test_tolerances_of_a_golden_request_in_the_single_file_of_before_are_not_written(
    grpc: ModelServer, rest: str, tmp_path: Path
) -> None:
    former = {"format": 1, "model_base_path": "/m", "model_name": "m", "platform_config_file": None, "tolerance": 0.001}
    former |= {"request": {"inputs": {"x": [[1.0, 2.0]]}}, "expected": [[2.0, 4.0]], "build_id": ""}
    (tmp_path / "golden-request.json").write_text(json.dumps(former))
    with pytest.raises(RequestError, match="no file of its own"):
        compared(read_golden_requests(tmp_path / "golden"), grpc.url, rest, update=True)

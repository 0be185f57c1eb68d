"""record, in front of real clients and servers: all that is asked is answered, and what is kept is what was asked."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import grpc
import numpy as np
import pytest
from grpc_server import ModelServer, serving

from npu_serving.asking.recorded_file import read_recording
from npu_serving.client import encode_predict
from npu_serving.recording.pass_through import QUIET_S
from npu_serving.trials.spare_server import spare_ports

ROOT = Path(__file__).resolve().parents[2]
PREDICT = "/tensorflow.serving.PredictionService/Predict"
INV = [sys.executable, "-m", "npu_serving", "--search-root", str(ROOT)]
LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with serving(max_receive_message_length=-1) as running:
        yield running


class Recorder:
    """`./inv record` as a process."""

    def __init__(self, url: str, output: Path, *flags: str) -> None:
        (self.port,) = spare_ports(1)
        words = [
            "record",
            "--url",
            url,
            "--listen",
            f"127.0.0.1:{self.port}",
            "--output",
            str(output),
            "--json",
            *flags,
        ]
        self.process = subprocess.Popen([*INV, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert b"have clients ask port" in self.stderr.readline()

    @property
    def stderr(self) -> IO[bytes]:
        assert self.process.stderr is not None
        return self.process.stderr

    def keeper(self) -> int:
        """The number of the process that keeps requests."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(found[0])

    def end(self) -> dict[str, Any]:
        """What it says at its end."""
        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=120)
        return dict(json.loads(out))


@contextlib.contextmanager
def recorder(url: str, output: Path, *flags: str) -> Iterator[Recorder]:
    made = Recorder(url, output, *flags)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        for stream in (made.process.stdout, made.process.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def calling(port: int) -> Iterator[Any]:
    # A pool of its own, or calls to one address would share a connection.
    options = [*LARGE, ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield channel.unary_unary(PREDICT)


def predict(number: int, rows: int = 1) -> bytes:
    return encode_predict("m", {"x": np.full((rows, 2), number, np.float32)})


def test_many_clients_over_grpc_and_one_with_twenty_megabytes(server: ModelServer, tmp_path: Path) -> None:
    path, asked = tmp_path / "x.rec", [predict(number) for number in range(200)]
    large = predict(7, 2_500_000)
    with recorder(server.url, path) as recording:

        def ask(requests: list[bytes]) -> list[bytes]:
            with calling(recording.port) as call:
                return [call(request, timeout=60) for request in requests]

        with ThreadPoolExecutor(9) as pool:
            of_large = pool.submit(ask, [large])
            answered = [answer for answers in pool.map(ask, [asked[at::8] for at in range(8)]) for answer in answers]
            assert len(of_large.result()[0]) > 20_000_000
        with calling(int(server.url.rpartition(":")[2])) as direct:
            assert sorted(answered) == sorted(direct(request, timeout=60) for request in asked)
        said = recording.end()
    assert recording.process.returncode == 0
    assert (said["requests"]["seen"], said["requests"]["kept"], said["requests"]["dropped"]) == (201, 201, 0)
    assert sorted(request.body for request in read_recording(path).requests()) == sorted([*asked, large])
    times = read_recording(path).arrivals_s()
    assert len(times) == 201
    assert all(one <= other for one, other in zip(times, times[1:]))


def test_a_share_is_kept_by_its_seed_and_other_calls_are_only_counted(server: ModelServer, tmp_path: Path) -> None:
    kept, flags = [], ("--share", "0.2", "--seed", "3", "--redact", "x", "--redact", "no")
    for name in ("a", "b"):
        path = tmp_path / f"{name}.rec"
        with recorder(server.url, path, *flags) as recording:
            with calling(recording.port) as call:
                for number in range(100):
                    call(predict(number), timeout=60)
            said = recording.end()
        assert said["requests"]["kept"] + said["requests"]["not_chosen"] == said["requests"]["seen"] == 100
        assert len(said["notes"]) == 1
        assert "'no'" in said["notes"][0]
        kept.append([request.body for request in read_recording(path).requests()])
    assert kept[0] == kept[1]
    assert 5 < len(kept[0]) < 40
    assert set(kept[0]) == {predict(0)}


def test_killed_at_any_moment_it_leaves_a_file_that_is_read(server: ModelServer, tmp_path: Path) -> None:
    for name in ("recorder", "keeper"):
        path = tmp_path / f"{name}.rec"
        with recorder(server.url, path) as recording, calling(recording.port) as call:
            asked = [predict(number) for number in range(20)]
            for request in asked:
                call(request, timeout=60)
            keeper = recording.keeper()
            while len(read_recording(path).entries) < 10:  # what the pipe holds is on its way
                time.sleep(0.01)
            os.kill(keeper if name == "keeper" else recording.process.pid, signal.SIGKILL)
            if name == "keeper":
                for request in asked:  # the traffic knows nothing of it
                    call(request, timeout=60)
                said = recording.end()
                assert "was ended" in said["failure"]
                assert recording.process.returncode == 1
            else:
                recording.process.wait()
                with contextlib.suppress(OSError):
                    while Path(f"/proc/{keeper}/stat").read_text().split()[2] != "Z":
                        time.sleep(0.01)  # it ends by itself, with all that it had
        read = [request.body for request in read_recording(path).requests()]
        assert read == asked[: len(read)]
        assert len(read) >= 10


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = b""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
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


def test_curl_and_requests_over_rest(rest: str, tmp_path: Path) -> None:
    import requests

    path, large = tmp_path / "x.rec", tmp_path / "large.json"
    large.write_text(json.dumps({"instances": [[0.5] * 1000] * 500}))
    bodies = [b'{"instances": [[%d]]}' % number for number in range(5)]
    with recorder(rest, path) as recording:
        url = f"http://127.0.0.1:{recording.port}/v1/models/m:predict"
        curl = ["curl", "-sS", "--noproxy", "*", "--data-binary", f"@{large}"]
        for how in ([], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]):
            answer = subprocess.run([*curl, *how, f"{url}?key=SECRET"], capture_output=True, check=True)
            assert answer.stdout == large.read_bytes()
        with requests.Session() as session:
            session.trust_env = False
            for body in bodies:
                assert session.post(url, data=body, timeout=60).content == body
        said = recording.end()
    assert (said["requests"]["seen"], said["requests"]["kept"]) == (8, 8)
    read = list(read_recording(path).requests())
    assert [request.body for request in read] == [large.read_bytes()] * 3 + bodies
    assert {request.path for request in read} == {"/v1/models/m:predict"}
    assert b"SECRET" not in path.read_bytes()


def test_tls_passes_through_unopened_and_the_absent_server_is_told_from_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as behind:
        url = f"grpc://127.0.0.1:{behind.getsockname()[1]}"
        with recorder(url, tmp_path / "x.rec") as recording:
            hello = b"\x16\x03\x01\x00\x05hello"
            with socket.create_connection(("127.0.0.1", recording.port), timeout=60) as client:
                client.sendall(hello)
                server, _ = behind.accept()
                with server:
                    assert server.recv(100) == hello
            behind.close()
            address = ("127.0.0.1", recording.port)
            with pytest.raises(ConnectionResetError), socket.create_connection(address, timeout=60) as client:
                client.recv(1)
            said = recording.end()
    assert (said["connections_with_tls"], said["passed"]["refused"], said["requests"]["seen"]) == (1, 1, 0)


def test_at_ctrl_c_a_request_under_way_gets_its_answer(server: ModelServer, tmp_path: Path) -> None:
    asked, go = threading.Event(), threading.Event()

    def wait(_data: bytes, _context: object) -> bytes:
        asked.set()
        assert go.wait(60)
        return b"late"

    with contextlib.ExitStack() as stack:
        slow = stack.enter_context(serving({"Predict": wait}))
        recording = stack.enter_context(recorder(slow.url, tmp_path / "x.rec"))
        with calling(recording.port) as call, ThreadPoolExecutor(1) as pool:
            answer = call.future(predict(1), timeout=60)
            assert asked.wait(60)
            said = pool.submit(recording.end)
            with contextlib.suppress(OSError):  # until no new connection is taken
                while True:
                    socket.create_connection(("127.0.0.1", recording.port), timeout=60).close()
            time.sleep(3 * QUIET_S)  # a connection where nothing is under way would be closed by then
            go.set()
            assert answer.result() == b"late"
            assert said.result()["connections_cut_off"] == 0

"""From the last answer that `serve` waits for until it says ready, beside probes once a second (of Kubernetes)."""

from __future__ import annotations

import http.server
import json
import os
import random
import socket
import statistics
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from npu_serving.deploy.platform_config import ServedModel, render_models_config
from npu_serving.serving.readiness import ReadinessWatch, ReadyTerms
from npu_serving.serving.server_plan import ServerPlan

MODELS, ROUNDS = 20, 7


class Server(http.server.ThreadingHTTPServer):
    """Answers for every model, a first request after up to a tenth of a second."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answered: list[float] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    """A model server of many models."""

    server: Server

    def do_GET(self) -> None:
        """A state, the metadata, or a probe."""
        if self.path.endswith("/metadata"):
            tensor = {"x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}]}}}
            signature = {"inputs": tensor, "outputs": tensor}
            names = {"signature_def": {"signature_def": {"serving_default": signature}}}
            self.send({"model_spec": {"version": "1"}, "metadata": names})
        elif self.path == "/readyz":
            self.send({}, 200 if len(self.server.answered) == MODELS else 503)
        else:
            self.send({"model_version_status": [{"version": "1", "state": "AVAILABLE"}]})

    def do_POST(self) -> None:
        """An answer, whose time is kept."""
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(random.uniform(0, 0.1))
        self.server.answered.append(time.perf_counter())
        self.send({"outputs": [0.0]})

    def send(self, document: object, status: int = 200) -> None:
        """A document as JSON."""
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def probed(port: int) -> float:
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
                return time.perf_counter()
        except OSError:
            time.sleep(1)


def once(directory: Path) -> tuple[float, float]:
    """Seconds after the last answer, until ready was said and until a probe saw it."""
    listed = directory / "models.config"
    listed.write_text(render_models_config([ServedModel(f"m{i}", f"s3://bucket/m{i}") for i in range(MODELS)]))
    server, said, probes = Server(), threading.Event(), list[float]()
    times: list[float] = []

    def say(text: str) -> None:
        if text.startswith("npu-serving: ready"):
            times.append(time.perf_counter())
            said.set()

    with socket.create_server(("127.0.0.1", 0)) as grpc:
        rest = server.server_address[1]
        argv = ("server", f"--model_config_file={listed}")
        plan = ServerPlan(argv=argv, env={}, model_name="m0", port=grpc.getsockname()[1], rest_api_port=rest)
        watch = ReadinessWatch(plan, ReadyTerms(), build_root=directory, say=say)
        probe = threading.Thread(target=lambda: probes.append(probed(rest)))
        probe.start()
        watch.began(os.getpid())
        said.wait()
        probe.join()
    server.shutdown()
    return times[0] - server.answered[-1], probes[0] - server.answered[-1]


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        found = [once(Path(temporary)) for _ in range(ROUNDS)]
    ours, rival = (statistics.median(times) for times in zip(*found))
    worst = max(time for time, _ in found)
    print(f"| {MODELS} models: ready said after the last answer | {1000 * ours:.0f} ms (most {1000 * worst:.0f} ms) "
          f"| a probe each second | {1000 * rival:.0f} ms | {ours / rival:.2f} |")  # fmt: skip


if __name__ == "__main__":
    main()

"""What `predict` of a small request costs beside the bare start of ./inv: seconds of the processor, over REST and gRPC.

The server runs in this process, whose own time does not count.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator

from npu_serving.settings import PROJECT_ROOT

sys.path.insert(0, str(PROJECT_ROOT / "tests" / "support"))

from grpc_server import serving

ROUNDS = 7
MOST_SECONDS = 0.35
METADATA = {
    "model_spec": {"name": "m", "version": "1"},
    "metadata": {
        "signature_def": {
            "signature_def": {
                "serving_default": {
                    "inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "2"}]}}},
                    "outputs": {"y": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "2"}]}}},
                    "method_name": "tensorflow/serving/predict",
                }
            }
        }
    },
}


class Rest(http.server.BaseHTTPRequestHandler):
    """A model server's REST API, as far as predict needs it."""

    def do_GET(self) -> None:
        """Answers with the model's signatures."""
        self._answer(METADATA)

    def do_POST(self) -> None:
        """Answers with the same values each time."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"predictions": [[2.0, 4.0]]})

    def _answer(self, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""


@contextlib.contextmanager
def rest_url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rest) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def processor_seconds(words: list[str]) -> float:
    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    before = used()
    environment = {**os.environ, "NPU_SERVING_VENV": sys.prefix}
    subprocess.run(
        [PROJECT_ROOT / "inv", *words], cwd=PROJECT_ROOT, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    return used() - before


def main() -> None:
    with rest_url() as rest, serving() as grpc:
        asked = ["predict", "m", "--request", "[[1, 2]]", "--url"]
        runs = {"--list": ["--list"], "predict, REST": [*asked, rest], "predict, gRPC": [*asked, grpc.url]}
        times: dict[str, list[float]] = {what: [] for what in runs}
        for _ in range(ROUNDS):
            for what, words in runs.items():
                times[what].append(processor_seconds(words))
    found = {what: statistics.median(seconds) for what, seconds in times.items()}
    print("| ./inv | s of the processor | of --list |\n| --- | --- | --- |")
    for what, seconds in found.items():
        print(f"| {what} | {seconds:.2f} | {seconds / found['--list']:.2f} |")
    slow = [what for what, seconds in found.items() if seconds > MOST_SECONDS]
    print("\n".join(f"{what} takes more than {MOST_SECONDS} s." for what in slow))
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()

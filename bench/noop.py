"""What ./inv costs beside what it runs: a build with nothing to do, `--list`, and a probe.

The rival of the build is a warm Bazel server on the very same tree; each pair is measured in turn, in this run.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from npu_serving.building import bazel as bazel_room
from npu_serving.building import pipeline
from npu_serving.building.context import find_context
from npu_serving.console import Silent
from npu_serving.resources import available_resources
from npu_serving.serving.server_record import RecordKeeper, ServerRecord
from npu_serving.settings import PROJECT_ROOT, Settings

ROUNDS = 7


def seconds(argv: list[str], cwd: Path, env: dict[str, str] | None = None) -> float:
    started = time.perf_counter()
    subprocess.run(argv, cwd=cwd, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def pairs(ours: object, rival: object) -> tuple[float, float]:
    """The medians of both, measured in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS + 1):
        for one, kept in zip((ours, rival), times):
            kept.append(one())  # type: ignore[operator]
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


class Available(http.server.BaseHTTPRequestHandler):
    """A model server, as far as its models' states go."""

    def do_GET(self) -> None:
        """Answers that the model is available."""
        state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        body = json.dumps({"model_version_status": [state]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def ready_server(root: Path) -> Iterator[dict[str, str]]:
    """The environment of whoever probes a server that `serve` is said to run: this process, with one model."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Available)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    record = ServerRecord(0, 0, root, time.time(), uses_npu=False, models=("m",), rest_api_port=port)
    keeper = RecordKeeper(root / "build", record)
    keeper.began(os.getpid())
    keeper.is_ready(True, ())
    (root / "invoke.yaml").write_text(yaml.safe_dump({"npu_serving": {"build_root": str(root / "build")}}))
    try:
        yield {**os.environ, "NPU_SERVING_SETTINGS": str(root / "invoke.yaml")}
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    inv = str(PROJECT_ROOT / "inv")
    bare = [sys.executable, "-m", "invoke", "--search-root", str(PROJECT_ROOT), "--list"]
    ours, rival = pairs(lambda: seconds([inv, "--list"], PROJECT_ROOT), lambda: seconds(bare, PROJECT_ROOT))
    print(f"| ./inv --list | {1000 * ours:.0f} ms | bare invoke --list | {1000 * rival:.0f} ms | {ours / rival:.2f} |")

    with tempfile.TemporaryDirectory() as temporary, ready_server(Path(temporary)) as environment:
        ours, rival = pairs(
            lambda: seconds([inv, "status", "--ready"], PROJECT_ROOT, environment),
            lambda: seconds([inv, "--list"], PROJECT_ROOT, environment),
        )
    print(
        f"| ./inv status --ready | {1000 * ours:.0f} ms | ./inv --list | {1000 * rival:.0f} ms | {ours / rival:.2f} |"
    )

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        shared = PROJECT_ROOT / "build" / "demo" / "tools"
        settings = Settings(
            source="sample", adapter="sample", runner="host", build_root=root / "build", dist_root=root / "dist",
            bazel=next((str(path) for path in shared.glob("*/bazel")), ""),
        )  # fmt: skip
        pipeline.build_serving(settings, Silent())
        context = find_context(settings, Silent())
        layout = context.layout
        flags = context.bazel_flags
        command = bazel_room.Command(bazel_room.TARGET, "bench", flags)
        argv = bazel_room.argv(context.runner, layout, command, available_resources())
        warm = [word for word in argv if word != "--batch" and not word.startswith("--build_event")]
        environment = bazel_room.environment(context.runner, layout)
        values = {"source": "sample", "adapter": "sample", "runner": "host", "bazel": settings.bazel}
        values |= {"build_root": str(settings.build_root), "dist_root": str(settings.dist_root)}
        (root / "invoke.yaml").write_text(yaml.safe_dump({"npu_serving": values}))
        mine = {**os.environ, "NPU_SERVING_SETTINGS": str(root / "invoke.yaml")}
        try:
            ours, rival = pairs(
                lambda: seconds([inv, "build-serving"], PROJECT_ROOT, mine),
                lambda: seconds(warm, layout.workspace, environment),
            )
        finally:
            subprocess.run([*warm[:5], "shutdown"], cwd=layout.workspace, env=environment, check=True)
    rival_name = "bazel build, nothing to do (warm server)"
    print(f"| ./inv build-serving, nothing to do | {ours:.2f} s | {rival_name} | {rival:.2f} s | {ours / rival:.2f} |")


if __name__ == "__main__":
    main()

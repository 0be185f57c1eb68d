"""A call through `record`, beside one straight to the server and one through HAProxy, which keeps nothing."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import grpc
import numpy as np
from _in_turn import medians

from npu_serving.asking.recorded_file import read_recording
from npu_serving.client import encode_predict
from npu_serving.trials.spare_server import spare_ports

ROOT = Path(__file__).resolve().parents[1]
PREDICT = "/tensorflow.serving.PredictionService/Predict"
LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
CALLS, ROUNDS = 200, 15
HAPROXY = """defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen pass
  bind 127.0.0.1:{port}
  server s 127.0.0.1:{behind}
"""

Call = Callable[[bytes], bytes]


@contextlib.contextmanager
def answering() -> Iterator[int]:
    """A server that answers each call by nothing."""
    handlers: dict[str, Any] = {"Predict": grpc.unary_unary_rpc_method_handler(lambda _data, _context: b"")}
    server = grpc.server(ThreadPoolExecutor(2), options=LARGE)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@contextlib.contextmanager
def running(words: list[str], port: int, ends_by: int) -> Iterator[None]:
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(60)
        yield
        process.send_signal(ends_by)


def ask(call: Call, request: bytes, count: int) -> None:
    for _ in range(count):
        call(request)


def main() -> None:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        behind = stack.enter_context(answering())
        recorded, passed = spare_ports(2)
        (directory / "haproxy.cfg").write_text(HAPROXY.format(port=passed, behind=behind))
        stack.enter_context(running(["haproxy", "-f", str(directory / "haproxy.cfg")], passed, signal.SIGTERM))
        inv = [sys.executable, "-m", "npu_serving", "--search-root", str(ROOT), "record"]
        flags = ["--url", f"grpc://127.0.0.1:{behind}", "--listen", f"127.0.0.1:{recorded}"]
        output = directory / "bench.rec"
        stack.enter_context(running([*inv, *flags, "--output", str(output)], recorded, signal.SIGINT))
        calls: dict[str, Call] = {}
        for name, port in (("straight", behind), ("record", recorded), ("HAProxy", passed)):
            channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}", options=LARGE))
            call: Any = channel.unary_unary(PREDICT)
            calls[name] = call
        small = encode_predict("m", {"x": np.zeros((1, 4), np.float32)})
        large = encode_predict("m", {"x": np.zeros((32, 224, 224, 3), np.float32)})
        for what, request, count in (("a small call", small, CALLS), ("a call with 19 MB", large, 2)):
            works = {name: functools.partial(ask, call, request, count) for name, call in calls.items()}
            times = medians(works, ROUNDS)
            each = {name: 1e6 * seconds / count for name, seconds in times.items()}
            ratio = each["record"] / each["straight"]
            rivals = f"{each['straight']:.0f} µs; {each['HAProxy']:.0f} µs"
            print(f"| {what}, through record | {each['record']:.0f} µs | straight; HAProxy | {rivals} | {ratio:.2f} |")
        time.sleep(0.5)  # the keeper is behind by what its pipe holds
        kept = len(read_recording(output).entries)
        print(f"load {os.getloadavg()[0]:.0f}; {kept} of {ROUNDS * (CALLS + 2)} calls were kept", file=sys.stderr)


if __name__ == "__main__":
    main()

"""A server of several models as a script: how each loads and answers is given beforehand, or told while it runs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

from fake_builds import plan, put_program

from npu_serving.console import Silent
from npu_serving.deploy.platform_config import ServedModel, render_models_config
from npu_serving.serving.readiness import ReadyTerms
from npu_serving.serving.server import serve_in_foreground
from npu_serving.serving.server_plan import ServerPlan
from npu_serving.serving.server_record import ServerRecord

# What a model does: "states" are told one after the other, the last one for ever; "answer" is an HTTP status, as often
# as "times" says or for ever, or "wait" until the file `go` is there; "shape" is its input's; "signatures" are further
# ones, with the status that each answers. "before" is run first, "ports" are those that are opened: at "grpc" nothing
# answers, at "PredictionService" the server of grpc_server.py, whose model is `m`.
_SERVER = r"""
import http.server, json, mmap, os, socket, sys, threading, time
flags = dict(word[2:].split("=", 1) for word in sys.argv[1:])
models, before, ports, adapter, go = {behaviour!r}
if adapter:
    file = open(adapter, "rb")
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
exec(before)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.split("/")[3]
        model = models.get(name)
        if model is None:
            return self.answer(404, {"error": "Could not find any versions of model " + name})
        if self.path.endswith("/metadata"):
            dims = [{"size": str(size)} for size in model.get("shape", [-1])]
            tensor = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": dims}}
            signature = {"method_name": "tensorflow/serving/predict", "inputs": {"x": tensor}, "outputs": {"y": tensor}}
            all_of_them = dict.fromkeys(["serving_default", *model.get("signatures", {})], signature)
            names = {"signature_def": {"signature_def": all_of_them}}
            return self.answer(200, {"model_spec": {"version": "1"}, "metadata": names})
        states = model.get("states", ["AVAILABLE"])
        state = states.pop(0) if len(states) > 1 else states[0]
        status = {"error_code": "UNKNOWN" if model.get("error") else "OK", "error_message": model.get("error", "")}
        self.answer(200, {"model_version_status": [{"version": "1", "state": state, "status": status}]})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model = models[self.path.split("/")[3].split(":")[0]]
        status = model.get("signatures", {}).get(asked.get("signature_name"), 200)
        if status != 200:
            return self.answer(status, {"error": model.get("says", "no")})
        if model.get("answer") == "wait":
            while not os.path.exists(go): time.sleep(0.01)
        elif model.get("answer") == "abort":
            os.abort()  # in this very thread: kill() may return before another one has died of it
        elif "answer" in model and model.get("times", 1) > 0:
            if "times" in model: model["times"] -= 1
            return self.answer(model["answer"], {"error": model.get("says", "no")})
        print(model.get("prints", "answered"), file=sys.stderr, flush=True)
        self.answer(200, {"outputs": [0.0]} if "inputs" in asked else {"predictions": [0.0]})
    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
if "grpc" in ports:
    grpc = socket.create_server(("127.0.0.1", int(flags["port"])))
    threading.Thread(target=lambda: [grpc.accept() for _ in range(10**6)], daemon=True).start()
if "PredictionService" in ports:
    sys.path.insert(0, {support!r})
    from grpc_server import serving
    answering = serving(port=int(flags["port"]))
    answering.__enter__()
if "rest" in ports:
    http.server.ThreadingHTTPServer(("127.0.0.1", int(flags["rest_api_port"])), Handler).serve_forever()
while True: time.sleep(600)
"""


class Heard(Silent):
    """What a person reads; it may come from several threads."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def said(self) -> str:
        return "\n".join(self.notes)


def planned(
    artifact: Path,
    models: Mapping[str, Mapping[str, object]],
    *,
    before: str = "",
    ports: tuple[str, ...] = ("grpc", "rest"),
    adapter: Path | None = None,
    uses_npu: bool = False,
    rest_api_port: int | None = None,
) -> ServerPlan:
    """The plan of a server of these models, whose list is kept beside the artifact; `before` is Python code."""
    put_server(artifact, models, before=before, ports=ports, adapter=adapter)
    listed = artifact / "models.config"
    served = [ServedModel(name, f"s3://bucket/{name}") for name in models]
    listed.write_text(render_models_config(served))
    changes: dict[str, object] = {} if rest_api_port is None else {"rest_api_port": rest_api_port}
    made = plan(artifact, None, extra_flags=(f"--model_config_file={listed}",), **changes)
    return dataclasses.replace(made, uses_npu=uses_npu)


def put_server(
    artifact: Path,
    models: Mapping[str, Mapping[str, object]],
    *,
    before: str = "",
    ports: tuple[str, ...] = ("grpc", "rest"),
    adapter: Path | None = None,
) -> None:
    """Puts a server of these models into the artifact; `before` is Python code that it runs first."""
    behaviour = (
        {name: dict(model) for name, model in models.items()},
        before,
        ports,
        str(adapter or ""),
        str(go(artifact)),
    )
    put_program(artifact, f"#!{sys.executable}\n" + _text(behaviour))


def record(rest_api_port: int, **changes: object) -> ServerRecord:
    """The record of a server in this directory that means the NPU, before it is started."""
    made = ServerRecord(0, 0, Path.cwd(), time.time(), uses_npu=True, rest_api_port=rest_api_port)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def _text(behaviour: object) -> str:
    support = repr(str(Path(__file__).parent))
    return _SERVER.replace("{behaviour!r}", repr(behaviour)).replace("{support!r}", support)


def go(artifact: Path) -> Path:
    """The file that lets the answers pass that wait."""
    return artifact / "go"


def serve_until(
    made: ServerPlan,
    enough: Callable[[Heard], bool],
    root: Path,
    *,
    terms: ReadyTerms | None = None,
) -> Heard:
    """Serves until enough was said, or it has ended; an error is among what was said."""
    heard, ended = Heard(), threading.Event()
    given_up = time.monotonic() + 120  # so that a promise which breaks fails its test, and does not hang it
    looks_on = terms is not None and terms.probe_port

    def stop() -> None:
        try:
            while not ended.is_set() and not enough(heard) and time.monotonic() < given_up:
                if not looks_on and "npu-serving: ready" in heard.said():
                    break  # nothing more will be said
                time.sleep(0.01)
        finally:
            while not ended.is_set():  # it may not have been started yet
                for pid in children():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL if "SIG_IGN" in "".join(made.argv) else signal.SIGTERM)
                ended.wait(0.1)

    with ThreadPoolExecutor() as pool:
        stopped = pool.submit(stop)
        try:
            serve_in_foreground(made, heard, root, terms)
        finally:
            ended.set()
        stopped.result()
    return heard


def children() -> list[int]:
    """The processes that this one has started."""
    found: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            found += [int(pid) for pid in (thread / "children").read_text().split()]
    return found

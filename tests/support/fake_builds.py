"""Builds whose server is a script, and the plans to start them."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from npu_serving.models.layout import ModelPlace
from npu_serving.serving.server_plan import ServerPlan, plan_server
from npu_serving.trials.spare_server import spare_ports

# Answers as TensorFlow Serving does: 404 at first, then the states that it was given, one after the other.
FAKE_SERVER = r"""
import http.server, json, sys
flags = dict(word[2:].split("=", 1) for word in sys.argv[1:])
answers = {answers!r}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        body = json.dumps(answer).encode()
        self.send_response(404 if "error" in answer else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
print("the fake server listens", flush=True)
http.server.HTTPServer(("127.0.0.1", int(flags["rest_api_port"])), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status(state: str, code: str = "OK", message: str = "") -> dict[str, object]:
    entry = {"version": "1", "state": state, "status": {"error_code": code, "error_message": message}}
    return {"model_version_status": [entry]}


def put_program(artifact: Path, text: str) -> Path:
    program = artifact / "bin" / "tensorflow_model_server"
    program.write_text(text)
    program.chmod(0o755)
    return program


def put_fake_server(artifact: Path, *answers: Mapping[str, object]) -> None:
    put_program(artifact, f"#!{sys.executable}\n" + FAKE_SERVER.replace("{answers!r}", repr(list(answers))))


def plan(artifact: Path, model: ModelPlace | None, **changes: object) -> ServerPlan:
    port, rest_api_port = spare_ports(2)
    values: dict[str, object] = {"model_name": "m", "port": port, "rest_api_port": rest_api_port, **changes}
    return plan_server(artifact, model_base_path=model, **values)  # type: ignore[arg-type]


def flags_of(made: ServerPlan) -> dict[str, str]:
    return dict(word[2:].split("=", 1) for word in made.argv[1:])

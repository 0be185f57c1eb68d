"""status --live and --ready: one line and an exit code, from what the servers say now."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fake_builds import free_port
from model_server import Heard, go, planned, record, serve_until

from npu_serving.errors import RequestError, ServerError
from npu_serving.serving.deployed_from import DeployedFrom
from npu_serving.serving.readiness import ReadyTerms
from npu_serving.serving.server_record import RecordKeeper
from npu_serving.settings import PROJECT_ROOT
from npu_serving.status.quick_probe import ProbeAnswer, ProbedServers


def test_where_nothing_runs_neither_is_so(tmp_path: Path) -> None:
    probed = ProbedServers(tmp_path)
    assert (probed.live().text(), probed.live().exit_code) == ("not live: no server runs here", 3)
    assert probed.ready().text() == "not ready: no server runs here"
    keeper = RecordKeeper(tmp_path, record(8501))
    keeper.began(os.getpid())
    keeper.ended(ServerError("It broke."))
    assert probed.ready().text() == "not ready: no server runs here (It broke.)"


@pytest.mark.parametrize("state", ["AVAILABLE", "LOADING"])
def test_ready_is_what_the_server_says_of_every_model_now(artifact: Path, tmp_path: Path, state: str) -> None:
    made = planned(artifact, {"a": {}, "b": {"states": ["LOADING", state]}})
    url = f"http://localhost:{made.rest_api_port}"
    seen: dict[str, ProbeAnswer] = {}

    def enough(heard: Heard) -> bool:
        listens = ProbedServers(tmp_path).live()
        done = "npu-serving: ready" in heard.said() if state == "AVAILABLE" else not listens.reasons
        if done:
            seen["live"], seen["all"] = listens, ProbedServers(tmp_path).ready()
            seen["a"], seen["b"] = (ProbedServers(tmp_path, url, model=name).ready() for name in "ab")
            seen["other"] = ProbedServers(tmp_path, url, model="other").ready()
        return done

    serve_until(made, enough, tmp_path, terms=ReadyTerms(probe_port=free_port()))
    assert (seen["live"].text(), seen["live"].exit_code) == ("live", 0)
    if state == "AVAILABLE":
        assert (seen["all"].text(), seen["all"].exit_code, seen["b"].text()) == ("ready", 0, "ready")
    else:
        assert (seen["all"].text(), seen["all"].exit_code) == ("not ready: b is LOADING", 3)
        assert seen["b"].to_json() == {"ready": False, "reasons": ["b is LOADING"]}
    assert seen["other"].text() == "not ready: other is not known to the server"


def test_available_is_not_ready_before_the_model_has_answered(artifact: Path, tmp_path: Path) -> None:
    made = planned(artifact, {"a": {"answer": "wait"}})
    seen: list[str] = []

    def enough(heard: Heard) -> bool:
        text = ProbedServers(tmp_path).ready().text()
        if not seen and "a has not answered yet" in text:
            seen.append(text)
            go(artifact).touch()
        return "npu-serving: ready" in heard.said()

    serve_until(made, enough, tmp_path)
    assert seen == ["not ready: a has not answered yet"]


def test_a_model_that_the_list_got_since_the_start_has_to_be_available_as_well(artifact: Path, tmp_path: Path) -> None:
    made = planned(artifact, {"a": {}})
    made = dataclasses.replace(made, argv=(*made.argv, "--model_config_file_poll_wait_seconds=1"))
    listed = artifact / "models.config"
    seen: list[str] = []

    def enough(heard: Heard) -> bool:
        if "npu-serving: ready" in heard.said():
            seen.append(ProbedServers(tmp_path).ready().text())
            listed.write_text(listed.read_text().replace('name: "a"', 'name: "new"'))
            seen.append(ProbedServers(tmp_path).ready().text())
        return bool(seen)

    serve_until(made, enough, tmp_path, terms=ReadyTerms(probe_port=free_port()))
    assert seen == ["ready", "not ready: new is not known to the server"]


class Answering:
    """A server in this process that `serve` is said to have started: it listens, and knows no REST API."""

    def __init__(self, root: Path, **changes: object) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        kept = record(0, grpc_port=self.port, **{"uses_npu": False, "models": ("m",), **changes})
        self.keeper = RecordKeeper(root, kept)
        self.keeper.began(os.getpid())

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()


def test_without_a_rest_api_it_is_ready_when_serve_has_seen_it_so(tmp_path: Path) -> None:
    with Answering(tmp_path) as server:
        probed = ProbedServers(tmp_path)
        assert probed.live().exit_code == 0
        assert probed.ready().text() == "not ready: it was just started"
        server.keeper.is_ready(False, ["m: version 1: LOADING"])
        assert probed.ready().text() == "not ready: m: version 1: LOADING"
        server.keeper.is_ready(True, ())
        assert probed.ready().text() == "ready"
    assert "does not answer" in probed.live().text()
    assert "does not answer" in probed.ready().text()


def test_a_server_that_means_the_npu_is_not_ready_without_the_adapter(tmp_path: Path) -> None:
    with Answering(tmp_path, uses_npu=True) as server:
        server.keeper.is_ready(True, ())
        assert ProbedServers(tmp_path).ready().text() == "not ready: the adapter is not in its process"


def test_a_deployment_or_a_url_names_the_servers_that_are_meant(tmp_path: Path) -> None:
    file = tmp_path / "d.yaml"
    with Answering(tmp_path, deployed=DeployedFrom(file)) as good, Answering(tmp_path) as bad:
        good.keeper.is_ready(True, ())
        text = ProbedServers(tmp_path).ready().text()
        assert text == f"not ready: it was just started (port {bad.port})"
        assert ProbedServers(tmp_path, deployment=file).ready().text() == "ready"
        assert ProbedServers(tmp_path, f"grpc://localhost:{good.port}").ready().text() == "ready"
        other = tmp_path / "other.yaml"
        assert ProbedServers(tmp_path, deployment=other).live().text() == f"not live: no server of {other} runs here"


def test_a_server_elsewhere_is_asked_for_a_model_by_name_and_never_called_ready_without_one(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="it is not known which models are to be ready"):
        ProbedServers(tmp_path, "http://localhost:1").ready()
    assert "does not answer" in ProbedServers(tmp_path, "http://localhost:1", model="m").ready().text()
    assert "port 1 does not answer" in ProbedServers(tmp_path, "http://localhost:1").live().text()
    for url in ("localhost", "http://[", "http://host"):
        with pytest.raises(RequestError, match="names no host and port"):
            ProbedServers(tmp_path, url).live()


def test_an_answer_of_something_else_is_not_taken_for_a_model_servers(tmp_path: Path) -> None:
    for body in (b"<html>", b"[]", b'{"model_version_status": 1}', b'{"model_version_status": [{}]}'):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            script = (
                "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); c, _ = s.accept(); c.recv(9999);"
                f"c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n' + {body!r})"
            )
            words = [sys.executable, "-c", script, str(listener.fileno())]
            with subprocess.Popen(words, pass_fds=[listener.fileno()]):
                found = ProbedServers(tmp_path, url, model="m").ready()
            assert found.text() == "not ready: m is not known to the server"


def test_a_probe_imports_neither_what_reads_deployments_nor_what_asks_with_more_than_python_has() -> None:
    """What it costs beside ./inv --list is measured in bench/noop.py; this is what keeps it so."""
    script = (
        "import sys, tasks; before = set(sys.modules); import npu_serving.cli, npu_serving.status.quick_probe;"
        "print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = ("requests", "urllib3", "jinja2", "npu_serving.deploy", "npu_serving.options", "npu_serving.cann")
    assert not [name for name in loaded if name.startswith(heavy)]
    assert len([name for name in loaded if name.startswith("npu_serving.")]) <= 30

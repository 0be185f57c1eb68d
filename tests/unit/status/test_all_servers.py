"""Each server with its models: their states and reasons, what changed since the start, and how others ended."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from fake_builds import free_port
from model_server import Heard, planned, record, serve_until

from npu_serving.asking.npu_signs import NpuSigns
from npu_serving.errors import ServerError
from npu_serving.serving.mapped_adapter import ReplacedFile
from npu_serving.serving.readiness import ReadyTerms
from npu_serving.serving.server_record import RecordKeeper, note_answer
from npu_serving.status.all_servers import AskedServer, all_servers
from npu_serving.status.deployment_changes import RELOAD, RESTART, DeploymentChange


def test_every_model_of_a_running_server_is_shown_with_its_state_and_reason(artifact: Path, tmp_path: Path) -> None:
    broken: dict[str, object] = {"states": ["END"], "error": "no such tags"}
    made = planned(artifact, {"good": {}, "broken": broken})
    seen: list[AskedServer] = []

    def enough(heard: Heard) -> bool:
        if "has failed to load" in heard.said():
            (found,) = all_servers(tmp_path)
            seen.extend([found] if "yes" in found.text() else [])
        return bool(seen)

    serve_until(made, enough, tmp_path)
    (found,) = seen
    assert found.missing == "broken"
    assert f"http://localhost:{made.rest_api_port}: process " in found.text()
    rows = [line.split() for line in found.text().splitlines()]
    assert ["good", "1", "AVAILABLE", "yes"] in rows
    assert ["broken", "1", "END", "not", "yet", "no", "such", "tags"] in rows
    server = json.loads(json.dumps(found.to_json()))
    assert [model["name"] for model in server["models"]] == ["good", "broken"]
    assert (server["running"], server["due"], server["changes"], server["replaced"]) == (True, None, [], [])


@pytest.mark.parametrize("state", ["AVAILABLE", "LOADING"])
def test_a_model_is_missing_until_it_is_available(artifact: Path, tmp_path: Path, state: str) -> None:
    seen: list[AskedServer] = []

    def enough(_heard: Heard) -> bool:
        seen.extend(found for found in all_servers(tmp_path) if state in found.text())
        return bool(seen)

    serve_until(
        planned(artifact, {"m": {"states": [state]}}), enough, tmp_path, terms=ReadyTerms(probe_port=free_port())
    )
    assert seen[0].missing == ("" if state == "AVAILABLE" else "m")


def test_a_server_that_has_ended_is_told_with_its_reason(tmp_path: Path) -> None:
    assert all_servers(tmp_path) == ()
    keeper = RecordKeeper(tmp_path, record(8501, models=("m",)))
    keeper.began(2**22 + 1)
    keeper.ended(ServerError("The server has ended: exit status 3.", cause="a full disk", cure="df -h"))
    (found,) = all_servers(tmp_path)
    assert found.text() == (
        "http://localhost:8501: not running. The server has ended: exit status 3.\n  Likely cause: a full disk"
    )
    assert found.to_json()["running"] is False


def test_an_answer_with_nothing_compiled_where_the_npu_is_meant_is_shouted(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        keeper = RecordKeeper(tmp_path, record(0, grpc_port=port, models=("m",), uses_npu=True))
        keeper.began(os.getpid())
        assert not all_servers(tmp_path)[0].is_on_the_cpu, "it has answered nothing yet"
        note_answer(tmp_path, f"grpc://localhost:{port}", "m")
        (found,) = all_servers(tmp_path)
        assert found.is_on_the_cpu
        assert "THE CPU ANSWERS" in found.text()
        keeper.saw(NpuSigns(compiled=1))
        assert not all_servers(tmp_path)[0].is_on_the_cpu


def test_what_changed_and_what_was_replaced_is_shown_with_what_is_due() -> None:
    kept = record(8501, models=("m",))
    reload = DeploymentChange("models.b", "", "/b", RELOAD)
    restart = DeploymentChange("npu.x", "1", "2", RESTART)
    library = ReplacedFile(Path("/lib/_tf_adapter.so"), is_there=True)
    for changes, replaced, due in (
        ((), (), ""),
        ((reload,), (), RELOAD),
        ((reload, restart), (), RESTART),
        ((), (library,), RESTART),
        ((reload,), (library,), RESTART),
    ):
        server = AskedServer("http://localhost:8501", kept, (), None, changes, replaced)
        assert (server.due, server.to_json()["due"]) == (due, due or None)
        assert ("npu.x: 1 -> 2  (restart)" in server.text()) == (restart in changes)
        assert ("models.b: nothing -> /b  (reload)" in server.text()) == (reload in changes)
        assert ("/lib/_tf_adapter.so was replaced since it was started" in server.text()) == (library in replaced)


def test_of_many_models_and_changes_the_screen_shows_those_that_matter_and_json_all(tmp_path: Path) -> None:
    names = tuple(f"m{index}" for index in range(50))
    RecordKeeper(tmp_path, record(0, grpc_port=1, models=names)).began(os.getpid())
    (found,) = all_servers(tmp_path)
    text = found.text()
    assert "and 30 more models" in text
    assert len(text.splitlines()) < 30
    models = found.to_json()["models"]
    assert isinstance(models, list)
    assert len(models) == 50
    many = tuple(DeploymentChange(f"x{index}", "1", "2", RESTART) for index in range(20))
    assert "and 8 more" in AskedServer("u", record(1), (), None, many).text()

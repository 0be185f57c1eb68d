"""status: loaded, answered and the NPU are three things, and each is said only where it is known."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from model_server import record

from npu_serving.asking import rest_client
from npu_serving.asking.npu_signs import CHECK_RESULT, NpuSigns
from npu_serving.client.model_types import ModelStatus, VersionStatus
from npu_serving.errors import ServerError, UnreachableError
from npu_serving.serving.server_record import RecordKeeper, note_answer, record_of
from npu_serving.status import server_state as room

URL = "http://localhost:8501"


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The REST API of a server that has loaded its model."""
    loaded = ModelStatus("m", (VersionStatus(1, "AVAILABLE", "OK", ""),))
    monkeypatch.setattr(room, "model_status", lambda _url, _model, _version: loaded)
    monkeypatch.chdir(tmp_path)


def serve(root: Path, *, uses_npu: bool = True) -> RecordKeeper:
    keeper = RecordKeeper(root, record(8501, uses_npu=uses_npu))
    keeper.began(os.getpid())
    return keeper


def state(root: Path, url: str = URL) -> room.ServerState:
    found = room.server_state(root, url, "m", None)
    json.dumps(found.to_json())
    return found


def test_available_alone_is_called_loaded_and_not_proven(tmp_path: Path) -> None:
    found = state(tmp_path)
    assert "means loaded, not that it answers" in found.text()
    assert "Next: ./inv predict m" in found.text()
    assert (found.exit_code, found.to_json()["answered"], found.to_json()["compiled_for_npu"]) == (0, None, None)


def test_the_next_command_names_a_model_that_looks_like_a_flag_so_that_it_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = ModelStatus("-h", (VersionStatus(1, "AVAILABLE", "OK", ""),))
    monkeypatch.setattr(room, "model_status", lambda _url, _model, _version: loaded)
    assert "Next: ./inv predict --model=-h --request" in state(tmp_path).text()


def test_an_answer_that_was_seen_is_told_with_its_time_and_of_its_own_model_only(tmp_path: Path) -> None:
    serve(tmp_path, uses_npu=False)
    note_answer(tmp_path, URL, "other")
    assert state(tmp_path).answered is None
    before = time.time()
    note_answer(tmp_path, f"{URL}/", "m")
    found = state(tmp_path, "http://127.0.0.1:8501")
    assert found.answered is not None
    assert before <= found.answered <= time.time()
    assert "It answered a request at " in found.text()
    assert "runs on the CPU: no platform config" in found.text()


def test_an_answer_over_grpc_counts_for_the_server_that_listens_there(tmp_path: Path) -> None:
    serve(tmp_path, uses_npu=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"grpc://127.0.0.1:{listener.getsockname()[1]}"
        note_answer(tmp_path, url.replace("127.0.0.1", "elsewhere.example"), "m")
        assert state(tmp_path).answered is None
        note_answer(tmp_path, url, "m")
    assert state(tmp_path).answered is not None


def test_an_answer_over_grpc_of_another_server_is_not_counted(tmp_path: Path) -> None:
    serve(tmp_path, uses_npu=False)
    with socket.create_server(("127.0.0.1", 0)) as unbound:
        port = unbound.getsockname()[1]
    note_answer(tmp_path, f"grpc://127.0.0.1:{port}", "m")
    assert state(tmp_path).answered is None


def test_the_npu_is_proven_by_a_compiled_graph(tmp_path: Path) -> None:
    keeper = serve(tmp_path)
    assert "Nothing has been compiled for the NPU" in state(tmp_path).text()
    keeper.saw(NpuSigns(compiled=2))
    found = state(tmp_path)
    assert "The NPU is used: 2 graphs were compiled" in found.text()
    assert (found.exit_code, found.to_json()["compiled_for_npu"]) == (0, 2)


def test_an_answer_with_nothing_compiled_where_the_npu_is_meant_calls_for_action(tmp_path: Path) -> None:
    serve(tmp_path)
    note_answer(tmp_path, URL, "m")
    found = state(tmp_path)
    assert found.exit_code == 3
    assert "THE CPU ANSWERS" in found.text()
    assert "Next: ./inv cann-info" in found.text()


def test_what_the_adapter_left_to_the_cpu_is_shown(tmp_path: Path) -> None:
    serve(tmp_path)
    (tmp_path / CHECK_RESULT).write_text('{"op": [{"name": "a", "type": "Where", "is_support": false}]}')
    assert "left 1 nodes to the CPU: Where (1)" in state(tmp_path).text()


def test_the_record_of_a_server_that_is_gone_or_elsewhere_counts_for_nothing(tmp_path: Path) -> None:
    keeper = serve(tmp_path)
    assert record_of(tmp_path, URL) is not None
    assert record_of(tmp_path, "http://localhost:8502") is None
    assert record_of(tmp_path, "http://example.com:8501") is None
    assert record_of(tmp_path, "http://localhost:x") is None
    path = tmp_path / "servers" / "8501.json"
    whole = json.loads(path.read_text())
    damaged: list[object] = [{**whole, "process_begin": 1}, {**whole, "pid": 2**22 + 1}, {"format": 1}, []]
    for changed in damaged:
        path.write_text(json.dumps(changed))
        assert record_of(tmp_path, URL) is None
        note_answer(tmp_path, URL, "m")
    keeper.began(os.getpid())
    assert state(tmp_path).answered is None
    keeper.ended(None)
    assert record_of(tmp_path, URL) is None


def test_a_server_that_has_ended_and_that_nobody_waits_for_is_not_running(tmp_path: Path) -> None:
    """As a container has them whose process 1 is not an init: both serve and its server were killed."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        keeper = RecordKeeper(tmp_path, record(8501))
        keeper.began(server.pid)
        assert record_of(tmp_path, URL) is not None
        server.kill()
        os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{server.pid}/stat").exists()
        assert record_of(tmp_path, URL) is None


def test_a_place_that_can_not_be_written_to_costs_no_server(tmp_path: Path) -> None:
    (tmp_path / "servers").write_text("a file")
    keeper = serve(tmp_path)
    keeper.saw(NpuSigns(compiled=1))
    keeper.ended(None)
    note_answer(tmp_path, URL, "m")
    assert state(tmp_path).record is None


def test_the_state_of_a_dead_server_says_how_it_ended_and_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "model_status", rest_client.model_status)
    url = "http://localhost:1"  # where nothing listens

    def asked() -> str:
        with pytest.raises(UnreachableError, match="Nothing listens at") as caught:
            room.server_state(tmp_path, url, "m", None)
        return str(caught.value)

    assert "./inv serve ran" not in asked()
    keeper = RecordKeeper(tmp_path, record(1))
    keeper.began(2**22 + 1)  # no process has that number: serve itself was killed
    assert "and the ./inv serve that ran it as well" in asked()
    again = "df -h, then run the same command again"
    keeper.ended(ServerError("The server has ended: killed by SIGBUS (7).", cause="a full disk", cure=again))
    assert "The server has ended: killed by SIGBUS (7).\nLikely cause: a full disk\nNext: df -h" in asked()
    assert "then start it again: ./inv serve" in asked(), "the same command would be status"
    keeper.ended(ServerError("It said ftp://me:geheim@host/", cause="http://me:geheim@host/", cure="x"))
    assert "geheim" not in "".join(path.read_text() for path in (tmp_path / "servers").iterdir())
    keeper.ended(None)
    assert "It was stopped." in asked()
    keeper.began(os.getpid())
    assert "./inv serve ran" not in asked()

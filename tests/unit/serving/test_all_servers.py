"""status without a model: each server with its models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_builds import free_port
from model_server import Heard, planned, record, serve_until

from npu_serving.errors import ServerError
from npu_serving.serving.all_servers import AllServers, all_servers
from npu_serving.serving.readiness import ReadyTerms
from npu_serving.serving.server_record import RecordKeeper


def test_every_model_of_a_running_server_is_shown_with_its_state_and_reason(artifact: Path, tmp_path: Path) -> None:
    broken: dict[str, object] = {"states": ["END"], "error": "no such tags"}
    made = planned(artifact, {"good": {}, "broken": broken})
    seen: list[AllServers] = []

    def enough(heard: Heard) -> bool:
        if "has failed to load" in heard.said():
            found = all_servers(tmp_path)
            seen.extend([found] if "yes" in found.text() else [])
        return bool(seen)

    serve_until(made, enough, tmp_path)
    (found,) = seen
    assert found.exit_code == 3
    assert f"http://localhost:{made.rest_api_port}: process " in found.text()
    rows = [line.split() for line in found.text().splitlines()]
    assert ["good", "1", "AVAILABLE", "yes"] in rows
    assert ["broken", "1", "END", "not", "yet", "no", "such", "tags"] in rows
    assert rows[-1][:5] == ["Next:", "./inv", "status", "broken", "--url"]
    (server,) = json.loads(json.dumps(found.to_json()))["servers"]
    assert [model["name"] for model in server["models"]] == ["good", "broken"]


@pytest.mark.parametrize("state", ["AVAILABLE", "LOADING"])
def test_it_ends_with_0_only_where_every_model_is_available(artifact: Path, tmp_path: Path, state: str) -> None:
    seen: list[AllServers] = []

    def enough(_heard: Heard) -> bool:
        found = all_servers(tmp_path)
        seen.extend([found] if state in found.text() else [])
        return bool(seen)

    serve_until(
        planned(artifact, {"m": {"states": [state]}}), enough, tmp_path, terms=ReadyTerms(probe_port=free_port())
    )
    assert seen[0].exit_code == (0 if state == "AVAILABLE" else 3)
    assert ("Next: ./inv status m" in seen[0].text()) == (state == "LOADING")


def test_a_server_that_has_ended_is_told_with_its_reason_and_none_at_all_with_what_to_type(tmp_path: Path) -> None:
    assert "Next: ./inv serve" in all_servers(tmp_path).text()
    assert all_servers(tmp_path).exit_code == 3
    keeper = RecordKeeper(tmp_path, record(8501, models=("m",)))
    keeper.began(2**22 + 1)
    keeper.ended(ServerError("The server has ended: exit status 3.", cause="a full disk", cure="df -h"))
    found = all_servers(tmp_path)
    ended = "The server has ended: exit status 3.\nLikely cause: a full disk\nNext: df -h"
    assert (found.text(), found.exit_code) == (f"http://localhost:8501: not running. {ended}", 3)

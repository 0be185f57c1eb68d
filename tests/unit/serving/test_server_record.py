"""The record of a server: all that somebody needs later, of one without a REST port too, and of earlier versions."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from pathlib import Path

import pytest
from fake_builds import free_port
from model_server import Heard, planned, record, serve_until

from npu_serving.errors import NpuServingError, ServerError
from npu_serving.serving.deployed_from import DeployedFrom
from npu_serving.serving.readiness import ReadyTerms
from npu_serving.serving.server_record import (
    KnownServer,
    RecordKeeper,
    ServerRecord,
    answered_at,
    begin_of,
    known_servers,
    note_answer,
    record_of,
    refuse_unkept,
)
from npu_serving.status.all_servers import all_servers


def kept_while_ready(artifact: Path, root: Path, *words: str, **changes: object) -> ServerRecord:
    """The record when its server is ready; its command line has these words as well."""
    made = planned(artifact, {"m": {}})
    made = dataclasses.replace(made, argv=(*made.argv, *words), **changes)  # type: ignore[arg-type]
    seen: list[ServerRecord] = []

    def enough(_heard: Heard) -> bool:
        found = [server.record for server in known_servers(root) if server.record is not None]
        seen.extend(each for each in found if each.readiness is not None and each.readiness.ready)
        return bool(seen)

    serve_until(made, enough, root, terms=ReadyTerms(probe_port=free_port()))
    return seen[0]


def test_it_holds_all_that_somebody_needs_later(artifact: Path, tmp_path: Path) -> None:
    deployed = DeployedFrom(Path("/d.yaml"), (Path("/site.yaml"),), ("server.port=1",), "abc")
    before = time.time()
    kept = kept_while_ready(artifact, tmp_path, build="b-1", deployed=deployed)
    assert kept.rest_api_port != kept.grpc_port
    assert kept.argv[0] == str(kept.program) == str(artifact / "bin" / "tensorflow_model_server")
    assert f"--port={kept.grpc_port}" in kept.argv
    assert (kept.build, kept.deployed, kept.models, kept.directory) == ("b-1", deployed, ("m",), Path.cwd())
    assert (kept.watcher, kept.is_watched) == (os.getpid(), True)
    assert kept.readiness is not None
    assert before <= kept.started <= kept.readiness.at <= time.time()
    assert kept.log is None
    (server,) = known_servers(tmp_path)
    assert (server.record is not None, server.is_running) == (True, False), "what ended is still known"
    assert server.end is not None


def test_a_server_without_a_rest_port_is_known_by_its_grpc_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        kept = record(0, grpc_port=port, models=("m",), uses_npu=False)
        keeper = RecordKeeper(tmp_path, kept)
        keeper.began(os.getpid())
        (server,) = known_servers(tmp_path)
        assert (server.name, server.url, server.is_running) == (f"grpc-{port}", f"grpc://localhost:{port}", True)
        assert server.record is not None
        note_answer(tmp_path, f"grpc://localhost:{port}", "m")
        assert answered_at(tmp_path, server.record, "m") is not None
        assert record_of(tmp_path, server.url) == server.record
        assert all_servers(tmp_path)[0].missing == "m", "it has not been seen to be ready"
        keeper.is_ready(True, ())
        assert all_servers(tmp_path)[0].missing == ""
        text = all_servers(tmp_path)[0].text()
        assert "without a REST API it is not asked" in text
        assert "the ./inv serve that watched it is gone" in text
        keeper.ended(ServerError("It broke.", cure="x"))
    (server,) = known_servers(tmp_path)
    assert server.end is not None
    assert (server.is_running, server.end.what) == (False, "It broke.")


def test_a_record_of_an_earlier_version_is_read_by_the_port_that_it_is_named_by(tmp_path: Path) -> None:
    (tmp_path / "servers").mkdir()
    old = {"pid": os.getpid(), "process_begin": begin_of(os.getpid()), "directory": "/", "started": 1.0}
    (tmp_path / "servers" / "8501.json").write_text(json.dumps({"format": 1, **old, "uses_npu": True, "compiled": 2}))
    (server,) = known_servers(tmp_path)
    assert server.record is not None
    assert (server.record.rest_api_port, server.record.compiled, server.record.deployed) == (8501, 2, None)
    note_answer(tmp_path, "http://localhost:8501", "m")
    assert answered_at(tmp_path, server.record, "m") is not None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"format": 1, "pid": "x"}'])
def test_a_record_that_can_not_be_read_is_no_error_and_its_server_not_running(tmp_path: Path, text: str) -> None:
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers" / "8501.json").write_text(text)
    (tmp_path / "servers" / "notes.json").write_text("{}")
    (server,) = known_servers(tmp_path)
    assert (server.name, server.record, server.is_running) == ("8501", None, False)


def test_servers_are_in_the_order_of_their_ports(tmp_path: Path) -> None:
    for rest, grpc in ((8501, 8500), (0, 9000), (900, 901)):
        RecordKeeper(tmp_path, record(rest, grpc_port=grpc)).began(os.getpid())
    assert [server.name for server in known_servers(tmp_path)] == ["900", "8501", "grpc-9000"]
    assert all(isinstance(server, KnownServer) and server.is_running for server in known_servers(tmp_path))


def test_secrets_of_the_command_line_and_in_reasons_are_not_written_down(artifact: Path, tmp_path: Path) -> None:
    kept = kept_while_ready(artifact, tmp_path, "--monitoring_config_file=http://me:geheim@host/")
    assert kept.argv[-1].startswith("--monitoring_config_file=")
    RecordKeeper(tmp_path, record(1)).is_ready(False, ["http://me:geheim@host/ is gone"])
    assert "geheim" not in "".join(path.read_text() for path in (tmp_path / "servers").iterdir())


def test_a_record_with_a_time_that_there_is_not_is_described_all_the_same(tmp_path: Path) -> None:
    RecordKeeper(tmp_path, record(8501, started=1e18)).began(os.getpid())
    assert known_servers(tmp_path)[0].describe() == f"process {os.getpid()}, since ?"


def test_one_in_the_background_has_to_be_kept_and_one_in_the_foreground_has_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "servers").write_text("a file")
    RecordKeeper(tmp_path, record(8501)).began(os.getpid())
    with pytest.raises(NpuServingError):
        RecordKeeper(tmp_path, record(8501)).began(os.getpid(), in_background=True)
    with pytest.raises(NpuServingError):
        refuse_unkept(tmp_path)


def test_the_room_for_a_record_is_given_back(tmp_path: Path) -> None:
    refuse_unkept(tmp_path)
    assert list((tmp_path / "servers").iterdir()) == []

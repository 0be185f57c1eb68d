"""status without a model: one screen, and one next step, the most urgent."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from cann_trees import make_cann
from model_server import record

from npu_serving.client.model_types import VersionStatus
from npu_serving.errors import ServerError
from npu_serving.serving.deployed_from import DeployedFrom
from npu_serving.serving.mapped_adapter import ReplacedFile
from npu_serving.serving.serve_request import ServeRequest
from npu_serving.serving.server_record import EndNote, RecordKeeper, begin_of
from npu_serving.settings import Settings
from npu_serving.status.all_servers import AskedModel, AskedServer
from npu_serving.status.deployment_changes import RELOAD, RESTART, DeploymentChange
from npu_serving.status.overview import Overview, OverviewLine, overview
from npu_serving.status.read_again import KnownDeployment

GOOD = OverviewLine("all is well")
SOURCE = DeployedFrom(Path("/d 1.yaml"))
URL = "http://localhost:8501"


WATCHED = {"watcher": os.getpid(), "watcher_begin": begin_of(os.getpid())}


def known(**changes: object) -> KnownDeployment:
    return dataclasses.replace(KnownDeployment(SOURCE), **changes)  # type: ignore[arg-type]


def server(state: str = "AVAILABLE", **changes: object) -> AskedServer:
    asked: dict[str, object] = {"deployed": SOURCE, "request": ServeRequest(), **WATCHED}
    kept = record(8501, pid=77, uses_npu=changes.pop("uses_npu", False), **asked)
    model = AskedModel("m", (VersionStatus(1, state, "OK", ""),), 1.0)
    return dataclasses.replace(AskedServer(URL, kept, (model,), None), **changes)  # type: ignore[arg-type]


def screen(*servers: AskedServer, cann: OverviewLine = GOOD, build: OverviewLine = GOOD) -> Overview:
    return Overview(cann, build, (known(),), servers)


def test_where_all_is_well_nothing_is_to_be_done_and_it_ends_with_0() -> None:
    found = screen(server())
    assert (found.exit_code, found.next_step) == (0, "")
    assert found.text().splitlines()[-1] == "Nothing is to be done."
    assert [line.split()[0] for line in found.text().splitlines() if not line.startswith(" ")] == [
        "CANN",
        "Build",
        "Deployment",
        "Server",
        "Nothing",
    ]
    shown = json.loads(json.dumps(found.to_json()))
    assert (shown["next"], shown["exit_code"], shown["servers"][0]["due"]) == (None, 0, None)


CHANGED = DeploymentChange("--port", "1", "2", RESTART)
LISTED = DeploymentChange("models.b", "", "/b", RELOAD)
RESTARTED = "./inv restart 8501"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (screen(server(), cann=OverviewLine("none", "it is gone", "install it")), "install it"),
        (
            screen(server(), build=OverviewLine("b", "another adapter", "./inv rebuild-after-cann")),
            "./inv rebuild-after",
        ),
        (screen(server("LOADING")), f"./inv status m --url {URL}"),
        (screen(server(uses_npu=True)), "./inv cann-info"),
        (screen(server(changes=(CHANGED, LISTED))), RESTARTED),
        (screen(server(replaced=(ReplacedFile(Path("/x"), is_there=True),))), RESTARTED),
        (screen(server(changes=(LISTED,))), "./inv reload 8501"),
        (screen(AskedServer(URL, None, (), EndNote(1.0, "It broke.", "a disk", "df -h"))), "df -h"),
        (screen(AskedServer(URL, None, (), EndNote(1.0, "It was stopped."))), "./inv serve --deployment '/d 1.yaml'"),
        (screen(), "./inv serve --deployment '/d 1.yaml'"),
        (Overview(GOOD, GOOD, (), ()), "./inv init-deployment"),
        (Overview(GOOD, GOOD, (known(trouble="x: 1"),), (server(),)), "./inv check-deployment '/d 1.yaml'"),
    ],
)
def test_what_is_to_be_done_is_typed_next_and_ends_with_3(found: Overview, expected: str) -> None:
    assert found.next_step.startswith(expected)
    assert found.exit_code == 3
    assert found.text().splitlines()[-1] == f"Next: {found.next_step}"
    assert found.text().count("Next:") == 1


def test_a_server_of_an_earlier_version_is_stopped_since_nobody_knows_how_it_was_started() -> None:
    old = server(changes=(CHANGED,))
    assert old.record is not None
    record = dataclasses.replace(old.record, request=None)
    old = dataclasses.replace(old, record=record)
    assert screen(old).next_step.startswith(f"./inv stop {record.name}, then ./inv serve")


def test_a_server_that_ended_by_a_fault_counts_though_another_one_runs() -> None:
    ended = AskedServer("http://localhost:1", None, (), EndNote(1.0, "It broke.", "a disk", "df -h"))
    assert screen(server(), ended).next_step == "df -h"
    assert screen(server(), dataclasses.replace(ended, end=EndNote(1.0, "It was stopped."))).exit_code == 0


def test_the_world_is_read_release_build_file_and_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ASCEND")]:
        monkeypatch.delenv(name)
    make_cann(tmp_path / "Ascend", "6.3.RC2")
    settings = Settings(
        build_root=tmp_path / "build", dist_root=tmp_path / "dist", cann_root=str(tmp_path / "Ascend"), adapter="auto"
    )
    found = overview(settings, tmp_path)
    assert f"6.3.RC2 in {tmp_path / 'Ascend'}" in found.text()
    assert "There is no build" in found.text()
    shown = json.loads(json.dumps(found.to_json()))
    assert (shown["cann"]["version"], shown["cann"]["root"]) == ("6.3.RC2", str(tmp_path / "Ascend"))
    assert (shown["build"]["id"], shown["build"]["fits"]) == (None, False)
    assert "none was started here" in found.text()
    assert found.deployments == ()
    file = tmp_path / "deployment.yaml"
    file.write_text(json.dumps({"version": 1, "models": [{"name": "a", "base_path": "/a"}]}))
    (deployment,) = overview(settings, tmp_path).deployments
    assert deployment.source.file == file
    gone = DeployedFrom(tmp_path / "gone.yaml")
    keeper = RecordKeeper(settings.build_root, record(0, grpc_port=1, deployed=gone, uses_npu=False))
    keeper.began(os.getpid())
    found = overview(settings, tmp_path)
    assert [item.source.file for item in found.deployments] == [gone.file, file]
    assert found.next_step == f"./inv check-deployment {gone.file}"
    keeper.ended(ServerError("x"))
    assert [item.source.file for item in overview(settings, tmp_path).deployments] == [file]


def test_a_build_that_became_current_since_the_start_is_a_change_but_not_one_that_was_before(
    tmp_path: Path,
) -> None:
    settings = Settings(build_root=tmp_path / "build", dist_root=tmp_path / "dist")
    (tmp_path / "dist" / "new").mkdir(parents=True)
    (tmp_path / "dist" / "current").symlink_to("new")
    switched = (tmp_path / "dist" / "current").lstat().st_mtime
    for build, started, expected in (
        ("old", switched - 1, [("build", "old", "new", RESTART)]),
        ("old", switched + 1, []),  # it was current no more when the server was started
        ("new", switched - 1, []),
        ("named", switched - 1, []),
    ):
        request = ServeRequest(build="named" if build == "named" else "")
        kept = record(0, grpc_port=1, uses_npu=False, build=build, started=started, request=request)
        RecordKeeper(settings.build_root, kept).began(os.getpid())
        (seen,) = overview(settings, tmp_path).servers
        assert [(item.what, item.running, item.wanted, item.due) for item in seen.changes] == expected


def test_a_server_that_nobody_watches_is_to_be_started_again() -> None:
    alone = server()
    assert alone.record is not None
    alone = dataclasses.replace(alone, record=dataclasses.replace(alone.record, watcher_begin=1))
    assert screen(alone).next_step == "./inv restart 8501"
    assert screen(server()).next_step == ""

"""The file of a running server read again: what has changed against what the server really runs with, and only that."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from model_server import record

from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.render_deployment import plan_files, write_files
from npu_serving.deploy.rendering import rendered_files
from npu_serving.serving.deployed_from import DeployedFrom, files_digest
from npu_serving.serving.server_record import ServerRecord
from npu_serving.settings import Settings
from npu_serving.status.read_again import changed_files, changes_since_start, read_again

A = {"name": "a", "base_path": "/models/a"}
POLLS = "--model_config_file_poll_wait_seconds=5"


class World:
    """A deployment file, and the record of a server that was started by it."""

    def __init__(self, root: Path) -> None:
        self.settings = Settings(build_root=root / "build")
        self.source = DeployedFrom(root / "d.yaml")
        self.directory = self.source.directory(self.settings.build_root)

    def says(self, **sections: Any) -> None:
        self.source.file.write_text(json.dumps({"version": 1, "models": [A], **sections}))

    def rendered(self) -> None:
        """As `serve` writes its files, or `render-deployment`."""
        write_files(plan_files(read_deployment(self.source.file), self.directory))

    def started(self, *words: str, **sections: Any) -> ServerRecord:
        self.says(**sections)
        self.rendered()
        files = rendered_files(read_deployment(self.source.file), self.directory)
        deployed = DeployedFrom(self.source.file, digest=files_digest(files))
        past = time.time() - 100  # so that whatever is written from now on is newer
        for path in self.directory.iterdir():
            os.utime(path, (past, past))
        return record(8501, deployed=deployed, argv=("server", *words), started=past + 1)

    def changes(self, of: ServerRecord) -> list[str]:
        known = read_again(self.settings, self.source)
        return [change.text() for change in changes_since_start(known, of, self.settings.build_root)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_file_that_was_not_touched_and_one_that_was_changed_back_differ_in_nothing(world: World) -> None:
    server = world.started(npu={})
    assert world.changes(server) == []
    world.says(npu={"op_debug_level": 1})
    assert world.changes(server) == ["npu.op_debug_level: nothing -> 1"]
    world.rendered()  # as a `serve` that then finds the ports in use
    world.says(npu={})
    assert world.changes(server) == [], "what was written meanwhile, the server has not read"


def test_of_files_that_were_written_again_since_nobody_knows_what_the_server_runs_with(world: World) -> None:
    server = world.started(npu={}, environment={"A": "b"})
    world.says(npu={"op_debug_level": 1}, environment={"A": "c"})
    world.rendered()
    assert world.changes(server) == [
        "config.cfg and models.config: unknown -> changed",
        "server.env: unknown -> changed",
    ]
    shutil.rmtree(world.directory)
    assert "flags: unknown -> changed" in world.changes(server)


def test_a_list_of_models_that_the_server_reads_by_itself_counts_as_it_is_on_disk(world: World) -> None:
    b = {"name": "b", "base_path": "/models/b"}
    server, other = world.started(POLLS), world.started("--port=1")
    world.says(models=[A, b])
    assert world.changes(server) == world.changes(other) == ["models.b: nothing -> /models/b"]
    world.rendered()
    assert world.changes(server) == [], "the server has read it"
    assert world.changes(other) == ["config.cfg and models.config: unknown -> changed"]
    world.says()
    assert world.changes(server) == ["models.b: /models/b -> nothing"], "it reads what is there, not what was"


def test_a_file_that_can_not_be_read_is_said_so_in_a_line_and_compared_with_nothing(world: World) -> None:
    server = world.started()
    world.says(models=[{**A, "nmae": 1, "x": 2}])
    known = read_again(world.settings, world.source)
    assert known.deployment is None
    assert "\n" not in known.text()
    assert "nmae" in known.text()
    assert "more)" in known.text()
    assert world.changes(server) == []
    world.source.file.unlink()
    gone = f"{world.source.file} could not be read: No such file or directory."
    assert read_again(world.settings, world.source).text() == gone


def test_a_file_is_described_and_named_with_all_that_was_laid_over_it(tmp_path: Path) -> None:
    file, overlay = tmp_path / "d 1.yaml", tmp_path / "site.yaml"
    file.write_text(json.dumps({"version": 1, "models": [A], "npu": {}}))
    overlay.write_text("server: {port: 9000}")
    known = read_again(Settings(), DeployedFrom(file, (overlay,), ("server.rest_api_port=0",)))
    assert known.text() == f"{file}: 1 model for the NPU, gRPC 9000"
    assert known.flags == f"--deployment '{file}' --overlay {overlay} --set server.rest_api_port=0"
    assert known.to_json()["models"] == ["a"]


def test_a_secret_among_the_values_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "d.yaml"
    file.write_text(json.dumps({"version": 1, "models": [A]}))
    known = read_again(Settings(), DeployedFrom(file, (), ("environment.AWS_SECRET_ACCESS_KEY=geheim",)))
    assert known.deployment is not None
    assert "geheim" not in known.flags + known.text() + json.dumps(known.to_json())


def test_files_that_flags_name_are_known_to_have_changed_by_their_time(tmp_path: Path) -> None:
    config, models = tmp_path / "c.cfg", tmp_path / "m=1.config"
    config.write_text("")
    models.write_text("")
    words = (f"--platform_config_file={config}", f"--model_config_file={models}")
    server = record(8501, argv=("server", *words), started=time.time() + 10)
    assert changed_files(server, tmp_path) == ()
    for path in (config, models):
        os.utime(path, (server.started + 1,) * 2)
    found = [(change.what, change.wanted, change.due) for change in changed_files(server, tmp_path)]
    assert found == [(str(config), "changed", "restart"), (str(models), "changed", "reload")]
    config.unlink()
    polling = record(8501, argv=(*server.argv, POLLS), started=server.started)
    assert [(change.what, change.wanted) for change in changed_files(polling, tmp_path)] == [(str(config), "removed")]

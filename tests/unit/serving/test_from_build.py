"""The server of a build, by a deployment: what reaches the plan, and what a dry run neither writes nor lets pass."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cann_trees import SITE, make_cann
from fake_builds import flags_of, free_port

from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.errors import RequestError, ServerError
from npu_serving.serving import from_build
from npu_serving.serving.deployed_from import DeployedFrom
from npu_serving.serving.server_plan import ServerPlan
from npu_serving.settings import Settings

LIMITS = {"ascend_max_op_cache_size": 2000, "ascend_remain_cache_size_ratio": 60}


class Machine:
    """A build, a CANN whose adapter is an old one, and a deployment of one model."""

    def __init__(self, directory: Path, model: Path) -> None:
        self.directory, self.model = directory, model
        root = make_cann(directory / "Ascend", "5.1.RC2")
        adapter = root / "tfplugin/latest" / SITE / "npu_bridge/_tf_adapter.so"
        adapter.write_bytes(b"\x7fELF\0use_off_line\0precision_mode\0")
        self.settings = dataclasses.replace(Settings(), cann_root=str(root), build_root=directory / "state")

    def planned(self, *, dry_run: bool, cpu: Any = None, **npu: Any) -> ServerPlan:
        file = self.directory / "d.json"
        models = [{"name": "m", "base_path": str(self.model)}]
        server = {"port": free_port(), "rest_api_port": 0}
        whole = {"version": 1, "models": models, "server": server, "npu": npu, "cpu": cpu or {}}
        file.write_text(json.dumps(whole))
        source = DeployedFrom(file, (), ())
        return from_build.plan_deployment(self.settings, read_deployment(file), source, dry_run=dry_run)

    @property
    def files(self) -> list[Path]:
        return sorted(self.settings.build_root.rglob("*"))


@pytest.fixture
def machine(tmp_path: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    model = tmp_path / "models/m"
    (model / "1").mkdir(parents=True)
    (model / "1/saved_model.pb").touch()
    build = SimpleNamespace(directory=artifact, manifest=SimpleNamespace(build_id="b", without_adapter=False))
    monkeypatch.setattr(from_build, "find_build", lambda *_: build)
    monkeypatch.setattr(from_build, "settings_of", lambda _build, settings: settings)
    return Machine(tmp_path, model)


def test_a_dry_run_plans_the_same_server_and_writes_nothing(machine: Machine) -> None:
    dry = machine.planned(dry_run=True)
    assert machine.files == []
    done = machine.planned(dry_run=False)
    config = Path(flags_of(done)["platform_config_file"])
    assert config.is_file()
    assert flags_of(dry)["platform_config_file"] == str(config)
    assert dry.uses_npu
    assert dry.warnings == done.warnings


def test_an_older_adapter_gets_the_precision_that_it_reads_and_that_is_said(machine: Machine) -> None:
    made = machine.planned(dry_run=False)
    assert any("precision_mode_v2 fp16 is written as precision_mode force_fp16" in line for line in made.warnings)
    text = Path(flags_of(made)["platform_config_file"]).read_text()
    assert 'key: "precision_mode"' in text
    assert "precision_mode_v2" not in text


def test_a_file_that_somebody_else_wrote_is_refused_by_the_dry_run_too(machine: Machine) -> None:
    config = Path(flags_of(machine.planned(dry_run=False))["platform_config_file"])
    config.write_text("mine")
    for dry_run in (True, False):
        with pytest.raises(RequestError, match="was not written by render-deployment"):
            machine.planned(dry_run=dry_run)
    assert config.read_text() == "mine"


def test_what_is_refused_leaves_no_files(machine: Machine) -> None:
    (machine.model / "1/saved_model.pb").unlink()
    with pytest.raises(RequestError):
        machine.planned(dry_run=False)
    assert machine.files == []


def test_a_model_that_is_not_there_keeps_the_server_from_being_started_and_names_those_that_would_wait(
    machine: Machine,
) -> None:
    file = machine.directory / "three.json"
    gone = machine.directory / "models/gone"
    models = [{"name": "a", "base_path": str(machine.model)}, {"name": "c", "base_path": str(gone)}]
    file.write_text(json.dumps({"version": 1, "models": models}))
    for dry_run in (True, False):
        with pytest.raises(RequestError, match=r"^c: .*gone does not exist.* does not offer a either"):
            from_build.plan_deployment(
                machine.settings, read_deployment(file), DeployedFrom(file, (), ()), dry_run=dry_run
            )
    assert machine.files == []


def test_the_limits_of_a_cache_are_put_where_they_count_and_a_dry_run_puts_none(machine: Machine) -> None:
    cache = machine.directory / "cache/of mine"
    npu: dict[str, Any] = {
        "op_compiler_cache_mode": "enable",
        "op_compiler_cache_dir": {"directory": str(cache), **LIMITS},
    }
    machine.planned(dry_run=True, **npu)
    assert not cache.exists()
    made = machine.planned(dry_run=False, **npu)
    assert "ascend_max_op_cache_size=2000\n" in (cache / "op_cache.ini").read_text()
    assert str(cache) in Path(flags_of(made)["platform_config_file"]).read_text()


def test_the_processors_of_the_deployment_are_those_of_the_server(machine: Machine) -> None:
    one = max(os.sched_getaffinity(0))
    assert machine.planned(dry_run=True, cpu={"cpus": one}).processors == (one,)
    assert machine.planned(dry_run=True).processors == ()


def test_a_dry_run_refuses_processors_that_are_not_here_as_the_start_does(machine: Machine) -> None:
    for dry_run in (True, False):
        with pytest.raises(ServerError, match=r"processors that it can.t have here: 8191, of cpu\.cpus"):
            machine.planned(dry_run=dry_run, cpu={"cpus": 8191})
    assert machine.files == []

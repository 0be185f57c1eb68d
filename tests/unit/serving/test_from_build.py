"""The server of a build, by a deployment: what of the deployment reaches the plan."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_builds import free_port

from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.errors import ServerError
from npu_serving.serving import from_build
from npu_serving.serving.deployed_from import DeployedFrom
from npu_serving.serving.server_plan import ServerPlan
from npu_serving.settings import Settings


@pytest.fixture
def planned(artifact: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = SimpleNamespace(directory=artifact, manifest=SimpleNamespace(build_id="b1"))
    monkeypatch.setattr(from_build, "find_build", lambda _root, _build: found)
    monkeypatch.setattr(from_build, "settings_of", lambda _found, settings: settings)
    settings = Settings(build_root=tmp_path / "state", adapter=str(tmp_path / "none"), cann_root="")
    monkeypatch.setattr(from_build, "cann_of", lambda _settings: SimpleNamespace(installation=None))
    file = tmp_path / "deployment.json"
    (tmp_path / "m").symlink_to(model)

    def plan(dry_run: bool = True, **sections: Any) -> ServerPlan:
        server = {"port": free_port(), "rest_api_port": 0}
        models = [{"name": "m", "base_path": str(tmp_path / "m")}]
        file.write_text(json.dumps({"version": 1, "models": models, "server": server, **sections}))
        return from_build.plan_deployment(settings, read_deployment(file), DeployedFrom(file), dry_run=dry_run)

    return plan


def test_the_processors_of_the_deployment_are_those_of_the_server(planned: Any) -> None:
    one = max(os.sched_getaffinity(0))
    assert planned(cpu={"cpus": one}).processors == (one,)
    assert planned().processors == ()


def test_a_dry_run_refuses_processors_that_are_not_here_as_the_start_does(planned: Any) -> None:
    for dry_run in (True, False):
        with pytest.raises(ServerError, match=r"processors that it can.t have here: 8191, of cpu\.cpus"):
            planned(dry_run=dry_run, cpu={"cpus": 8191})

"""status beside the sample's real server: what its file says otherwise, what is due, and doing that."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from states import MODEL, ascend_of, copy_of

from npu_serving import process
from npu_serving.building.pipeline import BuildResult
from npu_serving.builds.current import find_build
from npu_serving.serving.server_record import known_servers
from npu_serving.settings import PROJECT_ROOT, Settings
from npu_serving.trials.spare_server import spare_ports

pytestmark = [pytest.mark.bazel, pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")]


class Operator:
    """Types commands in a directory with a deployment.yaml, beside a finished build of the sample."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings, self.directory = settings, directory
        self.file = directory / "deployment.yaml"
        section = {
            "build_root": str(settings.build_root),
            "dist_root": str(settings.dist_root),
            "cann_root": str(ascend_of(settings)),
        }
        (directory / "invoke.yaml").write_text(json.dumps({"npu_serving": section}))
        self.environment = {**os.environ, "NPU_SERVING_SETTINGS": str(directory / "invoke.yaml")}
        self.port, self.rest_api_port = spare_ports(2)

    def writes(self, *further: str, mode: str = "fp16") -> None:
        """The deployment: the sample's model, and others by their names."""
        models = [{"name": name, "base_path": str(MODEL)} for name in ("half_plus_two", *further)]
        server = {
            "port": self.port,
            "rest_api_port": self.rest_api_port,
            "model_config_file_poll_wait_seconds": 1,
        }
        whole = {"version": 1, "models": models, "server": server, "npu": {"precision_mode_v2": mode}}
        self.file.write_text(json.dumps(whole, indent=1))

    def types(self, *words: str, wanted: int = 0) -> str:
        done = process.run(
            [PROJECT_ROOT / "inv", *words], cwd=self.directory, env=self.environment, check=False, timeout_s=300
        )
        assert done.returncode == wanted, f"{words} ended with {done.returncode}\n{done.output}"
        return done.output

    def status(self, *, wanted: int) -> dict[str, Any]:
        return json.loads(self.types("status", "--json", wanted=wanted))  # type: ignore[no-any-return]

    def does_what_is_next(self, *, wanted: int = 3) -> None:
        """Types what a bare status says."""
        found = re.search(r"^Next: \./inv (.*?)(?:   \(.*\))?$", self.types("status", wanted=wanted), re.MULTILINE)
        assert found is not None
        self.types(*shlex.split(found[1]))

    def until_ready(self) -> None:
        for _ in range(100):
            done = process.run(
                [PROJECT_ROOT / "inv", "status", "--ready"], cwd=self.directory, env=self.environment, check=False
            )
            if done.output.strip() == "ready":
                assert done.returncode == 0
                return
            assert (done.returncode, done.output[:11]) == (3, "not ready: ")
        raise AssertionError(done.output)

    def stops(self) -> None:
        for server in known_servers(self.settings.build_root):
            record = server.record
            if record is not None and record.is_running:
                os.kill(record.pid, signal.SIGKILL)


@pytest.fixture
def operator(built: BuildResult, sample_settings: Settings, tmp_path: Path) -> Iterator[Operator]:
    (tmp_path / "at work").mkdir()
    made = Operator(copy_of(sample_settings, tmp_path / "state"), tmp_path / "at work")
    try:
        yield made
    finally:
        made.stops()


def changes(shown: dict[str, Any]) -> list[str]:
    (server,) = shown["servers"]
    return [f"{change['what']}: {change['running']} -> {change['wanted']}" for change in server["changes"]]


def test_what_the_file_says_otherwise_is_named_and_gone_when_what_is_due_was_done(operator: Operator) -> None:
    operator.writes()
    before, build = operator.status(wanted=3), find_build(operator.settings.dist_root)
    assert (before["build"]["id"], before["build"]["fits"]) == (build.manifest.build_id, True)
    assert (before["cann"]["version"], before["cann"]["root"]) == ("6.3.RC2", str(ascend_of(operator.settings)))
    assert before["next"] == f"./inv serve --deployment '{operator.file}'"
    assert operator.types("status", "--live", wanted=3) == "not live: no server runs here\n"

    operator.types("serve", "--deployment", str(operator.file), "--detach")
    operator.until_ready()
    assert operator.types("status", "--live") == "live\n"
    shown = operator.status(wanted=0)
    assert (shown["next"], shown["servers"][0]["due"], changes(shown)) == (None, None, [])

    operator.writes(mode="origin")  # which a server reads at its start only
    shown = operator.status(wanted=3)
    assert changes(shown) == ["npu.precision_mode_v2: fp16 -> origin"]
    assert shown["servers"][0]["due"] == "restart"
    pid = shown["servers"][0]["pid"]
    operator.does_what_is_next()
    operator.until_ready()
    shown = operator.status(wanted=0)
    assert changes(shown) == []
    assert shown["servers"][0]["pid"] != pid

    pid = shown["servers"][0]["pid"]
    operator.writes("another", mode="origin")  # which it reads again by itself
    shown = operator.status(wanted=3)
    assert changes(shown) == [f"models.another:  -> {MODEL}"]
    assert shown["servers"][0]["due"] == "reload"
    operator.does_what_is_next()
    operator.until_ready()
    shown = operator.status(wanted=0)
    (server,) = shown["servers"]
    assert (server["pid"], changes(shown)) == (pid, [])
    assert [model["name"] for model in server["models"]] == ["half_plus_two", "another"]

    adapter = find_build(operator.settings.dist_root).adapter
    shutil.copy(adapter, adapter.with_name("new"))
    adapter.with_name("new").replace(adapter)
    (server,) = operator.status(wanted=3)["servers"]
    assert server["replaced"] == [{"path": str(adapter), "is_there": True}]
    operator.does_what_is_next()
    (server,) = operator.status(wanted=0)["servers"]
    assert server["replaced"] == []

    os.kill(server["pid"], signal.SIGKILL)
    given_up = time.monotonic() + 120
    while known_servers(operator.settings.build_root)[0].is_running and time.monotonic() < given_up:
        time.sleep(0.02)
    assert operator.types("status", "--live", wanted=3).startswith("not live: no server runs here (")
    assert "./inv restart" in str(operator.status(wanted=3)["next"])
    operator.types("restart")
    operator.until_ready()

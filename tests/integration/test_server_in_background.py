"""serve --detach, restart, logs and stop, as they are typed, with the sample's real server and its adapter."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_site import ServingSite
from test_sample_server import MODEL, Npu, base, npu, objects  # noqa: F401 - fixtures

from npu_serving.serving.server_record import ServerRecord

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the sample server is compiled with g++")


def is_ready(record: ServerRecord) -> bool:
    return record.is_running and record.readiness is not None and record.readiness.ready


@pytest.fixture
def site(
    npu: Npu,  # noqa: F811
    base: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ServingSite]:
    """A build that is the sample's server, and a deployment of its model for the NPU."""
    made = ServingSite(tmp_path / "site")
    shutil.copy(npu.server, made.artifact / "bin" / "tensorflow_model_server")
    settings = json.loads(made.settings.read_text())
    settings["npu_serving"]["cann_root"] = str(npu.ascend)
    made.settings.write_text(json.dumps(settings))
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{npu.root / 'stubs'}:{npu.root / 'python3.7.5' / 'lib'}")
    monkeypatch.delenv("ASCEND_OPP_PATH", raising=False)
    deployment(made, base)
    yield made
    made.close()


def deployment(site: ServingSite, model: Path, *, polls: int = 1) -> None:
    server = {"port": site.port, "rest_api_port": site.rest_api_port, "file_system_poll_wait_seconds": polls}
    document = {
        "version": 1,
        "models": [{"name": MODEL, "base_path": str(model)}],
        "server": server,
        "npu": {"mix_compile_mode": True},
    }
    (site.root / "deployment.yaml").write_text(json.dumps(document))


def test_the_life_of_a_server_on_the_npu_from_its_start_to_its_stop(
    site: ServingSite,
    base: Path,  # noqa: F811
) -> None:
    typed_in = set(os.listdir(site.root))
    said = site.types("serve", "--deployment", "deployment.yaml", "--detach")
    assert f"Next: ./inv logs {site.rest_api_port}   (./inv stop {site.rest_api_port} ends it)" in said
    assert "not proven to answer: half_plus_two" in said, "whoever waits hears all that is said in the foreground"
    assert f"Server {site.rest_api_port} is ready after" in said
    first = site.until(is_ready)
    assert first.uses_npu
    url = f"http://localhost:{site.rest_api_port}"
    assert "2.5" in site.types("predict", MODEL, "--request=[1.0]", "--url", url)
    assert site.until(is_ready).compiled > 0
    assert "compiled for it since" in site.types("status", MODEL, "--url", url)
    assert "npu-serving: the NPU is used: the first graph was compiled for it" in site.types("logs")
    assert "The model has been compiled on the Ascend AI processor" in site.types("logs", MODEL)
    deployment(site, base, polls=2)
    said = site.types("restart", "--deployment", "deployment.yaml")
    assert "was changed since it was started" in said
    second = site.until(is_ready)
    assert second.pid != first.pid
    assert "--file_system_poll_wait_seconds=2" in second.argv
    assert "2.5" in site.types("predict", MODEL, "--request=[1.0]", "--url", url)
    assert f"Server {site.rest_api_port} was stopped, within" in site.types("stop")
    assert not site.server().is_running
    assert not Path(f"/proc/{second.pid}").exists()
    assert set(os.listdir(site.root)) == typed_in | {site.build_root.name}, "nothing has fallen where it was typed"


def test_a_server_that_is_killed_is_explained_and_started_again(site: ServingSite) -> None:
    site.types("serve", "--deployment", "deployment.yaml", "--detach")
    os.kill(site.until(is_ready).pid, signal.SIGKILL)
    site.until(lambda record: not record.is_watched)
    end = site.server().end
    assert end is not None
    assert "killed by SIGKILL" in end.what
    assert "killed by SIGKILL" in site.types("logs")
    site.types("restart")
    site.until(is_ready)

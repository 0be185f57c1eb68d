"""Serving, asking and predicting with the sample's real server, compiled by g++, and its adapter."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from model_server import Heard
from test_sample_server import NEEDED_BY_NEXT, Npu, base, npu, objects  # noqa: F401 - fixtures

from npu_serving import process
from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.request import read_request
from npu_serving.asking.rest_client import model_metadata, model_status, predict
from npu_serving.cann.environment import cann_environment
from npu_serving.cann.install import find_installation
from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.init_deployment import init_deployment
from npu_serving.deploy.platform_config import PlatformEntry, ServedModel, render_models_config, render_platform_config
from npu_serving.errors import NpuServingError, RequestError, ServerError
from npu_serving.sample import cann
from npu_serving.serving import from_build
from npu_serving.serving.asked_models import asked_models
from npu_serving.serving.deployed_from import DeployedFrom
from npu_serving.serving.readiness import ReadyTerms
from npu_serving.serving.server import RunningServer, serve_in_foreground, started
from npu_serving.serving.server_plan import ServerPlan, plan_server
from npu_serving.serving.server_record import record_of
from npu_serving.settings import Settings
from npu_serving.status.server_state import ServerState, server_state
from npu_serving.trials.spare_server import spare_ports

MODEL = "half_plus_two"

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the sample server is compiled with g++")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config of 'mine'\n.cfg"
    options: dict[str, bool | int | str] = {
        "profiling_mode": True,
        "profiling_options": json.dumps({"output": '/tmp/"é"\n'}),
        "mix_compile_mode": True,
    }
    path.write_text(render_platform_config({"tensorflow": PlatformEntry(options)}), encoding="utf-8")
    return path


@dataclass(frozen=True)
class SampleSite:
    """A build of the sample, a model and a platform config that asks for the NPU, beside the sample's CANN."""

    npu: Npu
    base: Path
    artifact: Path
    config: Path
    log: Path

    def plan(self, *flags: str, model: Path | None, config: Path | None) -> ServerPlan:
        """A server of them on free ports."""
        port, rest_api_port = spare_ports(2)
        found = cann_environment(find_installation(str(self.npu.ascend)), {})
        # What the machine has beside CANN: TensorFlow's libraries and Python's.
        further = (self.npu.root / "stubs", self.npu.root / "python3.7.5" / "lib")
        return plan_server(
            self.artifact,
            model_base_path=model,
            model_name=MODEL,
            port=port,
            rest_api_port=rest_api_port,
            platform_config_file=config,
            cann=dataclasses.replace(found, library_path=(*found.library_path, *further)),
            extra_flags=flags,
        )

    def on_npu(self, *flags: str) -> ServerPlan:
        return self.plan(*flags, model=self.base, config=self.config)

    def on_cpu(self) -> ServerPlan:
        return self.plan(model=self.base, config=None)

    def started(self, planned: ServerPlan) -> AbstractContextManager[RunningServer]:
        return started(planned, log_path=self.log)


@pytest.fixture
def site(npu: Npu, base: Path, config: Path, tmp_path: Path) -> SampleSite:  # noqa: F811
    artifact = tmp_path / "dist of Zoë's" / "1"
    (artifact / "bin").mkdir(parents=True)
    (artifact / "lib").mkdir()
    shutil.copy(npu.server, artifact / "bin" / "tensorflow_model_server")
    return SampleSite(npu, base, artifact, config, tmp_path / "log")


def test_a_prediction_is_answered_on_the_npu_by_the_config_this_project_writes(site: SampleSite) -> None:
    made = site.on_npu()
    assert made.warnings == ()
    with site.started(made) as server:
        assert server.adapter_loaded
        assert server.adapter is not None
        assert server.adapter.name == "_tf_adapter.so"
        status = model_status(server.rest_url, MODEL)
        assert status.available
        assert model_metadata(server.rest_url, MODEL).signatures[0].inputs[0].name == "x"
        assert predict(server.rest_url, MODEL, read_request("[1.0, 2, 5]")).outputs == [2.5, 3.0, 4.5]
        columns = predict(server.rest_url, MODEL, read_request('{"inputs": {"x": [1, 2]}}'), version=1)
        assert columns.outputs == [2.5, 3.0]
    assert "placed on NPU" in site.log.read_text()
    with pytest.raises(ServerError, match="Nothing listens"):
        model_status(server.rest_url, MODEL)
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_a_first_request_that_compiles_longer_than_rest_waits_is_told_with_the_servers_own_option_which_helps(
    site: SampleSite, tmp_path: Path
) -> None:
    def compiling(flag: str) -> ServerPlan:
        made = site.on_npu(flag)
        return dataclasses.replace(made, env={**made.env, "SAMPLE_COMPILE_MS": "2500"})

    with site.started(compiling("--rest_api_timeout_in_ms=2000")) as server:
        with pytest.raises(ServerError, match="HTTP status 504") as caught:
            predict(server.rest_url, MODEL, read_request("[1.0]"))
        assert "the server's own REST timeout" in caught.value.cause
        assert "gateway" not in str(caught.value).lower().replace("gateway timeout", "")
        assert predict(server.rest_url, MODEL, read_request("[1.0]")).outputs == [2.5], "it was compiled all the same"
    init_deployment([f"{MODEL}={site.base}"], tmp_path / "first.yaml")
    patient = read_deployment(tmp_path / "first.yaml").server.rest_api_timeout_in_ms
    flag = f"--rest_api_timeout_in_ms={patient}"
    assert flag in caught.value.cure
    with site.started(compiling(flag)) as server:
        assert predict(server.rest_url, MODEL, read_request("[1.0]")).outputs == [2.5]


def test_a_server_that_means_the_npu_gets_the_operators_of_the_cann_that_was_found_not_of_the_callers_shell(
    site: SampleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASCEND_OPP_PATH", raising=False)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    made = site.on_npu()
    assert made.uses_npu
    assert any("TF_CPP_MIN_LOG_LEVEL" in warning for warning in made.warnings)
    with site.started(made) as server:
        assert server.signs.compiled == 0
        predict(server.rest_url, MODEL, read_request("[1.0]"))
        assert server.signs.compiled == 1
    done = process.run(["sh", "-c", made.text().partition("\nwarning: ")[0] + " --version"], env=dict(os.environ))
    assert "TensorFlow ModelServer" in done.output, "the command can be pasted as it is shown"
    assert f"ASCEND_OPP_PATH={site.npu.ascend}/ascend-toolkit/latest/opp" in made.text()


def test_an_option_that_ends_the_server_at_the_first_request_is_named_with_its_rule_and_its_cure_helps(
    site: SampleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = site.config.read_text(encoding="utf-8")
    mode = re.compile(r'(key: "graph_run_mode"[^0-9]*i: )0')
    assert mode.search(text) is not None
    site.config.write_text(mode.sub(r"\g<1>2", text), encoding="utf-8")
    with pytest.raises(RequestError, match="the adapter would end the whole server"):
        site.on_npu()
    # An adapter may have rules that nobody knows of beforehand.
    monkeypatch.setattr("npu_serving.serving.deployment.check_options", lambda *_asked, **_words: [])
    with (
        pytest.raises(ServerError, match="ended at a request, before it had answered: killed by SIGABRT") as caught,
        site.started(site.on_npu()) as server,
    ):
        predict(server.rest_url, MODEL, read_request("[1.0]"))
    assert "graph_run_mode value must be 0 or 1" in caught.value.cause
    assert "correct that option in the platform config" in caught.value.cure
    assert "graph_run_mode 0" in caught.value.cure
    site.config.write_text(text, encoding="utf-8")
    with site.started(site.on_npu()) as server:
        assert predict(server.rest_url, MODEL, read_request("[1.0]")).outputs == [2.5]


def test_a_cann_without_its_list_of_operators_is_refused_and_its_cure_helps(
    site: SampleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASCEND_OPP_PATH", raising=False)
    path = site.npu.ascend / "ascend-toolkit" / "latest" / cann.OPERATOR_LIST
    kept = path.read_bytes()
    path.write_text("{")
    with pytest.raises(ServerError, match="silently served by the CPU") as caught:
        site.on_npu()
    assert "Ascend-cann-toolkit" in caught.value.cure
    assert site.on_cpu().uses_npu is False, "on the CPU it may be served"
    path.write_bytes(kept)  # what installing it again does
    assert site.on_npu().uses_npu


def test_serve_says_when_it_is_ready_on_the_npu_and_status_knows_it_while_the_server_runs(
    site: SampleSite, tmp_path: Path
) -> None:
    made, heard, build_root = site.on_npu(), Heard(), tmp_path / "build"
    url = f"http://localhost:{made.rest_api_port}"
    golden = GoldenRequest(MODEL, MODEL, read_request("[1.0]"), [2.5], model_base_path=str(site.base))
    states: list[ServerState] = []

    def ask() -> None:
        try:
            wait_for(lambda: any(note.startswith("npu-serving: ready") for note in heard.notes))
            states.append(server_state(build_root, url, MODEL, None))
        finally:
            for children in Path("/proc/self/task").glob("*/children"):
                for pid in children.read_text().split():
                    os.kill(int(pid), signal.SIGTERM)

    with ThreadPoolExecutor() as pool:
        asked = pool.submit(ask)
        assert serve_in_foreground(made, heard, build_root, ReadyTerms((golden,))) == -signal.SIGTERM
        asked.result()
    (after,) = states
    assert "It answered a request at" in after.text()
    assert "compiled for it since" in after.text()
    used, ready = [note for note in heard.notes if note.startswith("npu-serving:")]
    assert used == "npu-serving: the NPU is used: the first graph was compiled for it"
    assert re.fullmatch(rf"npu-serving: ready after [0-9.]+ s; answered: {MODEL} \(its golden request\)", ready)
    assert record_of(build_root, url) is None


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it is true; whatever it raises meanwhile means no."""
    while True:
        with contextlib.suppress(NpuServingError):
            if condition():
                return
        time.sleep(0.02)


def test_what_the_model_refuses_is_told_with_what_it_takes(site: SampleSite) -> None:
    with site.started(site.on_cpu()) as server:
        with pytest.raises(RequestError, match="rejected the request") as caught:
            predict(server.rest_url, MODEL, read_request('["one"]'))
        assert "takes x: DT_FLOAT" in caught.value.cause
        with pytest.raises(RequestError, match="not found in signature def") as caught:
            predict(server.rest_url, MODEL, read_request("[1]"), signature_name="it's")
        assert "has no signature" in caught.value.cause
        with pytest.raises(RequestError, match="no model 'other'"):
            predict(server.rest_url, "other", read_request("[1]"))
        with pytest.raises(RequestError, match="in version 7"):
            model_status(server.rest_url, MODEL, 7)


def test_a_newer_cann_is_told_at_start_with_the_symbol_and_the_cure(site: SampleSite) -> None:
    cann.upgrade_sample_cann(site.npu.root)
    with (
        pytest.raises(ServerError, match="undefined symbol") as caught,
        site.started(site.on_cpu()),
    ):
        pytest.fail("it can't have started")
    assert NEEDED_BY_NEXT in caught.value.cause
    assert caught.value.cure == "./inv rebuild-after-cann"


def test_a_model_that_can_not_be_loaded_fails_at_once_not_after_five_retries(site: SampleSite) -> None:
    (site.base / "2").mkdir()
    (site.base / "2" / "saved_model.pb").touch()
    with (
        pytest.raises(ServerError) as caught,
        site.started(site.on_cpu()),
    ):
        pytest.fail("it can't have started")
    assert "the model can't be loaded" in caught.value.cause


def test_a_platform_config_with_a_slip_is_told_with_its_path(site: SampleSite, tmp_path: Path) -> None:
    config = tmp_path / "slip.cfg"
    config.write_text(render_platform_config({"tensorflow": PlatformEntry({})}).replace("NO_MEM_OPT", "OFF"))
    with (
        pytest.raises(ServerError) as caught,
        site.started(site.plan(model=site.base, config=config)),
    ):
        pytest.fail("it can't have started")
    assert f"{config} is not in the text format" in caught.value.cause


def test_the_list_of_models_this_project_writes_is_served(site: SampleSite, tmp_path: Path) -> None:
    strange = tmp_path / 'models "of" Zoë\'s' / "other"
    shutil.copytree(site.base, strange)
    models = tmp_path / "models.config"
    models.write_text(
        render_models_config([ServedModel(MODEL, str(site.base)), ServedModel("other", str(strange))]), encoding="utf-8"
    )
    made = site.plan(f"--model_config_file={models}", model=None, config=None)
    with site.started(made) as server:
        assert model_status(server.rest_url, "other").available


def test_a_deployment_with_labels_starts_cold_and_again_and_they_are_in_the_list_that_the_server_reads(
    site: SampleSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(site.base / "1", site.base / "2")
    build = SimpleNamespace(directory=site.artifact, manifest=SimpleNamespace(build_id="b", without_adapter=False))
    monkeypatch.setattr(from_build, "find_build", lambda *_: build)
    monkeypatch.setattr(from_build, "settings_of", lambda _build, settings: settings)
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{site.npu.root}/stubs:{site.npu.root}/python3.7.5/lib")
    settings = dataclasses.replace(Settings(), cann_root=str(site.npu.ascend), build_root=tmp_path / "state")
    port, rest_api_port = spare_ports(2)
    model: dict[str, object] = {"name": MODEL, "base_path": str(site.base), "versions": [1, 2]}
    document = {"version": 1, "models": [model], "server": {"port": port, "rest_api_port": rest_api_port}, "npu": {}}

    def planned(labels: dict[str, int]) -> ServerPlan:
        model["labels"] = labels
        file = tmp_path / "deployment.json"
        file.write_text(json.dumps(document))
        return from_build.plan_deployment(settings, read_deployment(file), DeployedFrom(file, (), ()))

    for _ in range(2):
        made = planned({"stable": 1, "canary": 2})
        with site.started(made) as server:
            states = {each.version: each.state for each in model_status(server.rest_url, MODEL).versions}
            assert states == {1: "AVAILABLE", 2: "AVAILABLE"}
        (listed,) = asked_models(made.argv)
        assert listed.labels == {"stable": 1, "canary": 2}
    with pytest.raises(RequestError, match="canary: is 3, and only the versions 1, 2 are served"):
        planned({"stable": 1, "canary": 3})
    forbidding = [word for word in made.argv if not word.startswith("--allow_version_labels")]
    with (
        pytest.raises(ServerError),
        site.started(dataclasses.replace(made, argv=tuple(forbidding))),
    ):
        pytest.fail("a label is refused whose version is not available yet")

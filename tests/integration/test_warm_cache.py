"""`warm-cache`, typed as a person would, with the sample's real server, compiled by g++, its adapter and its cache."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from test_sample_server import Npu, base, npu, objects  # noqa: F401 - fixtures

from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.golden_files import write_golden
from npu_serving.asking.golden_places import golden_directory
from npu_serving.asking.request import read_request
from npu_serving.builds.current import make_current, read_builds
from npu_serving.builds.manifest import BuildManifest
from npu_serving.models.warm_up_file import WARM_UP_FILE
from npu_serving.sample.cann import FIRST_RELEASE
from npu_serving.trials.warm_up import plan_warm_up, write_warm_up

ROOT = Path(__file__).resolve().parents[2]
MODEL = "half_plus_two"
OTHER = "other_model"

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the sample server is compiled with g++")


@dataclass
class Deployed:
    """A build of the sample that is current, a deployment of two models, and a golden request for each of them."""

    root: Path
    environment: dict[str, str]
    document: dict[str, Any]

    @property
    def file(self) -> Path:
        return self.root / "deployment.yaml"

    @property
    def cache(self) -> Path:
        """Where the deployment has what is compiled kept."""
        return self.root / "op_cache"

    def files(self) -> dict[str, int]:
        """What is in the cache, and when each was written (in ns)."""
        return {path.name: path.stat().st_mtime_ns for path in self.cache.rglob("*") if path.is_file()}

    def write(self, **changes: object) -> None:
        """The deployment's file, with those keys in place of its own."""
        self.file.write_text(json.dumps({**self.document, **changes}))

    def warm_cache(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "inv", "warm-cache", "--deployment", str(self.file), *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def deployed(npu: Npu, base: Path, tmp_path: Path) -> Deployed:  # noqa: F811
    build = tmp_path / "dist" / "serving-1"
    (build / "bin").mkdir(parents=True)
    (build / "lib").mkdir()
    shutil.copy(npu.server, build / "bin" / "tensorflow_model_server")
    adapter = {"cann_version": FIRST_RELEASE}
    manifest = BuildManifest("serving-1", "d", "1.15.0", {"name": "sample"}, adapter, "l", {}, (), {}, {}, {}, "2026")
    (build / "manifest.json").write_text(json.dumps(manifest.to_json()))
    make_current(read_builds(tmp_path / "dist").sound[0])
    shutil.copytree(base, base.parent / OTHER)
    for name in (MODEL, OTHER):
        golden = GoldenRequest(
            name, name, read_request("[1.0, 2.0]"), [2.5, 3.0], model_base_path=str(base.parent / name)
        )
        write_golden(golden_directory(tmp_path / "dist"), golden)
    section = {
        "build_root": str(tmp_path / "build"),
        "dist_root": str(tmp_path / "dist"),
        "cann_root": str(npu.ascend),
    }
    (tmp_path / "invoke.yaml").write_text(json.dumps({"npu_serving": section}))
    further = (str(npu.root / "stubs"), str(npu.root / "python3.7.5" / "lib"))
    environment = {
        **os.environ,
        "NPU_SERVING_VENV": sys.prefix,
        "NPU_SERVING_SETTINGS": str(tmp_path / "invoke.yaml"),
        "LD_LIBRARY_PATH": ":".join(further),
        "HOME": str(tmp_path),
    }
    made = Deployed(tmp_path, environment, {})
    made.document = {
        "version": 1,
        "models": [{"name": name, "base_path": str(base.parent / name)} for name in (MODEL, OTHER)],
        "npu": {"op_compiler_cache_mode": "enable", "op_compiler_cache_dir": str(made.cache)},
    }
    made.write()
    return made


def test_the_cache_is_filled_by_the_golden_request_of_each_model_and_a_second_run_finds_all_there(
    deployed: Deployed,
) -> None:
    dry = deployed.warm_cache("--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    planned = json.loads(dry.stdout)["requests"]
    assert [(each["model"], each["version"], each["source"]) for each in planned] == [
        (MODEL, 1, f"golden request {MODEL}"),
        (OTHER, 1, f"golden request {OTHER}"),
    ]
    assert not deployed.cache.exists()
    assert not (deployed.root / "build" / "deployments").exists()
    done = deployed.warm_cache("--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [(each["source"], each["graphs"], each["why"]) for each in result["requests"]] == [
        (f"golden request {MODEL}", 1, ""),
        (f"golden request {OTHER}", 1, ""),
    ]
    (cache,) = result["caches"]
    assert cache["before"] == {"files": 0, "bytes": 0}
    assert cache["after"]["files"] == len(deployed.files()) == 2
    assert not cache["keyed_by_release"]
    before = deployed.files()
    again = deployed.warm_cache()
    assert again.returncode == 0, again.stderr
    assert "Each release of CANN uses this directory" in again.stdout
    assert f"Next: ./inv serve --deployment {deployed.file}" in again.stdout
    assert deployed.files() == before


def test_the_limits_of_a_cache_stand_beside_what_is_compiled_and_do_not_count_as_that(deployed: Deployed) -> None:
    limits = {"directory": str(deployed.cache), "ascend_max_op_cache_size": 500, "ascend_remain_cache_size_ratio": 50}
    deployed.write(npu={"op_compiler_cache_mode": "enable", "op_compiler_cache_dir": limits})
    planned = deployed.warm_cache("--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert f"op_compiler_cache_dir {deployed.cache}: nothing." in planned.stdout
    assert not deployed.cache.exists()
    done = deployed.warm_cache()
    assert done.returncode == 0, done.stderr
    assert f"op_compiler_cache_dir {deployed.cache}: 2 files" in done.stdout
    assert len(deployed.files()) == 3


def test_a_server_that_runs_by_the_same_file_keeps_its_files_and_ports_and_is_named(deployed: Deployed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        deployed.write(server={"port": port, "rest_api_port": 0, "grpc_socket_path": str(deployed.root / "socket")})
        done = deployed.warm_cache()
    assert done.returncode == 0, done.stderr
    assert f"process {os.getpid()} listens on port {port} of the deployment" in done.stderr
    assert not (deployed.root / "socket").exists()


def test_the_preset_keeps_a_cache_for_the_release_alone_and_says_so(deployed: Deployed) -> None:
    keyed = str(deployed.cache / FIRST_RELEASE)
    done = deployed.warm_cache("--set", f"npu.op_compiler_cache_dir={keyed}")
    assert done.returncode == 0, done.stderr
    assert f"It is for CANN {FIRST_RELEASE} alone." in done.stdout
    deployed.write(npu={}, presets=["compile-cache"])
    planned = deployed.warm_cache("--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert f"/var/cache/npu-serving/op-cache/{FIRST_RELEASE}/" in planned.stdout
    assert f"It is for CANN {FIRST_RELEASE} alone." in planned.stdout


@pytest.mark.parametrize(
    ("changes", "words", "what"),
    [
        (
            {},
            ["--set", "npu.op_compiler_cache_mode=disable"],
            "uses no compile cache: op_compiler_cache_mode is disable",
        ),
        ({"npu": {}, "presets": ["final-release"]}, [], "the preset final-release sets it"),
        ({}, ["--set", "npu.op_compiler_cache_mode=force"], "each start of the server empties the cache"),
        ({"npu": None}, [], "No model of the deployment is meant for the NPU"),
        ({}, ["--set", "npu.graph_compiler_cache_dir=/nonexistent/graphs"], "there is no such directory"),
        ({}, ["--set", "npu.op_debug_level=1"], "not used while op_debug_level is set"),
        ({}, ["--timeout", "0"], "--timeout can't be 0"),
    ],
)
def test_what_would_keep_nothing_is_refused_by_a_dry_run_as_well_with_a_cure(
    deployed: Deployed, changes: dict[str, object], words: list[str], what: str
) -> None:
    deployed.write(**changes)
    for refused in (deployed.warm_cache(*words), deployed.warm_cache(*words, "--dry-run")):
        assert (refused.returncode, refused.stdout) == (2, ""), refused.stderr
        assert what in refused.stderr
        assert "Next: " in refused.stderr
        assert "Traceback" not in refused.stderr
    if "cache_mode is" in what or "preset" in what:
        enabled = ("--set", "npu.op_compiler_cache_mode=enable")
        cured = deployed.warm_cache(*words, *enabled, "--set", f"npu.op_compiler_cache_dir={deployed.cache}")
        assert cured.returncode == 0, cured.stderr


def test_the_replay_of_a_warm_up_file_is_seen_and_one_that_did_not_happen_is_action_needed(deployed: Deployed) -> None:
    base_path = deployed.document["models"][0]["base_path"]
    version = Path(base_path) / "1"
    plan = plan_warm_up(base_path, ["[1.0]", "[2.0]"])
    write_warm_up(plan)
    done = deployed.warm_cache("--json")
    assert done.returncode == 0, done.stderr
    (replayed,) = json.loads(done.stdout)["warm_up_files"]
    assert (replayed["model"], replayed["version"], replayed["records"]) == (MODEL, 1, 2)
    assert [each["graphs"] for each in json.loads(done.stdout)["requests"]] == [0, 1], "compiled while it was loaded"
    (version / WARM_UP_FILE).write_bytes(b"no record")
    broken = deployed.warm_cache()
    assert broken.returncode == 1
    assert "truncated record at 0" in broken.stderr
    off = deployed.warm_cache("--set", "server.warm_up=false", "--json")
    assert (off.returncode, json.loads(off.stdout)["warm_up_files"]) == (0, [])


def test_what_is_not_asked_or_answered_or_computed_by_the_npu_is_action_needed(deployed: Deployed) -> None:
    golden = golden_directory(deployed.root / "dist")
    (golden / f"{OTHER}.json").unlink()
    missing = deployed.warm_cache()
    assert missing.returncode == 3
    assert "the shape of its input is not known" in missing.stdout
    assert f"Not all is compiled: {OTHER}: nothing was asked" in missing.stdout
    wrong = GoldenRequest(OTHER, OTHER, read_request('{"inputs": {"z": [1.0]}}'))
    write_golden(golden, wrong)
    refused = deployed.warm_cache()
    assert refused.returncode == 3
    assert f"{OTHER} does not answer golden request {OTHER}" in refused.stdout
    (operators,) = deployed.root.rglob("npu_supported_ops.json")
    operators.write_text(operators.read_text().replace("Mul", "Div"))
    on_cpu = deployed.warm_cache("--json")
    assert on_cpu.returncode == 3
    assert not json.loads(on_cpu.stdout)["on_npu"]
    assert "the CPU has answered" in "".join(json.loads(on_cpu.stdout)["troubles"])

"""Where a value of a deployment stands: in the file, in one laid over it, in a flag, or nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_serving.deploy.deployment_places import PlacedDeployment, option_place, read_placed_deployment

FILE = """\
version: 1
models:
  - name: m
    base_path: /models/m
  - {name: n, base_path: /models/n, npu: {enable_dump: true, dump_path: /d}, presets: [mixed-computing, dump]}
server:
  port: 9000
npu: {session_device_id: 1}
presets: [compile-cache, profiling]
environment: {JOB_ID: 7}
"""
OVERLAY = """\
server:
  rest_api_port: 9001
  port: null
models:
  - name: n
    base_path: /elsewhere/n
"""


@pytest.fixture
def read(tmp_path: Path) -> PlacedDeployment:
    (tmp_path / "d.yaml").write_text(FILE)
    (tmp_path / "site.yaml").write_text(OVERLAY)
    return read_placed_deployment(tmp_path / "d.yaml", [tmp_path / "site.yaml"], ["environment.OMP_NUM_THREADS=2"])


@pytest.mark.parametrize(
    ("where", "place"),
    [
        ("models.0.base_path", "d.yaml:4:16"),
        ("models.1.base_path", "site.yaml:6:16"),
        ("models.1.npu.dump_path", "d.yaml:5:73"),
        ("server.rest_api_port", "site.yaml:2:18"),
        ("server.port", "site.yaml:3:9"),  # where it was taken out
        ("server.tls.custom_ca", "d.yaml:7:3"),  # it is not there: the section around it
        ("npu.session_device_id", "d.yaml:8:26"),
        ("npu.graph_run_mode", "d.yaml:8:6"),
        ("presets.1", "d.yaml:9:26"),
        ("environment.JOB_ID", "d.yaml:10:23"),
        ("environment.OMP_NUM_THREADS", "--set environment.OMP_NUM_THREADS"),
        ("cpu.allocator", None),
        ("cann", None),
        ("", None),
        ("/models/m/1/saved_model.pb", "d.yaml:4:16"),
        ("/elsewhere/n", "site.yaml:6:16"),
        ("n", "site.yaml:6:16"),
        ("/models/other/1", None),
        ("ASCEND_OPP_PATH", None),
    ],
)
def test_a_value_is_found_in_the_file_that_it_comes_from(
    read: PlacedDeployment, tmp_path: Path, where: str, place: str | None
) -> None:
    found = read.place(where)
    assert (None if found is None else str(found).replace(f"{tmp_path}/", "")) == place


def test_the_place_of_an_option_is_the_models_own_then_the_deployments_then_the_presets(read: PlacedDeployment) -> None:
    def place(index: int, name: str) -> str:
        return option_place(read.deployment, index, name)

    assert place(1, "dump_path") == "models.1.npu.dump_path"
    assert place(0, "session_device_id") == "npu.session_device_id"
    assert place(0, "op_compiler_cache_dir") == "presets.0"
    assert place(0, "profiling_mode") == "presets.1"
    assert place(0, "JOB_ID") == "environment.JOB_ID"
    assert place(0, "ASCEND_OPP_PATH") == "ASCEND_OPP_PATH"
    assert place(0, "graph_run_mode") == "npu.graph_run_mode"


def test_a_models_own_preset_counts_before_the_deployments_options(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text(
        "version: 1\nmodels: [{name: m, base_path: /m, presets: [mixed-computing]}]\nnpu: {mix_compile_mode: false}\n"
    )
    read = read_placed_deployment(tmp_path / "d.yaml")
    assert option_place(read.deployment, 0, "mix_compile_mode") == "models.0.presets.0"
    assert str(read.place("models.0.presets.0")).endswith("d.yaml:2:45")


def test_an_option_of_a_model_s_preset_stands_there_and_its_own_value_before(read: PlacedDeployment) -> None:
    assert option_place(read.deployment, 1, "mix_compile_mode") == "models.1.presets.0"
    assert option_place(read.deployment, 1, "dump_mode") == "models.1.presets.1"
    assert option_place(read.deployment, 1, "dump_path") == "models.1.npu.dump_path"

"""`explain --deployment`: each line with its place, its effect here, its models, and what a change of it takes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from cann_trees import SITE, make_cann
from elf_samples import library, needs_gcc

from npu_serving.checking.explained_deployment import ExplainedDeployment, ExplainedLine, explain_deployment
from npu_serving.deploy.deployment_places import read_placed_deployment
from npu_serving.errors import RequestError
from npu_serving.settings import Settings

FILE = """\
version: 1
models:
  - {name: m, base_path: /models/m}
  - name: n
    base_path: /models/n
    presets: [mixed-computing]
    npu: {mix_compile_mode: true}
    versions: [1, 2]
  - {name: cpu, base_path: /models/c, npu: false}
server: {port: 8500, max_num_load_retries: 2, batching: {max_batch_size: 8}}
npu:
  precision_mode: allow_mix_precision
  modify_mixlist: {black-list: {to-add: [Add]}}
  no_such: 1
presets: [compile-cache]
environment: {MY_TOKEN: geheim, ASCEND_GLOBAL_LOG_LEVEL: 17}
cpu: {omp_threads: 4}
"""


class Site:
    def __init__(self, directory: Path) -> None:
        self.file = directory / "d.yaml"
        self.file.write_text(FILE)
        (directory / "empty").mkdir()
        self.settings = Settings(cann_root=str(directory / "empty"))

    def explained(self, name: str = "", values: Sequence[str] = ()) -> ExplainedDeployment:
        return explain_deployment(self.settings, self.file, read_placed_deployment(self.file, (), values), name)

    def line(self, key: str, values: Sequence[str] = ()) -> ExplainedLine:
        (line,) = [line for line in self.explained(values=values).lines if line.key == key]
        return line

    def said(self, key: str, values: Sequence[str] = ()) -> str:
        return " ".join(self.line(key, values).text().split())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_every_line_of_the_file_is_explained_in_its_order_then_what_is_written_besides(site: Site) -> None:
    lines = site.explained().lines
    assert [line.key for line in lines] == [
        "version",
        "models.0.name",
        "models.0.base_path",
        "models.1.name",
        "models.1.base_path",
        "models.1.presets.0",
        "models.1.npu.mix_compile_mode",
        "models.1.versions",
        "models.2.name",
        "models.2.base_path",
        "models.2.npu",
        "server.port",
        "server.max_num_load_retries",
        "server.batching.max_batch_size",
        "npu.precision_mode",
        "npu.modify_mixlist",
        "npu.no_such",
        "presets.0",
        "environment.MY_TOKEN",
        "environment.ASCEND_GLOBAL_LOG_LEVEL",
        "cpu.omp_threads",
        "graph_run_mode",
        "use_off_line",
        "op_compiler_cache_mode",
        "op_compiler_cache_dir",
    ]
    assert all(line.meaning.endswith(".") for line in lines)
    assert [line.key for line in lines if line.place is None] == [line.key for line in lines[-4:]]
    shown = json.loads(json.dumps(site.explained().to_json()))
    assert shown["lines"][6]["place"] == {"source": str(site.file), "line": 7, "column": 29}


def test_an_option_has_its_default_its_models_and_what_the_adapter_reads(site: Site) -> None:
    said = site.said("npu.precision_mode")
    assert "default: force_fp16 " in said
    assert 'in config.cfg: precision_mode { s: "allow_mix_precision" }' in said
    assert "the adapter: reads it as a text" in said
    assert "for: every model on the NPU" in said
    assert "for: n " in site.said("models.1.npu.mix_compile_mode")
    assert "the path of the file that its content is written into" in site.said("npu.modify_mixlist")
    own = site.said("npu.precision_mode", ["npu.precision_mode=force_fp16", "npu.modify_mixlist=null"])
    assert own.startswith("npu.precision_mode: force_fp16 (--set npu.precision_mode)")
    assert "default: force_fp16, as here" in own


def test_a_line_that_no_model_gets_says_so(site: Site) -> None:
    values = ["npu.mix_compile_mode=false", "models.0.npu.mix_compile_mode=true"]
    assert "for: no model: each has its own, or is served by the CPU" in site.said("npu.mix_compile_mode", values)


def test_a_preset_says_what_it_sets_and_an_option_from_which_preset_it_comes(site: Site) -> None:
    assert "op_compiler_cache_mode enable" in site.said("presets.0")
    assert "for: every model on the NPU" in site.said("presets.0")
    assert "mix_compile_mode true" in site.said("models.1.presets.0")
    assert "for: n " in site.said("models.1.presets.0")
    besides = site.said("op_compiler_cache_dir")
    assert "comes from: the preset compile-cache" in besides
    assert "comes from: it is always written for the NPU" in site.said("graph_run_mode")


def test_what_the_rules_find_stands_at_its_line(site: Site) -> None:
    assert "warning: ASCEND_GLOBAL_LOG_LEVEL is '17'" in site.said("environment.ASCEND_GLOBAL_LOG_LEVEL")
    assert "warning: NpuOptimizer has no option 'no_such'" in site.said("npu.no_such")
    assert "geheim" not in site.explained().text()
    assert "environment.MY_TOKEN: *** " in site.explained().text()


def test_what_a_change_takes_is_what_the_server_reads_again(site: Site) -> None:
    changes = {line.key: line.change for line in site.explained().lines}
    assert [key for key, change in changes.items() if change == "reload"] == [
        "models.0.name",
        "models.0.base_path",
        "models.1.name",
        "models.1.base_path",
        "models.1.versions",
        "models.2.name",
        "models.2.base_path",
    ]
    assert changes["version"] == "nothing"
    assert changes["server.port"] == changes["npu.precision_mode"] == changes["presets.0"] == "restart"


def test_a_key_of_the_server_has_its_default_and_its_flag(site: Site) -> None:
    assert "default: 8500, as here becomes: the flag --port=8500" in site.said("server.port")
    assert "default: 0 becomes: the flag --max_num_load_retries=2" in site.said("server.max_num_load_retries")


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("precision-mode", ["npu.precision_mode"]),
        ("mix_compile_mode", ["models.1.npu.mix_compile_mode"]),
        ("server.port", ["server.port"]),
        ("compile-cache", ["presets.0"]),
        ("use_off_line", ["use_off_line"]),
    ],
)
def test_a_name_shows_the_lines_of_that_name_alone(site: Site, name: str, keys: list[str]) -> None:
    assert [line.key for line in site.explained(name).lines] == keys


def test_a_name_that_is_not_there_is_refused_with_the_way_to_its_explanation(site: Site) -> None:
    with pytest.raises(RequestError, match="has no line 'dump_path'") as caught:
        site.explained("dump_path")
    assert caught.value.cure.startswith("./inv explain dump_path, without --deployment")


@needs_gcc
def test_what_the_installed_adapter_does_not_have_is_said(site: Site, tmp_path: Path) -> None:
    root = make_cann(tmp_path / "Ascend")
    names = '"use_off_line", "graph_run_mode", "precision_mode"'
    library(root / "tfplugin/latest" / SITE / "npu_bridge", "_tf_adapter.so", f"const char *names[] = {{{names}}};")
    site.settings = dataclasses.replace(site.settings, cann_root=str(root))
    assert site.explained().adapter == "the adapter of CANN 6.3.RC2"
    assert "the adapter: reads it as a text" in site.said("npu.precision_mode")
    assert "the adapter: does not have its name, and silently ignores it" in site.said("npu.modify_mixlist")
    values = ["npu.graph_max_parallel_model_num=4"]
    assert "silently ignore" in site.said("npu.graph_max_parallel_model_num", values)


def test_what_is_for_predict_alone_is_of_no_interest_to_the_server(site: Site) -> None:
    site.file.write_text("version: 1\nmodels: [{name: m, base_path: /m, preprocess: {size: [8, 9], scale: 0.5}}]\n")
    changes = {line.key: line.change for line in site.explained().lines}
    assert {change for key, change in changes.items() if "preprocess" in key} == {"nothing"}
    assert changes["models.0.name"] == "reload"


def test_every_key_of_the_schema_has_a_meaning(site: Site) -> None:
    site.file.write_text(
        "version: 1\nmodels: [{name: m, base_path: /m, labels: {stable: 1}, versions: {latest: 2}}]\n"
        "server: {tls: {server_key: /k, server_cert: /c}, monitoring: {}, grpc_channel_arguments: {grpc.x: 1}}\n"
    )
    meanings = {line.key: line.meaning for line in site.explained().lines}
    assert meanings["server.tls.server_key"] == "The file with the private key, PEM."
    assert meanings["models.0.versions.latest"] == "How many of the highest versions are served."
    assert meanings["server.monitoring"].startswith("Metrics for Prometheus")
    assert meanings["server.grpc_channel_arguments.grpc.x"].startswith("Settings of gRPC")


@needs_gcc
def test_a_precision_that_an_older_adapter_reads_elsewhere_says_where(site: Site, tmp_path: Path) -> None:
    site.file.write_text("version: 1\nmodels: [{name: m, base_path: /m}]\nnpu: {precision_mode_v2: mixed_float16}\n")
    root = make_cann(tmp_path / "Ascend", version="6.3.RC1")
    names = '"use_off_line", "graph_run_mode", "precision_mode"'
    library(root / "tfplugin/latest" / SITE / "npu_bridge", "_tf_adapter.so", f"const char *names[] = {{{names}}};")
    site.settings = dataclasses.replace(site.settings, cann_root=str(root))
    said = site.said("npu.precision_mode_v2")
    assert "in its place: precision_mode_v2 mixed_float16 is written as precision_mode allow_mix_precision" in said
    assert "no model" not in said
    assert "comes from: precision_mode_v2 mixed_float16 is written as" in site.said("precision_mode")

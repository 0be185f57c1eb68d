"""check-deployment: everything that is wrong at once, and whether the file or the world is to be changed."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from pathlib import Path
from typing import Any

import model_messages as wire
import pytest
from cann_trees import SITE, make_cann
from elf_samples import library, needs_gcc
from fake_builds import free_port

from npu_serving.checking.check_deployment import DeploymentCheck, check_deployment
from npu_serving.deploy.deployment_places import read_placed_deployment
from npu_serving.errors import RequestError
from npu_serving.findings import NOTE, PROBLEM, WARNING, Finding
from npu_serving.settings import Settings

pytestmark = needs_gcc


KNOWN = ("use_off_line", "dump_path", "enable_dump", "input_shape", "dynamic_dims", "dynamic_node_type")


@pytest.fixture
def cann(tmp_path: Path) -> Path:
    root = make_cann(tmp_path / "Ascend")
    names = ", ".join(f'"{name}"' for name in KNOWN)
    library(root / "tfplugin/latest" / SITE / "npu_bridge", "_tf_adapter.so", f"const char *names[] = {{{names}}};")
    return root


class Site:
    """A deployment of one model, and the machine it is checked on: CANN without a build."""

    def __init__(self, directory: Path, cann: Path) -> None:
        self.directory = directory
        self.file = directory / "d.json"
        self.settings = dataclasses.replace(Settings(), cann_root=str(cann), dist_root=directory / "dist")
        self.model = directory / "models/1/saved_model.pb"
        self.model.parent.mkdir(parents=True)
        graph = wire.graph(
            [wire.placeholder("x"), wire.node("y", "Add", ["x", "x"], {"T": wire.number(6, wire.FLOAT)})]
        )
        asked = wire.signature({"x": wire.tensor("x:0", [-1, 3])}, {"y": wire.tensor("y:0", [-1, 3])})
        self.model.write_bytes(wire.saved_model(wire.meta_graph(graph, {"serving_default": asked})))

    def checked(self, server: dict[str, Any] | None = None, **sections: Any) -> DeploymentCheck:
        ports = {"port": free_port(), "rest_api_port": 0, **(server or {})}
        whole = {
            "version": 1,
            "models": [{"name": "m", "base_path": str(self.model.parent.parent)}],
            "server": ports,
            **sections,
        }
        self.file.write_text(json.dumps(whole))
        return check_deployment(self.settings, self.file, read_placed_deployment(self.file))

    def found(self, kind: str, **sections: Any) -> list[Finding]:
        return [finding for finding in self.checked(**sections).findings if finding.kind == kind]


@pytest.fixture
def site(tmp_path: Path, cann: Path) -> Site:
    return Site(tmp_path, cann)


def test_where_only_the_build_is_missing_only_that_is_found(site: Site) -> None:
    found = site.checked(npu={})
    assert [(finding.kind, finding.severity) for finding in found.findings] == [("build", PROBLEM)]
    assert found.exit_code == 3
    assert "serving_default (x: float32 [?, 3]) -> (y: float32 [?, 3])" in found.text()
    assert "100.0 % of 1 nodes may run on the NPU" in found.text()
    assert found.text().endswith("1 problem keeps it from being served.")


def test_everything_that_is_wrong_is_said_at_once_the_problems_first(site: Site) -> None:
    site.model.write_bytes(b"<html>Not Found</html>")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        found = site.checked({"port": port}, npu={"no_such": 1}, cpu={"allocator": "/nonexistent/x.so"})
    kinds = [finding.kind for finding in found.findings]
    assert {"model-file", "port", "build", "missing-file", "unknown-option"} <= set(kinds)
    severities = [finding.severity for finding in found.findings]
    assert severities == sorted(severities, key=[PROBLEM, WARNING, NOTE].index)
    for finding in found.findings:
        assert finding.what in found.text()
        assert finding.cure in found.text()


@pytest.mark.parametrize(
    ("npu", "code"),
    [
        ({}, 3),
        ({"dump_path": "/nonexistent", "enable_dump": True}, 3),
        ({"input_shape": "x:-1,4", "dynamic_dims": "1;2", "dynamic_node_type": 1}, 2),
        ({"input_shape": "x:-1,3", "dynamic_dims": "1;2", "dynamic_node_type": 1}, 3),
        ({"input_shape": "in/x:-1,3", "dynamic_dims": "1;2", "dynamic_node_type": 1}, 2),  # no "/" up to 6.3.RC2
    ],
)
def test_a_wrong_file_ends_with_2_and_a_world_that_is_not_there_yet_with_3(
    site: Site, npu: dict[str, Any], code: int
) -> None:
    assert site.checked(npu=npu).exit_code == code


def test_a_variable_is_found_at_its_own_place_or_in_the_shell(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASCEND_SLOG_PRINT_TO_STDOUT", "yes")
    found = site.found("guide-forbids", npu={}, environment={"ASCEND_GLOBAL_LOG_LEVEL": 17})
    assert {finding.where for finding in found} == {
        "environment.ASCEND_GLOBAL_LOG_LEVEL",
        "ASCEND_SLOG_PRINT_TO_STDOUT",
    }


def test_a_port_in_use_is_named_with_its_process(site: Site) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        (finding,) = site.found("port", server={"rest_api_port": server.getsockname()[1]})
    assert finding.where == "server.rest_api_port"
    assert "already in use by process" in finding.what


def test_an_option_of_a_model_is_found_at_the_model(site: Site) -> None:
    models = [{"name": "m", "base_path": str(site.model.parent.parent), "npu": {"nothing": True}}]
    (finding,) = site.found("unknown-option", models=models, npu={})
    assert finding.where == "models.0.npu.nothing"


def test_an_option_that_does_not_stand_in_the_installed_adapter_is_a_warning(site: Site) -> None:
    (finding,) = site.found("unknown-to-the-adapter", npu={"precision_mode_v2": "fp16", "enable_dump": False})
    assert (finding.severity, finding.where) == (WARNING, "npu.precision_mode_v2")
    assert "(CANN 6.3.RC2)" in finding.what


def test_a_number_of_a_device_that_the_process_does_not_see_is_a_mistake_of_the_file(site: Site) -> None:
    environment = {"ASCEND_RT_VISIBLE_DEVICES": "4,5"}
    found = site.checked(npu={"session_device_id": 4}, environment=environment)
    assert [finding.where for finding in found.findings if finding.kind == "device-number"] == ["npu.session_device_id"]
    assert found.exit_code == 2


def test_a_directory_for_profiling_that_is_not_there_is_a_warning(site: Site, tmp_path: Path) -> None:
    keys = {"output": str(tmp_path / "profiles"), "task_trace": "on"}
    npu = {"profiling_mode": True, "profiling_options": json.dumps(keys)}
    (finding,) = site.found("missing-directory", npu=npu)
    assert finding.severity == WARNING
    assert os.system(finding.cure.partition(": ")[2]) == 0
    assert site.found("missing-directory", npu=npu) == []
    (tmp_path / "profiles").rmdir()
    (tmp_path / "profiles").touch()
    (finding,) = site.found("missing-directory", npu=npu)
    assert "which is not a directory" in finding.what
    assert os.system(finding.cure.partition(": ")[2]) == 0
    (finding,) = site.found("missing-directory", npu=npu)
    assert "which does not exist" in finding.what


def test_a_build_that_was_named_and_is_not_there_is_a_mistake_of_the_request(site: Site) -> None:
    site.checked()
    with pytest.raises(RequestError):
        check_deployment(site.settings, site.file, read_placed_deployment(site.file), build="mistyped")


def test_a_key_and_certificate_that_are_not_there_are_found(site: Site, tmp_path: Path) -> None:
    tls = {"server_key": str(tmp_path / "key.pem"), "server_cert": str(tmp_path / "cert.pem")}
    (finding,) = site.found("missing-file", server={"tls": tls})
    assert "key.pem" in finding.what
    (tmp_path / "key.pem").write_bytes(b"\x30\x82")
    (finding,) = site.found("file", server={"tls": tls})
    assert "not a PEM file" in finding.what
    for name in ("key.pem", "cert.pem"):
        (tmp_path / name).write_text("-----BEGIN X-----\n")
    (finding,) = site.found("tls", server={"tls": tls})
    assert "that can be read" in finding.what
    assert site.checked(server={"tls": tls}).exit_code == 2


def test_a_machine_without_cann_is_found_only_where_the_npu_is_meant(site: Site, tmp_path: Path) -> None:
    site.settings = dataclasses.replace(site.settings, cann_root=str(tmp_path / "none"))
    (finding,) = site.found("cann", npu={})
    assert finding.where == "cann"
    assert site.found("cann") == []


def test_a_list_without_an_operator_of_the_model_means_the_cpu(site: Site) -> None:
    graph = wire.graph([wire.placeholder("x"), wire.node("y", "Unique", ["x"])])
    asked = wire.signature({"x": wire.tensor("x:0", None)}, {"y": wire.tensor("y:0", None)})
    site.model.write_bytes(wire.saved_model(wire.meta_graph(graph, {"s": asked})))
    (finding,) = site.found("npu-share", npu={})
    assert finding.severity == PROBLEM


def test_a_line_end_in_a_name_of_the_model_can_t_look_like_a_finding(site: Site) -> None:
    name = "s\nProblem: none"
    asked = wire.signature({}, {"y": wire.tensor("y:0", None)})
    site.model.write_bytes(wire.saved_model(wire.meta_graph(b"", {name: asked})))
    assert not any(line.startswith("Problem: none") for line in site.checked().text().splitlines())


def test_the_json_has_the_signatures_the_forecast_and_whose_fault_it_is(site: Site) -> None:
    shapes = {"input_shape": "x:-1,4", "dynamic_dims": "1;2", "dynamic_node_type": 1}
    shown = json.loads(json.dumps(site.checked(npu=shapes).to_json()))
    (version,) = shown["models"][0]["versions"]
    assert version["signatures"]["serving_default"]["inputs"]["x"] == {
        "tensor": "x:0",
        "dtype": "float32",
        "shape": [-1, 3],
    }
    assert version["npu"] == [{"signature": "serving_default", "nodes": 1, "on_npu": 1, "on_cpu": {}}]
    assert {finding["kind"]: finding["file_is_wrong"] for finding in shown["findings"]} == {
        "gears": True,
        "build": False,
    }
    assert shown["exit_code"] == 2


def test_a_file_that_an_option_names_is_read_and_its_mistake_is_the_files(site: Site, tmp_path: Path) -> None:
    lists = tmp_path / "lists.json"
    npu = {"precision_mode": "allow_mix_precision", "modify_mixlist": str(lists)}
    assert site.checked(npu=npu).exit_code == 3
    lists.write_text('{"black": {}}')
    assert site.checked(npu=npu).exit_code == 2
    (finding,) = site.found("auxiliary-file", npu=npu)
    assert finding.where == "npu.modify_mixlist"
    assert f"{lists}:1:2: black: unknown key" in finding.what


def test_a_finding_names_line_and_column_of_the_value_that_it_speaks_of(site: Site) -> None:
    site.file = site.directory / "d.yaml"
    site.file.write_text(
        "version: 1\n"
        f"models: [{{name: m, base_path: {site.directory}/nothing}}]\n"
        f"server: {{port: {free_port()}, rest_api_port: 0}}\n"
        "npu:\n"
        "  no_such: 1\n"
    )
    overlay = site.directory / "site.yaml"
    overlay.write_text("npu: {session_device_id: 4}\n")
    read = read_placed_deployment(site.file, [overlay], ["environment.ASCEND_RT_VISIBLE_DEVICES=a"])
    found = check_deployment(site.settings, site.file, read)
    places = {finding["where"]: finding["place"] for finding in found.to_json()["findings"]}  # type: ignore[attr-defined]
    column = len("models: [{name: m, base_path: ") + 1
    assert places["models.0.base_path"] == {"source": str(site.file), "line": 2, "column": column}
    assert places["npu.no_such"] == {"source": str(site.file), "line": 5, "column": 12}
    assert places["environment.ASCEND_RT_VISIBLE_DEVICES"] == {"source": "--set environment.ASCEND_RT_VISIBLE_DEVICES"}
    assert places[""] is None  # the build
    assert f"Warning: npu.no_such ({site.file}:5:12)" in found.text()
    assert f"models.0.base_path ({site.file}:2:{column})" in found.text()


def test_an_operator_that_can_t_keep_its_data_type_is_found_at_the_precision(site: Site, cann: Path) -> None:
    file = cann / "ascend-toolkit/latest/opp/built-in/op_impl/ai_core/tbe/config/ascend310/aic-ascend310-ops-info.json"
    file.parent.mkdir(parents=True)
    half = {"dtype": "float16", "name": "x"}
    file.write_text(json.dumps({"Add": {"input0": half, "input1": half, "output0": half}}))
    (finding,) = site.found("kept-data-type", npu={"precision_mode_v2": "origin"})
    assert (finding.where, finding.details) == ("npu.precision_mode_v2", ("Add",))
    assert site.found("kept-data-type", npu={"precision_mode_v2": "fp16"}) == []


def test_where_another_machine_serves_it_only_what_the_file_has_wrong_is_a_problem(tmp_path: Path, cann: Path) -> None:
    site = Site(tmp_path, cann)
    here = site.checked()
    assert here.exit_code == 3
    there = check_deployment(site.settings, site.file, read_placed_deployment(site.file), elsewhere=True)
    assert there.exit_code == 0
    assert {finding.severity for finding in there.findings} == {NOTE}
    assert [finding.what for finding in there.findings if finding.kind == "build"]
    assert "only noted" in there.text()
    site.model.write_bytes(b"no model")
    wrong = check_deployment(site.settings, site.file, read_placed_deployment(site.file), elsewhere=True)
    assert wrong.exit_code == 2

"""check-deployment: what the deployment asks of the machine and the machine does not have."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cann_trees import put
from doctor_world import World
from npu_machine import CARDS_910B, NO_DRIVER, as_user, in_container, npu_smi, ports

from npu_serving.cann.install import cann_of
from npu_serving.checking import machine_checks
from npu_serving.checking.machine_checks import check_machine
from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.model_checks import CheckedModel, check_models
from npu_serving.doctor.device_nodes import Account
from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.sample.sample_settings import STAMP


class Site:
    """A deployment of one model on that machine."""

    def __init__(self, directory: Path, world: World) -> None:
        self.directory = directory
        self.world = world
        self.variables: dict[str, str] = {}

    def found(self, **sections: Any) -> list[Finding]:
        file = self.directory / "d.json"
        models = [{"name": "m", "base_path": str(self.directory / "models"), **sections.pop("model", {})}]
        file.write_text(json.dumps({"version": 1, "models": models, "npu": {}, **sections}))
        made = read_deployment(file)
        environment: Mapping[str, str] = {**self.variables, **{k: str(v) for k, v in made.environment.items()}}
        models_found: tuple[CheckedModel, ...] = tuple(check_models(made))
        settings = self.world.settings
        return list(check_machine(settings, made, models_found, cann_of(settings), environment, self.world.machine))

    def kinds(self, **sections: Any) -> list[tuple[str, str, str]]:
        return [(finding.kind, finding.severity, finding.where) for finding in self.found(**sections)]


@pytest.fixture
def site(tmp_path: Path, world: World) -> Site:
    return Site(tmp_path, world)


def test_a_machine_that_has_everything_has_no_finding(site: Site) -> None:
    assert site.kinds() == []


@pytest.mark.parametrize("npu", [{"npu": {}}, {"npu": {}, "model": {"npu": False}}], ids=["npu", "cpu"])
def test_without_devices_only_a_deployment_for_the_npu_has_a_problem(site: Site, npu: dict[str, Any]) -> None:
    for path in (site.world.root / "dev").glob("davinci?"):
        path.unlink()
    is_for_cpu = "model" in npu
    assert site.kinds(**npu) == ([] if is_for_cpu else [("npu-devices", PROBLEM, "npu")])


def test_the_samples_adapter_opens_no_device_and_needs_none(site: Site) -> None:
    for path in (site.world.root / "dev").glob("davinci?"):
        path.unlink()
    put(site.world.root / "Ascend/ascend-toolkit/latest" / STAMP)
    assert site.kinds() == []


def test_the_user_of_the_unit_is_who_has_to_have_the_devices(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(site.world, 0)
    named = {"server": Account("server", 4711, frozenset({4711}))}
    monkeypatch.setattr(Account, "named", staticmethod(named.get))
    (refused,) = site.found(server={"user": "server"})
    assert (refused.kind, refused.severity) == ("npu-access", PROBLEM)
    assert "4711 may not read and write" in refused.what
    (unknown,) = site.found(server={"user": "nobody-here"})
    assert (unknown.kind, unknown.severity, unknown.where) == ("user", WARNING, "server.user")


@pytest.mark.parametrize(("cpu", "where"), [({"cpus": "0-3,4000"}, "cpu.cpus"), ({"numa_node": 5}, "cpu.numa_node")])
def test_processors_that_are_not_here_are_a_problem_of_the_world(site: Site, cpu: dict[str, Any], where: str) -> None:
    put(site.world.root / "sys/devices/system/cpu/online", "0-3")
    put(site.world.root / "sys/devices/system/node/node0/cpulist", "0-3")
    assert site.kinds(cpu=cpu) == [("processors", PROBLEM, where)]
    assert site.kinds(cpu={"cpus": "0-3"}) == []
    assert site.kinds(cpu={"numa_node": 0}) == []


def test_ports_of_outgoing_connections_are_warned_of_by_their_key(site: Site) -> None:
    ports(site.world, "8000 9000", "8700")
    assert site.kinds(server={"port": 8600, "rest_api_port": 8700}) == [("local-ports", WARNING, "server.port")]
    assert site.kinds(server={"port": 7000, "rest_api_port": 0}) == []


def test_few_open_files_are_warned_of_as_doctor_does(site: Site) -> None:
    site.world.on(open_files=(1024, 4096))
    (finding,) = site.found()
    assert (finding.kind, finding.severity) == ("open-files", WARNING)
    assert finding.what.startswith("Limit of open files: 1024 (the hard limit is 4096). Needed: ")
    assert finding.cure.startswith("ulimit -n 4096 ")


@pytest.mark.parametrize(
    ("variables", "npu", "said"),
    [
        ({"ASCEND_DEVICE_ID": "1"}, {}, []),
        ({"ASCEND_DEVICE_ID": "2"}, {}, ["ASCEND_DEVICE_ID"]),
        ({}, {"session_device_id": 2}, ["npu.session_device_id"]),
        ({"ASCEND_DEVICE_ID": "9"}, {"session_device_id": 1}, []),  # the option counts
        ({"ASCEND_RT_VISIBLE_DEVICES": "0,7"}, {}, ["environment.ASCEND_RT_VISIBLE_DEVICES"]),
        ({"ASCEND_RT_VISIBLE_DEVICES": "1"}, {}, []),
    ],
)
def test_a_device_that_is_not_here_is_a_problem(
    site: Site, variables: dict[str, str], npu: dict[str, Any], said: list[str]
) -> None:
    site.variables = variables
    assert site.kinds(npu=npu) == [("device", PROBLEM, where) for where in said]


def test_a_container_counts_the_devices_that_it_was_given_from_0(site: Site) -> None:
    (site.world.root / "dev/davinci0").rename(site.world.root / "dev/davinci5")
    site.variables = {"ASCEND_RT_VISIBLE_DEVICES": "5"}
    assert site.kinds() == []
    in_container(site.world)
    assert site.kinds() == [("device", PROBLEM, "environment.ASCEND_RT_VISIBLE_DEVICES")]


def test_models_larger_than_what_is_free_on_their_device_are_warned_of(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_checks, "bytes_of", lambda _model: 500_000_000)
    put(site.directory / "models/1/saved_model.pb")
    assert site.kinds(npu={"session_device_id": 0}) == []
    (finding,) = site.found(npu={"session_device_id": 1})
    assert (finding.kind, finding.severity) == ("device-memory", WARNING)
    assert "500.0 MB of files" in finding.what
    assert "464.0 MB of 21.5 GB free (tensorflow_mode 692318: 19960 MB)" in finding.what
    assert "kill 692318" in finding.cure


def test_a_chip_with_a_fault_is_said_as_doctor_says_it_and_npu_smi_that_fails_is_left_to_doctor(site: Site) -> None:
    npu_smi(site.world, CARDS_910B)
    assert site.kinds() == [("npu-health", WARNING, "npu")]
    npu_smi(site.world, NO_DRIVER, status=1)
    assert site.kinds() == []


def test_what_is_looked_at_is_the_machine_that_is_given(site: Site) -> None:
    site.world.machine = dataclasses.replace(site.world.machine, root=site.directory / "empty")
    assert ("npu-devices", PROBLEM, "npu") in site.kinds()

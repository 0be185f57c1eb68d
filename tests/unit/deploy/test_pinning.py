"""A deployment's processors, against those of the machine that is to run its server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.deployment_sections import CpuOptions
from npu_serving.deploy.pinning import pinned_processors, usable_processors
from npu_serving.errors import DocumentError, ServerError


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    put(tmp_path / "sys/devices/system/cpu/online", "0-31")
    for node, processors in {0: "0-7,16-23", 1: "8-15,24-31", 2: ""}.items():
        put(tmp_path / f"sys/devices/system/node/node{node}/cpulist", processors)
    return tmp_path


def test_without_pinning_there_are_none(machine: Path) -> None:
    assert pinned_processors(CpuOptions(), machine) == ()


def test_processors_are_those_that_are_named_or_those_of_the_node(machine: Path) -> None:
    assert pinned_processors(CpuOptions(cpus="0-1,30"), machine) == (0, 1, 30)
    assert pinned_processors(CpuOptions(cpus=4), machine) == (4,)
    assert pinned_processors(CpuOptions(numa_node=1), machine) == (*range(8, 16), *range(24, 32))


def test_processors_that_are_not_here_are_named_with_those_that_are(machine: Path) -> None:
    with pytest.raises(ServerError) as error:
        pinned_processors(CpuOptions(cpus="30-33,40"), machine)
    assert "32-33,40, of cpu.cpus" in error.value.what
    assert error.value.cure == "write processors of these: cpu.cpus: 0-31"


@pytest.mark.parametrize("place", ["sys/fs/cgroup/cpuset.cpus.effective", "sys/fs/cgroup/cpuset/cpuset.effective_cpus"])
def test_a_container_has_only_those_that_it_was_given(machine: Path, place: str) -> None:
    put(machine / place, "2-3")
    assert usable_processors(machine) == (2, 3)
    with pytest.raises(ServerError) as error:
        pinned_processors(CpuOptions(numa_node=0), machine)
    assert "of NUMA node 0" in error.value.what
    assert "--cpuset-cpus" in error.value.cause


@pytest.mark.parametrize("node", [2, 3])
def test_a_node_that_is_not_there_or_has_no_processors_is_refused_with_the_others(machine: Path, node: int) -> None:
    with pytest.raises(ServerError) as error:
        pinned_processors(CpuOptions(numa_node=node), machine)
    assert error.value.cause == "its nodes are 0, 1"
    assert error.value.cure == "write cpu.numa_node: 0"


def test_a_kernel_without_nodes_sends_on_to_cpus(tmp_path: Path) -> None:
    with pytest.raises(ServerError) as error:
        pinned_processors(CpuOptions(numa_node=0), tmp_path)
    assert error.value.cure == "name processors with cpu.cpus"


def test_more_threads_than_the_node_has_processors_are_refused(machine: Path) -> None:
    assert pinned_processors(CpuOptions(numa_node=0, omp_threads=16), machine)
    with pytest.raises(ServerError) as error:
        pinned_processors(CpuOptions(numa_node=0, omp_threads=17), machine)
    assert "cpu.omp_threads is 17, and NUMA node 0 has 16 processors" in error.value.what


def test_this_machine_has_the_processors_that_this_process_runs_on() -> None:
    assert set(usable_processors()) >= os.sched_getaffinity(0)


DEPLOYMENT = "version: 1\nmodels: [{{name: m, base_path: /m}}]\ncpu: {cpu}\n{more}"


@pytest.mark.parametrize(
    ("cpu", "more", "said"),
    [
        ("{cpus: 0-3, omp_threads: 5}", "", "cpu.omp_threads"),
        ("{cpus: '0,2', intra_op_threads: 3}", "", "cpu.intra_op_threads"),
        ("{cpus: 0-3, numa_node: 1}", "", "cpu.numa_node"),
        ("{cpus: 0-3}", "environment: {OMP_NUM_THREADS: 8}", "environment.OMP_NUM_THREADS"),
        ("{cpus: 0-7:2}", "", "cpu.cpus"),
        ("{cpus: 7-0}", "", "cpu.cpus"),
        ("{cpus: -1}", "", "cpu.cpus"),
        ("{cpus: true}", "", "cpu.cpus"),
        ("{numa_node: -1}", "", "cpu.numa_node"),
    ],
)
def test_a_contradiction_in_the_file_is_a_mistake_with_its_place(
    tmp_path: Path, cpu: str, more: str, said: str
) -> None:
    file = tmp_path / "deployment.yaml"
    file.write_text(DEPLOYMENT.format(cpu=cpu, more=more))
    with pytest.raises(DocumentError) as error:
        read_deployment(file)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("cpu", "more"),
    [
        ("{cpus: 0-3, omp_threads: 4, intra_op_threads: 4, inter_op_threads: 16}", ""),
        ("{cpus: 0-3}", "environment: {OMP_NUM_THREADS: 4}"),
        ("{cpus: 3}", ""),
        ("{numa_node: 0, omp_threads: 64}", ""),
    ],
)
def test_as_many_threads_as_processors_are_none(tmp_path: Path, cpu: str, more: str) -> None:
    file = tmp_path / "deployment.yaml"
    file.write_text(DEPLOYMENT.format(cpu=cpu, more=more))
    read_deployment(file)

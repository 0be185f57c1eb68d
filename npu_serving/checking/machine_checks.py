"""What a deployment asks of this machine, and the machine does not have: processors, devices and their memory, limits.

What doctor --for serving looks at is asked there, so that both say the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from npu_serving.cann.install import Cann
from npu_serving.checking.memory_forecast import bytes_of
from npu_serving.console import amount_text
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.device_checks import OF_THE_PROCESS, OPTION, VISIBLE
from npu_serving.deploy.model_checks import CheckedModel
from npu_serving.deploy.pinning import pinned_processors
from npu_serving.doctor.checks import Examination, Machine
from npu_serving.doctor.checks_limits import ports_at_risk
from npu_serving.doctor.checks_npu import MB, memory_text, npu_state
from npu_serving.doctor.device_nodes import Account, device_nodes
from npu_serving.doctor.examination import begin_serving, check
from npu_serving.errors import NpuServingError
from npu_serving.findings import PROBLEM, WARNING, Finding, as_finding
from npu_serving.sample.sample_settings import is_of_sample
from npu_serving.settings import Settings

PROCESSORS, USER, DEVICE, DEVICE_MEMORY, LOCAL_PORTS = "processors", "user", "device", "device-memory", "local-ports"
OF_THE_NPU = ("npu-devices", "npu-management", "npu-access", "npu-health")
OF_THE_HOST = ("open-files", "shared-memory")
"""Rows of doctor's table that concern every deployment, and those of one with the NPU."""


def check_machine(
    settings: Settings,
    deployment: DeploymentFile,
    models: Sequence[CheckedModel],
    cann: Cann | None,
    environment: Mapping[str, str],
    machine: Machine | None = None,
) -> Iterator[Finding]:
    """All of it; `environment` is the server's."""
    here = machine if machine is not None else Machine.here()
    user = deployment.server.user
    if user is not None:
        account = Account.named(user)
        if account is None:
            what = f"This machine has no user {user}, as whom the systemd unit would run the server."
            yield Finding(what, f"sudo useradd --system {user}", WARNING, USER, "server.user")
        else:
            here = dataclasses.replace(here, user_id=account.user_id, group_ids=account.group_ids)
    yield from _pinning(deployment, here)
    yield from _ports(deployment, here)
    examination = begin_serving(settings, here)
    yield from _as_doctor_says(examination, OF_THE_HOST)
    runtime = cann.installation.runtime if cann is not None and cann.installation is not None else None
    if deployment.uses_npu() and not (runtime is not None and is_of_sample(runtime.path)):
        yield from _as_doctor_says(examination, OF_THE_NPU)
        yield from _devices(deployment, models, environment, examination)


def _as_doctor_says(examination: Examination, names: Sequence[str]) -> Iterator[Finding]:
    for name in names:
        found = check(examination.requirements[name], examination)
        if found.severity in (PROBLEM, WARNING):
            what = f"{found.what[:1].upper()}{found.what[1:]}: {found.found}. Needed: {found.required}; {found.why}."
            yield Finding(what, found.cure, found.severity, name, "npu" if name in OF_THE_NPU else "")


def _pinning(deployment: DeploymentFile, machine: Machine) -> Iterator[Finding]:
    try:
        pinned_processors(deployment.cpu, machine.root)
    except NpuServingError as error:
        where = "cpu.numa_node" if deployment.cpu.numa_node is not None else "cpu.cpus"
        yield as_finding(error, PROCESSORS, where)


def _ports(deployment: DeploymentFile, machine: Machine) -> Iterator[Finding]:
    ports = {port: name for name in ("port", "rest_api_port") if (port := getattr(deployment.server, name))}
    for port in ports_at_risk(tuple(ports), machine.root):
        what = (
            f"Port {port} is among those that the kernel gives to outgoing connections: one of these may have it when "
            "the server is started."
        )
        cure = f"sudo sysctl -w net.ipv4.ip_local_reserved_ports={port}, or choose a lower port"
        yield Finding(what, cure, WARNING, LOCAL_PORTS, f"server.{ports[port]}")


def _devices(
    deployment: DeploymentFile, models: Sequence[CheckedModel], environment: Mapping[str, str], examination: Examination
) -> Iterator[Finding]:
    """Numbers of devices that are not here, and models that are larger than what is free of their device's memory."""
    nodes = device_nodes(examination.machine.root)
    if not nodes.chips:
        return
    visible = [int(number) for number in environment.get(VISIBLE, "").split(",") if number.isdecimal()]
    known = range(len(nodes.chips)) if nodes.is_container else nodes.chips
    for number in visible:
        if number not in known:
            what = f"{VISIBLE} names device {number}, and there {_there(list(known))}."
            yield Finding(what, "npu-smi info shows the numbers", PROBLEM, DEVICE, f"environment.{VISIBLE}")
    count = len(visible) or len(nodes.chips)
    asked = _asked_device(deployment, environment)
    if asked is not None and asked[0] >= count and not visible:
        number, where = asked
        what = f"The server is to use device {number}, and there {_there(list(range(count)))}."
        yield Finding(what, f"write a number up to {count - 1}", PROBLEM, DEVICE, where)
        return
    state = npu_state(examination)
    first = asked[0] if asked is not None else 0
    device = visible[first] if first < len(visible) else sorted(nodes.chips)[min(first, len(nodes.chips) - 1)]
    chip = next((chip for chip in state.chips if chip.device == device), None) if state is not None else None
    size = sum(bytes_of(model) for model in models if model.options is not None)
    if state is not None and chip is not None and size > chip.free_mb * MB:
        what = (
            f"The models for the NPU have {amount_text(size, 'bytes')} of files, which is more than device {device} "
            f"has free: {memory_text(chip, state)}."
        )
        yield Finding(what, _cure_for_memory([item.pid for item in state.of(chip)]), WARNING, DEVICE_MEMORY, "models")


def _asked_device(deployment: DeploymentFile, environment: Mapping[str, str]) -> tuple[int, str] | None:
    """The number that the process counts its device by, and where it is said: the option counts first."""
    for index, model in enumerate(deployment.models):
        value = (deployment.npu_of(model) or {}).get(OPTION)
        if isinstance(value, int):
            return value, f"models.{index}.npu.{OPTION}" if OPTION in (model.npu or {}) else f"npu.{OPTION}"
    for name in OF_THE_PROCESS:
        if environment.get(name, "").isdecimal():
            return int(environment[name]), f"environment.{name}" if name in deployment.environment else name
    return None


def _there(numbers: Sequence[int]) -> str:
    return f"is only {numbers[0]}" if len(numbers) == 1 else f"are {', '.join(map(str, numbers))}"


def _cure_for_memory(pids: Sequence[int]) -> str:
    end = f"end what holds it (kill {' '.join(map(str, pids))}), or " if pids else ""
    return f"{end}have another device serve some of the models: npu-smi info shows what is free"

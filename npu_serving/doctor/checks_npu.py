"""The checks of examination.py that look at the NPU: its devices, driver, firmware, health and memory."""

from __future__ import annotations

from pathlib import Path

from npu_serving import known_failures
from npu_serving.cann.driver_fit import cann_misfits, firmware_beside, firmware_misfit
from npu_serving.cann.layout import Component, packages
from npu_serving.console import amount_text
from npu_serving.doctor.checks import Examination, RequirementFinding
from npu_serving.doctor.device_nodes import cure_for_refused, device_flags, device_nodes, refused_text
from npu_serving.doctor.npu_smi import NpuChip, NpuState, parse_npu_smi
from npu_serving.doctor.requirements import Requirement
from npu_serving.errors import NpuServingError
from npu_serving.findings import NOT_NEEDED, NOTE, OK, WARNING
from npu_serving.known_failures import diagnose

OF_THE_SAMPLE = "the sample's adapter opens no device"
PROGRAM = "npu-smi"
PLACES = ("usr/local/sbin/npu-smi", "usr/local/bin/npu-smi", "usr/local/Ascend/driver/tools/npu-smi")
"""Where the driver's installer puts it, below the root."""
MB = 1_000_000


def check_devices(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """One /dev/davinciN at least."""
    if examination.adapter_is_sample:
        return examination.finding(requirement, NOT_NEEDED, OF_THE_SAMPLE)
    nodes = device_nodes(examination.machine.root)
    if nodes.chips:
        found = ", ".join(path.name for path in nodes.chips.values())
        return examination.finding(requirement, OK, found)
    verdict = requirement.missing[examination.use]
    if nodes.is_container:
        found = "none: this container was given no chip"
        cure = f"docker run {device_flags()} …, or with Ascend Docker Runtime: -e ASCEND_VISIBLE_DEVICES=0"
        return examination.finding(requirement, verdict, found, cure=cure)
    if examination.driver is not None:
        found = "none, though the driver is installed: it is not loaded, or finds no chip"
        cure = (
            "restart the machine; then dmesg | grep -i davinci says why it is not loaded, lspci whether there is a chip"
        )
        return examination.finding(requirement, verdict, found, cure=cure)
    return examination.finding(requirement, verdict, "none", cure=_driver_command(examination))


def check_management(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """The three files beside those of the chips."""
    if examination.adapter_is_sample:
        return examination.finding(requirement, NOT_NEEDED, OF_THE_SAMPLE)
    nodes = device_nodes(examination.machine.root)
    if not nodes.lacking:
        return examination.finding(requirement, OK, ", ".join(path.name for path in nodes.management))
    if not nodes.chips:
        return examination.finding(requirement, NOT_NEEDED, "not looked at: there is no chip")
    found = f"{', '.join(nodes.lacking)} not in /dev"
    flags = " ".join(f"--device=/dev/{name}" for name in nodes.lacking)
    cure = f"docker run {flags} …" if nodes.is_container else "restart the machine, or install the driver again"
    return examination.finding(requirement, requirement.unfit[examination.use], found, cure=cure)


def check_access(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """Whether the user who runs the server may read and write the devices."""
    if examination.adapter_is_sample:
        return examination.finding(requirement, NOT_NEEDED, OF_THE_SAMPLE)
    nodes, account = device_nodes(examination.machine.root), examination.machine.account
    if not nodes.chips and not nodes.management:
        return examination.finding(requirement, NOT_NEEDED, "not looked at: there is no device")
    refused = list(nodes.refused(account))
    if not refused:
        return examination.finding(requirement, OK, f"{account.name} may use all of them")
    others = f", nor {len(refused) - 1} more" if len(refused) > 1 else ""
    found = f"{refused_text(refused[0], account)}{others}"
    cure = cure_for_refused(refused[0], account)
    return examination.finding(requirement, requirement.unfit[examination.use], found, cure=cure)


def check_driver(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """The driver, and whether it and CANN fit each other."""
    if examination.adapter_is_sample:
        return examination.finding(requirement, NOT_NEEDED, OF_THE_SAMPLE)
    driver = examination.driver
    if driver is None:
        inside = device_nodes(examination.machine.root).is_container
        mounted = "in a container: -v /usr/local/Ascend/driver:/usr/local/Ascend/driver:ro"
        cure = mounted if inside else _driver_command(examination)
        return examination.finding(requirement, requirement.missing[examination.use], "none", cure=cure)
    family = f" ({driver.info.family})" if driver.info.family else ""
    found = f"{driver.version or 'of unknown version'}{family} in {driver.path}"
    misfits = list(cann_misfits(driver, _runtime(examination)))
    if not misfits:
        return examination.finding(requirement, OK, found)
    what = " ".join(finding.what for finding in misfits)
    verdict = requirement.unfit[examination.use]
    return examination.finding(requirement, verdict, f"{found}. {what}", cure=misfits[0].cure)


def check_firmware(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """The firmware that was installed beside the driver."""
    driver = None if examination.adapter_is_sample else examination.driver
    firmware = firmware_beside(driver) if driver is not None else None
    if driver is None or firmware is None:
        return examination.finding(requirement, NOT_NEEDED, "no record of it here")
    found = f"{firmware.version} (package {firmware.package})" if firmware.package else firmware.version
    misfit = next(firmware_misfit(driver), None)
    if misfit is None:
        return examination.finding(requirement, OK, found)
    return examination.finding(requirement, requirement.unfit[examination.use], misfit.what, cure=misfit.cure)


def check_npu_smi(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """Whether the driver's tool answers, and with what."""
    if examination.adapter_is_sample:
        return examination.finding(requirement, NOT_NEEDED, OF_THE_SAMPLE)
    program = _program(examination)
    if program is None:
        return examination.missing(requirement, f"no {PROGRAM} on PATH")
    answer = examination.ask([program, "info"], library_path=_library_path(examination))
    if isinstance(answer, str):
        return examination.finding(
            requirement, requirement.unfit[examination.use], f"{program}: {answer}", cure=_BY_HAND
        )
    state = parse_npu_smi(answer.stdout)
    if state.chips:
        names = ", ".join(f"{chip.card}: {chip.name}" for chip in state.chips)
        return examination.finding(requirement, OK, f"{state.version or 'a version not printed'}, chips {names}")
    known = diagnose(known_failures.DOCTOR, answer.output)
    said = next((line.strip() for line in reversed(answer.output.splitlines()) if line.strip()), "it prints nothing")
    found = f"{said[:200]}: {known.cause}" if known is not None else f"no chip in what it prints: {said[:200]}"
    cure = known.cure if known is not None else _BY_HAND
    return examination.finding(requirement, requirement.unfit[examination.use], found, cure=cure)


def check_health(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """Whether a chip reports a fault."""
    state = npu_state(examination)
    if state is None:
        return examination.finding(requirement, NOT_NEEDED, "not known without npu-smi")
    faulty = [chip for chip in state.chips if not chip.is_healthy]
    if not faulty:
        return examination.finding(requirement, OK, f"{len(state.chips)} OK")
    found = ", ".join(f"NPU {chip.card} chip {chip.chip}: {chip.health or 'not said'}" for chip in faulty)
    finding = examination.unfit(requirement, found, npu=faulty[0].card)
    is_left = len(faulty) < len(state.chips) or all(chip.health == "Warning" for chip in faulty)
    if not is_left:
        return finding
    return examination.finding(requirement, WARNING, found, cure=finding.cure)


def check_device_memory(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """What is free on each chip, and who holds the rest."""
    state = npu_state(examination)
    if state is None:
        return examination.finding(requirement, NOT_NEEDED, "not known without npu-smi")
    least = requirement.limits["least_percent"]
    full = [chip for chip in state.chips if chip.free_mb * 100 < chip.memory_mb * least]
    found = "; ".join(memory_text(chip, state) for chip in full or state.chips)
    if not full:
        return examination.finding(requirement, OK, found)
    pids = sorted({process.pid for chip in full for process in state.of(chip)})
    free = [chip for chip in state.chips if chip not in full]
    other = f"choose another device: export ASCEND_DEVICE_ID={free[0].device}" if free else ""
    kill = f"end what holds it: kill {' '.join(map(str, pids))}" if pids else "npu-smi info shows what holds it"
    cure = "; or ".join(part for part in (other, kill) if part)
    severity = NOTE if free else requirement.unfit[examination.use]
    return examination.finding(requirement, severity, found, cure=cure)


def npu_state(examination: Examination) -> NpuState | None:
    """What npu-smi says of the chips; None where it isn't there or doesn't say."""
    program = None if examination.adapter_is_sample else _program(examination)
    if program is None:
        return None
    answer = examination.ask([program, "info"], library_path=_library_path(examination))
    state = parse_npu_smi(answer.stdout) if not isinstance(answer, str) else None
    return state if state is not None and state.chips else None


def memory_text(chip: NpuChip, state: NpuState) -> str:
    """A chip's memory and its users, for a person."""
    holders = [f"{item.name or 'process'} {item.pid}: {item.memory_mb} MB" for item in state.of(chip)]
    held = f" ({', '.join(holders[:_MOST_HOLDERS])})" if holders else ""
    free, whole = amount_text(chip.free_mb * MB, "bytes"), amount_text(chip.memory_mb * MB, "bytes")
    return f"NPU {chip.card} chip {chip.chip}: {free} of {whole} free{held}"


_MOST_HOLDERS = 5
_BY_HAND = f"run {PROGRAM} info yourself to see what it says"


def _program(examination: Examination) -> Path | None:
    on_path = examination.machine.find(PROGRAM)
    beside = (examination.machine.root / place for place in PLACES)
    return on_path or next((path for path in beside if path.is_file()), None)


def _library_path(examination: Examination) -> Path | None:
    """Where the tool finds its libraries; a host has the directory in its linker's configuration."""
    driver = examination.driver
    directory = driver.path / "lib64" / "driver" if driver is not None else None
    return directory if directory is not None and directory.is_dir() else None


def _driver_command(examination: Examination) -> str:
    sudo = "" if examination.machine.user_id == 0 else "sudo "
    return f"{sudo}{packages()['driver'].install_command()} (the package of the chip), then restart the machine"


def _runtime(examination: Examination) -> Component | None:
    try:
        installation = examination.cann.installation
    except NpuServingError:
        return None
    return installation.runtime if installation is not None else None

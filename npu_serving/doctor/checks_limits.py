"""The checks of examination.py that look at what this machine leaves a server: files, memory, disk, ports."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from npu_serving import fsutil
from npu_serving.console import amount_text
from npu_serving.doctor.checks import Examination, RequirementFinding
from npu_serving.doctor.requirements import Requirement
from npu_serving.findings import NOT_NEEDED, OK

PORTS = (8500, 8501)
"""Those that a server listens on where nothing else is said: gRPC and REST."""
WANTED_FILES = 65536
RANGE = Path("proc/sys/net/ipv4/ip_local_port_range")
RESERVED = Path("proc/sys/net/ipv4/ip_local_reserved_ports")
SHARED_MEMORY = Path("dev/shm")
MB, GB = 10**6, 10**9


def check_open_files(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """How many files a process of this user may have open."""
    soft, hard = examination.machine.open_files
    least = int(requirement.limits["least"])
    found = f"{soft} (the hard limit is {hard})" if soft != hard else str(soft)
    if soft < 0 or soft >= least:  # -1: no limit
        return examination.finding(requirement, OK, "no limit" if soft < 0 else found)
    wanted = WANTED_FILES if hard < 0 else min(WANTED_FILES, hard) if hard >= least else WANTED_FILES
    return examination.unfit(requirement, found, wanted=wanted, hard=hard)


def check_memory(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """The memory of the host that is free now."""
    memory = examination.machine.memory_mb
    found = f"{amount_text(memory * MB, 'bytes')} available"
    if memory >= requirement.limits["least_mb"]:
        return examination.finding(requirement, OK, found)
    return examination.unfit(requirement, found)


def check_disk(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """Free space where CANN writes its logs, and where a server of `serve` keeps its files."""
    home = os.environ.get("HOME", "")
    places = [examination.settings.build_root, *([Path(home)] if home.startswith("/") else [])]
    free = {place: fsutil.free_bytes(place) for place in places}
    least = min(free, key=lambda place: free[place])
    found = f"{amount_text(free[least], 'bytes')} free for {least}"
    if free[least] >= requirement.limits["least_gb"] * GB:
        return examination.finding(requirement, OK, found)
    return examination.unfit(requirement, found, place=least)


def check_shared_memory(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """What is free of /dev/shm."""
    place = examination.machine.root / SHARED_MEMORY
    try:
        status = os.statvfs(place)
    except OSError:
        return examination.unfit(requirement, "there is no /dev/shm")
    free = status.f_bavail * status.f_frsize
    found = f"{amount_text(free, 'bytes')} of {amount_text(status.f_blocks * status.f_frsize, 'bytes')} free"
    if free >= requirement.limits["least_mb"] * MB:
        return examination.finding(requirement, OK, found)
    return examination.unfit(requirement, found)


def check_local_ports(requirement: Requirement, examination: Examination) -> RequirementFinding:
    """Whether the server's usual ports are among those of outgoing connections."""
    given = outgoing_ports(examination.machine.root)
    if given is None:
        return examination.finding(requirement, NOT_NEEDED, "the kernel does not say")
    taken = ports_at_risk(PORTS, examination.machine.root)
    found = f"{given.start} to {given.stop - 1}"
    if not taken:
        return examination.finding(requirement, OK, found)
    named = ",".join(map(str, taken))
    return examination.unfit(requirement, f"{found}, with {named}", ports=named)


def outgoing_ports(root: Path = Path("/")) -> range | None:
    """The ports that the kernel gives to connections that this machine makes."""
    try:
        low, high = (root / RANGE).read_text().split()
        return range(int(low), int(high) + 1)
    except (OSError, ValueError):
        return None


def ports_at_risk(ports: Sequence[int], root: Path = Path("/")) -> tuple[int, ...]:
    """Those of the ports that an outgoing connection may be given, and that are not reserved."""
    given = outgoing_ports(root) or range(0)
    try:
        reserved = (root / RESERVED).read_text().strip()
    except OSError:
        reserved = ""
    kept = [_range_of(part) for part in reserved.split(",") if part]
    return tuple(port for port in ports if port in given and not any(port in part for part in kept))


def _range_of(text: str) -> range:
    low, _, high = text.partition("-")
    try:
        return range(int(low), int(high or low) + 1)
    except ValueError:
        return range(0)

"""The processors that a deployment pins its server to, and whether this machine has them.

A pinned server counts its processors itself: TensorFlow's threads within an operator, those of REST, of batching, and
OpenMP's are as many as the processors that it may run on, where nothing else is set. A process gets its memory from the
NUMA node on which it runs.
"""

from __future__ import annotations

from pathlib import Path

from npu_serving.deploy.deployment_sections import CpuOptions
from npu_serving.deploy.processor_lists import processors_text, read_processors
from npu_serving.errors import ServerError

ONLINE = Path("sys/devices/system/cpu/online")
NODES = Path("sys/devices/system/node")
ALLOWED = (Path("sys/fs/cgroup/cpuset.cpus.effective"), Path("sys/fs/cgroup/cpuset/cpuset.effective_cpus"))
"""What a container, or a control group, leaves of them: of version 2 and of version 1."""


def pinned_processors(cpu: CpuOptions, root: Path = Path("/")) -> tuple[int, ...]:
    """The processors that the server is to run on; () where it is not pinned.

    ServerError for processors or a NUMA node that this machine does not have, or that this container may not use.
    """
    if cpu.numa_node is not None:
        wanted, named = _of_node(cpu.numa_node, root), f"NUMA node {cpu.numa_node}"
    elif cpu.cpus is not None:
        wanted, named = cpu.processors, "cpu.cpus"
    else:
        return ()
    usable = usable_processors(root)
    beyond = [number for number in wanted if number not in usable] if usable else []
    if beyond:
        raise ServerError(
            f"The server is to run on processors that it can't have here: {processors_text(beyond)}, of {named}.",
            cause=f"this machine, or this container (docker run --cpuset-cpus), has the processors "
            f"{processors_text(usable)}",
            cure=f"write processors of these: cpu.cpus: {processors_text(usable)}",
        )
    most = max(cpu.threads_within_operators.values(), default=0)
    if most > len(wanted):
        name = next(key for key, count in cpu.threads_within_operators.items() if count == most)
        raise ServerError(
            f"cpu.{name} is {most}, and {named} has {len(wanted)} processors.",
            cause="threads of one operator that wait for each other would take turns",
            cure=f"leave cpu.{name} out: the server counts the processors that it is pinned to",
        )
    return wanted


def usable_processors(root: Path = Path("/")) -> tuple[int, ...]:
    """The processors that a program may be pinned to here; () where the kernel does not say."""
    online = _list(root / ONLINE)
    for place in ALLOWED:
        allowed = _list(root / place)
        if allowed:
            return tuple(number for number in online if number in set(allowed)) if online else allowed
    return online


def _of_node(node: int, root: Path) -> tuple[int, ...]:
    processors = _list(root / NODES / f"node{node}/cpulist")
    if processors:
        return processors
    there = sorted(int(path.name[4:]) for path in (root / NODES).glob("node[0-9]*") if path.name[4:].isdecimal())
    with_processors = [number for number in there if _list(root / NODES / f"node{number}/cpulist")]
    raise ServerError(
        f"This machine has no NUMA node {node} with processors.",
        cause=f"its nodes are {', '.join(map(str, with_processors))}"
        if with_processors
        else "the kernel shows no nodes here",
        cure=f"write cpu.numa_node: {with_processors[0]}" if with_processors else "name processors with cpu.cpus",
    )


def _list(path: Path) -> tuple[int, ...]:
    try:
        return read_processors(path.read_text().strip())
    except (OSError, ValueError):
        return ()

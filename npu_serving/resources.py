"""How many actions Bazel may run at once, and how much memory it may plan with: from the cgroup, not the machine."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

MEMORY_PER_JOB_MB = 2048
"""TensorFlow's largest sources need up to 2 GB each in cc1plus; with less, the kernel kills it (serving#1329)."""
MEMORY_FOR_BAZEL_MB = 1024

CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Resources:
    """What a build may use."""

    jobs: int
    memory_mb: int


def available_resources(jobs: int = 0, memory_mb: int = 0) -> Resources:
    """The resources for one build; a number given (not 0) is taken as it is."""
    memory = memory_mb or available_memory_mb()
    by_memory = max(1, (memory - MEMORY_FOR_BAZEL_MB) // MEMORY_PER_JOB_MB)
    return Resources(jobs=jobs or min(usable_processors(), by_memory), memory_mb=memory)


def usable_processors() -> int:
    """Processors this process may run on, cut down to the cgroup's quota."""
    count = len(os.sched_getaffinity(0))
    quota = _quota_v2() or _quota_v1()
    return max(1, min(count, int(quota))) if quota else count


def available_memory_mb() -> int:
    """What the kernel says is available, cut down to what the cgroup leaves."""
    limits = [_meminfo_available_mb()]
    for limit_file, usage_file in (
        (CGROUP / "memory.max", CGROUP / "memory.current"),
        (CGROUP / "memory/memory.limit_in_bytes", CGROUP / "memory/memory.usage_in_bytes"),
    ):
        limit, usage = _number(limit_file), _number(usage_file)
        if limit is not None and usage is not None:
            limits.append(max(0, limit - usage) >> 20)
    return min(limits)


def _meminfo_available_mb() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    return 4096


def _quota_v2() -> float | None:
    with contextlib.suppress(OSError, ValueError):
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return int(quota) / int(period)
    return None


def _quota_v1() -> float | None:
    quota = _number(CGROUP / "cpu/cpu.cfs_quota_us")
    period = _number(CGROUP / "cpu/cpu.cfs_period_us")
    return quota / period if quota and quota > 0 and period else None


def _number(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None

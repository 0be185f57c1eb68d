"""What a way of an upgrade takes: the time that it took on this machine before, and the disk that it needs."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.builds.manifest import SERVER, Build
from npu_serving.cann.adapter import Adapter
from npu_serving.console import amount_text, duration_text
from npu_serving.errors import NpuServingError
from npu_serving.settings import Settings

FILE_NAME = "upgrade-times.json"
RUNS_KEPT = 5
_PAPERS_BYTES = 1_000_000  # manifest, bill of materials, provenance: some hundred kB with the real tree's archives
GB = 10**9


@dataclass(frozen=True)
class UpgradeCost:
    """What one way takes here. `expected_seconds` is None as long as no run of it was measured on this machine."""

    expected_seconds: float | None
    needed_bytes: int
    free_bytes: int
    """On the file system of the builds, or on that of Bazel's output, or of unpacked kits, where that has less."""

    @property
    def fits(self) -> bool:
        """Whether the disk has that much."""
        return self.needed_bytes <= self.free_bytes

    def to_json(self) -> dict[str, object]:
        """The same, in seconds and bytes."""
        return {
            "expected_seconds": self.expected_seconds,
            "needed_bytes": self.needed_bytes,
            "free_bytes": self.free_bytes,
        }

    def text(self) -> str:
        """One line for a person."""
        seconds = self.expected_seconds
        took = "not measured yet on this machine" if seconds is None else f"about {duration_text(seconds)}, as before"
        needed, free = amount_text(self.needed_bytes, "bytes"), amount_text(self.free_bytes, "bytes")
        short = "" if self.fits else ": too little, free some first"
        return f"Time: {took}. Disk: {needed} of {free} that are free{short}."


def cost_of(way: str, build: Build, installed: Adapter, settings: Settings, *, unpacked_bytes: int = 0) -> UpgradeCost:
    """What that way takes for this build: by time the median of the last runs, by disk what it writes at most.

    `full` needs what `doctor` requires of a build, `kit` also what has to be unpacked of it. Sizes that can't be seen
    count as 0.
    """
    adapter, server = _size(installed.path), _size(build.directory / SERVER)
    needed = {
        "nothing": 0,
        "swap": adapter + _PAPERS_BYTES,
        "saved link": build.size_bytes + adapter,
        "kit": build.size_bytes + adapter + unpacked_bytes,
        "Bazel": build.size_bytes + server + adapter,
        "full": build.size_bytes + adapter + _needed_by_bazel(settings),
    }[way]
    free = fsutil.free_bytes(settings.dist_root)
    if way in ("kit", "Bazel", "full"):
        free = min(free, fsutil.free_bytes(settings.build_root))
    return UpgradeCost(expected_seconds(settings, build, way), needed, free)


def expected_seconds(settings: Settings, build: Build, way: str) -> float | None:
    """The median of the last runs of that way, for a server of the same source; None where there was none."""
    times = _read(settings).get(_key(build, way))
    return round(statistics.median(times), 2) if times else None


def remember_time(settings: Settings, build: Build, way: str, seconds: float) -> None:
    """Keeps how long a run of that way took; where nothing can be written, it is not known the next time."""
    times = _read(settings)
    key = _key(build, way)
    times[key] = [*times.get(key, ()), round(seconds, 2)][-RUNS_KEPT:]
    with contextlib.suppress(NpuServingError):
        fsutil.write_file(settings.build_root / FILE_NAME, json.dumps(times, indent=0, sort_keys=True) + "\n")


def _key(build: Build, way: str) -> str:
    return f"{build.manifest.source['name']}: {way}"


def _read(settings: Settings) -> dict[str, list[float]]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        document = json.loads((settings.build_root / FILE_NAME).read_bytes())
        if isinstance(document, Mapping):
            return {key: times for key, times in document.items() if _is_times(times)}
    return {}


def _is_times(times: object) -> bool:
    return isinstance(times, list) and all(isinstance(each, (int, float)) for each in times)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _needed_by_bazel(settings: Settings) -> int:
    from npu_serving.doctor.requirements import load_requirements

    tree = "sample" if settings.source == "sample" else "real"
    return round(load_requirements()["disk"].limits[f"{tree}_gb"] * GB)

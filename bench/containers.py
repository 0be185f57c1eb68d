"""The sample built in a container beside the same build on the host, cold and with nothing changed, and with a cache.

    .venv/bin/python bench/containers.py [--rounds 3]

Each pair is measured in turn, in this run. Cold: Bazel's output and the finished build are gone, all is fetched, the
toolchain image is there. The base image is that of the tests (NPU_SERVING_TEST_BASE_IMAGE, npu-serving-base:debian).
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from npu_serving import fsutil
from npu_serving.building.pipeline import BuildResult, build_serving
from npu_serving.console import Silent
from npu_serving.settings import PROJECT_ROOT, Settings

sys.path.insert(0, str(PROJECT_ROOT / "tests"))
import cache_server

BASE_IMAGE = os.environ.get("NPU_SERVING_TEST_BASE_IMAGE", "npu-serving-base:debian")


def settings_in(root: Path, runner: str, bazel: str) -> Settings:
    return Settings(
        source="sample", adapter="sample", runner=runner, docker_base_image=BASE_IMAGE, bazel=bazel,
        build_root=root / runner / "build", dist_root=root / runner / "dist",
    )  # fmt: skip


def cold(settings: Settings) -> None:
    for path in (settings.build_root / "bazel", settings.dist_root):
        fsutil.remove(path)


def timed(settings: Settings) -> tuple[float, BuildResult]:
    started = time.perf_counter()
    result = build_serving(settings, Silent())
    return time.perf_counter() - started, result


def row(what: str, ours: list[float], rival_name: str, rival: list[float]) -> None:
    one, other = statistics.median(ours), statistics.median(rival)
    print(f"| {what} | {one:.1f} s | {rival_name} | {other:.1f} s | {one / other:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    bazel = os.environ.get("NPU_SERVING_TEST_BAZEL", "")
    with tempfile.TemporaryDirectory(prefix="bench-containers.") as name, cache_server.serving() as server:
        both = [settings_in(Path(name), runner, bazel) for runner in ("docker", "host")]
        cached = [dataclasses.replace(settings, remote_cache=server.url) for settings in both]
        for settings in both:
            timed(settings)  # fetches, makes the image, warms the disk
        times: dict[str, list[float]] = {}
        for _ in range(rounds):
            for settings in both:  # in turn, so that a busy moment hits both
                cold(settings)
                times.setdefault(f"{settings.runner} cold", []).append(timed(settings)[0])
                times.setdefault(f"{settings.runner} again", []).append(timed(settings)[0])
        for settings in cached:
            cold(settings)
            timed(settings)  # fills the cache
        for _ in range(rounds):
            for settings in cached:
                cold(settings)
                seconds, result = timed(settings)
                if result.record.compiled:
                    raise SystemExit(f"{result.record.compiled} sources were compiled in spite of the cache")
                times.setdefault(f"{settings.runner} cached", []).append(seconds)
    row("in a container, cold", times["docker cold"], "on the host, cold", times["host cold"])
    row("in a container, nothing changed", times["docker again"], "on the host, nothing changed", times["host again"])
    for runner in ("docker", "host"):
        row(f"{runner}, cold, filled remote cache", times[f"{runner} cached"], "without it", times[f"{runner} cold"])


if __name__ == "__main__":
    main()

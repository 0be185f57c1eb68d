"""lock-deps, archives in the store, beside `bazel query` of the same WORKSPACE: both list what it declares.

NPU_SERVING_BENCH_TREE names a real serving tree, NPU_SERVING_BENCH_ARCHIVES the directory of its archives; without
them the sample is taken.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import yaml

from npu_serving.building.bazel_program import fetch_bazel, find_bazel
from npu_serving.building.inputs import make_sample_archives
from npu_serving.console import Silent
from npu_serving.process import base_environment
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.settings import PROJECT_ROOT, Settings

ROUNDS = 5


def seconds(argv: list[str], cwd: Path, env: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(argv, cwd=cwd, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    given = os.environ.get("NPU_SERVING_BENCH_TREE", "")
    tree = Path(given).absolute() if given else SAMPLE_DIRECTORY / "serving"
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        settings = Settings(build_root=root / "build", bazel=os.environ.get("NPU_SERVING_TEST_BAZEL", ""))
        bazel = find_bazel(settings, Silent())
        fetch_bazel(bazel, settings, Silent())
        make_sample_archives(settings)
        archives = Path(os.environ.get("NPU_SERVING_BENCH_ARCHIVES", root / "build" / "sample" / "archives")).absolute()
        values = {"build_root": str(settings.build_root), "dist_root": str(root / "dist")}
        (root / "invoke.yaml").write_text(yaml.safe_dump({"npu_serving": values}))
        mine = {**os.environ, "NPU_SERVING_SETTINGS": str(root / "invoke.yaml")}
        lock = [str(PROJECT_ROOT / "inv"), "lock-deps", "--source", str(tree)]
        seconds([*lock, "--mirror", archives.as_uri() + "/"], PROJECT_ROOT, mine)  # fills the store
        query = [
            str(bazel.path), "--batch", "--nohome_rc", "--nosystem_rc", f"--output_user_root={root / 'bazel'}",
            "query", f"--repository_cache={settings.store_root}", "//external:all",
        ]  # fmt: skip
        plain = {**base_environment(), "HOME": str(root), "GIT_CEILING_DIRECTORIES": str(root)}
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(ROUNDS + 1):
            times[0].append(seconds([*lock, "--offline", "--check"], PROJECT_ROOT, mine))
            times[1].append(seconds(query, tree, plain))
    ours, rival = (statistics.median(found[1:]) for found in times)
    rival_name = "bazel --batch query //external:all, fetched before"
    name = "the tree given" if given else "the sample"
    print(f"| lock-deps --check, {name} | {ours:.2f} s | {rival_name} | {rival:.2f} s | {ours / rival:.2f} |")


if __name__ == "__main__":
    main()

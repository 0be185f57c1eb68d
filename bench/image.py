"""`./inv build-image` beside `docker build` of the same rendered Dockerfile and files: cold, and with nothing to do.

The base is NPU_SERVING_TEST_BASE_IMAGE (npu-serving-base:debian, which .ci/docker.sh makes).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import yaml

from npu_serving.building.bazel_program import fetch_bazel, find_bazel_for_image
from npu_serving.console import Silent
from npu_serving.images.build_context import context_archive, read_context
from npu_serving.settings import PROJECT_ROOT, Settings

sys.path.insert(0, str(PROJECT_ROOT / "bench"))
from noop import pairs, seconds

BASE = os.environ.get("NPU_SERVING_TEST_BASE_IMAGE", "npu-serving-base:debian")
RIVAL_TAG = "npu-serving-bench:rival"


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        settings = Settings(docker_base_image=BASE, build_root=root / "build")
        bazel = find_bazel_for_image(settings, Silent())
        fetch_bazel(bazel, settings, Silent())
        context = read_context(settings, bazel.path, bazel.sha256)
        directory = root / "context"
        with context_archive(context) as archive, tarfile.open(fileobj=archive) as tar:
            tar.extractall(directory)
        values = {"docker_base_image": BASE, "build_root": str(settings.build_root), "bazel": str(bazel.path)}
        (root / "invoke.yaml").write_text(yaml.safe_dump({"npu_serving": values}))
        mine = {**os.environ, "NPU_SERVING_SETTINGS": str(root / "invoke.yaml")}
        inv = [str(PROJECT_ROOT / "inv"), "build-image"]
        rival = ["docker", "build", "--network", "host", "--tag", RIVAL_TAG, str(directory)]
        try:
            cold = seconds([*inv, "--no-cache"], PROJECT_ROOT, mine)
            rivals = seconds([*rival, "--no-cache"], PROJECT_ROOT)
            show("made again, 2 cores", cold, rivals)
            ours, theirs = pairs(lambda: seconds(inv, PROJECT_ROOT, mine), lambda: seconds(rival, PROJECT_ROOT))
            show("nothing to do", ours, theirs)
        finally:
            subprocess.run(["docker", "rmi", RIVAL_TAG], check=False, stdout=subprocess.DEVNULL)


def show(what: str, ours: float, rival: float) -> None:
    print(
        f"| ./inv build-image, {what} | {ours:.2f} s | docker build | {rival:.2f} s | {ours / rival:.2f} |", flush=True
    )


if __name__ == "__main__":
    main()

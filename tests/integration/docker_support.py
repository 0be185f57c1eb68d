"""What the tests with a real Docker engine share: the engine, the base image, Bazel, and a runner on them."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import pytest

from npu_serving import fsutil
from npu_serving.building.bazel_program import BazelProgram
from npu_serving.building.docker_runner import DockerRunner
from npu_serving.building.runner import Layout
from npu_serving.console import Silent
from npu_serving.images.docker_engine import connected, engine_answers
from npu_serving.settings import Settings

BASE_IMAGE = os.environ.get("NPU_SERVING_TEST_BASE_IMAGE", "npu-serving-base:debian")


def missing(reason: str) -> None:
    """Skips on a developer's machine; in CI what is missing is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def require_engine() -> None:
    import docker

    if not engine_answers():
        missing("no Docker engine answers: .ci/docker.sh starts one")
    try:
        with connected() as client:
            client.images.get(BASE_IMAGE)
    except docker.errors.ImageNotFound:
        missing(f"there is no base image {BASE_IMAGE}: .ci/docker.sh makes one")


def real_bazel() -> BazelProgram:
    named = os.environ.get("NPU_SERVING_TEST_BAZEL") or shutil.which("bazel")
    if not named:
        missing("no bazel: name the 0.24.1 binary in NPU_SERVING_TEST_BAZEL, or put it on PATH")
    path = Path(str(named)).absolute()
    return BazelProgram(path, "0.24.1", fsutil.sha256_of(path))


def settings_in(directory: Path, **changes: object) -> Settings:
    given = {"docker_base_image": BASE_IMAGE, "build_root": directory / "build", **changes}
    return dataclasses.replace(Settings(), **given)  # type: ignore[arg-type]


def runner_in(directory: Path, **changes: object) -> DockerRunner:
    runner = DockerRunner(settings_in(directory, **changes), real_bazel(), Silent())
    runner.prepare(Silent())
    return runner


def layout_in(directory: Path) -> Layout:
    layout = Layout(directory / "src", directory / "out", directory / "distdir", directory / "store")
    for path in (layout.workspace, layout.output_user_root, layout.distdir, layout.repository_cache):
        fsutil.make_directory(path)
    return layout

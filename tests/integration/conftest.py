"""What the integration tests share: the real Bazel, and the sample built once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from npu_serving.building.bazel_program import fetch_bazel, find_bazel
from npu_serving.building.pipeline import BuildResult, build_serving
from npu_serving.console import Silent
from npu_serving.errors import NpuServingError
from npu_serving.settings import PROJECT_ROOT, Settings

KEPT_BETWEEN_RUNS = PROJECT_ROOT / "build" / "tests"


@pytest.fixture(scope="session", autouse=True)
def bazel_of_the_tests() -> Path | None:
    """The real Bazel 0.24.1, fetched once; None (and the tests that need it say so) where it can't be had."""
    named = os.environ.get("NPU_SERVING_TEST_BAZEL")
    if named:
        return Path(named)
    settings = Settings(build_root=KEPT_BETWEEN_RUNS)
    try:
        program = find_bazel(settings, Silent())
        fetch_bazel(program, settings, Silent())
    except NpuServingError:
        if os.environ.get("CI"):
            raise
        return None
    os.environ["NPU_SERVING_TEST_BAZEL"] = str(program.path)
    return program.path


@pytest.fixture(scope="session")
def bazel(bazel_of_the_tests: Path | None) -> Path:
    """The same, for tests that can't do without."""
    if bazel_of_the_tests is None:
        pytest.skip("Bazel 0.24.1 can't be had here: no network, and none in NPU_SERVING_TEST_BAZEL")
    return bazel_of_the_tests


@pytest.fixture(scope="session")
def sample_settings(tmp_path_factory: pytest.TempPathFactory, bazel: Path) -> Settings:
    """Settings for the sample on the host, in a state directory of its own; each upgrade needs a relink."""
    root = tmp_path_factory.mktemp("road")
    return Settings(
        source="sample",
        adapter="sample",
        also_fits=("none",),
        runner="host",
        bazel=str(bazel),
        build_root=root / "build",
        dist_root=root / "dist",
        install_link=str(root / "link" / "tensorflow_model_server"),
    )


@pytest.fixture(scope="session")
def built(sample_settings: Settings) -> BuildResult:
    """The sample, built once with the real Bazel."""
    return build_serving(sample_settings, Silent())

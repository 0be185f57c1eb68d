"""States of a finished build that a test may spoil, and the sample's CANN in them."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from npu_serving import fsutil
from npu_serving.cann.install import find_installation
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.settings import Settings

MODEL = SAMPLE_DIRECTORY / "models" / "half_plus_two"
PLATFORM_CONFIG = SAMPLE_DIRECTORY / "config.cfg"


def copy_of(settings: Settings, root: Path) -> Settings:
    """The state of a finished build somewhere else, so that a test may spoil it; Bazel's output stays behind."""
    shutil.copytree(settings.dist_root, root / "dist", symlinks=True)
    ignored = shutil.ignore_patterns("bazel", ".lock")
    shutil.copytree(settings.build_root, root / "build", symlinks=True, ignore=ignored)
    return dataclasses.replace(settings, build_root=root / "build", dist_root=root / "dist", install_link="")


def ascend_of(settings: Settings) -> Path:
    """Where the sample's CANN is."""
    return settings.build_root / "sample" / "Ascend"


def library_directories(ascend: Path) -> tuple[Path, ...]:
    """What the environment scripts of the sample's latest release put in front of LD_LIBRARY_PATH."""
    return (
        ascend / "tfplugin" / "latest" / "python" / "site-packages" / "npu_bridge",
        ascend / "ascend-toolkit" / "latest" / "lib64",
    )


def adapter_of(settings: Settings) -> Path:
    """The adapter of the release that is in use."""
    return library_directories(ascend_of(settings))[0] / "_tf_adapter.so"


def switch_cann(settings: Settings, version: str) -> None:
    """Points `latest` to a release that is installed."""
    for package in ("tfplugin", "ascend-toolkit"):
        fsutil.point_link(ascend_of(settings) / package / "latest", version)


def library_path(settings: Settings) -> tuple[Path, ...]:
    """CANN's directories of LD_LIBRARY_PATH."""
    installation = find_installation(str(ascend_of(settings)))
    assert installation is not None
    return installation.library_directories

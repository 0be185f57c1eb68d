"""What a way of an upgrade takes: its time before, and its disk."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from npu_serving.builds.manifest import Build, BuildManifest
from npu_serving.cann.adapter import Adapter
from npu_serving.elf.symbols import ElfFile
from npu_serving.settings import Settings
from npu_serving.upgrade.cost import FILE_NAME, RUNS_KEPT, UpgradeCost, cost_of, expected_seconds, remember_time


@pytest.fixture
def build(tmp_path: Path) -> Build:
    directory = tmp_path / "dist" / "b"
    (directory / "bin").mkdir(parents=True)
    (directory / "bin/tensorflow_model_server").write_bytes(bytes(5_000_000))
    manifest = BuildManifest("b", "d", "1", {"name": "sample"}, {}, "l", {}, (), {}, {}, {})
    return Build(directory, manifest, current=True)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(source="sample", build_root=tmp_path / "build", dist_root=tmp_path / "dist")


@pytest.fixture
def adapter(tmp_path: Path) -> Adapter:
    path = tmp_path / "_tf_adapter.so"
    path.write_bytes(bytes(1_000_000))
    return Adapter(path, "d", "7.0", "x86_64", None, cast(ElfFile, None))


def test_the_time_is_the_median_of_the_last_runs_of_that_way_with_that_source(build: Build, settings: Settings) -> None:
    assert expected_seconds(settings, build, "saved link") is None
    for seconds in (900.0, 1.0, 2.0, 3.0, 4.0, 5.0):
        remember_time(settings, build, "saved link", seconds)
    assert RUNS_KEPT == 5
    assert expected_seconds(settings, build, "saved link") == 3.0
    assert expected_seconds(settings, build, "Bazel") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"sample: swap": 3}', b'{"sample: swap": ["x"]}', b"\xff"])
def test_a_damaged_record_of_times_counts_as_none(build: Build, settings: Settings, content: bytes) -> None:
    settings.build_root.mkdir()
    (settings.build_root / FILE_NAME).write_bytes(content)
    assert expected_seconds(settings, build, "swap") is None
    remember_time(settings, build, "swap", 0.2)
    assert expected_seconds(settings, build, "swap") == 0.2


def test_a_swap_needs_no_place_for_the_server_and_a_link_does(
    build: Build, settings: Settings, adapter: Adapter
) -> None:
    needed = {
        way: cost_of(way, build, adapter, settings).needed_bytes
        for way in ("nothing", "swap", "saved link", "kit", "Bazel", "full")
    }
    assert needed["nothing"] == 0 < needed["swap"] < 5_000_000 < needed["saved link"] == needed["kit"]
    assert needed["saved link"] < needed["Bazel"] < needed["full"]


def test_a_disk_that_is_too_small_is_said() -> None:
    cost = UpgradeCost(None, 2_000_000, 1_000_000)
    assert not cost.fits
    assert cost.text() == (
        "Time: not measured yet on this machine. Disk: 2.0 MB of 1.0 MB that are free: too little, free some first."
    )

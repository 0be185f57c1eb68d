from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from npu_serving import fsutil
from npu_serving.builds.current import CPU_SERVER, make_current, read_builds
from npu_serving.builds.manifest import MANIFEST, BuildManifest
from npu_serving.builds.pruning import prune_builds
from npu_serving.settings import Settings


def _build(dist: Path, name: str, created: str) -> None:
    made = BuildManifest(name, "d", "1.15.0", {"name": "sample"}, {}, "l", {}, (), {}, {}, {}, created=created)
    (dist / name).mkdir(parents=True)
    (dist / name / MANIFEST).write_text(json.dumps(made.to_json()))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    dist = tmp_path / "dist"
    for day in range(1, 5):
        _build(dist, f"serving-{day}", f"2026-01-0{day}T00:00:00Z")
    for name in ("serving-3", "serving-4"):
        make_current(next(build for build in read_builds(dist).sound if build.directory.name == name))
    return dataclasses.replace(Settings(), dist_root=dist, build_root=tmp_path / "build")


def test_the_server_without_an_adapter_stays_as_long_as_its_link_points_to_it(settings: Settings) -> None:
    fsutil.point_link(settings.dist_root / CPU_SERVER, "serving-1")
    result = prune_builds(settings, 0)
    assert [build.directory.name for build in result.removed] == ["serving-2"]
    assert {build.directory.name: why for build, why in result.kept} == {
        "serving-4": "it is current",
        "serving-3": "a rollback switches to it",
        "serving-1": "cpu-server points to it",
    }
    (settings.dist_root / CPU_SERVER).unlink()
    assert [build.directory.name for build in prune_builds(settings, 0).removed] == ["serving-1"]

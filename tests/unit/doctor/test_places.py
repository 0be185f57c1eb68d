"""The directories of a build: what the build refuses, doctor and a dry run say by the same function."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor_world import World, healthy_world

from npu_serving.building import pipeline
from npu_serving.building.bazel_program import BazelProgram
from npu_serving.building.host_runner import HostRunner
from npu_serving.building.runner import Layout
from npu_serving.console import Silent
from npu_serving.doctor.places import LONGEST_PATH, Place, check_places, temporary_place, troubles
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.findings import OK, PROBLEM
from npu_serving.settings import Settings


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("npu_serving.doctor.checks_system.fsutil.free_bytes", lambda _path: 100 * 10**9)
    return healthy_world(tmp_path / "a machine")


@pytest.fixture
def noexec(tmp_path: Path) -> Iterator[Path]:
    """A file system from which nothing can be started: a real one where this user may mount it."""
    place = tmp_path / "no-exec"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "noexec,size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def trouble(place: Path, **values: object) -> RequestError | None:
    return next(iter(troubles([Place("the place", place, "name another one", **values)])), None)  # type: ignore[arg-type]


def test_a_place_from_which_nothing_can_be_started_is_named_with_its_mount_and_the_cure_helps(noexec: Path) -> None:
    found = trouble(noexec / "below" / "it")
    assert found is not None
    assert "No program can be started from the place" in found.what
    assert f"{noexec} is mounted noexec" in found.cause
    (words,) = re.findall(r"as root: (.+)", found.cure)
    assert subprocess.run(words, shell=True, check=False).returncode == 0
    assert trouble(noexec / "below" / "it") is None


def test_the_state_the_finished_builds_the_tree_and_the_temporary_files_are_each_looked_at(
    noexec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = tmp_path / "fine"
    fine.mkdir()

    def refused(tree: Path, **values: Path) -> str:
        settings = Settings(**{"build_root": fine, "dist_root": fine / "dist", **values})  # type: ignore[arg-type]
        try:
            HostRunner(settings, BazelProgram(fine / "bazel", "0.24.1", "ab" * 32)).check(
                Layout(tree, fine, fine, fine)
            )
        except RequestError as error:
            return error.what
        return ""

    monkeypatch.delenv("TMPDIR", raising=False)
    assert refused(fine) == ""
    assert "the source tree" in refused(noexec)
    assert "the state directory" in refused(fine, build_root=noexec / "build")
    assert "the directory of finished builds" in refused(fine, dist_root=noexec / "dist")
    (noexec / "host").mkdir()
    (fine / "bazel").symlink_to(noexec)
    assert "Bazel's output root" in refused(fine, build_root=fine)
    (fine / "bazel").unlink()
    monkeypatch.setenv("TMPDIR", str(noexec))
    assert "the directory for temporary files" in refused(fine)
    monkeypatch.setenv("TMPDIR", str(fine))
    assert refused(fine) == ""
    runner = HostRunner(Settings(build_root=fine), BazelProgram(fine / "bazel", "0.24.1", "ab" * 32))
    assert runner.environment()["TMPDIR"] == str(fine), "the cure reaches Bazel, which hands it to its actions"


def test_a_directory_for_temporary_files_that_nobody_makes_is_told_and_the_cure_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "not-made"))
    (found,) = troubles([temporary_place(), Place("the state directory", tmp_path / "made later", "name another one")])
    assert "for temporary files" in found.what
    subprocess.run(["sh", "-c", found.cure.partition(", or")[0]], check=True)
    assert not [error for error in troubles([temporary_place()]) if "does not exist" in error.what]


def test_a_path_that_leaves_no_room_below_is_told_before_the_build(tmp_path: Path) -> None:
    place = Path("/" + "/".join(["d" * 200] * 16))
    assert trouble(place) is None
    found = trouble(place, room_below=1024)
    assert found is not None
    assert "too long" in found.what
    assert str(LONGEST_PATH) in found.cause
    assert len(found.what) < 300
    with pytest.raises(RequestError):
        check_places([Place("the place", Path("/" + "x" * 10_000), "name another one")])


def test_a_place_below_a_file_and_one_on_a_read_only_file_system_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = trouble(tmp_path / "file" / "below")
    assert found is not None
    assert "file is not a directory" in found.what
    if not os.access("/proc", os.W_OK):
        assert trouble(Path("/proc/x")) is not None


@pytest.mark.parametrize("name", ["a b", "ümlaut", "co:lon", "line\nbreak"])
def test_doctor_and_a_dry_run_refuse_the_paths_that_the_build_refuses(world: World, tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    world.set(build_root=place, source="sample", adapter="sample")
    finding = world.finding("build-root")
    assert finding.severity == PROBLEM
    assert "can't work in" in finding.found
    assert "build_root" in finding.cure
    assert world.examine().exit_code == 3
    settings = Settings(build_root=place, source="sample", adapter="sample", runner="host")
    with pytest.raises(NpuServingError, match="can't work in"):
        pipeline.dry_run(settings, Silent())
    assert not place.exists()
    world.set(build_root=tmp_path / "plain")
    assert world.finding("build-root").severity == OK


def test_a_colon_in_the_directory_of_finished_builds_is_told_before_hours_of_building(
    world: World, tmp_path: Path
) -> None:
    world.set(dist_root=tmp_path / "a:b")
    finding = world.finding("build-root", "docker")
    assert finding.severity == PROBLEM
    assert "would not find its libraries" in finding.found
    world.set(dist_root=tmp_path / "blank and ü", build_root=tmp_path / "a:b\n", source="sample")
    assert world.finding("build-root", "docker").severity == OK


def test_a_named_tree_with_a_blank_in_its_path_is_told_by_doctor(world: World, tmp_path: Path) -> None:
    (tmp_path / "my tree").mkdir()
    world.set(source=str(tmp_path / "my tree"))
    finding = world.finding("build-root")
    assert finding.severity == PROBLEM
    assert "the source tree" in finding.found
    assert world.finding("build-root", "docker").severity == OK

"""The whole road on the sample with Bazel in a container, driven through the same pipeline as on the host."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import shutil
from pathlib import Path

import pytest
import states
from docker_support import BASE_IMAGE, require_engine
from kit_links import linked

from npu_serving import fsutil
from npu_serving.building import pipeline
from npu_serving.building.context import find_context
from npu_serving.building.pipeline import BuildResult, build_serving
from npu_serving.building.saved_link_run import relinked, usable_link
from npu_serving.builds.manifest import SERVER
from npu_serving.builds.verify import check_directory, verify_build
from npu_serving.console import Silent
from npu_serving.errors import BuildFailedError, MissingToolError
from npu_serving.packaging.relink_kit_file import make_kit
from npu_serving.relink_kit.kit_file import read_kit
from npu_serving.settings import Settings

pytestmark = [pytest.mark.bazel, pytest.mark.docker]


@pytest.fixture(scope="module")
def docker_settings(sample_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    require_engine()
    root = tmp_path_factory.mktemp("it's a place, with ümlauts: and all")
    return dataclasses.replace(
        sample_settings,
        runner="docker",
        docker_base_image=BASE_IMAGE,
        build_root=root / "build",
        dist_root=tmp_path_factory.mktemp("finished builds, with ümlauts"),  # a colon is refused there
        install_link="",
    )


@pytest.fixture(scope="module")
def built_in_a_container(docker_settings: Settings) -> BuildResult:
    return build_serving(docker_settings, Silent())


def test_the_sample_is_built_in_a_container_whatever_the_path_and_will_start_here(
    built_in_a_container: BuildResult, docker_settings: Settings
) -> None:
    assert built_in_a_container.record.compiled > 20
    manifest = json.loads((built_in_a_container.build.directory / "manifest.json").read_text())
    assert manifest["toolchain"]["runner"] == "docker"
    assert manifest["toolchain"]["image"].startswith("sha256:")
    assert verify_build(docker_settings).exit_code == 0
    assert str(docker_settings.build_root) not in json.dumps(manifest["toolchain"])
    for path in docker_settings.build_root.joinpath("bazel", "docker").rglob("*"):
        if not path.is_symlink():
            assert path.stat().st_uid == os.getuid()


def test_a_second_build_with_nothing_changed_starts_no_container(
    built_in_a_container: BuildResult, docker_settings: Settings
) -> None:
    events = docker_settings.build_root / "bazel" / "docker" / "npu-serving" / "events.json"
    before = events.stat().st_mtime_ns
    assert build_serving(docker_settings, Silent()).plan.nothing_to_do
    assert events.stat().st_mtime_ns == before


def test_the_link_is_done_again_in_a_container_without_bazel_with_the_same_bytes_or_left_to_bazel(
    built_in_a_container: BuildResult, docker_settings: Settings
) -> None:
    context = find_context(docker_settings, Silent())
    usable = usable_link(context)
    assert usable.saved is not None, usable.why_not
    with relinked(context, usable.saved, Silent()) as server:
        assert fsutil.sha256_of(server) == built_in_a_container.build.manifest.files[SERVER]
    name = next(item.name for item in usable.saved.inputs if item.name.endswith("/server.o"))
    path = next((context.output_base / "execroot").glob(f"*/{name}"))
    aside = path.rename(path.with_suffix(".aside"))
    try:
        assert usable_link(context).why_not == f"{name} is gone, with which the server was linked"
    finally:
        aside.rename(path)


def test_a_kit_of_what_a_container_built_has_the_images_own_libraries_and_links_here(
    built_in_a_container: BuildResult, docker_settings: Settings, tmp_path: Path
) -> None:
    kit = make_kit(docker_settings, Silent(), output=tmp_path / "kit.pyz")
    assert {"system/libc.so.6", "system/libstdc++.so.6"} <= set(read_kit(kit.plan.target).file.members)
    server = linked(kit.plan.target, docker_settings, tmp_path, "ld.gold")
    shutil.copytree(built_in_a_container.build.directory, tmp_path / "build")
    shutil.copy(server, tmp_path / "build" / SERVER)
    assert check_directory(tmp_path / "build", states.library_path(docker_settings)).fits_where_a_driver_is
    assert not list(docker_settings.build_root.glob(".scratch*")), "what was copied out of the image is removed"


def test_a_compiler_killed_for_memory_is_recognised(docker_settings: Settings) -> None:
    settings = dataclasses.replace(docker_settings, memory_mb=120, bazel_args=("--copt=-DANOTHER_BUILD",))
    with pytest.raises(BuildFailedError) as caught:
        build_serving(settings, Silent())
    assert "memory" in caught.value.cause
    assert "--jobs 1" in caught.value.cure or "memory" in caught.value.cure


def test_auto_takes_the_container_where_an_engine_answers_and_the_host_elsewhere(docker_settings: Settings) -> None:
    from npu_serving.building.inputs import runner_name

    settings = dataclasses.replace(docker_settings, runner="auto")
    assert runner_name(settings) == "docker"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK leaves its socket open
def test_an_engine_that_is_down_is_named_with_its_cure(
    docker_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(MissingToolError) as caught:
        pipeline.dry_run(docker_settings, Silent())
    assert caught.value.cure
    gc.collect()

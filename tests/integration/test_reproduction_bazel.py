"""The server is the same bytes wherever and whenever it is built; where it is not, that is told, file by file."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from docker_support import BASE_IMAGE, require_engine

from npu_serving.building import reproduction
from npu_serving.building.pipeline import BuildResult, build_serving
from npu_serving.builds.manifest import SERVER
from npu_serving.console import Silent
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.settings import Settings

pytestmark = pytest.mark.bazel


@pytest.fixture
def settings(sample_settings: Settings, built: BuildResult, tmp_path: Path) -> Settings:
    """The sample in a state directory of its own, with everything fetched."""
    root = tmp_path / "state"
    shutil.copytree(
        sample_settings.build_root, root / "build", symlinks=True, ignore=shutil.ignore_patterns("bazel", ".lock")
    )
    return dataclasses.replace(sample_settings, build_root=root / "build", dist_root=root / "dist", install_link="")


def test_on_the_host_another_place_and_time_give_the_same_server_with_no_path_in_it(
    settings: Settings, built: BuildResult
) -> None:
    again = build_serving(settings, Silent()).build
    assert again.directory != built.build.directory
    assert again.manifest.files == built.build.manifest.files
    content = again.server.read_bytes()
    for place in (settings, built.build):
        path = place.build_root if isinstance(place, Settings) else place.directory.parents[1]
        assert str(path).encode() not in content
    assert built.build.manifest.source["digest"][:12].encode() in content


@pytest.mark.docker
def test_two_containers_give_the_same_server(settings: Settings) -> None:
    require_engine()
    settings = dataclasses.replace(settings, runner="docker", docker_base_image=BASE_IMAGE)
    result = reproduction.reproduce(settings, Silent())
    assert result.differing == (), result.text()
    assert result.exit_code == 0
    assert not (settings.build_root / "reproduce").exists()
    assert not settings.dist_root.exists(), "what is in use is left alone"
    assert result.files[SERVER][0] in result.text()


def test_a_server_that_holds_the_time_of_its_build_is_found_and_both_builds_are_kept(
    settings: Settings, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(SAMPLE_DIRECTORY / "serving", tree)
    stamp = tree / "tensorflow_serving" / "model_servers" / "version.cc"
    text = stamp.read_text()
    assert text.count("= TF_MODELSERVER_VERSION_STRING;") == 1
    macros = "#define TEXT_OF(x) #x\n#define TEXT(x) TEXT_OF(x)\n"
    timed = text.replace("= TF_MODELSERVER_VERSION_STRING;", "= TF_MODELSERVER_VERSION_STRING TEXT(BUILD_TIMESTAMP);")
    stamp.write_text(macros + timed)
    result = reproduction.reproduce(dataclasses.replace(settings, source=str(tree)), Silent())
    assert result.exit_code == 3
    assert result.differing == (SERVER,)
    for place in result.places:
        assert list(place.glob(f"dist/*/{SERVER}"))
    if shutil.which("diffoscope"):
        assert result.report is not None
        assert result.report.stat().st_size > 0
        assert str(result.report) in result.text()
    else:
        assert "apt-get install diffoscope" in result.text()

"""lock-deps --needed: which archives the server needs on each processor, as the real Bazel tells."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from npu_serving.building.inputs import make_sample_archives
from npu_serving.building.locking import lock_source
from npu_serving.building.needed_archives import PROCESSORS
from npu_serving.building.tree_digest import tree_digest
from npu_serving.console import Silent
from npu_serving.errors import LockFileError
from npu_serving.lock.lockfile import read_lock
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.settings import PROJECT_ROOT, Settings

pytestmark = pytest.mark.bazel
SAMPLE_LOCK = PROJECT_ROOT / "locks" / "sample.json"
X86, ARM = "linux-x86_64-cpu", "linux-aarch64-cpu"
BUILD = Path("tensorflow_serving/model_servers/BUILD")


@pytest.fixture
def settings(tmp_path, bazel):
    return Settings(
        source="sample", runner="host", bazel=str(bazel), build_root=tmp_path / "build", dist_root=tmp_path / "dist"
    )


@pytest.fixture
def tree(tmp_path):
    shutil.copytree(SAMPLE_DIRECTORY / "serving", tmp_path / "serving")
    return tmp_path / "serving"


def edited(tree: Path, name: Path | str, *edits: tuple[str, str]) -> None:
    text = (tree / name).read_text()
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (tree / name).write_text(text)


def mirror_of_the_sample(settings: Settings) -> str:
    make_sample_archives(settings)
    return (settings.build_root / "sample" / "archives").as_uri() + "/"


def test_a_tree_of_ones_own_is_asked_select_by_select_and_nothing_merely_declared_is_fetched(settings, tree):
    edited(
        tree,
        BUILD,
        (
            'deps = with_tensorflow([\n        ":http_rest_api_handler",',
            'deps = select({":arm": ["@aws//:aws"], "//conditions:default": []}) + with_tensorflow([\n'
            '        ":http_rest_api_handler",',
        ),
    )
    with (tree / BUILD).open("a") as file:
        file.write('config_setting(name = "arm", values = {"cpu": "aarch64"})\n')
    # A version that this project has no lock for, so that nothing is known of it.
    with (tree / "tensorflow_serving/model_servers/version.h").open("a") as file:
        file.write("".join(f"#define TF_MODELSERVER_{part}_VERSION 9\n" for part in ("MAJOR", "MINOR", "PATCH")))
    before = tree_digest(tree)
    own = dataclasses.replace(settings, source=str(tree), mirrors=(mirror_of_the_sample(settings),))
    report = lock_source(own, Silent(), needed=True)
    assert report.written
    lock, sample = read_lock(report.path), read_lock(SAMPLE_LOCK)
    for platform, further in ((X86, set()), (ARM, {"aws"})):
        found = {archive.name for archive in lock.needed(platform)}
        assert found == {archive.name for archive in sample.needed(platform)} | further
    assert {archive.name for archive in lock.archives if archive.only_with} == {"llvm"}
    assert set(lock.platform_sources) == set(PROCESSORS)
    assert any("aws is needed on linux-aarch64-cpu" in line for line in report.differences)
    never = [archive for archive in lock.archives if not archive.needed_by]
    store = settings.store_root / "content_addressable" / "sha256"
    assert never
    assert not any((store / (archive.sha256 or "")).exists() for archive in never)
    assert tree_digest(tree) == before
    assert list((settings.build_root / "needed").iterdir()) == []
    assert lock_source(own, Silent(), check=True).differences == ()


def test_what_the_server_needs_and_no_store_can_give_is_named(settings, tree):
    (digest,) = [item.sha256 for item in read_lock(SAMPLE_LOCK).archives if item.name == "com_github_tencent_rapidjson"]
    edited(tree, "tensorflow_serving/workspace.bzl", (f'        sha256 = "{digest}",\n', ""))
    own = dataclasses.replace(settings, source=str(tree), mirrors=(mirror_of_the_sample(settings),))
    with pytest.raises(
        LockFileError, match="needs com_github_tencent_rapidjson, which Bazel does not take from a store"
    ):
        lock_source(own, Silent(), pin=True, needed=True)

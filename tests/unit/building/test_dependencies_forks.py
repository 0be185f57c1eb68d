"""Trees that differ from those that were measured: what Bazel was not asked about counts as needed, or is named."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import shutil
from pathlib import Path

import pytest

from npu_serving.building.dependencies import fetch_dependencies, plan_dependencies
from npu_serving.building.locking import lock_source
from npu_serving.building.sources import LOCKS, resolve_source, state_of
from npu_serving.bundle.bundling import BundleRequest, plan_bundle
from npu_serving.console import Silent
from npu_serving.errors import LockFileError
from npu_serving.fetch.content_store import ContentStore
from npu_serving.lock.lockfile import read_lock, with_known_facts, write_lock
from npu_serving.overlay.adapter import server_deps
from npu_serving.overlay.buildfile import FILE, add_deps
from npu_serving.sample.sample_archives import build_archives
from npu_serving.settings import PROJECT_ROOT, XLA_FULL, XLA_OF_ADAPTER, Settings

SAMPLE = PROJECT_ROOT / "examples" / "sample" / "serving"
NEW = f'http_archive(name = "aliyun_oss_c_sdk", urls = ["https://a.example/oss.tgz"], sha256 = "{"ab" * 32}")\n'
PLAIN = {item.name: item for item in read_lock(LOCKS / "sample.json").archives if not item.shadowed}


@pytest.fixture(scope="session")
def filled_store(tmp_path_factory):
    root = tmp_path_factory.mktemp("build") / "store"
    store = ContentStore(root)
    for path in build_archives(tmp_path_factory.mktemp("archives")):
        store.adopt(path, hashlib.sha256(path.read_bytes()).hexdigest())
    return root


@pytest.fixture
def settings(tmp_path: Path, filled_store: Path) -> Settings:
    """Those of a fork of the sample, in a state directory that has the archives of the sample."""
    shutil.copytree(SAMPLE, tmp_path / "fork")
    shutil.copytree(filled_store, tmp_path / "build/store")
    return Settings(source=str(tmp_path / "fork"), build_root=tmp_path / "build", offline=True)


def changed(settings: Settings, name: str, old: str, new: str) -> None:
    path = Path(settings.source) / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def online(settings: Settings) -> Settings:
    """For plans, which open no connection."""
    return dataclasses.replace(settings, offline=False)


def wanted(settings: Settings) -> set[str]:
    plan = plan_dependencies(online(settings)).fetching
    return {item.label for item in plan.missing} | set(plan.present)


def fetched(settings: Settings, without: str) -> bool:
    """Whether a store that lacks just that file would be filled with it."""
    path = ContentStore(settings.store_root).path(without)
    content = path.read_bytes()
    path.unlink()
    try:
        return without in {item.sha256 for item in plan_dependencies(online(settings)).fetching.missing}
    finally:
        path.write_bytes(content)


def test_the_locks_of_this_project_say_which_state_of_the_tree_they_are_of():
    sample = read_lock(LOCKS / "sample.json")
    assert sample.made_of == sample.measured_on == state_of(SAMPLE)
    real = read_lock(LOCKS / "serving-1.15.0.json")
    assert real.made_of == real.measured_on != ""


def test_llvm_is_needed_for_a_build_a_fetch_and_a_bundle_with_all_of_xla_and_else_for_none(settings, tmp_path):
    for xla, needs_it in ((XLA_OF_ADAPTER, False), (XLA_FULL, True)):
        for source in ("sample", settings.source):
            asked = dataclasses.replace(settings, xla=xla, source=source)
            assert ("llvm" in {item.name for item in resolve_source(asked).needed_archives()}) is needs_it
            for machine in ("x86_64", "aarch64"):
                bundle = plan_bundle(online(asked), BundleRequest(tmp_path / "b", machine=machine))
                assert ("llvm" in {item.name for item in bundle.archives}) is needs_it
            assert fetched(asked, without=str(PLAIN["llvm"].sha256)) is needs_it


def test_a_tree_whose_own_build_file_names_the_guides_target_needs_llvm_whatever_the_settings_say(settings):
    file = Path(settings.source) / FILE
    file.write_text(add_deps(file.read_text(), labels=server_deps(XLA_FULL)))
    asked = dataclasses.replace(settings, xla=XLA_OF_ADAPTER)
    assert "llvm" in {item.name for item in resolve_source(asked).needed_archives()}


def test_an_archive_that_the_plain_tree_lacks_is_needed_for_a_fetch_a_bundle_and_a_build(settings, tmp_path):
    changed(settings, "WORKSPACE", "# END", NEW)
    report = lock_source(settings, Silent())
    assert "aliyun_oss_c_sdk" in {item.name for item in resolve_source(settings).needed_archives()}  # a build's
    assert "aliyun_oss_c_sdk" in wanted(settings)
    for machine in ("x86_64", "aarch64"):
        bundle = plan_bundle(online(settings), BundleRequest(tmp_path / "b", machine=machine))
        assert "aliyun_oss_c_sdk" in {item.name for item in bundle.archives}
        assert bundle.not_measured.names == ("aws",)
    assert report.not_measured.names == ("aws",)


def test_an_archive_of_a_known_name_with_other_bytes_is_needed(settings):
    assert PLAIN["aws"].needed_by == ()
    lock = lock_source(settings, Silent()).lock
    declared = dataclasses.replace(
        lock, archives=(dataclasses.replace(PLAIN["aws"], sha256="ef" * 32),), platform_sources={}
    )
    assert [item.name for item in with_known_facts(declared, lock).needed("linux-x86_64-cpu")] == ["aws"]


def test_what_the_workspace_loads_from_is_always_needed(settings):
    report = lock_source(settings, Silent())
    forgotten = tuple(dataclasses.replace(item, needed_by=()) for item in report.lock.archives)
    write_lock(report.path, dataclasses.replace(report.lock, archives=forgotten))
    again = lock_source(settings, Silent()).lock
    assert {item.name for item in again.needed("linux-x86_64-cpu")} == {"org_tensorflow"}


def test_a_tree_without_any_facts_needs_all_that_it_declares(settings):
    lock = dataclasses.replace(lock_source(settings, Silent()).lock, platform_sources={})
    needed = {item.name for item in lock.needed(f"linux-{platform.machine()}-cpu")}
    assert needed == {item.name for item in lock.archives if not item.shadowed}


def test_a_tree_whose_build_files_alone_differ_names_what_was_not_measured_and_the_way_out(settings):
    assert plan_dependencies(online(settings)).not_measured.names == ()
    (Path(settings.source) / "BUILD").write_text('filegroup(name = "x", srcs = ["@aws//:aws"])\n')
    plan = plan_dependencies(online(settings))
    assert plan.not_measured.names == ("aws",)
    assert f"./inv lock-deps --source {settings.source} --needed" in plan.text()
    assert plan.to_json()["not_measured"] == ["aws"]
    assert plan_dependencies(online(settings), everything=True).not_measured.names == ()


def test_the_overlay_and_a_source_file_make_no_other_tree_of_it(settings):
    file = Path(settings.source) / FILE
    file.write_text(add_deps(file.read_text(), labels=server_deps(XLA_FULL)))
    (Path(settings.source) / "third_party/tf_adapter").mkdir(parents=True)
    (Path(settings.source) / "third_party/tf_adapter/BUILD").write_text("# ours")
    (Path(settings.source) / "tensorflow_serving/more.cc").write_text("int x;")
    assert plan_dependencies(online(settings)).not_measured.names == ()


@pytest.mark.parametrize("doing", ["plan", "fetch", "bundle"])
def test_an_archive_that_changed_since_the_lock_was_made_is_noticed_and_the_cure_helps(settings, tmp_path, doing):
    changed(settings, "WORKSPACE", "# END", NEW)
    lock_source(settings, Silent())
    changed(settings, "WORKSPACE", "ab" * 32, "cd" * 32)
    with pytest.raises(LockFileError, match="does not match its lock") as caught:
        if doing == "plan":
            plan_dependencies(online(settings))
        elif doing == "fetch":
            fetch_dependencies(settings, Silent())
        else:
            plan_bundle(settings, BundleRequest(tmp_path / "b"))
    assert "aliyun_oss_c_sdk (oss.tgz): sha256" in caught.value.what
    offline = "" if doing == "plan" else " --offline"
    assert caught.value.cure == f"./inv lock-deps{offline} --source {settings.source}"
    lock_source(settings, Silent())
    assert "aliyun_oss_c_sdk" in wanted(settings)


def test_another_tensorflow_is_noticed_even_where_its_archive_is_missing(settings):
    lock_source(settings, Silent())
    changed(settings, "WORKSPACE", PLAIN["org_tensorflow"].sha256 or "", "cd" * 32)
    with pytest.raises(LockFileError, match=r"org_tensorflow .*: sha256: the lock has"):
        plan_dependencies(online(settings))

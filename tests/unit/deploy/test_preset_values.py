"""The compile cache of a preset is apart for each release of CANN and for other models; nothing else is filled in."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from cann_trees import make_cann

from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.deploy.preset_values import filled_in
from npu_serving.settings import Settings


class Site:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.model = directory / "models/a/1/saved_model.pb"
        self.model.parent.mkdir(parents=True)
        self.model.write_bytes(b"one")
        self.settings = dataclasses.replace(Settings(), cann_root=str(make_cann(directory / "Ascend")))

    def made(self, **sections: Any) -> DeploymentFile:
        file = self.directory / "d.json"
        models = [{"name": "a", "base_path": str(self.model.parents[1])}]
        file.write_text(json.dumps({"version": 1, "models": models, "presets": ["compile-cache"], **sections}))
        return read_deployment(file)

    def cache(self, **sections: Any) -> str:
        made = filled_in(self.made(**sections), self.settings)
        return str((made.npu_of(made.models[0]) or {})["op_compiler_cache_dir"])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_directory_has_the_release_and_stays_the_same(site: Site) -> None:
    first = site.cache()
    assert first.startswith("/var/cache/npu-serving/op-cache/6.3.RC2/")
    assert "{" not in first
    assert site.cache() == first
    assert site.cache(npu={"op_compiler_cache_mode": "force"}) == first


def test_other_models_and_other_versions_have_another_directory(site: Site) -> None:
    found = {site.cache()}
    newer = site.model.parents[1] / "2/saved_model.pb"
    newer.parent.mkdir()
    newer.write_bytes(b"two")
    found.add(site.cache())
    newer.write_bytes(b"three")
    found.add(site.cache())
    found.add(site.cache(models=[{"name": "a", "base_path": "s3://bucket/a"}]))
    found.add(site.cache(models=[{"name": "b", "base_path": str(site.model.parents[1])}]))
    assert len(found) == 5


def test_a_model_that_the_cpu_serves_does_not_count(site: Site) -> None:
    own = {"name": "a", "base_path": str(site.model.parents[1])}
    assert site.cache(models=[own, {"name": "b", "base_path": "/b", "npu": False}]) == site.cache()


def test_without_cann_or_the_model_a_directory_is_found_all_the_same(site: Site) -> None:
    empty = site.directory / "empty"
    empty.mkdir()
    there = site.cache(cann=str(empty), models=[{"name": "a", "base_path": "/nonexistent"}])
    assert there.startswith("/var/cache/npu-serving/op-cache/unknown-release/")


def test_what_the_file_says_itself_stays(site: Site) -> None:
    assert site.cache(npu={"op_compiler_cache_dir": "/var/cache/mine"}) == "/var/cache/mine"
    made = site.made(npu={"op_compiler_cache_dir": "/var/cache/mine"})
    assert filled_in(made, site.settings) is made
    other = site.made(presets=["dump"])
    assert filled_in(other, site.settings) is other


def test_the_cache_for_new_weights_stays_the_same_for_new_versions_and_not_for_another_release(site: Site) -> None:
    first = site.cache(presets=["weight-update"])
    assert first.startswith("/var/cache/npu-serving/op-cache/6.3.RC2/")
    assert "{" not in first
    newer = site.model.parents[1] / "2/saved_model.pb"
    newer.parent.mkdir()
    newer.write_bytes(b"two")
    assert site.cache(presets=["weight-update"]) == first
    other = [{"name": "a", "base_path": "/elsewhere"}]
    assert site.cache(presets=["weight-update"], models=other) != first

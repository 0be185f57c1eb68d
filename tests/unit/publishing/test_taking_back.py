"""publish-model --back where no server runs: the former version is the one that a server will find."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from npu_serving.console import Silent
from npu_serving.errors import FileAccessError, RequestError
from npu_serving.publishing.destination import Destination, destination
from npu_serving.publishing.taking_back import TakenBack, plan_taking_back, take_back
from npu_serving.settings import Settings


class Site:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = Settings(build_root=root / "build")
        self.base = root / "m"
        for number in (1, 2, 3):
            (self.base / str(number)).mkdir(parents=True)
            (self.base / str(number) / "saved_model.pb").write_bytes(b"")
        self.file = root / "d.yaml"

    def deployed(self, *, presets: list[str] | None = None, **of_model: Any) -> Destination:
        model = {"name": "m", "base_path": str(self.base), **of_model}
        whole = {"version": 1, "models": [model], **({"presets": presets} if presets else {})}
        self.file.write_text(yaml.safe_dump(whole))
        return destination(self.settings, deployment=self.file)

    def back(self, place: Destination, label: str = "") -> TakenBack:
        return take_back(self.settings, plan_taking_back(place, label), Silent(), timeout_s=1)

    @property
    def model(self) -> dict[str, Any]:
        return yaml.safe_load(self.file.read_text())["models"][0]  # type: ignore[no-any-return]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_directory_loses_its_number_and_keeps_its_files(site: Site) -> None:
    place = destination(site.settings, to=site.base)
    planned = plan_taking_back(place)
    assert planned.steps() == [f"rename {site.base / '3'} to 3.taken-back"]
    done = site.back(place)
    assert sorted(os.listdir(site.base)) == ["1", "2", "3.taken-back"]
    assert "Served is version 2 again, not 3." in done.text()
    assert json.loads(json.dumps(done.to_json()))["taken_back"] == 3
    assert place.next_version() == 4
    site.back(place)
    with pytest.raises(RequestError, match="no version before 1"):
        site.back(place)


def test_a_number_that_was_given_again_can_be_taken_back_again(site: Site) -> None:
    place = destination(site.settings, to=site.base)
    for kept in ("3.taken-back", "3.taken-back.2", "3.taken-back.3"):
        assert site.back(place).plan.away.name == kept
        assert place.next_version() == 4
        (site.base / "3").mkdir()
    assert sorted(os.listdir(site.base)) == ["1", "2", "3", "3.taken-back", "3.taken-back.2", "3.taken-back.3"]


def test_of_two_who_take_the_same_version_back_the_second_is_told(site: Site) -> None:
    place = destination(site.settings, to=site.base)
    planned = plan_taking_back(place)
    site.back(place)
    with pytest.raises(RequestError, match=r"Version 3 is not in .* any more") as caught:
        take_back(site.settings, planned, Silent(), timeout_s=1)
    assert "would take the next one back" in caught.value.cure
    assert sorted(os.listdir(site.base)) == ["1", "2", "3.taken-back"]


@pytest.mark.parametrize(
    ("of_model", "label", "wanted"),
    [
        ({}, "", {"versions": [2]}),
        ({"versions": "all"}, "", {"versions": [1, 2]}),
        ({"versions": [2, 3], "labels": {"stable": 3}}, "stable", {"versions": [2, 3], "labels": {"stable": 2}}),
        ({"labels": {"stable": 3}}, "stable", {"versions": [2, 3], "labels": {"stable": 2}}),
    ],
)
def test_a_deployment_names_the_former_version_for_its_next_server(
    site: Site, of_model: dict[str, Any], label: str, wanted: dict[str, Any]
) -> None:
    done = site.back(site.deployed(**of_model), label)
    assert {key: site.model[key] for key in wanted} == wanted
    assert "the next one that is started serves it" in done.text()
    assert sorted(os.listdir(site.base)) == ["1", "2", "3"]


def test_where_a_preset_needs_new_versions_to_be_found_the_directory_is_renamed(site: Site) -> None:
    place = site.deployed(presets=["weight-update"], npu={})
    before = site.file.read_text()
    site.back(place)
    assert site.file.read_text() == before
    assert sorted(os.listdir(site.base)) == ["1", "2", "3.taken-back"]


def test_a_label_that_is_not_there_is_refused_with_those_that_are(site: Site) -> None:
    with pytest.raises(RequestError, match="no label 'canary'") as caught:
        site.back(site.deployed(labels={"stable": 3}), "canary")
    assert "stable" in caught.value.cure
    with pytest.raises(RequestError, match="no label 'canary'") as caught:
        site.back(site.deployed(), "canary")
    assert caught.value.cure == "leave out --label"
    with pytest.raises(RequestError, match="--label needs a deployment"):
        site.back(destination(site.settings, to=site.base), "stable")


def test_a_directory_that_can_not_be_renamed_stays(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(FileAccessError):
        site.back(destination(site.settings, to=site.base))
    assert sorted(os.listdir(site.base)) == ["1", "2", "3"]

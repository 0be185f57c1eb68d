"""Which link a kit is made of, and by whose settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from npu_serving.building.prepared import keep_prepared
from npu_serving.building.saved_links import link_file
from npu_serving.builds.manifest import BuildManifest
from npu_serving.cann.known_adapters import OF_SAMPLE, known_adapters
from npu_serving.errors import RequestError
from npu_serving.linking.saved_link import SavedLink, write_saved_link
from npu_serving.packaging.kit_source import kit_source
from npu_serving.settings import WITHOUT_ADAPTER, Settings

FIRST, LAST = "0a" * 32, "0b" * 32


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Objects of the sample were made ready, then those of the tree; the settings are the defaults."""
    settings = Settings(build_root=tmp_path / "build", dist_root=tmp_path / "dist")
    for objects, source in ((FIRST, "sample"), (LAST, "1.15.0")):
        keep_prepared(
            settings,
            BuildManifest(
                "", "", "1.15.0", {"name": source}, {"path": WITHOUT_ADAPTER}, "l", {"runner": "docker"}, (), {}, {},
                files={}, objects=objects, also_fits=("known",), xla="full", linker_setting="gold",
            ),
        )  # fmt: skip
        saved = SavedLink(objects, "/execroot", "out", ("gcc",), (), {}, (), (), "gold")
        write_saved_link(link_file(settings, objects), saved)
    return settings


def test_a_kit_is_made_of_the_objects_that_are_named_though_others_were_made_ready_later(settings: Settings) -> None:
    assert kit_source(settings).manifest.objects == LAST
    assert kit_source(settings, objects=FIRST).manifest.objects == FIRST
    with pytest.raises(RequestError, match="0c0c0c0c0c0c"):
        kit_source(settings, objects="0c" * 32)


def test_a_kit_is_made_by_the_settings_of_what_it_is_made_of_and_not_by_those_of_today(settings: Settings) -> None:
    today = dataclasses.replace(settings, source="1.15.0", runner="host", also_fits=("none",))
    found = kit_source(today, objects=FIRST)
    assert {item.release: item.symbols for item in found.fits} == {
        item.release: item.symbols for item in known_adapters(OF_SAMPLE, settings.adapters)
    }
    its_own = found.settings
    assert (its_own.source, its_own.runner, its_own.xla, its_own.linker) == ("sample", "docker", "full", "gold")
    assert its_own.without_adapter

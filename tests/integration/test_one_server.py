"""One server for several CANNs, on the sample with the real Bazel: which upgrades are a swap, and which need a link."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from states import adapter_of, switch_cann

from npu_serving.building.pipeline import BuildResult, build_serving
from npu_serving.builds.manifest import SERVER, Build
from npu_serving.builds.verify import VerifyResult, verify_build
from npu_serving.cann.known_adapters import OF_SAMPLE, known_adapters, needed_of_server
from npu_serving.console import Silent
from npu_serving.elf.symbols import read_elf
from npu_serving.sample.cann import FIRST_RELEASE, NEXT_RELEASE, UNKNOWN_RELEASE, install_sample_cann
from npu_serving.settings import Settings
from npu_serving.upgrade.rebuild import RebuildResult, rebuild_after_cann
from npu_serving.upgrade.rebuild_plan import SAVED_LINK, SWAP

pytestmark = pytest.mark.bazel
SYMBOL = "_ZN10tensorflow7strings13safe_strtou32ERKSsPj"
"""What the adapter of the unknown release needs beyond the others; no object of the server refers to it."""


@dataclass(frozen=True)
class OneServer:
    """A build with the default `also_fits`, and what became of it; then one that was told of the third adapter."""

    settings: Settings
    first: Build
    swapped: RebuildResult
    verified: VerifyResult
    """The swapped server with the adapter of the release that is not known."""
    linked: RebuildResult
    linked_fits: VerifyResult
    told: BuildResult
    told_swapped: RebuildResult


@pytest.fixture(scope="module")
def road(
    built: BuildResult, sample_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OneServer]:
    """Of the objects that the other modules have built: only links are made."""
    dist_root = tmp_path_factory.mktemp("one-server") / "dist"
    settings = dataclasses.replace(sample_settings, also_fits=Settings.also_fits, dist_root=dist_root, install_link="")
    every = (FIRST_RELEASE, NEXT_RELEASE, UNKNOWN_RELEASE)
    install_sample_cann(settings.build_root / "sample", every, FIRST_RELEASE)
    try:
        first = build_serving(settings, Silent()).build
        switch_cann(settings, NEXT_RELEASE)
        swapped = rebuild_after_cann(settings, Silent())
        switch_cann(settings, UNKNOWN_RELEASE)
        verified = verify_build(settings)
        linked = rebuild_after_cann(settings, Silent())
        linked_fits = verify_build(settings)
        file = str(adapter_of(settings).resolve())
        switch_cann(settings, FIRST_RELEASE)
        told = build_serving(dataclasses.replace(settings, also_fits=("known", file)), Silent())
        switch_cann(settings, UNKNOWN_RELEASE)
        told_swapped = rebuild_after_cann(settings, Silent())
        yield OneServer(settings, first, swapped, verified, linked, linked_fits, told, told_swapped)
    finally:
        switch_cann(sample_settings, FIRST_RELEASE)
        build_serving(sample_settings, Silent())


def _exported(build: Build) -> frozenset[str]:
    return frozenset(read_elf(build.server).defined_names)


def test_a_build_has_what_all_known_releases_need_and_not_what_another_one_does(road: OneServer) -> None:
    known = known_adapters(OF_SAMPLE, road.settings.adapters)
    assert [item.release for item in known] == [FIRST_RELEASE, NEXT_RELEASE]
    assert {name for item in known for name in item.symbols} <= _exported(road.first)
    assert SYMBOL not in _exported(road.first)


def test_an_upgrade_to_a_known_release_replaces_the_adapter_and_links_nothing(road: OneServer) -> None:
    assert (road.swapped.way, road.swapped.record.actions) == (SWAP, {})
    assert road.swapped.build.manifest.adapter["cann_version"] == NEXT_RELEASE
    assert road.swapped.build.manifest.files[SERVER] == road.first.manifest.files[SERVER]


def test_an_upgrade_to_a_release_that_is_not_known_is_a_link_that_exports_what_it_needs_and_what_the_others_do(
    road: OneServer,
) -> None:
    assert road.verified.report.kinds() == ("undefined-symbol",)
    assert "safe_strtou32" in road.verified.text()
    assert (road.linked.way, road.linked.record.compiled, road.linked.record.linked) == (SAVED_LINK, 0, 1)
    assert road.linked.build.manifest.adapter["cann_version"] == UNKNOWN_RELEASE
    known = known_adapters(OF_SAMPLE, road.settings.adapters)
    assert {SYMBOL, *(name for item in known for name in item.symbols)} <= _exported(road.linked.build)
    assert road.linked_fits.exit_code == 0
    assert [item.release for item in road.linked_fits.releases if item.fits] == [FIRST_RELEASE, NEXT_RELEASE]


def test_a_build_that_was_told_of_its_file_swaps_to_a_release_that_is_not_known(road: OneServer) -> None:
    assert road.told.build.manifest.adapter["cann_version"] == FIRST_RELEASE
    assert SYMBOL not in needed_of_server(read_elf(road.told.build.adapter))
    assert SYMBOL in _exported(road.told.build)
    assert (road.told_swapped.way, road.told_swapped.record.actions) == (SWAP, {})
    assert road.told_swapped.build.manifest.adapter["cann_version"] == UNKNOWN_RELEASE
    assert verify_build(road.settings).exit_code == 0

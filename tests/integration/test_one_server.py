"""One server for several CANNs, on the sample with the real Bazel: which upgrades are a swap, and which need a link."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from listening import Listening
from states import adapter_of, switch_cann

from npu_serving import fsutil
from npu_serving.building.pipeline import BuildResult, build_serving, dry_run
from npu_serving.builds.manifest import SERVER, Build
from npu_serving.builds.verify import VerifyResult, verify_build
from npu_serving.cann.known_adapters import OF_SAMPLE, KnownAdapter, known_adapters, needed_of_server, write_known
from npu_serving.console import Silent
from npu_serving.elf.symbols import read_elf
from npu_serving.sample.cann import FIRST_RELEASE, NEXT_RELEASE, UNKNOWN_RELEASE, install_sample_cann
from npu_serving.settings import Settings
from npu_serving.upgrade.rebuild import RebuildResult, rebuild_after_cann
from npu_serving.upgrade.rebuild_plan import SAVED_LINK, SWAP

pytestmark = pytest.mark.bazel
LACKING = "9.9"
"""A release that a user has added, whose adapter needs what the tree does not have."""
NOWHERE = "_ZN10tensorflow7nowhereEv"
SYMBOL = "_ZN10tensorflow7strings13safe_strtou32ERKSsPj"
"""What the adapter of the unknown release needs beyond the others; no object of the server refers to it."""


@dataclass(frozen=True)
class OneServer:
    """A build with the default `also_fits`, and what became of it; then one that was told of the third adapter."""

    settings: Settings
    first: Build
    warned: list[str]
    """Right after the first build."""
    swapped: RebuildResult
    verified: VerifyResult
    """The swapped server with the adapter of the release that is not known."""
    linked: RebuildResult
    linked_fits: VerifyResult
    told: Build
    """Built for the first release, and to fit a copy of the third adapter as well."""
    needed: dict[str, bool]
    """What a build of the same would have to do: with the copy as it is, and with another adapter in its place."""
    told_linked: RebuildResult
    """The same build's server, damaged when the copy was gone, and linked again."""
    told_swapped: RebuildResult


@pytest.fixture(scope="module")
def road(
    built: BuildResult, sample_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OneServer]:
    """Of the objects that the other modules have built: only links are made."""
    root = tmp_path_factory.mktemp("one-server")
    settings = dataclasses.replace(
        sample_settings,
        also_fits=Settings.also_fits,
        adapters=root / "adapters",
        dist_root=root / "dist",
        install_link="",
    )
    write_known(settings.adapters / f"{LACKING}.json", KnownAdapter(LACKING, OF_SAMPLE, "", (NOWHERE,)))
    warned = Listening()
    every = (FIRST_RELEASE, NEXT_RELEASE, UNKNOWN_RELEASE)
    install_sample_cann(settings.build_root / "sample", every, FIRST_RELEASE)
    try:
        first = build_serving(settings, warned).build
        switch_cann(settings, NEXT_RELEASE)
        swapped = rebuild_after_cann(settings, Silent())
        switch_cann(settings, UNKNOWN_RELEASE)
        verified = verify_build(settings)
        linked = rebuild_after_cann(settings, Silent())
        linked_fits = verify_build(settings)
        third, copy = adapter_of(settings).resolve(), root / "copy" / "_tf_adapter.so"
        fsutil.copy_file(third, copy)
        switch_cann(settings, FIRST_RELEASE)
        to_fit = dataclasses.replace(settings, also_fits=("known", str(copy)))
        told = build_serving(to_fit, Silent()).build
        needed = {}
        for name, adapter in (("another", adapter_of(settings)), ("same", third)):
            fsutil.copy_file(adapter, copy)
            needed[name] = not dry_run(to_fit, Silent()).nothing_to_do
        copy.unlink()
        fsutil.write_file(told.server, told.server.read_bytes() + b"more")
        told_linked = rebuild_after_cann(settings, Silent())
        switch_cann(settings, UNKNOWN_RELEASE)
        told_swapped = rebuild_after_cann(settings, Silent())
        yield OneServer(
            settings,
            first,
            warned.warnings,
            swapped,
            verified,
            linked,
            linked_fits,
            told,
            needed,
            told_linked,
            told_swapped,
        )
    finally:
        switch_cann(sample_settings, FIRST_RELEASE)
        build_serving(sample_settings, Silent())


def _exported(build: Build) -> frozenset[str]:
    return frozenset(read_elf(build.server).defined_names)


def test_a_build_has_what_all_known_releases_need_and_not_what_another_one_does(road: OneServer) -> None:
    known = known_adapters(OF_SAMPLE, road.settings.adapters)
    assert [item.release for item in known] == [FIRST_RELEASE, NEXT_RELEASE, LACKING]
    assert {name for item in known for name in item.symbols} - {NOWHERE} <= _exported(road.first)
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
    assert {SYMBOL, *(name for item in known for name in item.symbols)} - {NOWHERE} <= _exported(road.linked.build)
    assert road.linked_fits.exit_code == 0
    assert [item.release for item in road.linked_fits.releases if item.fits] == [FIRST_RELEASE, NEXT_RELEASE]


def test_right_after_a_build_it_is_said_what_it_was_to_fit_and_does_not_and_its_manifest_keeps_that(
    road: OneServer,
) -> None:
    (said,) = [line for line in road.warned if "was to fit" in line]
    assert f"the adapter of {LACKING} as well, and lacks 1 symbol, such as tensorflow::nowhere()" in said
    assert "nothing that the server is linked from has that" in said
    assert f"--also-fits {FIRST_RELEASE} --also-fits {NEXT_RELEASE}" in said
    fits = {item.release: item.lacks for item in road.first.manifest.releases}
    assert fits == {FIRST_RELEASE: (), NEXT_RELEASE: (), LACKING: (NOWHERE,)}
    assert road.swapped.build.manifest.releases == road.first.manifest.releases


def test_a_file_that_a_build_is_to_fit_is_looked_at_by_each_build_and_one_with_other_needs_calls_for_a_link(
    road: OneServer,
) -> None:
    assert road.needed == {"another": True, "same": False}


def test_a_link_after_an_upgrade_asks_for_what_a_file_needed_when_the_server_was_built_though_it_is_gone(
    road: OneServer,
) -> None:
    (name,) = road.told.manifest.also_fits_files
    assert not Path(name).exists()
    assert (road.told_linked.way, road.told_linked.build.manifest.also_fits) == (SAVED_LINK, ("known", name))
    assert road.told_linked.build.manifest.also_fits_files == road.told.manifest.also_fits_files
    assert SYMBOL in _exported(road.told_linked.build)


def test_a_build_that_was_told_of_its_file_swaps_to_a_release_that_is_not_known(road: OneServer) -> None:
    assert road.told.manifest.adapter["cann_version"] == FIRST_RELEASE
    assert SYMBOL not in needed_of_server(read_elf(road.told.adapter))
    assert SYMBOL in _exported(road.told)
    assert (road.told_swapped.way, road.told_swapped.record.actions) == (SWAP, {})
    assert road.told_swapped.build.manifest.adapter["cann_version"] == UNKNOWN_RELEASE
    assert verify_build(road.settings).exit_code == 0

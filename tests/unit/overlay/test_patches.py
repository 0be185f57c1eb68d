"""Declared fixes for newer toolchains: what is declared, and which toolchain calls for which."""

from __future__ import annotations

import pytest

from npu_serving.known_failures import BUILDING, read_known_failures
from npu_serving.lock.lockfile import read_lock
from npu_serving.overlay.patches import Toolchain, load_patches, needed_patches
from npu_serving.settings import PROJECT_ROOT

UBUNTU_18_04 = Toolchain(glibc="2.27", gcc="8.4.0")
DEBIAN_12 = Toolchain(glibc="2.36", gcc="12.2.0")
LIBEVENT = "com_github_libevent_libevent"


def test_ubuntu_18_04_calls_for_none_of_the_fixes():
    assert needed_patches(UBUNTU_18_04) == ()


@pytest.mark.parametrize(
    ("glibc", "gcc", "ids"),
    [
        ("2.29", "10.2.1", []),
        ("2.30", "9.3.0", ["grpc-gettid"]),
        ("2.31", "10.2.1", ["grpc-gettid"]),
        ("2.32", "10.2.1", ["grpc-gettid", "hwloc-sysctl"]),
        ("2.35", "11.4.0", ["grpc-gettid", "hwloc-sysctl", "boringssl-warnings", "standard-headers"]),
        ("2.28", "12", ["boringssl-warnings", "standard-headers"]),
        ("2.4", "8", []),
    ],
)
def test_each_fix_applies_from_its_version_on_as_numbers_not_as_text(glibc, gcc, ids):
    assert [patch.id for patch in needed_patches(Toolchain(glibc, gcc))] == ids


def test_debian_12_calls_for_all_of_them():
    assert needed_patches(DEBIAN_12) == load_patches()


def test_the_declared_patches_are_for_the_archives_that_the_lock_pins():
    lock = {archive.name: archive for archive in read_lock(PROJECT_ROOT / "locks/serving-1.15.0.json").archives}
    for patch in load_patches():
        assert patch.why
        assert patch.edits or patch.flags
        assert bool(patch.edits) == bool(patch.archive_name)
        if patch.archive_name:
            assert lock[patch.archive_name].sha256 == patch.archive_sha256
    ids = [patch.id for patch in load_patches()]
    assert len(ids) == len(set(ids))


def test_patches_are_chosen_by_what_the_runner_says_of_itself():
    from npu_serving.building.inputs import toolchain_of

    assert toolchain_of({"compiler": "gcc 12.2.0, g++ 12.2.0", "glibc": "glibc 2.36"}) == Toolchain("2.36", "12.2.0")
    assert toolchain_of({}) == Toolchain("0", "0"), "what is not known counts as old"


def test_each_fix_says_which_known_failure_shows_that_it_is_missing():
    """And the cure in the table is none that leads back to the build that failed."""
    rows = {row.id: row for row in read_known_failures(BUILDING)}
    shown = {failure for patch in load_patches() for failure in patch.failures}
    assert all(patch.failures for patch in load_patches())
    assert shown <= set(rows)
    assert {row.id for row in rows.values() if "declared patch" in row.cure} == shown
    assert not any("which applies the patch" in row.cure for row in rows.values())

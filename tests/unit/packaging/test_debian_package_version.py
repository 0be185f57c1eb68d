"""The Debian package's version, held against dpkg's own comparison: an upgrade has the higher one."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from npu_serving.builds.manifest import CREATED, Build, BuildManifest
from npu_serving.cann.layout import is_before
from npu_serving.packaging.debian_package import deb_version

pytestmark = pytest.mark.skipif(shutil.which("dpkg") is None, reason="no dpkg: this is not Debian")

MANIFEST = BuildManifest(
    build_id="b",
    input_digest="5" * 64,
    serving_version="1.15.0",
    source={},
    adapter={},
    lock_digest="",
    toolchain={},
    flags=(),
    actions={},
    patches={},
    files={},
    created="2026-11-22T21:52:49Z",
)

OLDEST_FIRST = [
    "",
    "5.1.RC1.alpha005",
    "5.1.RC1",
    "5.1.RC1.1",
    "5.1.RC2",
    "6.3.RC2.alpha003",
    "6.3.RC2",
    "6.10.RC1",
    "7.0.0.alpha003",
    "7.0.0",
    "7.0.1.5",
    "8.0.RC3.alpha001",
    "8.0.RC3.beta1",
    "8.0.RC3",
    "8.0.RC10",
    "8.0.0.alpha001",
    "8.0.0.alpha002",
    "8.0.0.beta1",
    "8.0.0.RC1",
    "8.0.0",
    "8.0.1",
    "8.5.0.alpha001",
    "8.5.0",
    "9.0.0.beta.1",
    "9.0.0-rc.1",
    "9.0.0",
    "10.0.RC1",
]


def version(
    cann: str = "8.0.0", *, created: str = MANIFEST.created, digest: str = "5" * 64, serving: str = "1.15.0"
) -> str:
    """What the package of such a build has."""
    adapter = {"cann_version": cann}
    manifest = dataclasses.replace(
        MANIFEST, adapter=adapter, created=created, input_digest=digest, serving_version=serving
    )
    return deb_version(Build(Path("/nowhere"), manifest, current=True))


def compared(one: str, relation: str, other: str) -> bool:
    done = subprocess.run(["dpkg", "--compare-versions", one, relation, other], capture_output=True, check=False)
    assert done.stderr == b"", "dpkg takes one of them for no version"
    return done.returncode == 0


def test_a_later_cann_is_an_upgrade() -> None:
    for one, other in itertools.combinations(OLDEST_FIRST, 2):
        assert compared(version(one, created="2027-01-01T00:00:00Z"), "lt", version(other)), (one, other)


releases = some.builds(
    lambda *parts: "".join(parts),
    some.sampled_from(["5.1", "6.3", "8.0", "8.10"]),
    some.one_of(some.integers(0, 12).map(".{}".format), some.integers(1, 12).map(".RC{}".format)),
    some.sampled_from(["", "", ".alpha001", ".alpha012", ".beta1", ".beta2"]),
)


@given(releases, releases)
def test_dpkg_sorts_releases_as_this_project_does(one: str, other: str) -> None:
    relation = "lt" if is_before(one, other) else "gt" if is_before(other, one) else "eq"
    assert compared(version(one), relation, version(other))


seconds = some.integers(0, 4_000_000_000)


@given(some.sets(seconds, min_size=2, max_size=2), some.text("0123456789abcdef", min_size=12, max_size=12))
def test_of_two_builds_with_the_same_cann_the_later_is_an_upgrade(times: set[int], digest: str) -> None:
    earlier, later = (time.strftime(CREATED, time.gmtime(second)) for second in sorted(times))
    assert compared(version(created=earlier, digest="f" * 64), "lt", version(created=later, digest=digest))


@pytest.mark.parametrize("serving", ["1.15.0", "1.15.0-rc2", "1.15", "", "huawei", "1.15.0-a_b"])
def test_whatever_a_fork_is_called_the_version_is_one_for_debian(serving: str) -> None:
    assert compared(version(serving=serving), "lt", version(serving="1.15.1"))
    assert compared(version(serving="1.15.0-rc2"), "lt", version(serving="1.15.0"))


@given(some.text(max_size=12))
def test_whatever_cann_is_called_the_version_is_one_for_debian(cann: str) -> None:
    assert compared(version(cann), "eq", version(cann))

"""What verify-serving says of an adapter that was replaced: never a blank where a release is unknown."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from npu_serving.builds.verify import VerifyResult
from npu_serving.cann.adapter import Adapter, told_apart
from npu_serving.elf.report import CompatReport
from npu_serving.elf.symbols import ElfFile

A, B = "a" * 64, "b" * 64


def adapter(release: str) -> Adapter:
    return Adapter(Path("/opt/npu_bridge/_tf_adapter.so"), B, release, "x86_64", None, cast(ElfFile, SimpleNamespace()))


def text(linked: dict[str, str], installed: str) -> str:
    server = Path("/dist/server")
    return VerifyResult(server, CompatReport(server, None, (), ()), linked, adapter(installed)).text()


def test_two_releases_are_named() -> None:
    said = text({"cann_version": "6.3.RC2", "path": "/old/_tf_adapter.so", "sha256": A}, "7.0.RC1")
    assert "linked with the adapter of CANN 6.3.RC2, but the installed one is that of CANN 7.0.RC1." in said
    assert "Next: ./inv rebuild-after-cann" in said


@pytest.mark.parametrize(("linked", "installed"), [("", ""), ("6.3.RC2", ""), ("", "7.0.RC1"), ("7.0", "7.0")])
def test_where_a_release_is_unknown_or_the_same_the_files_and_their_digests_are_named(
    linked: str, installed: str
) -> None:
    said = text({"cann_version": linked, "path": "/old/_tf_adapter.so", "sha256": A}, installed)
    assert f"/old/_tf_adapter.so (sha256 {A})" in said
    assert f"/opt/npu_bridge/_tf_adapter.so (sha256 {B})" in said
    assert "CANN ;" not in said
    assert "CANN ." not in said


def test_a_manifest_that_says_nothing_of_its_adapter_leaves_no_gap() -> None:
    assert told_apart({}, adapter(""))[0] == "the adapter a file of that name (sha256 unknown)"

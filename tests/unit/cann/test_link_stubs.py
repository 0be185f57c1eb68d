"""CANN's stubs for linking, taken for the libraries that they are named after."""

from __future__ import annotations

from pathlib import Path

import pytest
from cann_trees import point, put

from npu_serving.cann.link_stubs import link_stub_findings
from npu_serving.findings import WARNING


@pytest.mark.parametrize("place", ["devlib", "devlib/linux/x86_64", "runtime/lib64/stub"])
def test_a_library_of_a_directory_of_stubs_is_a_warning_that_names_the_real_one(place: str, tmp_path: Path) -> None:
    stub = put(tmp_path / place / "libascendcl.so")
    real = put(tmp_path / "lib64/libascendcl.so")
    (finding,) = link_stub_findings([stub, put(tmp_path / "lib64/libother.so")], [stub.parent, real.parent])
    assert finding.severity == WARNING
    assert f"{stub} is a stub," in finding.what
    assert f"The real one is {real}" in finding.what
    assert f"remove {stub.parent} from LD_LIBRARY_PATH" in finding.cure
    assert link_stub_findings([real], [stub.parent, real.parent]) == [], "which is what following the cure leads to"


def test_a_link_to_a_stub_is_one_and_where_no_real_one_is_found_that_is_said(tmp_path: Path) -> None:
    put(tmp_path / "devlib/libascend_hal.so")
    (tmp_path / "lib64").mkdir()
    point(tmp_path / "lib64/libascend_hal.so", "../devlib/libascend_hal.so")
    (finding,) = link_stub_findings([tmp_path / "lib64/libascend_hal.so"], [tmp_path / "lib64"])
    assert "No real one was found: it comes with the driver" in finding.what
    (finding,) = link_stub_findings([put(tmp_path / "devlib/libge_runner.so")], [tmp_path / "lib64"])
    assert "driver" not in finding.what, "which has no library of the toolkit's"
    assert "./inv cann-info" in finding.what


def test_a_directory_that_is_only_called_alike_holds_no_stubs(tmp_path: Path) -> None:
    assert link_stub_findings([put(tmp_path / "stubs/libx.so"), put(tmp_path / "a/stub")], []) == []

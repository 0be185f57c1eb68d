"""A build made on a machine with CANN and without an NPU: nothing but the libraries of the driver may be missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from elf_samples import library, needs_gcc, program

from npu_serving.builds.manifest import SERVER
from npu_serving.builds.verify import check_directory
from npu_serving.errors import VerificationError

pytestmark = needs_gcc


def test_a_build_is_finished_where_nothing_but_the_driver_is_missing(tmp_path: Path) -> None:
    hal = library(tmp_path / "driver", "libascend_hal.so", "void hal(void) {}")
    acl = library(tmp_path / "cann", "libascendcl.so", "void acl(void) {}", against=[hal])
    adapter = library(tmp_path / "dist/lib", "_tf_adapter.so", "void adapter(void) {}", against=[acl])
    server = tmp_path / "dist" / SERVER
    program(server.parent, server.name, "int main(void) { return 0; }", "-Wl,-rpath,$ORIGIN/../lib", against=[adapter])
    report = check_directory(tmp_path / "dist", [tmp_path / "cann"])
    assert report.kinds() == ("driver-not-found",)
    assert not report.ok, "it would not start here"
    acl.unlink()
    with pytest.raises(VerificationError, match=r"libascendcl\.so"):
        check_directory(tmp_path / "dist", [tmp_path / "cann"])

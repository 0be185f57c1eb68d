"""The report on a server: one finding for one cause, however many libraries are missing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from elf_samples import library, needs_gcc, program

from npu_serving.elf import compat
from npu_serving.elf.report import CompatReport
from npu_serving.elf.subject import ServerCase
from npu_serving.findings import PROBLEM, WARNING

pytestmark = needs_gcc

EIGHT = [f"libof_cann{number}.so" for number in range(8)]


@pytest.fixture(scope="module")
def without_cann(tmp_path_factory: pytest.TempPathFactory) -> CompatReport:
    """The report on a server on a machine without CANN, whose libraries are needed by the adapter and by each other;
    its RUNPATH is that of the tree where it was built.
    """
    root = tmp_path_factory.mktemp("world")
    of_cann = [library(root / "cann", name, f"void in_{number}(void) {{}}") for number, name in enumerate(EIGHT)]
    calls = "".join(f"void in_{number}(void);" for number in range(8))
    used = "".join(f"in_{number}();" for number in range(8))
    adapter = library(root / "lib", "_tf_adapter.so", f"{calls} void adapter(void) {{ {used} }}", against=of_cann)
    runpath = (
        "-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib:$ORIGIN/../../_solib_k8/_U_S_Sthird_Uparty:"
        "$ORIGIN/server.runfiles/tf_serving/_solib_k8:/home/me/.cache/bazel/x/execroot/tf_serving/bazel-out/k8-opt/bin"
    )
    server = program(root, "server", "int main(void) { return 0; }", runpath, "-Wl,--no-as-needed", against=[adapter])
    shutil.rmtree(root / "cann")
    return compat.check_server(ServerCase(server, library_path=(root / "lib",), cann_absent=True))


def test_all_libraries_that_are_missing_for_one_reason_are_one_finding_on_one_line(without_cann: CompatReport) -> None:
    text = without_cann.text()
    (line,) = [line for line in text.splitlines() if "library-not-found" in line]
    assert all(name in line for name in EIGHT)
    assert text.count("set_env.sh") == 1
    assert "needs them, and no directory" in text
    assert "need it" not in text
    shown = json.loads(json.dumps(without_cann.to_json()))["findings"]
    (finding,) = [item for item in shown if item["kind"] == "library-not-found"]
    assert finding["subject"].split(", ") == EIGHT


def test_each_directory_is_shown_once_and_none_of_the_tree_that_it_was_built_in(without_cann: CompatReport) -> None:
    text = without_cann.text()
    for name in ("_solib_k8", "bazel-out", "execroot", ".runfiles"):
        assert name not in text
    searched = [line.strip() for line in text.splitlines() if line.startswith("    /")]
    assert len(searched) == len(set(searched)) > 2
    assert any(Path(line).name == "lib" for line in searched)


def test_what_is_decided_by_each_library_is_still_known_of_each(without_cann: CompatReport) -> None:
    """A rebuild asks whether a missing library is one that the build carries."""
    missing = [finding.where for finding in without_cann.findings if finding.kind == "library-not-found"]
    assert missing == EIGHT


def test_libraries_that_are_missing_for_different_reasons_stay_apart(without_cann: CompatReport) -> None:
    first, second = without_cann.findings[0], without_cann.findings[1]
    assert first.severity == WARNING
    other = dataclasses.replace(second, cure="another one")
    worse = dataclasses.replace(second, severity=PROBLEM)
    for different in (other, worse):
        report = dataclasses.replace(without_cann, findings=(first, different))
        assert report.text().count("library-not-found") == 2

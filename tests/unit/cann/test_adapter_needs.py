"""An adapter of a later release than the toolkit's is told by what it calls, for its wheel names no release."""

from __future__ import annotations

from pathlib import Path

import pytest
from cann_trees import MACHINE, install_wheel, make_cann_of_today, make_driver
from elf_samples import library, needs_gcc

from npu_serving.cann.info import cann_info
from npu_serving.settings import Settings

pytestmark = needs_gcc
OLD = "void aclInit(void) {} void aclrtFree(void) {}"
NEW = OLD + "void aclrtNew(void) {}"


def calling(*names: str) -> str:
    return "".join(f"void {name}(void);" for name in names) + f"void f(void) {{ {'();'.join(names)}(); }}"


@pytest.fixture
def cann(tmp_path: Path) -> Path:
    """CANN 8.5.0 with the wheel of 9.0.0, which calls one function more."""
    root = make_driver(make_cann_of_today(tmp_path / "Ascend", "8.5.0"))
    acl = library(tmp_path / "linked with", "libascendcl.so", NEW)
    runtime = library(root / f"cann/{MACHINE}-linux/lib64", "libascendcl.so", OLD)
    calls = ("aclInit", "aclrtFree", "aclrtNew", "PyList_New", "_ZN10tensorflow3FooEv")
    adapter = library(tmp_path / "built", "_tf_adapter.so", calling(*calls), against=[acl])
    install_wheel(root / "tfplugin", adapter=adapter.read_bytes())
    assert runtime.is_file()
    return root


def told(root: Path, adapter: str = "auto") -> list[str]:
    shown = cann_info(Settings(cann_root=str(root), adapter=adapter, build_root=root / "state"))
    assert shown.exit_code == (3 if [finding for finding in shown.findings if finding.needs_action] else 0)
    return [finding.what for finding in shown.findings if finding.needs_action]


def test_what_the_toolkit_lacks_of_what_the_adapter_calls_is_named_and_an_upgrade_of_the_toolkit_helps(
    cann: Path,
) -> None:
    for adapter in ("auto", str(cann / "tfplugin/npu_bridge/_tf_adapter.so")):
        (problem,) = told(cann, adapter)
        assert f"calls what the toolkit in {cann / 'cann'} (CANN 8.5.0) lacks: aclrtNew of libascendcl.so." in problem
    library(cann / f"cann/{MACHINE}-linux/lib64", "libascendcl.so", NEW)
    assert told(cann) == []


def test_where_a_library_of_canns_is_missing_nothing_is_said_of_what_it_may_define(cann: Path) -> None:
    lib64 = cann / f"cann/{MACHINE}-linux/lib64"
    library(lib64, "libascendcl.so", OLD, against=[library(cann / "x", "libruntime.so", "int x;")])
    assert told(cann) == []
    library(lib64, "libascendcl.so", OLD, against=[library(cann / "x", "libascend_hal.so", "int x;")])
    assert len(told(cann)) == 1, "the driver's libraries define nothing of CANN's"
    (lib64 / "libascendcl.so").unlink()
    assert told(cann) == []

"""CANN's programs that read what a run has written: found in whichever layout, or how to get them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from cann_trees import make_cann, make_cann_of_today, make_runtime, put

from npu_serving.cann.analysis_tools import analysis_tools, how_to_get, tool_command
from npu_serving.cann.install import CannInstallation, find_installation
from npu_serving.cann.layout import packages


def installed(root: Path) -> CannInstallation | None:
    return find_installation(str(root), {})


@pytest.mark.parametrize(
    ("file", "interpreter"),
    [
        ("tools/operator_cmp/compare/msaccucmp.py", "python3"),
        ("toolkit/tools/operator_cmp/compare/msaccucmp.pyc", "python3.7"),
    ],
)
def test_the_precision_comparison_tool_is_found_in_both_layouts_of_a_toolkit(
    tmp_path: Path, file: str, interpreter: str
) -> None:
    root = make_cann(tmp_path / "root of 'mine'")
    put(root / "ascend-toolkit/latest" / file)
    command = tool_command("msaccucmp", ["compare", "-m", "a b"], installed(root))
    path = str(root / "ascend-toolkit/latest" / file)
    assert shlex.split(command) == [interpreter, path, "compare", "-m", "a b"]


def test_the_profiling_tool_is_found_where_cann_8_5_and_later_put_it(tmp_path: Path) -> None:
    root = make_cann_of_today(tmp_path / "Ascend")
    put(root / "cann/tools/profiler/bin/msprof")
    command = tool_command("msprof", ["--export=on"], installed(root))
    assert shlex.split(command) == [str(root / "cann/tools/profiler/bin/msprof"), "--export=on"]


@pytest.mark.parametrize("family", ["nnae", "ascend-toolkit"])
def test_a_program_that_is_not_installed_is_named_with_the_package_that_has_it(tmp_path: Path, family: str) -> None:
    root = make_runtime(tmp_path / "Ascend", family, "6.3.RC2") or tmp_path / "Ascend"
    found = installed(root)
    assert tool_command("msprof", [], found) == ""
    assert packages()["toolkit"].install_command("6.3.RC2") in how_to_get("msprof", found)
    assert "the profiling tool" in how_to_get("msprof", None)


def test_each_program_is_below_the_toolkit_and_a_script_has_its_interpreter() -> None:
    for name, tool in analysis_tools().items():
        assert tool.files, name
        for file in tool.files:
            assert not file.startswith("/")
            assert (Path(file).suffix in tool.interpreters) == (Path(file).suffix != ""), file

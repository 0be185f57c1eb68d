"""The adapter's list of operators: found where each layout has it, and judged as the adapter reads it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cann_trees import OPERATOR_LIST, make_cann, put

from npu_serving.cann.environment import cann_environment
from npu_serving.cann.install import find_installation
from npu_serving.cann.operator_list import finding_for, operator_list_table, operator_lists
from npu_serving.findings import Finding

ONE = '{"Add": {"isGray": false, "isHeavy": false}}'


def found(root: Path) -> list[Finding]:
    installation = find_installation(str(root))
    assert installation is not None
    return [finding for finding in installation.findings if finding.kind == "operator-list"]


@pytest.fixture
def cann(tmp_path: Path) -> Path:
    return make_cann(tmp_path / "Ascend")


@pytest.mark.parametrize(
    ("content", "trouble"),
    [
        ("", "is not valid JSON"),
        ('{"Add": {"isGray": false}', "is not valid JSON"),
        ('{"Add": {"cost": NaN}}', "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "is not a list of operators"),
        ('{"Add": true}', "lists no operator"),
        ("{}", "lists no operator"),
    ],
)
def test_a_list_that_the_adapter_could_not_use_is_a_problem_with_what_follows_from_it(
    cann: Path, content: str, trouble: str
) -> None:
    path = cann / "ascend-toolkit/latest" / OPERATOR_LIST
    assert found(cann) == []
    path.write_text(content)
    (finding,) = found(cann)
    assert trouble in finding.what
    assert str(path) in finding.what
    assert "every model would be silently served by the CPU" in finding.what
    assert "Ascend-cann-toolkit" in finding.cure
    path.write_text(ONE)
    assert found(cann) == []


def test_a_list_that_is_missing_or_something_else_is_a_problem(cann: Path) -> None:
    path = cann / "ascend-toolkit/latest" / OPERATOR_LIST
    path.unlink()
    assert "is missing" in found(cann)[0].what
    path.mkdir()
    assert "is not a file" in found(cann)[0].what


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_list_that_this_user_may_not_read_is_cured_by_its_owner(cann: Path) -> None:
    path = cann / "ascend-toolkit/latest" / OPERATOR_LIST
    path.chmod(0)
    assert "--install-for-all" in found(cann)[0].cure


def test_the_older_layout_is_read_where_there_is_no_newer_one_and_the_newer_one_first(tmp_path: Path) -> None:
    names = operator_list_table()
    older = put(tmp_path / names.older, ONE)
    environ = {"ASCEND_OPP_PATH": str(tmp_path)}
    assert (operator_lists(environ).path, operator_lists(environ).operators) == (older, 1)
    (tmp_path / "built-in").mkdir()
    assert operator_lists(environ).are_empty, "the adapter looks no further when the directory built-in is there"
    newer = put(tmp_path / names.current, ONE)
    assert (operator_lists(environ).path, operator_lists(environ).are_empty) == (newer, False)


def test_custom_operators_count_as_the_adapter_counts_them(tmp_path: Path) -> None:
    opp, own = tmp_path / "opp", tmp_path / "own"
    (opp / "built-in").mkdir(parents=True)
    environ = {"ASCEND_OPP_PATH": str(opp), "ASCEND_CUSTOM_OPP_PATH": f"/nonexistent::{own}"}
    assert operator_lists(environ).are_empty
    put(own / "framework/tensorflow/npu_supported_ops.json", ONE)
    put(opp / "vendors/b/framework/tensorflow/npu_supported_ops.json", ONE)
    assert operator_lists(environ).custom_operators == 1
    put(opp / "vendors/config.ini", "load_priority=a, b\n")
    lists = operator_lists(environ)
    assert (lists.custom_operators, lists.are_empty) == (2, False)
    assert "is missing" in lists.trouble


def test_without_the_variable_the_adapter_looks_where_no_installer_puts_it() -> None:
    assert operator_lists({}).path.is_relative_to("/usr/local/Ascend/opp")
    assert operator_lists({"ASCEND_OPP_PATH": ""}).path.parts[1] in ("built-in", "framework")


def test_where_the_shell_leads_to_another_directory_the_cure_is_to_unset_that_and_it_helps(
    cann: Path, tmp_path: Path
) -> None:
    installation = find_installation(str(cann))
    assert installation is not None
    assert installation.runtime is not None
    (tmp_path / "mine").mkdir()
    shell = {"ASCEND_OPP_PATH": str(tmp_path / "mine")}
    finding = finding_for(operator_lists(cann_environment(installation, shell).added_to(shell)), installation.runtime)
    assert finding is not None
    assert finding.cure.startswith("unset ASCEND_OPP_PATH, then run the same command again")
    del shell["ASCEND_OPP_PATH"]
    assert (
        finding_for(operator_lists(cann_environment(installation, shell).added_to(shell)), installation.runtime) is None
    )
    (
        cann / "ascend-toolkit/latest" / OPERATOR_LIST
    ).unlink()  # then the toolkit's own is to be installed, by its release
    finding = finding_for(operator_lists(cann_environment(installation, shell).added_to(shell)), installation.runtime)
    assert finding is not None
    assert "./Ascend-cann-toolkit_6.3.RC2_linux-" in finding.cure


def test_gray_operators_are_taken_unless_computing_is_mixed(tmp_path: Path) -> None:
    names = operator_list_table()
    entries = {"Add": {"isGray": False}, "Relu": {"isGray": True}, "XDataset": {}, "StringJoin": {}}
    put(tmp_path / names.current, json.dumps(entries))
    lists = operator_lists({"ASCEND_OPP_PATH": str(tmp_path)})
    assert [lists.taken(name, mixed=False) for name in ("Add", "Relu", "Mul")] == [True, True, False]
    assert [lists.taken(name, mixed=True) for name in ("Add", "Relu")] == [True, False]
    assert not any(lists.taken(name, mixed=False) for name in ("XDataset", "StringJoin"))

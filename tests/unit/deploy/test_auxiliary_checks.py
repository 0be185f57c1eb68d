"""The files that session options name: the user's own are read before a server is, and ours have nothing to report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from npu_serving.cann.operator_library import operator_library
from npu_serving.deploy.auxiliary_checks import MISSING, check_auxiliary_files
from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.library_checks import KIND
from npu_serving.findings import PROBLEM, WARNING, Finding

LIBRARY = "built-in/op_impl/ai_core/tbe/config/ascend910/aic-ascend910-ops-info.json"
MIXED = {"precision_mode": "allow_mix_precision"}


def found(
    directory: Path, npu: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> list[tuple[str, Finding]]:
    file = directory / "d.json"
    file.write_text(json.dumps({"version": 1, "models": [{"name": "a", "base_path": "/a"}], "npu": npu}))
    made = read_deployment(file)
    variables = environment or {}
    return list(check_auxiliary_files(made, made.models[0], variables, lambda: operator_library(variables)))


def test_a_right_file_of_the_user_s_has_no_finding(tmp_path: Path) -> None:
    lists = tmp_path / "my_lists.json"
    lists.write_text('{ // ours\n "black-list": {"to-add": ["SoftmaxV2"]}}')
    assert found(tmp_path, {**MIXED, "modify_mixlist": str(lists)}) == []


def test_a_wrong_file_of_the_user_s_is_a_problem_with_its_line(tmp_path: Path) -> None:
    lists = tmp_path / "lists.json"
    lists.write_text('{"black-list": {"to-add": ["A"]},\n"white-list": {"to-add": ["A"]}}')
    ((option, finding),) = found(tmp_path, {**MIXED, "modify_mixlist": str(lists)})
    assert (option, finding.kind, finding.severity) == ("modify_mixlist", KIND, PROBLEM)
    assert f"{lists}:2:" in finding.what


def test_a_missing_file_is_a_problem_of_the_world_and_the_cure_helps(tmp_path: Path) -> None:
    ((_, finding),) = found(tmp_path, {**MIXED, "modify_mixlist": str(tmp_path / "no.json")})
    assert (finding.kind, finding.severity) == (MISSING, PROBLEM)
    assert "write the content of ops_info.json in place of its path" in finding.cure
    assert found(tmp_path, {**MIXED, "modify_mixlist": {"black-list": {"to-add": ["A"]}}}) == []


def test_a_relative_path_is_a_problem(tmp_path: Path) -> None:
    ((_, finding),) = found(tmp_path, {"op_precision_mode": "op_precision.ini"})
    assert (finding.kind, finding.cure) == (KIND, "write the absolute path")


def test_characters_that_the_guide_does_not_take_in_a_path_are_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "a b.cfg"
    file.write_text('{"Switch": {}}')
    assert [finding.severity for _, finding in found(tmp_path, {"fusion_switch_file": str(file)})] == [WARNING]
    file.rename(tmp_path / "融合.cfg")
    assert found(tmp_path, {"fusion_switch_file": str(tmp_path / "融合.cfg")}) == []


def test_kernels_without_optimisation_are_warned_about_where_shapes_change(tmp_path: Path) -> None:
    shapes = {"input_shape": "x:-1", "dynamic_dims": "1;2", "dynamic_node_type": 1}
    assert found(tmp_path, {"op_debug_config": ["ccec_O0"]}) == []
    assert found(tmp_path, {"op_debug_config": ["oom"], **shapes}) == []
    ((option, finding),) = found(tmp_path, {"op_debug_config": ["ccec_O0"], **shapes})
    assert (option, finding.severity) == ("op_debug_config", WARNING)
    own = tmp_path / "debug.cfg"
    own.write_text("op_debug_config = ccec_g\n")
    assert len(found(tmp_path, {"op_debug_config": str(own), **shapes})) == 1


def test_limits_of_the_cache_that_do_not_count_are_warned_about_and_the_cures_help(tmp_path: Path) -> None:
    npu = {"op_compiler_cache_mode": "enable", "op_compiler_cache_dir": str(tmp_path)}
    asked = {"ASCEND_MAX_OP_CACHE_SIZE": "900"}
    assert found(tmp_path, npu, asked) == []
    limits = tmp_path / "op_cache.ini"
    for text, said in (
        ("ascend_max_op_cache_size=500\nascend_remain_cache_size_ratio=80\n", "before the first section"),
        ("[op_compiler_cache]\nascend_max_op_cache_size=500\n", "ascend_remain_cache_size_ratio: is missing"),
        (
            "[op_compiler_cache]\nascend_max_op_cache_size=500\nascend_remain_cache_size_ratio=80\n",
            "ASCEND_MAX_OP_CACHE_SIZE is 900",
        ),
    ):
        limits.write_text(text)
        ((option, finding),) = found(tmp_path, npu, asked)
        assert (option, finding.severity) == ("op_compiler_cache_dir", WARNING)
        assert said in finding.what
        assert os.system(finding.cure.partition("remove it: ")[2]) == 0
        assert found(tmp_path, npu, asked) == []


def test_a_type_that_the_installed_library_does_not_have_is_a_warning_with_the_nearest(tmp_path: Path) -> None:
    library = tmp_path / "opp" / LIBRARY
    library.parent.mkdir(parents=True)
    library.write_text(json.dumps({"MatMul": {"precision_reduce": {"flag": "true"}}, "Relu": {"input0": {}}}))
    environment = {"ASCEND_OPP_PATH": str(tmp_path / "opp")}
    for npu in (
        {**MIXED, "modify_mixlist": {"white-list": {"to-remove": ["Matmul", "MatMul"]}}},
        {"customize_dtypes": {"by_type": {"Matmul": {"inputs": ["float16"], "outputs": ["float16"]}}}},
        {"op_precision_mode": {"ByOpType": {"Matmul": "high_precision"}}},
    ):
        ((_, finding),) = found(tmp_path, npu, environment)
        assert (finding.severity, finding.cure) == (WARNING, "write MatMul")
    assert found(tmp_path, {"op_precision_mode": {"ByOpType": {"Relu": "high_precision"}}}, environment) == []
    assert found(tmp_path, {"op_precision_mode": {"ByNodeName": {"Matmul": "high_precision"}}}, environment) == []


def test_a_copy_that_was_kept_in_the_library_is_a_warning(tmp_path: Path) -> None:
    library = tmp_path / "opp" / LIBRARY
    library.parent.mkdir(parents=True)
    for file in (library, library.with_name("copy.json")):
        file.write_text(json.dumps({"Relu": {"precision_reduce": {"flag": "true"}}}))
    npu = {"op_precision_mode": {"ByOpType": {"Relu": "high_precision"}}}
    ((_, finding),) = found(tmp_path, npu, {"ASCEND_OPP_PATH": str(tmp_path / "opp")})
    assert "copy.json" in finding.what
    assert finding.severity == WARNING


def test_a_comment_among_data_types_is_a_warning_because_newer_releases_refuse_it(tmp_path: Path) -> None:
    file = tmp_path / "dtypes.cfg"
    entry = "a/b::InputDtype:float16,OutputDtype:float16\n"
    file.write_text(entry)
    assert found(tmp_path, {"customize_dtypes": str(file)}) == []
    for text in (f"# ours\n{entry}", f"{entry}\n{entry.replace('a/b', 'c')}"):
        file.write_text(text)
        ((option, finding),) = found(tmp_path, {"customize_dtypes": str(file)})
        assert (option, finding.severity) == ("customize_dtypes", WARNING)
        assert "CANN 9 refuses a file of data types with such a line" in finding.what


def test_limits_that_the_deployment_states_are_compared_with_those_that_would_count_without_it(tmp_path: Path) -> None:
    limits = {"ascend_max_op_cache_size": 2000, "ascend_remain_cache_size_ratio": 60}
    cache = {"op_compiler_cache_mode": "enable", "op_compiler_cache_dir": {"directory": str(tmp_path), **limits}}
    assert found(tmp_path, cache) == []
    ((option, finding),) = found(tmp_path, cache, {"ASCEND_MAX_OP_CACHE_SIZE": "5"})
    assert (option, finding.severity) == ("op_compiler_cache_dir", WARNING)
    assert "will have 2000, which counts" in finding.what
    text = "[op_compiler_cache]\nascend_max_op_cache_size=500\nascend_remain_cache_size_ratio=60\n"
    (tmp_path / "op_cache.ini").write_text(text)
    ((_, finding),) = found(tmp_path, cache)
    assert "has 500 MB and 60 %, and is replaced for all" in finding.what
    (tmp_path / "op_cache.ini").write_text(text.replace("500", "2000"))
    assert found(tmp_path, cache) == []

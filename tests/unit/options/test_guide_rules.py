"""What the guide forbids, the adapter lets pass, and a server should not be given."""

from __future__ import annotations

from typing import Any

import pytest

from npu_serving.findings import PROBLEM, WARNING
from npu_serving.options.asked_options import (
    DEPRECATED,
    EFFECT,
    GUIDE_FORBIDS,
    NOT_READ_HERE,
    UNKNOWN,
    WITHOUT_EFFECT,
    WRONG_KIND,
    AskedValue,
)
from npu_serving.options.rules import check_options

SERVER: dict[str, AskedValue] = {"use_off_line": True, "graph_run_mode": 0}
CACHE: dict[str, AskedValue] = {"op_compiler_cache_mode": "force", "op_compiler_cache_dir": "/c"}
DUMPS: dict[str, AskedValue] = {"enable_dump": True, "dump_path": "."}
IMPLEMENTATIONS: dict[str, AskedValue] = {"op_select_implmode": "high_precision"}
ORIGINAL: dict[str, AskedValue] = {"precision_mode": "must_keep_origin_dtype"}


def beside(options: dict[str, AskedValue], release: str = "6.3.RC2", **more: Any) -> list[tuple[str, str, str]]:
    return [(each.kind, each.severity, each.where) for each in check_options({**SERVER, **options}, release, **more)]


def test_what_a_server_is_written_with_has_nothing_against_it() -> None:
    assert beside({"precision_mode_v2": "fp16"}) == []
    gears: dict[str, AskedValue] = {"input_shape": "x:-1,3", "dynamic_dims": "1;2", "dynamic_node_type": 1}
    assert beside(gears) == []
    assert beside(CACHE) == []


@pytest.mark.parametrize(
    ("options", "kind", "severity", "where"),
    [
        ({"graph_run_mode": 1}, GUIDE_FORBIDS, PROBLEM, "graph_run_mode"),
        ({"hccl_timeout": -5}, GUIDE_FORBIDS, PROBLEM, "hccl_timeout"),
        ({"aoe_mode": "2"}, GUIDE_FORBIDS, PROBLEM, "aoe_mode"),
        ({"deterministic": 7}, GUIDE_FORBIDS, WARNING, "deterministic"),
        (
            {"op_compiler_cache_mode": "on", "op_compiler_cache_dir": "/c"},
            GUIDE_FORBIDS,
            WARNING,
            "op_compiler_cache_mode",
        ),
        ({"local_rank_id": 1}, GUIDE_FORBIDS, WARNING, "local_rank_id"),
        ({"variable_placement": "Host"}, GUIDE_FORBIDS, WARNING, "variable_placement"),
        ({"dump_mode": "all"}, GUIDE_FORBIDS, WARNING, "dump_mode"),
        (
            {"op_debug_level": 1, "op_compiler_cache_mode": "force", "op_compiler_cache_dir": "/c"},
            GUIDE_FORBIDS,
            WARNING,
            "op_debug_level",
        ),
        (
            {"op_precision_mode": "/a", "op_select_implmode": "high_precision"},
            GUIDE_FORBIDS,
            WARNING,
            "op_precision_mode",
        ),
        (
            {"customize_dtypes": "/a", "precision_mode": "must_keep_origin_dtype"},
            GUIDE_FORBIDS,
            WARNING,
            "customize_dtypes",
        ),
        ({**DUMPS, "enable_dump_debug": True}, GUIDE_FORBIDS, WARNING, "enable_dump"),
        ({"profiling_mode": True}, GUIDE_FORBIDS, WARNING, "profiling_mode"),
        ({"use_ofline": True}, UNKNOWN, WARNING, "use_ofline"),
        ({"graph_max_parallel_model_num": 4}, NOT_READ_HERE, WARNING, "graph_max_parallel_model_num"),
        ({"deterministic": "1"}, WRONG_KIND, WARNING, "deterministic"),
        ({"external_weight": None}, WRONG_KIND, WARNING, "external_weight"),
        ({"graph_memory_max_size": "1"}, DEPRECATED, WARNING, "graph_memory_max_size"),
        ({"enable_small_channel": 0}, WITHOUT_EFFECT, WARNING, "enable_small_channel"),
    ],
)
def test_what_the_adapter_lets_pass_is_a_finding_of_its_own_kind(
    options: dict[str, AskedValue], kind: str, severity: str, where: str
) -> None:
    assert (kind, severity, where) in beside(options)
    assert not {found for found, _, _ in beside(options)} & set(EFFECT)


GEARS: dict[str, AskedValue] = {"input_shape": "a:-1,3;b:2", "dynamic_dims": "1;2", "dynamic_node_type": 1}


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"dynamic_dims": "1,2;3,4"}, "-1 1 times"),
        ({"dynamic_dims": "1;2,3"}, "-1 1 times"),
        ({"dynamic_dims": "1"}, "one gear"),
        ({"input_shape": "a:-2,3;b:2"}, "the size -2"),
        ({"input_shape": "b:-1,3;a:2"}, "order of its names"),
        ({"input_shape": "x_2:-1;x_10:2"}, "order of its names"),
    ],
)
def test_gears_that_do_not_agree_are_a_problem_though_the_adapter_takes_them(
    options: dict[str, AskedValue], part: str
) -> None:
    assert check_options({**SERVER, **GEARS}, "6.3.RC2") == []
    (found,) = check_options({**SERVER, **GEARS, **options}, "6.3.RC2")
    assert (found.kind, found.severity) == (GUIDE_FORBIDS, PROBLEM)
    assert part in found.what
    assert "the guide forbids it (section 7.1.2 动态shape, 5.6), this adapter does not check it" in found.what


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("nonsense", "not a JSON object"),
        ("[]", "not a JSON object"),
        ('{"output":"/p","training_trace":"on"}', "not supported in online inference"),
        ('{"output":"/p","task_trac":"on"}', "unknown key 'task_trac'"),
        ('{"output":"/p","aicpu":"yes"}', "aicpu is 'yes'"),
        ('{"output":"/p","dvpp_freq":"200"}', "dvpp_freq is '200'"),
        ('{"output":"/p","dvpp_freq":50}', "dvpp_freq is not a text"),
        ('{"output":"/p","instr_profiling_freq":"1000","aicpu":"on"}', "beside aicpu"),
        ('{"aicpu":"on"}', "has no output"),
        ('{"output":"/p","fp_point":"conv1"}', "fp_point is not supported in online inference"),
        ('{"output":"/p","storage_limit":"200"}', "storage_limit is '200'"),
        ('{"output":"/p","storage_limit":"199MB"}', "storage_limit is '199MB'"),
        ('{"output":"/p","storage_limit":"4294967297MB"}', "storage_limit is '4294967297MB'"),
        ('{"output":"/p","aic_metrics":"Everything"}', "aic_metrics is 'Everything'"),
        ('{"output":"/p","aic_metrics":"Custom:"}', "the register ''"),
        ('{"output":"/p","aic_metrics":"Custom:0x1,0x0"}', "the register '0x0'"),
        ('{"output":"/p","aic_metrics":"Custom:0x6F"}', "the register '0x6F'"),
        ('{"output":"/p","aic_metrics":"Custom:111"}', "the register '111'"),
        ('{"output":"/p","aic_metrics":"Custom:1,2,3,4,5,6,7,8,9"}', "has 9 registers"),
    ],
)
def test_what_the_guide_says_of_profiling_is_checked(text: str, part: str) -> None:
    asked: dict[str, AskedValue] = {**SERVER, "profiling_mode": True, "profiling_options": text}
    (found,) = check_options(asked, "6.3.RC2")
    assert (found.kind, found.severity) == (GUIDE_FORBIDS, WARNING)
    assert part in found.what
    for right in (
        '{"output":"/p","task_trace":"on","aicpu":"on"}',
        '{"output":"/p","storage_limit":"200MB","aic_metrics":"MemoryL0"}',
        '{"output":"/p","storage_limit":"4294967296MB","aic_metrics":"Custom:0x1,0x6E,1,110,0xa,5,6,7"}',
    ):
        assert check_options({**asked, "profiling_options": right}, "6.3.RC2") == []


def test_a_training_trace_that_is_not_on_is_said_beside_that_servers_have_none() -> None:
    text = '{"output":"/p","training_trace":"off"}'
    found = check_options({**SERVER, "profiling_mode": True, "profiling_options": text}, "6.3.RC2")
    assert ["training_trace is not supported" in found[0].what, "training_trace is 'off'" in found[1].what] == [
        True
    ] * 2
    assert found[1].cure == "write one of on"


def test_the_json_in_the_variable_is_checked_like_that_of_the_option() -> None:
    environment = {"PROFILING_MODE": "true", "PROFILING_OPTIONS": '{"output":"/p","aic_metrics":"Custom:0x84"}'}
    (found,) = check_options(SERVER, "6.3.RC2", environment=environment)
    assert (found.kind, found.where) == (GUIDE_FORBIDS, "PROFILING_OPTIONS")
    assert "the register '0x84'" in found.what
    assert "7.4.3" in found.what
    assert check_options(SERVER, "6.3.RC2", environment={**environment, "PROFILING_MODE": "false"}) == []


@pytest.mark.parametrize(
    ("types", "wrong"),
    [("Pooling,SoftmaxV2", ""), ("LRN, ROIAlign", ""), ("Pooling,Conv2D", "'Conv2D'"), ("pooling", "'pooling'")],
)
def test_an_implementation_by_type_is_for_four_operators_only(types: str, wrong: str) -> None:
    found = check_options({**SERVER, **IMPLEMENTATIONS, "optypelist_for_implmode": types}, "6.3.RC2")
    of_list = [each for each in found if each.where == "optypelist_for_implmode" and each.kind == GUIDE_FORBIDS]
    assert [wrong in each.what for each in of_list] == ([True] if wrong else [])


@pytest.mark.parametrize(
    ("ranges", "part"),
    [
        ("getnext:[128 ,3~5, 2~128, -1],[64,3~5];data:[128 ,3~5, 2~128, -1]", ""),
        ("data:[],[-1]", ""),
        ("data:[1~-1]", ""),
        ("data:1,2", "is 'data:1,2'"),
        ("data:[1,2],", "is 'data:[1,2],'"),
        ("data:[1-3]", "is 'data:[1-3]'"),
        ("data:[-2]", "is 'data:[-2]'"),
        ("data:[5~3]", "the range 5~3"),
    ],
)
def test_ranges_of_shapes_have_a_form(ranges: str, part: str) -> None:
    asked: dict[str, AskedValue] = {**SERVER, "dynamic_input": True, "dynamic_inputs_shape_range": ranges}
    found = check_options(asked, "6.3.RC2")
    of_ranges = [each for each in found if each.where == "dynamic_inputs_shape_range" and each.kind == GUIDE_FORBIDS]
    assert [part in each.what for each in of_ranges] == ([True] if part else [])


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("JOB_ID", "10087", True),
        ("JOB_ID", "a-b_1", True),
        ("JOB_ID", "0x1", True),
        ("JOB_ID", "007", False),
        ("JOB_ID", "a b", False),
        ("JOB_ID", "a\n", False),
        ("ASCEND_HOST_LOG_FILE_NUM", "1001", False),
    ],
)
def test_a_variable_has_a_value_that_the_guide_gives_it(name: str, value: str, fits: bool) -> None:
    assert beside({}, environment={name: value}) == ([] if fits else [(GUIDE_FORBIDS, WARNING, name)])


def test_a_variable_that_is_read_beside_another_only_is_a_warning_without_it() -> None:
    alone = {"DUMP_GRAPH_LEVEL": "3"}
    assert beside({}, environment=alone) == [(WITHOUT_EFFECT, WARNING, "DUMP_GRAPH_LEVEL")]
    assert beside({}, environment={**alone, "DUMP_GE_GRAPH": "2"}) == []


def test_what_is_written_makes_a_conflict_though_it_is_the_default_and_an_off_switch_does_not() -> None:
    assert beside({"op_debug_config": "/a"}) == []
    cache: dict[str, AskedValue] = {"op_compiler_cache_mode": "enable", "op_compiler_cache_dir": "/c"}
    assert beside({"op_debug_config": "/a", **cache}) == [(GUIDE_FORBIDS, WARNING, "op_debug_config")]
    assert beside({"op_debug_config": "/a", "op_compiler_cache_mode": "disable"}) == []
    assert beside({"variable_placement": "Device"}) == []


def test_an_option_and_a_variable_that_differ_are_a_problem_and_equal_ones_are_none() -> None:
    assert beside({"session_device_id": 1}, environment={"ASCEND_DEVICE_ID": "1"}) == []
    assert beside({"session_device_id": 1}, environment={"ASCEND_DEVICE_ID": "0"}) == [
        (GUIDE_FORBIDS, PROBLEM, "session_device_id")
    ]
    both = beside({"static_memory_policy": 2}, environment={"GE_USE_STATIC_MEMORY": "0"})
    assert both == [(GUIDE_FORBIDS, PROBLEM, "static_memory_policy")]


def test_an_older_adapter_gets_the_older_precision() -> None:
    (found,) = check_options({**SERVER, "precision_mode_v2": "fp16"}, "6.3.RC1")
    assert (found.kind, found.cure) == (NOT_READ_HERE, "write precision_mode in its place, such as force_fp16")
    assert check_options({**SERVER, "precision_mode": "force_fp16"}, "6.3.RC1") == []


@pytest.mark.parametrize(
    ("variable", "wrong", "right", "cure"),
    [
        ("ASCEND_GLOBAL_LOG_LEVEL", "17", "4", "write one of 0, 1, 2, 3, 4, or leave it out"),
        ("ASCEND_SLOG_PRINT_TO_STDOUT", "yes", "1", "write one of 0, 1, or leave it out"),
        ("ASCEND_HOST_LOG_FILE_NUM", "1001", "1000", "write a number from 1 to 1000, or leave it out"),
        ("ASCEND_HOST_LOG_FILE_NUM", "0", "1", "write a number from 1 to 1000, or leave it out"),
        ("FUSION_TENSOR_SIZE", "-1", "0", "write a number from 0 on, or leave it out"),
    ],
)
def test_a_variable_with_a_value_that_it_does_not_have_is_warned_of(
    variable: str, wrong: str, right: str, cure: str
) -> None:
    assert beside({}, environment={variable: right}) == beside({}, environment={variable: ""}) == []
    assert beside({}, environment={variable: wrong}) == [(GUIDE_FORBIDS, WARNING, variable)]
    (found,) = check_options(SERVER, environment={variable: wrong})
    assert found.cure == cure


def test_a_leftover_aoe_mode_in_the_environment_is_a_problem() -> None:
    assert beside({}, environment={"AOE_MODE": "2"}) == [(GUIDE_FORBIDS, PROBLEM, "aoe_mode")]
    assert beside({"aoe_mode": ""}, environment={"AOE_MODE": "2"})[0][0] != "fails-the-run"


def test_a_graph_run_mode_that_is_left_out_is_warned_of() -> None:
    (found,) = check_options({"use_off_line": True}, "6.3.RC2")
    assert (found.kind, found.severity, found.cure) == (GUIDE_FORBIDS, WARNING, "write graph_run_mode 0")


def test_a_cache_that_is_off_needs_no_directory() -> None:
    inference: dict[str, AskedValue] = {"graph_run_mode": 0, "use_off_line": True}
    assert check_options({**inference, "op_compiler_cache_mode": "disable"}) == []
    (finding,) = check_options({**inference, "op_compiler_cache_mode": "force"})
    assert "without op_compiler_cache_dir" in finding.what


@pytest.mark.parametrize("name", ["dynamic_input", "dynamic_graph_execute_mode", "dynamic_inputs_shape_range"])
def test_the_three_dynamic_options_are_called_deprecated(name: str) -> None:
    values: dict[str, AskedValue] = {
        "dynamic_input": True,
        "dynamic_graph_execute_mode": "dynamic_execute",
        "dynamic_inputs_shape_range": "data:[1~4,3]",
    }
    found = [each for each in check_options({**SERVER, **values}) if each.kind == DEPRECATED and each.where == name]
    assert [each.severity for each in found] == [WARNING]

"""What the adapter refuses beside the runs of facts/adapter_runs.yaml: by its source, for each release."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_serving.findings import Finding
from npu_serving.options.asked_options import EFFECT, ENDS_THE_PROCESS, FAILS_THE_RUN, RUNS_ON_THE_CPU, AskedValue
from npu_serving.options.rules import check_options

SERVER: dict[str, AskedValue] = {"use_off_line": True, "graph_run_mode": 0}
GEARS: dict[str, AskedValue] = {"input_shape": "x:-1", "dynamic_dims": "1;2", "dynamic_node_type": 1}
DYNAMIC: dict[str, AskedValue] = {"dynamic_input": True}
LAZY: dict[str, AskedValue] = {**DYNAMIC, "dynamic_graph_execute_mode": "lazy_recompile"}
RANGES = "dynamic_inputs_shape_range"


def refusals(options: dict[str, AskedValue], release: str, directory: Path = Path()) -> list[Finding]:
    return [each for each in check_options({**SERVER, **options}, release, directory=directory) if each.kind in EFFECT]


@pytest.mark.parametrize(
    ("options", "release", "kind", "where"),
    [
        ({**GEARS, "compile_dynamic_mode": True}, "9.0.0", FAILS_THE_RUN, "compile_dynamic_mode"),
        ({**DYNAMIC, "compile_dynamic_mode": True}, "9.0.0", FAILS_THE_RUN, "compile_dynamic_mode"),
        ({"compile_hybrid_mode": 1}, "9.0.0", FAILS_THE_RUN, "compile_hybrid_mode"),
        ({**GEARS, "dynamic_node_type": 0, "compile_hybrid_mode": 1}, "9.0.0", FAILS_THE_RUN, "compile_hybrid_mode"),
        ({**GEARS, "compile_hybrid_mode": 2}, "9.0.0", FAILS_THE_RUN, "compile_hybrid_mode"),
        ({**DYNAMIC, RANGES: "getnext:[1];[2];data:[3]"}, "6.3.RC2", ENDS_THE_PROCESS, RANGES),
        ({**DYNAMIC, RANGES: "[1,2]"}, "9.0.0", ENDS_THE_PROCESS, RANGES),
        ({**LAZY, "iterations_per_loop": 2}, "9.0.0", FAILS_THE_RUN, "iterations_per_loop"),
        ({**DYNAMIC, "dynamic_graph_execute_mode": "x"}, "9.0.0", ENDS_THE_PROCESS, "dynamic_graph_execute_mode"),
        ({"precision_mode": "force_fp16", "precision_mode_v2": "fp16"}, "6.3.RC2", FAILS_THE_RUN, "precision_mode"),
        ({"dynamic_dims": "1;2"}, "9.0.0", ENDS_THE_PROCESS, "dynamic_dims"),
        ({**GEARS, "dynamic_dims": ""}, "9.0.0", ENDS_THE_PROCESS, "dynamic_dims"),
        ({**GEARS, "dynamic_node_type": 2}, "9.0.0", ENDS_THE_PROCESS, "dynamic_node_type"),
        ({"in_out_pair": "[[[a],[b]]]"}, "9.0.0", FAILS_THE_RUN, "in_out_pair"),
        ({"enable_dump_debug": True}, "9.0.0", FAILS_THE_RUN, "enable_dump_debug"),
        ({"job": "ps"}, "9.0.0", RUNS_ON_THE_CPU, "job"),
        ({"buffer_optimize": "off"}, "9.0.0", ENDS_THE_PROCESS, "buffer_optimize"),
        ({"op_select_implmode": "fast"}, "9.0.0", ENDS_THE_PROCESS, "op_select_implmode"),
        ({"shape_generalization_mode": "full"}, "9.0.0", FAILS_THE_RUN, "shape_generalization_mode"),
        ({"shape_generalization_mode": True}, "9.0.0", FAILS_THE_RUN, "shape_generalization_mode"),
        ({"variable_use_1g_huge_page": 3}, "9.0.0", FAILS_THE_RUN, "variable_use_1g_huge_page"),
        ({"enable_exception_dump": 3}, "9.0.0", FAILS_THE_RUN, "enable_exception_dump"),
        ({"aoe_mode": "mdat"}, "9.0.0", FAILS_THE_RUN, "aoe_mode"),
    ],
)
def test_what_the_source_refuses_is_a_problem(
    options: dict[str, AskedValue], release: str, kind: str, where: str
) -> None:
    assert [(each.kind, each.where) for each in refusals(options, release)] == [(kind, where)]


@pytest.mark.parametrize(
    ("options", "release"),
    [
        ({"compile_hybrid_mode": 1}, "6.3.RC2"),  # which does not read it
        ({**GEARS, "compile_dynamic_mode": False}, "9.0.0"),
        ({**LAZY, RANGES: "nonsense"}, "9.0.0"),  # read for dynamic_execute only
        ({RANGES: "nonsense"}, "9.0.0"),
        ({"dump_path": "/no/such"}, "9.0.0"),  # no dump is on
        ({"aoe_mode": "mdat"}, "6.3.RC2"),
        ({"aoe_mode": ""}, "6.3.RC2"),
        ({"export_compile_stat": "3"}, "9.0.0"),  # another kind is ignored
        ({"precision_mode": "force_fp16", "precision_mode_v2": "fp16"}, "6.3.RC1"),
        ({"job": "localhost"}, "9.0.0"),
        ({"mix_compile_mode": True, "in_out_pair": "[ [[a]], [[c], [d]] ]"}, "9.0.0"),  # the first pair is passed over
    ],
)
def test_what_the_source_takes_is_none(options: dict[str, AskedValue], release: str) -> None:
    assert refusals(options, release) == []


def test_a_directory_for_dumps_has_to_be_there_and_the_cure_makes_it_fit(tmp_path: Path) -> None:
    dump: dict[str, AskedValue] = {"enable_dump": True, "dump_path": "out/here"}
    (found,) = refusals(dump, "6.3.RC2", tmp_path)
    assert (found.where, found.cure) == ("dump_path", "make the directory: mkdir -p out/here")
    (tmp_path / "out" / "here").mkdir(parents=True)
    assert refusals(dump, "6.3.RC2", tmp_path) == []
    (tmp_path / "link").symlink_to(tmp_path / "out")
    (found,) = refusals({**dump, "dump_path": "link"}, "6.3.RC2", tmp_path)
    assert found.cure == f"write the path that it leads to, {tmp_path / 'out'}"


def test_the_cure_of_what_ends_the_process_helps() -> None:
    wrong_and_cured: list[tuple[dict[str, AskedValue], dict[str, AskedValue], str]] = [
        ({"input_shape": "x:-1"}, {}, "leave input_shape out"),
        ({"optypelist_for_implmode": "LRN"}, {}, "leave it out"),
        ({"variable_placement": "CPU"}, {"variable_placement": "Device"}, "write one of Device, Host"),
        ({"session_device_id": -1}, {}, "leave it out"),
        ({**GEARS, "mix_compile_mode": True}, GEARS, "leave out mix_compile_mode"),
    ]
    for wrong, cured, cure in wrong_and_cured:
        (found,) = refusals(wrong, "")
        assert found.kind == ENDS_THE_PROCESS
        assert cure in found.cure
        assert refusals(cured, "") == []


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "/dev/null/x", "\udcff", "$(id)", "-p"])
def test_a_path_that_is_not_valid_is_a_finding_like_any_other(path: str, tmp_path: Path) -> None:
    (found,) = refusals({"enable_dump": True, "dump_path": path}, "9.0.0", tmp_path)
    assert (found.kind, found.where) == (FAILS_THE_RUN, "dump_path")
    assert "mkdir -p '$(id)'" in found.cure or path != "$(id)"


def test_numbers_and_texts_without_bounds_end_in_no_traceback() -> None:
    for text in ("9" * 5000, "|" * 200, "1-" * 3000, "\ud800"):
        assert refusals({"enable_dump": True, "dump_path": ".", "dump_step": text}, "6.3.RC2")
    for value in (10**30, "x" * 10_000, "[" * 10_000, True, None, "a:" * 2000):
        for name in ("profiling_options", "input_shape", "in_out_pair", "dump_step", "graph_run_mode", "no_such"):
            for release in ("", "6.3.RC2", "8.0.0", "9.0.0", "x"):
                check_options({**SERVER, "profiling_mode": True, "mix_compile_mode": True, name: value}, release)


def test_the_directory_of_tuning_has_to_be_there(tmp_path: Path) -> None:
    tuning: dict[str, AskedValue] = {"aoe_mode": "2", "work_path": "aoe"}
    (missing,) = refusals(tuning, "6.3.RC2", tmp_path)
    assert (missing.kind, missing.where, missing.cure) == (
        ENDS_THE_PROCESS,
        "work_path",
        "make the directory: mkdir -p aoe",
    )
    (tmp_path / "aoe").touch()
    assert "is not a directory" in refusals(tuning, "6.3.RC2", tmp_path)[0].what
    (tmp_path / "aoe").unlink()
    (tmp_path / "aoe").mkdir()
    assert refusals(tuning, "6.3.RC2", tmp_path) == []


def test_what_is_of_another_kind_is_told_with_what_the_letter_of_the_kind_means() -> None:
    (refused,) = refusals({"jit_compile": True}, "6.3.RC2")
    assert refused.what.startswith("jit_compile: it is not written as s (a text): ")

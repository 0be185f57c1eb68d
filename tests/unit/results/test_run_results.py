"""What a run has written: found by options and variables, counted, and named with what reads it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest
from cann_trees import make_cann, put
from fake_builds import plan, put_program

import tasks
from npu_serving.cann.analysis_tools import analysis_tools
from npu_serving.console import Silent
from npu_serving.deploy.platform_config import PlatformEntry, render_platform_config
from npu_serving.options.catalogue import environment_variables, option_names, profiling_keys
from npu_serving.results.run_results import RunResults, result_kinds, run_results
from npu_serving.serving.server import serve_in_foreground

BEGUN = 1_700_000_000.0
TIME = "20240131120000"


def write(path: Path, size: int = 7, at: float = BEGUN + 60) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (at, at))
    return path


def results(
    directory: Path, options: dict[str, bool | int | str] | None = None, environment: dict[str, str] | None = None
) -> RunResults:
    argv = ["server"]
    if options is not None:
        config = directory / "config.cfg"
        config.write_text(render_platform_config({"tensorflow": PlatformEntry(options)}), encoding="utf-8")
        argv.append(f"--platform_config_file={config}")
    return run_results(directory, argv, environment or {}, since=BEGUN, reporter=Silent())


def test_dumps_are_found_where_dump_path_says_and_counted_with_their_bytes_and_the_newest(tmp_path: Path) -> None:
    dumps = tmp_path / "dumps of 'mine'"
    step = dumps / TIME / "0" / "ge_default_20240131120005_1" / "1" / "0"
    write(step / "Conv2D.conv1.3.1706702405123456", 100)
    newest = write(step / "Add.add.4.1706702405123457", 11, BEGUN + 90)
    (found,) = results(tmp_path, {"enable_dump": True, "dump_path": str(dumps)}).written
    assert (found.kind, found.directory, found.count.files, found.count.size_bytes) == ("dump", dumps, 2, 111)
    assert found.to_json()["newest"] == str(newest)
    assert shlex.split(found.next_steps[0]) == ["./inv", "show-dump", str(dumps)]
    assert "2 files, 111 B" in found.text()


def test_what_was_there_before_and_what_lies_beside_it_is_not_counted(tmp_path: Path) -> None:
    dumps = tmp_path / "tmp"
    write(dumps / "20230101000000" / "0" / "m" / "1" / "0" / "Add.a.1.1", at=BEGUN - 60)
    write(dumps / "somebody else's" / "file")
    write(dumps / "2024013112000" / "file")  # of 13 digits
    assert results(tmp_path, {"enable_dump": True, "dump_path": str(dumps)}) == RunResults()


def test_a_relative_path_begins_where_the_server_runs(tmp_path: Path) -> None:
    write(tmp_path / "out" / TIME / "0" / "m" / "1" / "0" / "Add.a.1.1")
    (found,) = results(tmp_path, {"enable_dump": True, "dump_path": "out"}).written
    assert found.directory == tmp_path / "out"


@pytest.mark.parametrize("by", ["option", "variable", "default"])
def test_profiles_are_found_by_the_option_by_the_variable_and_in_the_servers_directory(tmp_path: Path, by: str) -> None:
    """Without profiling_options the adapter itself asks for "./" (npu_attrs.cc)."""
    output = tmp_path if by == "default" else tmp_path / "profiles"
    profile = "PROF_000001_20240131120000123_ABCDEFGHIJKLMNOP"
    write(output / profile / "device_0" / "data" / "hwts.data.0.slice_0")
    asked = json.dumps({"output": str(output), "task_trace": "on"})
    options: dict[str, bool | int | str] = {"profiling_mode": True}
    if by == "option":
        options["profiling_options"] = asked
    (found,) = results(tmp_path, options, {"PROFILING_OPTIONS": asked} if by == "variable" else {}).written
    assert (found.kind, found.directory, found.count.newest.name) == ("profiling", output, "hwts.data.0.slice_0")


def test_the_installed_tool_that_reads_it_is_named_with_its_whole_command(tmp_path: Path) -> None:
    root = make_cann(tmp_path / "Ascend")
    toolkit = root / "ascend-toolkit/latest"
    for name in ("msaccucmp", "msprof", "atc"):
        put(toolkit / analysis_tools()[name].files[0])
    write(tmp_path / TIME / "0" / "m" / "1" / "0" / "Add.a.1.1")
    write(tmp_path / "PROF_1" / "host" / "start_info")
    graph = write(tmp_path / "ge_proto_00000110_graph_1_Build.txt")
    write(tmp_path / "ge_onnx_00000111_graph_1_Build.pbtxt", at=BEGUN + 90)
    write(tmp_path / "ge_proto_00000112_graph_1_PreRunAfterBuild.txt", at=BEGUN + 91)
    found = results(tmp_path, {"dump_path": "."}, {"ASCEND_TOOLKIT_HOME": str(toolkit)})
    commands = {item.kind: [shlex.split(step) for step in item.next_steps] for item in found.written}
    assert commands["dump"][1][:4] == [
        "python3",
        str(toolkit / "tools/operator_cmp/compare/msaccucmp.py"),
        "compare",
        "-m",
    ]
    assert commands["dump"][1][4] == str(tmp_path / TIME)
    assert commands["profiling"] == [
        [str(toolkit / "tools/profiler/bin/msprof"), "--export=on", f"--output={tmp_path / 'PROF_1'}"]
    ]
    assert commands["graphs"] == [[str(toolkit / "bin/atc"), "--mode=5", f"--om={graph}", f"--json={graph}.json"]]
    assert {item.kind: item.count.files for item in found.written}["graphs"] == 3


def test_a_tool_that_is_not_installed_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    write(tmp_path / "PROF_1" / "host" / "start_info")
    (found,) = results(tmp_path, environment={"ASCEND_TOOLKIT_HOME": str(make_cann(tmp_path / "Ascend"))}).written
    assert "msprof, the profiling tool, is part of CANN's toolkit" in found.next_steps[0]


@pytest.mark.parametrize(
    ("variable", "file"),
    [
        ("NPU_COLLECT_PATH", "extra-info/graph/4711_0/ge_proto_00000110_Build.txt"),
        ("DUMP_GRAPH_PATH", "pid_4711_deviceid_0/ge_proto_00000110_Build.txt"),
        ("ASCEND_WORK_PATH", "ge_readable_00000110_Build.txt"),
        ("ASCEND_WORK_PATH", "kernel_meta/kernel_meta_1/te_add.o"),
        ("NPU_COLLECT_PATH", "extra-info/data-dump/0/exception_info.3.4.1706702405123456"),
    ],
)
def test_what_cann_writes_elsewhere_by_a_variable_is_found_there(tmp_path: Path, variable: str, file: str) -> None:
    path = write(tmp_path / "elsewhere" / file)
    (found,) = results(tmp_path, environment={variable: str(tmp_path / "elsewhere")}).written
    assert found.count.newest == path


def test_a_link_is_not_followed_out_of_the_directory(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "0" / "secret").parents[1]
    place = tmp_path / "dumps"
    place.mkdir()
    (place / TIME).symlink_to(outside)
    inside = write(place / "20240131120001" / "0" / "file")
    (inside.parent / "link").symlink_to(outside / "0" / "secret")
    (inside.parent / "directory").symlink_to(outside)
    (found,) = results(tmp_path, {"dump_path": str(place)}).written
    assert found.count.files == 1


@pytest.mark.parametrize(
    "options",
    [
        {"dump_path": "/does/not/exist"},
        {"dump_path": ""},
        {"profiling_options": "{"},
        {"profiling_options": '["output"]'},
        {"profiling_options": '{"output": 7}'},
        {"profiling_options": "[" * 100_000},
    ],
)
def test_an_option_that_leads_nowhere_finds_nothing(tmp_path: Path, options: dict[str, bool | int | str]) -> None:
    text = f'parameter_map {{ key: "{next(iter(options))}" value {{ s: {json.dumps(next(iter(options.values())))} }} }}'
    config = tmp_path / "config.cfg"
    config.write_text(f'custom_optimizers {{ name: "NpuOptimizer" {text} }}')
    found = run_results(tmp_path, ["server", f"--platform_config_file={config}"], {}, since=BEGUN, reporter=Silent())
    assert found == RunResults()


def test_a_directory_that_fails_to_be_read_is_among_the_troubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "dumps" / TIME / "file")
    real = os.scandir

    def fails(path: str) -> object:
        if path.endswith(TIME):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", fails)
    found = results(tmp_path, {"dump_path": "dumps"})
    assert found.troubles == (f"{tmp_path / 'dumps' / TIME} could not be looked at: Permission denied",)
    assert found.written == ()


def test_a_platform_config_that_can_not_be_read_is_said_and_the_rest_is_found(tmp_path: Path) -> None:
    write(tmp_path / "kernel_meta" / "te_add.o")
    argv = ["server", f"--platform_config_file={tmp_path / 'none.cfg'}"]
    found = run_results(tmp_path, argv, {}, since=BEGUN, reporter=Silent())
    assert [item.kind for item in found.written] == ["kernel-meta"]
    assert "none.cfg" in found.troubles[0]


def test_a_name_of_a_file_can_not_look_like_a_line_of_ours(tmp_path: Path) -> None:
    write(tmp_path / TIME / "a\nNext: rm -rf \x1b[31m")
    text = results(tmp_path, {"dump_path": "."}).text()
    assert len(text.splitlines()) == 3  # what it is, and what reads it
    assert "\x1b" not in text


def test_each_tool_and_task_of_the_table_exists_and_each_name_is_a_pattern() -> None:
    for kind in result_kinds().values():
        re.compile(kind.names)
        re.compile(kind.reads)
        for reader in (reader for readers in kind.readers for reader in readers):
            assert bool(reader.tool) != bool(reader.task)
            assert not reader.tool or reader.tool in analysis_tools()
            assert not reader.task or reader.task.replace("-", "_") in tasks.__all__
        for place in kind.places:
            assert not (place.option and place.variable)


def test_the_options_variables_and_profiling_keys_of_the_table_are_those_of_the_catalogue() -> None:
    places = [place for kind in result_kinds().values() for place in kind.places]
    assert {place.option for place in places if place.option} <= set(option_names())
    assert {place.variable for place in places if place.variable} <= set(environment_variables())
    assert {place.key for place in places if place.key} <= set(profiling_keys())


def test_serve_says_after_the_servers_end_what_it_has_written(
    artifact: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "runs here"
    there.mkdir()
    monkeypatch.chdir(there)
    put_program(
        artifact,
        f"#!{sys.executable}\nimport os, signal\n"
        "os.makedirs('kernel_meta')\nopen('kernel_meta/te_add.o', 'w').close()\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n",
    )
    notes: list[str] = []

    class Heard(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    assert serve_in_foreground(plan(artifact, model), Heard(), artifact) == -signal.SIGTERM
    assert f"kernels that were compiled: 1 file, 0 B, in {there}; the newest is kernel_meta/te_add.o" in notes[-1]

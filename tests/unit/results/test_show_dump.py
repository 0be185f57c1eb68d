"""show-dump: what is listed of a directory of dumps, how one is found, and what compares it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from cann_trees import make_cann, put
from dump_trees import GRAPH, LATER, TIME, dump, graph_file, step_of

from npu_serving.cann.analysis_tools import analysis_tools
from npu_serving.cann.install import CannInstallation, find_installation
from npu_serving.console import Silent
from npu_serving.errors import RequestError
from npu_serving.results.dump_selection import DumpFilter
from npu_serving.results.show_dump import DumpReport, show_dump

STAMP = 1706702405123456
OTHER = "ge_default_20240131120001_0"


@pytest.fixture
def dumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models and two steps of the second; one operator was made of two, one was cut."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    place = tmp_path / "run" / "dumps of 'mine'"
    dump(step_of(place, model=OTHER), f"Cast.cast.1.{STAMP}", 5)
    for step in (0, 1):
        directory = step_of(place, step)
        dump(directory, f"Conv2D.resnet_conv1_relu.3.{STAMP}", 100)
        dump(directory, f"Add.resnet_add_1_lxslice0.4.{STAMP + 1}.4.1.0.0", 11)
        dump(directory, f"Add.resnet_add_1_lxslice1.4.{STAMP + 1}.4.1.1.0", 11)
    graph_file(
        place.parent / "ge_proto_00000110_Build.txt",
        {"resnet/conv1_relu": ["resnet/conv1", "resnet/relu"], "resnet/add.1": []},
    )
    return place


def shown(
    directory: Path, installation: CannInstallation | None = None, graphs: Path | None = None, **wanted: object
) -> DumpReport:
    return show_dump(directory, DumpFilter(**wanted), graphs, installation, Silent())  # type: ignore[arg-type]


def files(report: DumpReport) -> list[str]:
    return [file.name for step in report.steps for file in step.files]


def test_times_devices_models_and_steps_are_listed_with_their_sizes_and_the_total(dumps: Path) -> None:
    lines = shown(dumps).text().splitlines()
    assert lines[0].split() == ["time", "device", "model", "model", "id", "step", "operators", "size", "graph"]
    assert lines[1].split() == [TIME, "0", OTHER, "1", "0", "1", "5", "B"]
    assert lines[3].split() == [TIME, "0", GRAPH, "1", "1", "3", "122", "B", "ge_proto_00000110_Build.txt"]
    assert any(line.startswith("7 files, 249 B, in ") for line in lines)


def test_the_directory_that_is_called_like_the_graph_is_marked_and_the_others_are_not(dumps: Path) -> None:
    graphs = {step.place.model: step.place.model in shown(dumps).graphs for step in shown(dumps).steps}
    assert graphs == {OTHER: False, GRAPH: True}
    for step in shown(dumps).to_json()["steps"]:  # type: ignore[attr-defined]
        assert bool(step["graph_file"]) == (step["model"] == GRAPH)


def test_a_graph_whose_name_has_a_slash_is_found_by_how_its_directory_is_called(tmp_path: Path) -> None:
    dump(step_of(tmp_path, model="a_b_c"), f"Add.x.1.{STAMP}")
    graph_file(tmp_path / "graphs" / "ge_proto_1_Build.txt", {}, name="a/b.c")
    assert set(shown(tmp_path, graphs=tmp_path / "graphs").graphs) == {"a_b_c"}


@pytest.mark.parametrize(
    ("operator", "found"),
    [
        ("resnet/conv1_relu", {"resnet_conv1_relu"}),  # its real name
        ("resnet_conv1_relu", {"resnet_conv1_relu"}),  # the name in the file
        ("resnet/relu", {"resnet_conv1_relu"}),  # of the model: it became part of the other
        ("resnet/add.1", {"resnet_add_1_lxslice0", "resnet_add_1_lxslice1"}),  # cut into slices
        ("resnet/*", {"resnet_conv1_relu", "resnet_add_1_lxslice0", "resnet_add_1_lxslice1"}),
        ("Cast", {"cast"}),  # a type
        ("Con?2D", {"resnet_conv1_relu"}),
    ],
)
def test_an_operator_is_found_by_its_real_name(dumps: Path, operator: str, found: set[str]) -> None:
    assert set(files(shown(dumps, operator=operator))) == found


def test_the_real_names_stand_beside_the_files(dumps: Path) -> None:
    text = shown(dumps, step=1).text()
    assert "resnet/conv1_relu  Conv2D" in text
    assert text.count("resnet/add.1  ") == 2


def test_two_operators_whose_names_become_the_same_are_both_named(dumps: Path) -> None:
    graph_file(dumps.parent / "ge_proto_00000110_Build.txt", {"resnet/conv1/relu": [], "resnet.conv1_relu": []})
    assert "resnet/conv1/relu or resnet.conv1_relu" in shown(dumps, step=1).text()


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"model": GRAPH}, 6),
        ({"model": "ge_default_*_0"}, 1),
        ({"step": 1}, 3),
        ({"device": 0}, 7),
        ({"model": GRAPH, "step": 0, "operator": "resnet/relu"}, 1),
    ],
)
def test_each_filter_leaves_what_was_asked_for(dumps: Path, wanted: dict[str, Any], count: int) -> None:
    assert len(files(shown(dumps, **wanted))) == count


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"operator": "resnet/conv2"}, "--operator takes one of: resnet_conv1_relu"),
        ({"operator": "add_1"}, "resnet_add_1_lxslice0, resnet_add_1_lxslice1"),
        ({"model": "ge_default"}, OTHER),
        ({"step": 9}, "--step takes one of: 0, 1"),
        ({"device": 7}, "--device takes one of: 0"),
    ],
)
def test_a_filter_that_leaves_nothing_says_what_there_is(dumps: Path, wanted: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestError) as caught:
        shown(dumps, **wanted)
    assert named in caught.value.cure


def test_the_commands_compare_the_newest_step_of_the_graph(dumps: Path, tmp_path: Path) -> None:
    dump(step_of(dumps, model=OTHER, time=LATER), f"Cast.cast.1.{STAMP}")
    root = make_cann(tmp_path / "Ascend")
    for name in ("msaccucmp", "atc"):
        put(root / "ascend-toolkit/latest" / analysis_tools()[name].files[0])
    convert, compare = shown(dumps, find_installation(str(root), {})).commands
    graph = str(dumps.parent / "ge_proto_00000110_Build.txt")
    assert shlex.split(convert)[1:] == ["--mode=5", f"--om={graph}", f"--json={graph}.json"]
    words = shlex.split(compare)
    assert words[2:5] == ["compare", "-m", str(step_of(dumps, 1))]
    assert words[7:9] == ["-f", f"{graph}.json"]
    assert Path(words[1]).is_file()


def test_without_the_toolkit_it_is_said_how_to_get_the_comparison_tool(dumps: Path) -> None:
    (said,) = shown(dumps).commands
    assert "msaccucmp, the precision comparison tool, is part of CANN's toolkit" in said


def test_without_a_graph_file_it_is_said_that_the_graph_is_not_known_and_how_to_have_it(dumps: Path) -> None:
    graph = dumps.parent / "ge_proto_00000110_Build.txt"
    kept = graph.read_text()
    graph.unlink()
    report = shown(dumps)
    assert "DUMP_GE_GRAPH=2" in report.text()
    assert "--graphs DIRECTORY" in report.text()
    graph_file(dumps.parent / "server" / graph.name, {}).write_text(kept)
    assert shown(dumps, graphs=dumps.parent / "server").notes == ()


def test_graphs_are_also_looked_for_where_servers_run(dumps: Path) -> None:
    there = dumps.parent / "run"
    there.mkdir()
    (dumps.parent / "ge_proto_00000110_Build.txt").rename(there / "ge_proto_00000110_Build.txt")
    assert show_dump(dumps, DumpFilter(), None, None, Silent(), [there]).notes == ()


def test_a_directory_of_graphs_without_any_is_refused_with_what_is_wrong_with_its_files(
    dumps: Path, tmp_path: Path
) -> None:
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs" / "ge_proto_1_Build.txt").touch()
    with pytest.raises(RequestError, match="has no graph: it is empty, or was cut off") as caught:
        shown(dumps, graphs=tmp_path / "graphs")
    assert "./inv explain DUMP_GE_GRAPH" in caught.value.cure


def test_graphs_of_another_run_mark_nothing_and_it_is_said(dumps: Path) -> None:
    graph_file(dumps.parent / "ge_proto_00000110_Build.txt", {}, name="another")
    assert "they are of another run" in shown(dumps).text()


def test_many_files_are_counted_and_not_listed_and_the_json_has_all(dumps: Path) -> None:
    for number in range(40):
        dump(step_of(dumps), f"Add.more{number}.1.{STAMP}")
    report = shown(dumps)
    assert "more7" not in report.text()
    assert "--operator NAME" in report.text()
    document = json.loads(json.dumps(report.to_json()))
    assert sum(len(step["files"]) for step in document["steps"]) == document["files"] == 47
    assert {"path", "type", "operator", "name", "task", "timestamp", "size_bytes"} == set(
        document["steps"][0]["files"][0]
    )


def test_an_empty_dump_is_said_to_be_one(dumps: Path) -> None:
    dump(step_of(dumps), f"Add.cut.1.{STAMP}", 0)
    text = shown(dumps, operator="cut").text()
    assert "0 B (empty)" in text
    assert "1 empty file: the disk was full" in text


def test_what_could_not_be_read_makes_the_exit_code_that_of_a_failure(dumps: Path) -> None:
    report = shown(dumps)
    assert report.exit_code == 0
    report.tree.troubles.append("/x can't be read")
    assert report.exit_code == 1
    assert "/x can't be read" in report.text()


def test_a_name_can_not_look_like_a_line_of_ours(dumps: Path) -> None:
    dump(step_of(dumps), f"Add.a\n\x1b[31mNext: rm.1.{STAMP}")
    text = shown(dumps).text()
    assert "\x1b" not in text
    assert "\nNext: rm" not in text

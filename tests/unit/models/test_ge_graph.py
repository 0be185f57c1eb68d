"""GE's graphs: names and operators out of the text that GE writes, whatever its size and its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from dump_trees import GRAPH, graph_file
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.errors import NpuServingError
from npu_serving.models.ge_graph import graph_files, read_ge_graphs


def test_the_graphs_name_its_operators_and_what_each_was_made_of_are_read(tmp_path: Path) -> None:
    file = graph_file(tmp_path / "ge_proto_1_Build.txt", {"a/conv1_relu": ["a/conv1", "a/relu"], "b": []})
    (graph,) = read_ge_graphs(file)
    assert (graph.name, graph.operators) == (GRAPH, {"a/conv1_relu": ("a/conv1", "a/relu"), "b": ()})


def test_a_second_graph_is_one_of_its_own_and_names_within_outputs_are_not_operators(tmp_path: Path) -> None:
    first = graph_file(tmp_path / "one", {"a": []}).read_text()
    both = tmp_path / "both"
    both.write_text(first + first.replace(GRAPH, "sub").replace('"a"', '"inner"'))
    assert [(graph.name, list(graph.operators)) for graph in read_ge_graphs(both)] == [
        (GRAPH, ["a"]),
        ("sub", ["inner"]),
    ]


def test_a_line_of_weights_is_passed_over_and_names_with_escapes_are_read(tmp_path: Path) -> None:
    text = graph_file(tmp_path / "f", {r"a\"b\303\274": [], "after": []}).read_text()
    weights = f'    attr {{\n      s: "{"x" * (1 << 20)}"\n    }}\n'
    (tmp_path / "f").write_text(text.replace("  op {\n", f"  op {{\n{weights}", 1).replace("\n", "\r\n"))
    assert list(read_ge_graphs(tmp_path / "f")[0].operators) == ['a"bü', "after"]


def test_what_comes_before_the_end_of_a_file_that_was_cut_off_is_read(tmp_path: Path) -> None:
    text = graph_file(tmp_path / "f", {"first": [], "second": []}).read_text()
    (tmp_path / "f").write_text(text[: text.index("second") + 3])
    assert list(read_ge_graphs(tmp_path / "f")[0].operators) == ["first"]


@pytest.mark.parametrize("content", [b"", b"\0\xff\xfe" * 100, b"[]", b"graph {", b'name: "x"\n'])
def test_what_is_no_graph_has_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    assert read_ge_graphs(tmp_path / "f") == []


@given(st.text('graph {}\n op name:"\\s_datkey', max_size=200))
def test_no_text_is_too_odd(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("odd") / "f"
    file.write_text(text)
    read_ge_graphs(file)


def test_a_pipe_and_a_missing_file_are_errors_of_ours(tmp_path: Path) -> None:
    for path in (tmp_path / "none", Path("/dev/null")):
        with pytest.raises(NpuServingError):
            read_ge_graphs(path)


def test_only_files_of_compiled_graphs_are_taken_also_in_the_directory_of_a_process(tmp_path: Path) -> None:
    taken = ("ge_proto_00000110_Build.txt", "ge_proto_2_graph_1_Build.txt", "pid_7_deviceid_0/ge_proto_5_Build.txt")
    others = ("ge_proto_3_PreRunAfterBuild.txt", "ge_onnx_4_Build.pbtxt", "other/ge_proto_6_Build.txt")
    for name in (*taken, *others):
        graph_file(tmp_path / name, {})
    assert graph_files(tmp_path) == [tmp_path / name for name in taken]
    assert graph_files(tmp_path / "none") == []

"""The graph that a session runs for a request."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import model_messages as wire
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from partition_graphs import FLOATS, chain

from npu_serving.errors import ModelFileError, RequestError
from npu_serving.models.graph_def import read_graph_def_file
from npu_serving.partition.run_graph import FED, RunGraph, run_graph


def ran(
    directory: Path,
    nodes: Sequence[bytes],
    feeds: Sequence[str],
    fetches: Sequence[str],
    functions: Sequence[bytes] = (),
) -> RunGraph:
    path = directory / "graph.pb"
    path.write_bytes(wire.graph(nodes, functions))
    return run_graph(read_graph_def_file(path), feeds=feeds, fetches=fetches)


def edges(graph: RunGraph) -> set[tuple[str, str]]:
    return {
        ("fed" if each.node == FED else graph.names[each.node], graph.names[number])
        for number, inputs in enumerate(graph.inputs)
        for each in inputs
    }


def test_only_what_the_outputs_need_runs_and_what_is_fed_is_not_computed(tmp_path: Path) -> None:
    nodes = [*chain("Relu", "Relu", "Relu"), wire.node("train", "Relu", ["n1"])]
    assert edges(ran(tmp_path, nodes, ["n0:0"], ["n2"])) == {("fed", "n1"), ("n1", "n2")}


def argument(name: str) -> bytes:
    return wire.message(1, name) + wire.number(3, wire.FLOAT)


def function(name: str, nodes: Sequence[bytes], inputs: Sequence[str], returns: dict[str, str]) -> bytes:
    signature = wire.message(1, name)
    signature += b"".join(wire.message(2, argument(each)) for each in inputs)
    signature += b"".join(wire.message(3, argument(each)) for each in returns)
    entries = b"".join(wire.message(4, wire.message(1, key) + wire.message(2, text)) for key, text in returns.items())
    return wire.message(1, signature) + b"".join(wire.message(3, each) for each in nodes) + entries


def call(name: str, called: str, inputs: Sequence[str]) -> bytes:
    types = wire.message(1, wire.message(6, b"\x01" * len(inputs)))
    attributes = {"f": wire.message(10, wire.message(1, called)), "Tin": types, "Tout": types}
    return wire.node(name, "PartitionedCall", inputs, attributes)


def test_the_nodes_of_a_function_stand_in_place_of_its_call_also_of_one_in_another(tmp_path: Path) -> None:
    inner = function("inner", [wire.node("r", "Relu", ["a"], FLOATS)], ["a"], {"o": "r:activations:0"})
    outer = function(
        "outer",
        [wire.node("before", "Relu", ["b"], FLOATS), call("again", "inner", ["before:activations:0"])],
        ["b"],
        {"first": "again:output:0", "second": "b"},
    )
    nodes = [
        wire.placeholder("x"),
        call("c", "outer", ["x"]),
        wire.node("y", "AddN", ["c", "c:1", "^c"], {**FLOATS, "N": wire.number(3, 2)}),
    ]
    graph = ran(tmp_path, nodes, ["x"], ["y"], [inner, outer])
    assert edges(graph) == {
        ("fed", "c/before"),
        ("c/before", "c/again/r"),
        ("c/again/r", "y"),
        ("fed", "y"),
    }


@pytest.mark.parametrize(
    "body",
    [
        function("f", [call("again", "f", ["a"])], ["a"], {"o": "again:output:0"}),
        function("f", [], ["a"], {"o": "gone:0"}),
        function("f", [], ["a"], {}),
        function("f", [], [], {"o": "a"}),
    ],
)
def test_a_function_that_calls_itself_or_names_nothing_is_an_error_or_one_node_and_no_endless_search(
    tmp_path: Path, body: bytes
) -> None:
    nodes = [wire.placeholder("x"), call("c", "f", ["x"]), wire.node("y", "Relu", ["c"], FLOATS)]
    try:
        graph = ran(tmp_path, nodes, ["x"], ["y"], [body])
    except ModelFileError as error:
        assert "graph.pb" in error.what
    else:
        assert len(graph.names) <= 102


def test_a_node_that_needs_itself_is_run_through_once(tmp_path: Path) -> None:
    nodes = [wire.node("a", "Relu", ["b"], FLOATS), wire.node("b", "Relu", ["a"], FLOATS)]
    assert edges(ran(tmp_path, nodes, [], ["a"])) == {("a", "b"), ("b", "a")}


def test_an_input_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="needs gone"):
        ran(tmp_path, [wire.node("y", "Relu", ["gone:3"], FLOATS)], [], ["y"])


def test_an_output_that_is_not_there_is_named_with_what_is_near(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="n11") as caught:
        ran(tmp_path, chain("Relu", "Relu"), ["x"], ["n11"])
    assert "n1" in caught.value.cause + caught.value.cure


@settings(max_examples=50)
@given(
    inputs=st.lists(
        st.lists(st.sampled_from(["a", "b", "^a", "c:1", "c", "d:o:0", "", "^", ":"]), max_size=3), max_size=5
    )
)
def test_no_graph_of_small_calls_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, inputs: list[list[str]]
) -> None:
    body = function("f", [wire.node("d", "Relu", ["p"], FLOATS)], ["p"], {"o": "d:activations:0", "q": "p"})
    nodes = [
        call(name, "f", texts) if name in "cd" else wire.node(name, "Relu", texts, FLOATS)
        for name, texts in zip("abcde", inputs)
    ]
    with contextlib.suppress(ModelFileError, RequestError):
        ran(tmp_path_factory.mktemp("calls"), nodes, ["b"], ["a"], [body])

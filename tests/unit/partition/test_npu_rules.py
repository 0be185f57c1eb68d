"""Which nodes the adapter leaves to the CPU, by the rules of its source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import model_messages as wire
import pytest
from partition_graphs import FLOATS, chain, lists, written

from npu_serving.cann.operator_list import OperatorLists, list_from
from npu_serving.errors import RequestError
from npu_serving.partition.asked_graph import asked_graph
from npu_serving.partition.npu_rules import GREY, NEVER, NOT_LISTED, SCENARIO, sides_of
from npu_serving.partition.run_graph import run_graph

LISTS = lists(
    "MatMul", "Relu", "StringJoin", "TakeDataset", "Softmax", "VarHandleOp", "ReadVariableOp", gray=["Softmax"]
)


def hindered(
    tmp_path: Path,
    nodes: Sequence[bytes],
    output: str,
    of: OperatorLists = LISTS,
    functions: Sequence[bytes] = (),
    *,
    on_host: bool = False,
) -> dict[str, tuple[int, str]]:
    asked = asked_graph(written(tmp_path / "1", nodes, output, functions))
    graph = run_graph(asked.graph, feeds=asked.feeds, fetches=asked.fetches)
    found = sides_of(graph, of, variables_on_host=on_host).hindrances
    return {graph.names[number]: (each.code, each.why) for number, each in found.items()}


@pytest.mark.parametrize(
    ("operator", "code"),
    [("Relu", 0), ("Unique", NOT_LISTED), ("Softmax", GREY), ("StringJoin", NEVER), ("TakeDataset", NEVER)],
)
def test_an_operator_is_judged_by_the_list(tmp_path: Path, operator: str, code: int) -> None:
    found = hindered(tmp_path, chain("Relu", operator, "Relu"), "n2")
    assert found.get("n1", (0, ""))[0] == code
    assert "n0" not in found


def test_what_npu_bridge_marked_for_the_cpu_stays_there(tmp_path: Path) -> None:
    nodes = [
        wire.placeholder("x"),
        wire.node("y", "Relu", ["x"], {**FLOATS, "_without_npu_compile": wire.number(5, 1)}),
    ]
    assert hindered(tmp_path, nodes, "y")["y"][0] == SCENARIO


def test_a_graph_that_fetches_from_an_outfeed_stays_on_the_cpu(tmp_path: Path) -> None:
    assert set(hindered(tmp_path, chain("Relu", "OutfeedDequeueOp"), "n1")) == {"n0", "n1"}


def variable(reader: str = "ReadVariableOp") -> list[bytes]:
    floats = {"dtype": wire.number(6, wire.FLOAT)}
    return [
        wire.placeholder("x"),
        wire.node("v", "VarHandleOp", (), {**floats, "shape": wire.message(7, wire.shape([1]))}),
        wire.node("read", reader, ["v"], floats),
        wire.node("y", "MatMul", ["x", "read"], FLOATS),
    ]


def test_of_resources_variables_go_to_the_npu(tmp_path: Path) -> None:
    assert hindered(tmp_path, variable(), "y") == {}


def test_with_variables_on_the_host_their_readers_stay_there_too(tmp_path: Path) -> None:
    found = hindered(tmp_path, variable(), "y", on_host=True)
    assert found["v"] == (SCENARIO, "variable_placement is Host")
    assert found["read"] == (SCENARIO, "it shares a resource with VarHandleOp, which stays on the CPU")
    assert "y" not in found


def test_a_reference_to_a_variable_is_not_divided(tmp_path: Path) -> None:
    floats = {"dtype": wire.number(6, wire.FLOAT), "T": wire.number(6, wire.FLOAT)}
    nodes = [
        wire.placeholder("x"),
        wire.node("v", "VariableV2", (), floats),
        wire.node("assign", "Assign", ["v", "x"], floats),
        wire.node("y", "Relu", ["assign"], floats),
    ]
    of = lists("Relu", "VariableV2")
    found = hindered(tmp_path, nodes, "y", of)
    assert found == {
        "assign": (NOT_LISTED, "CANN's list does not have it"),
        "v": (SCENARIO, "it shares a variable with Assign, which stays on the CPU"),
    }


def test_a_string_does_not_cross_between_the_sides(tmp_path: Path) -> None:
    nodes = [
        wire.placeholder("x", data_type=wire.STRING),
        wire.node("first", "StringLower", ["x"]),
        wire.node("second", "StringUpper", ["first"]),
        wire.node("number", "StringToNumber", ["second"], {"out_type": wire.number(6, wire.FLOAT)}),
        wire.node("y", "Relu", ["number"], FLOATS),
    ]
    found = hindered(tmp_path, nodes, "y", lists("StringUpper", "StringToNumber", "Relu"))
    assert {name: code for name, (code, _) in found.items()} == {
        "first": NOT_LISTED, "second": SCENARIO, "number": SCENARIO
    }  # fmt: skip


def test_a_string_that_is_fed_keeps_who_reads_it_on_the_cpu(tmp_path: Path) -> None:
    nodes = [wire.placeholder("x", data_type=wire.STRING), wire.node("y", "StringUpper", ["x"])]
    assert hindered(tmp_path, nodes, "y", lists("StringUpper"))["y"][0] == SCENARIO


def test_a_function_is_given_to_the_npu_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    calls = {**FLOATS, "f": wire.message(10, wire.message(1, "body"))}
    nodes = [wire.placeholder("x"), wire.node("y", "MapDefun", ["x"], calls)]
    of = lists("Relu", "MapDefun")
    good, bad = (
        wire.function("body", [wire.node("c", "Const"), wire.node("r", operator)]) for operator in ("Relu", "Unique")
    )
    assert "y" not in hindered(tmp_path, nodes, "y", of, [good])
    assert hindered(tmp_path, nodes, "y", of, [bad])["y"] == (SCENARIO, "its function body has Unique")
    assert hindered(tmp_path, nodes, "y", of)["y"] == (SCENARIO, "its function body has no body")


def test_a_function_that_calls_itself_is_judged_once(tmp_path: Path) -> None:
    calls = {**FLOATS, "f": wire.message(10, wire.message(1, "body"))}
    nodes = [wire.placeholder("x"), wire.node("y", "MapDefun", ["x"], calls)]
    body = wire.function("body", [wire.node("again", "MapDefun", (), calls)])
    assert hindered(tmp_path, nodes, "y", lists("MapDefun"), [body]) == {}


# ---- lists that a person gives


def test_a_list_of_names_may_have_comments(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("MatMul\n\n# mine\n  Relu  # fast\n")
    assert list_from(path).names == {"MatMul", "Relu"}


def test_canns_own_list_may_be_given(tmp_path: Path) -> None:
    path = tmp_path / "npu_supported_ops.json"
    path.write_text('{"MatMul": {"isGray": false, "isHeavy": true}, "Softmax": {"isGray": true}}')
    found = list_from(path)
    assert [sorted(each) for each in (found.names, found.gray, found.heavy)] == [
        ["MatMul", "Softmax"],
        ["Softmax"],
        ["MatMul"],
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "Mat Mul\n", "<html>\n", "{", "[1]", '{"MatMul": 1}', "\x00\x01"])
def test_another_file_is_no_list(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list"
    path.write_text(text)
    with pytest.raises(RequestError, match="list"):
        list_from(path)

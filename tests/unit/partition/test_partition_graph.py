"""The task: what it shows, and what it advises."""

from __future__ import annotations

import json
from pathlib import Path

import model_messages as wire
import pytest
from partition_graphs import FLOATS, chain, lists, written

from npu_serving.deploy.range_checks import check_ranges, check_sunk_ranges
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.findings import PROBLEM
from npu_serving.models.saved_model import read_saved_model
from npu_serving.options.in_out_pair import read_pairs
from npu_serving.partition.asked_graph import asked_graph
from npu_serving.partition.partition_graph import GraphPartition, node_sides, partition_graph
from npu_serving.partition.plan import hindered_operators

LISTS = lists("Relu", "MatMul", "Identity", heavy=["MatMul"])


def found(tmp_path: Path, *operators: str, parts: int = 1, with_nodes: bool = False) -> GraphPartition:
    version = written(tmp_path / "m" / "1", chain(*operators), f"n{len(operators) - 1}")
    return partition_graph(asked_graph(version), LISTS, parts=parts, with_nodes=with_nodes)


def pair(result: GraphPartition) -> list[tuple[list[str], list[str]]]:
    return [([*each.firsts], [*each.lasts]) for each in read_pairs(str(result.options["in_out_pair"]))]


def test_the_larger_side_is_put_on_the_npu(tmp_path: Path) -> None:
    result = found(tmp_path, "Relu", "Unique", "Relu", "Relu")
    assert dict(result.options) == {"mix_compile_mode": True, "in_out_pair": "[[['n2'],['n3']]]"}
    assert result.exit_code == 0


def test_heavy_operators_count_before_all_others(tmp_path: Path) -> None:
    assert pair(found(tmp_path, "MatMul", "Unique", "Relu", "Relu", "Relu")) == [(["n0"], ["n0"])]


def test_what_only_passes_a_value_on_is_no_end_of_a_range(tmp_path: Path) -> None:
    result = found(tmp_path, "Relu", "Unique", "Identity", "Relu", "Relu", "Identity")
    assert pair(result) == [(["n3"], ["n4"])]


def test_a_list_that_lets_a_whole_side_go_needs_no_pair(tmp_path: Path) -> None:
    result = found(tmp_path, "Unique", "Relu", "Relu")
    assert dict(result.options) == {"mix_compile_mode": True}
    assert "mix_compile_mode without in_out_pair" in result.text()


def test_each_further_part_is_the_best_of_what_is_left(tmp_path: Path) -> None:
    operators = ["Relu"] * 3 + ["Unique"] + ["Relu"] * 5 + ["Unique"] + ["Relu"]
    result = found(tmp_path, *operators, parts=2)
    assert pair(result) == [(["n4"], ["n8"]), (["n0"], ["n2"])]
    assert (result.division.rest, result.division.by_itself) == (1, 3)
    assert "--parts 3 would put 1 node more there" in result.text()


@pytest.mark.parametrize("parts", [0, -1])
def test_so_few_parts_there_can_not_be(tmp_path: Path, parts: int) -> None:
    with pytest.raises(RequestError, match="--parts"):
        found(tmp_path, "Relu", parts=parts)


def test_where_nothing_goes_to_the_npu_that_is_said_and_the_task_leaves_with_3(tmp_path: Path) -> None:
    result = found(tmp_path, "Unique", "Unique")
    assert result.exit_code == 3
    assert dict(result.options) == {}
    assert "the CPU would silently serve the model" in result.text()


def test_each_node_is_explained_where_asked_for(tmp_path: Path) -> None:
    result = found(tmp_path, "Relu", "Unique", "Relu", "Relu", with_nodes=True)
    sides = dict(zip(result.division.graph.names, node_sides(result.division)))
    assert sides["n0"] == ("CPU", "a way through it would lead out of a part and back")
    assert sides["n1"] == ("CPU", "CANN's list does not have it")
    assert sides["n2"] == ("NPU", "")
    assert "n1" in result.text()
    assert len(json.loads(json.dumps(result.to_json()))["each_node"]) == 4


def test_the_value_passes_the_checks_of_a_deployment(tmp_path: Path) -> None:
    result = found(tmp_path, "Relu", "Unique", "Relu", "Relu")
    (graph,) = read_saved_model(tmp_path / "m" / "1" / "saved_model.pb")
    assert list(check_ranges(result.options, graph, "npu")) == []
    assert list(check_sunk_ranges(result.options, graph, lambda operator: operator in LISTS.names, "npu")) == []


def resource_model(reads: str) -> list[bytes]:
    """A variable that a node of `reads` uses, before three Relu with Unique between."""
    floats = {"dtype": wire.number(6, wire.FLOAT), **FLOATS, "shape": wire.message(7, wire.shape([1]))}
    return [
        wire.placeholder("x"),
        wire.node("v", "VarHandleOp", (), floats),
        wire.node("read", reads, ["v"], floats),
        wire.node("n0", "Unique", ["read"], FLOATS),
        wire.node("n1", "Relu", ["n0"], FLOATS),
    ]


def test_a_variable_that_the_cpu_uses_is_a_problem_unless_it_is_on_the_host(tmp_path: Path) -> None:
    asked = asked_graph(written(tmp_path / "1", resource_model("ReadVariableOp"), "n1"))
    of = lists("Relu", "VarHandleOp")
    result = partition_graph(asked, of)
    (finding,) = [each for each in result.findings if each.severity == PROBLEM]
    assert finding.details == ("v, used by read",)
    assert "variable_placement: Host" in finding.cure
    assert result.exit_code == 3
    assert partition_graph(asked, of, variables_on_host=True).exit_code == 0


def test_a_range_that_would_fail_another_signature_is_a_problem(tmp_path: Path) -> None:
    """With `middle` asked the way from n0 to n2 leads over n1 alone; the other signature has a CPU node beside it."""
    nodes = [
        *chain("Relu", "Unique", "Relu", "Relu"),
        wire.node("odd", "Unique", ["n2"], FLOATS),
        wire.node("n4", "Relu", ["odd"], FLOATS),
        wire.node("back", "AddN", ["n4"], FLOATS),
    ]
    nodes[4] = wire.node("n3", "Relu", ["n2"], FLOATS)
    signatures = {
        name: wire.signature({"x": wire.tensor("x:0", None)}, {"y": wire.tensor(f"{output}:0", None)})
        for name, output in (("serving_default", "n3"), ("other", "n1"))
    }
    path = tmp_path / "1" / "saved_model.pb"
    path.parent.mkdir()
    path.write_bytes(wire.saved_model(wire.meta_graph(wire.graph(nodes), signatures)))
    result = partition_graph(asked_graph(path), LISTS)
    assert ["other" in finding.what for finding in result.findings] == [True]


def test_wrong_names_are_errors_with_what_there_is(tmp_path: Path) -> None:
    version = written(tmp_path / "m" / "1", chain("Relu"), "n0")
    assert asked_graph(tmp_path / "m").path == version / "saved_model.pb"
    with pytest.raises(RequestError) as caught:
        asked_graph(version, signature="gone")
    assert caught.value.cure == "use --signature serving_default"
    with pytest.raises(RequestError) as caught:
        asked_graph(version, tags=("gpu",))
    assert caught.value.cure == "--tag serve"
    for inputs, outputs in ((("x",), ("gone",)), (("x",), ("n0:0", "m0"))):
        with pytest.raises(RequestError, match="no node"):
            partition_graph(asked_graph(version, inputs=inputs, outputs=outputs), LISTS)
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "gone.pb"):
        with pytest.raises(NpuServingError):
            asked_graph(path)


def test_of_a_frozen_graph_the_ends_are_those_that_graph_nodes_shows_and_not_what_saves_or_initialises(
    tmp_path: Path,
) -> None:
    file = tmp_path / "my model.pb"
    leftovers = [wire.constant("name", b""), wire.node("save", "SaveV2", ["name", "name", "name", "n0"], {})]
    file.write_bytes(wire.graph([*chain("Relu", "Relu"), *leftovers]))
    asked = asked_graph(file)
    assert (asked.feeds, asked.fetches) == (("x:0",), ("n1:0",))
    file.write_bytes(wire.graph(leftovers))
    with pytest.raises(RequestError) as caught:
        asked_graph(file)
    assert f"./inv graph-nodes '{file}'" in caught.value.cure


def test_operators_are_counted_by_reason(tmp_path: Path) -> None:
    result = found(tmp_path, "Relu", "Unique", "Unique", "Where", "Relu", "Relu")
    assert [(key[0], count) for key, count in hindered_operators(result.division).items()] == [
        ("Unique", 2),
        ("Where", 1),
    ]

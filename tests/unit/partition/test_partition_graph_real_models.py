"""partition-graph on models of TensorFlow 1.15.0, beside the graphs that it really runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from partition_graphs import RealModels, lists

from npu_serving.options.in_out_pair import read_pairs
from npu_serving.partition.asked_graph import asked_graph
from npu_serving.partition.partition_graph import GraphPartition, partition_graph
from npu_serving.partition.plan import FLEETING, hindered_operators
from npu_serving.partition.ranges import taken_in

LOOP = ("Enter", "Exit", "Merge", "Switch", "NextIteration", "LoopCond", "Less")
VARIABLES = ("VarHandleOp", "ReadVariableOp", "ResourceGather", "VariableV2")
LISTS = lists("MatMul", "Relu", "Reshape", "StridedSlice", "Identity", "Add", "AddV2", *LOOP, *VARIABLES)


def found(models: RealModels, name: str, parts: int = 1) -> GraphPartition:
    return partition_graph(asked_graph(models.directory / name), LISTS, parts=parts)


def part_names(result: GraphPartition) -> set[str]:
    return {result.division.graph.names[number] for number in result.division.on_npu}


def reasons(result: GraphPartition) -> dict[str, str]:
    return dict(hindered_operators(result.division).keys())


def test_an_operator_in_the_middle_leaves_the_larger_side_to_the_npu(real_models: RealModels) -> None:
    result = found(real_models, "middle")
    assert part_names(result) == {"a/matmul", "a/relu", "b/matmul", "b/relu", "c/matmul", "c/relu", "Reshape"}
    assert reasons(result) == {"Unique": "CANN's list does not have it"}
    assert (result.division.rest, result.division.by_itself) == (4, 2)
    (part,) = result.division.parts
    assert (part.values_in, part.values_out) == (1, 2)


def test_two_parts_take_in_both_sides_and_then_no_pair_is_needed(real_models: RealModels) -> None:
    result = found(real_models, "middle", parts=2)
    assert {"a/matmul", "d/relu"} <= part_names(result)
    assert dict(result.options) == {"mix_compile_mode": True}


def test_strings_and_tables_before_a_dense_part_stay_on_the_cpu(real_models: RealModels) -> None:
    result = found(real_models, "texts")
    assert {"a/matmul", "b/relu", "embedding_lookup"} <= part_names(result)
    assert {"StringLower", "LookupTableFindV2", "HashTableV2"} <= set(reasons(result))
    assert result.exit_code == 0


def test_of_two_loops_the_one_with_an_operator_that_the_list_lacks_stays_whole_on_the_cpu(
    real_models: RealModels,
) -> None:
    result = found(real_models, "loops")
    sides = {name: name in part_names(result) for name in result.division.graph.names}
    assert all(is_on for name, is_on in sides.items() if name.startswith("fast/") and "Exit" in name)
    assert not any(is_on for name, is_on in sides.items() if name.startswith("slow/"))
    assert {why for operator, why in hindered_operators(result.division) if operator == "Merge"} == {
        "its loop has GatherV2, which stays on the CPU"
    }


def test_constants_within_a_loop_go_along_and_are_not_counted(real_models: RealModels) -> None:
    result = found(real_models, "loops")
    document = result.to_json()
    (part,) = result.division.parts
    constants = part.nodes & result.division.sides.constants
    assert constants
    assert document["on_npu"] == len(part.nodes) - len(constants)


def test_a_function_is_divided_inside(real_models: RealModels) -> None:
    result = found(real_models, "calls")
    assert {"PartitionedCall/inner", "PartitionedCall/Relu", "PartitionedCall/add"} <= part_names(result)
    assert reasons(result) == {"Unique": "CANN's list does not have it"}


def test_a_model_that_goes_to_the_npu_as_a_whole_needs_no_option(real_models: RealModels) -> None:
    result = found(real_models, "references")
    assert dict(result.options) == {}
    assert "leave mix_compile_mode and in_out_pair out" in result.text()


def test_a_frozen_graph_is_divided_between_what_look_like_its_ends(real_models: RealModels) -> None:
    result = partition_graph(asked_graph(real_models.directory / "frozen.pb"), LISTS)
    assert result.asked.feeds == ("x:0",)
    assert result.asked.fetches == ("y:0",)
    assert part_names(result) == part_names(found(real_models, "middle"))


@pytest.mark.parametrize("name", ["middle", "texts", "loops"])
def test_the_ranges_take_in_the_part_of_the_graph_that_tensorflow_really_runs(
    real_models: RealModels, name: str
) -> None:
    """TensorFlow's optimizers have been over it: what they left of the part is in the range, and nothing else."""
    result = found(real_models, name)
    ran = real_models.ran[name]["serving_default"]
    numbers = {node: number for number, node in enumerate(ran)}
    after: list[list[int]] = [[] for _ in ran]
    for node, (_, inputs) in ran.items():
        for text in inputs:
            after[numbers[text.lstrip("^").partition(":")[0]]].append(numbers[node])
    taken = taken_in(read_pairs(str(result.options["in_out_pair"])), numbers, after)
    names = {node for node, number in numbers.items() if number in taken}
    assert names == part_names(result) & set(ran)
    lost = part_names(result) - set(ran)
    graph = result.division.graph
    assert {graph.nodes[graph.numbers[node]].op for node in lost} <= FLEETING | {"Const"}


def test_the_picture_has_both_sides(real_models: RealModels, tmp_path: Path) -> None:
    from npu_serving.partition.partition_graph import draw_partition

    draw_partition(found(real_models, "middle"), tmp_path / "sides.svg")
    text = (tmp_path / "sides.svg").read_text()
    assert "NPU" in text
    assert "CPU" in text

"""Gears against a model's own inputs: the adapter gives the k-th entry to the k-th input, whatever its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import model_messages as wire
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.deploy.gear_checks import check_gears, gear_shapes
from npu_serving.findings import NOTE, PROBLEM, WARNING, Finding
from npu_serving.models.saved_model import MetaGraph, ModelSignature, TensorSpec, read_saved_model


def graph_of(path: Path, data: bytes) -> MetaGraph:
    path.write_bytes(data)
    return read_saved_model(path)[0]


def found(
    tmp_path: Path, inputs: Mapping[str, Sequence[int] | None], shapes: str, gears: str = "1;2", kind: int = 1
) -> list[Finding]:
    graph = graph_of(tmp_path / "m", wire.simple_model(inputs))
    options = {"input_shape": shapes, "dynamic_dims": gears, "dynamic_node_type": kind}
    return list(check_gears(options, graph, "npu"))


# The guide's worked example (section 7.1.2): data, label and mask, in three gears.
GUIDE = {"data": [1, 1, 40, -1], "label": [1, -1], "mask": [-1, -1]}
GUIDE_SHAPES, GUIDE_GEARS = "data:1,1,40,-1;label:1,-1;mask:-1,-1", "20,20,1,1;40,40,2,2;80,60,4,4"


def test_the_guide_s_own_example_has_no_finding(tmp_path: Path) -> None:
    assert found(tmp_path, GUIDE, GUIDE_SHAPES, GUIDE_GEARS) == []


def test_inputs_are_counted_in_byte_order_so_x_10_comes_before_x_2(tmp_path: Path) -> None:
    inputs = {"x_2": [-1, 2], "x_10": [-1, 10]}
    assert found(tmp_path, inputs, "x_10:-1,10;x_2:-1,2", "1,1;2,2") == []
    (finding,) = found(tmp_path, inputs, "x_2:-1,2;x_10:-1,10", "1,1;2,2")
    assert finding.severity == PROBLEM
    assert "x_10, x_2" in finding.what
    assert finding.cure == "write input_shape: x_10:-1,10;x_2:-1,2"
    assert finding.where == "npu.input_shape"


def test_an_entry_too_many_is_refused_by_the_adapter_and_found_by_the_model(tmp_path: Path) -> None:
    # The run "dyn scalar 0" of options/facts/adapter_runs.yaml: no option shows it, the model does.
    (finding,) = found(tmp_path, {"x": [-1, 3]}, "x:-1,3;s:0")
    assert (finding.severity, finding.where) == (PROBLEM, "npu.input_shape")
    assert "the adapter would refuse every request" in finding.what
    assert found(tmp_path, {"x": [-1, 3], "s": []}, "s:0;x:-1,3") == []


def test_upper_case_comes_before_lower_case(tmp_path: Path) -> None:
    inputs = {"a": [-1], "B": [-1]}
    assert found(tmp_path, inputs, "B:-1;a:-1", "1,1;2,2") == []
    assert found(tmp_path, inputs, "a:-1;B:-1", "1,1;2,2")


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ("x:-1,3", "1 entry, and the signature serving_default has 2 (x, z)"),
        ("x:-1,3;z:0;w:4", "3 entries"),
        ("x:-1,3,1;z:0", "it has 2 dimensions, not 3"),
        ("x:-1,4;z:0", "its dimension 2 is 3, and never 4"),
        ("x:2,-1;z:0", "its dimension 2 is 3, and never 1, 2"),
        ("x:-1,3;z:1", "it has 0 dimensions, not 1"),
    ],
)
def test_a_shape_that_the_model_can_t_have_is_a_problem(tmp_path: Path, shapes: str, said: str) -> None:
    (finding,) = found(tmp_path, {"x": [-1, 3], "z": []}, shapes)
    assert finding.severity == PROBLEM
    assert said in finding.what


def test_a_dimension_that_only_has_the_model_s_own_size_may_be_a_gear(tmp_path: Path) -> None:
    assert found(tmp_path, {"x": [-1, 3]}, "x:-1,-1", "1,3;2,3") == []


@pytest.mark.parametrize("name", ["in/x", "in_x", "key"])
def test_an_entry_may_have_the_node_s_name_as_6_3_takes_it_or_the_signature_s(tmp_path: Path, name: str) -> None:
    data = wire.saved_model(
        wire.meta_graph(
            b"", {"s": wire.signature({"key": wire.tensor("in/x:0", [-1]), "b": wire.tensor("a:0", [4])}, {})}
        )
    )
    options = {"input_shape": f"a:4;{name}:-1", "dynamic_dims": "1;2", "dynamic_node_type": 1}
    assert list(check_gears(options, graph_of(tmp_path / "m", data), "npu")) == []


def test_a_name_that_is_no_input_is_a_warning_because_names_are_not_compared(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, {"x": [-1]}, "image:-1")
    assert (finding.severity, finding.cure) == (WARNING, "write input_shape: x:-1")


def test_gears_of_one_signature_leave_a_note_for_another(tmp_path: Path) -> None:
    one = wire.signature({"x": wire.tensor("x:0", [-1])}, {})
    two = wire.signature({"x": wire.tensor("x:0", [-1]), "y": wire.tensor("y:0", [2])}, {})
    graph = graph_of(tmp_path / "m", wire.saved_model(wire.meta_graph(b"", {"one": one, "two": two})))
    options = {"input_shape": "x:-1", "dynamic_dims": "1;2", "dynamic_node_type": 1}
    (finding,) = check_gears(options, graph, "npu")
    assert finding.severity == NOTE
    assert "requests of the signature two would fail" in finding.what


@pytest.mark.parametrize(("nodes", "problem"), [(0, True), (1, False), (2, True)])
def test_gears_of_a_dataset_need_one_iterator(tmp_path: Path, nodes: int, problem: bool) -> None:
    more = [wire.node(f"next{at}", "IteratorGetNext") for at in range(nodes)]
    graph = graph_of(tmp_path / "m", wire.simple_model({"x": [-1]}, more))
    options = {"input_shape": "x:-1", "dynamic_dims": "1;2", "dynamic_node_type": 0}
    assert any(finding.needs_action for finding in check_gears(options, graph, "npu")) == problem


@pytest.mark.parametrize(
    ("size", "kind", "nodes", "said"),
    [
        (-1, 0, 1, "the input x of requests changes too: float32 [?]"),
        (2, 0, 1, ""),
        (-1, 1, 1, "the model reads from a dataset as well"),
        (-1, 1, 0, ""),
    ],
)
def test_only_the_dataset_or_the_requests_may_have_gears(
    tmp_path: Path, size: int, kind: int, nodes: int, said: str
) -> None:
    more = [wire.node("next", "IteratorGetNext")] * nodes
    graph = graph_of(tmp_path / "m", wire.simple_model({"x": [size]}, more))
    options = {"input_shape": "x:-1", "dynamic_dims": "1;2", "dynamic_node_type": kind}
    findings = list(check_gears(options, graph, "npu"))
    assert [finding.severity for finding in findings] == [WARNING] * bool(said)
    assert all(said in finding.what and finding.cure for finding in findings)


@given(shapes=st.text("ax:,;-019/", max_size=20), gears=st.text("0129,;-", max_size=12))
def test_no_text_of_the_options_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, shapes: str, gears: str
) -> None:
    found(tmp_path_factory.mktemp("gears"), {"x": [-1, 3], "a/b": None}, shapes, gears)


@given(
    st.dictionaries(st.text("abAB_019", min_size=1, max_size=4), st.lists(st.integers(1, 9), max_size=3), min_size=1)
)
def test_what_is_proposed_is_accepted(tmp_path_factory: pytest.TempPathFactory, inputs: dict[str, list[int]]) -> None:
    directory = tmp_path_factory.mktemp("gears")
    (finding, *_) = found(directory, inputs, ";".join(["nothing_of_this:1,1,1,1,1"] * (len(inputs) + 1)))
    assert found(directory, inputs, finding.cure.partition(": ")[2]) == []


@pytest.mark.parametrize(
    ("shapes", "gears", "kind", "expected"),
    [
        ("x:-1,2", "1;4", 1, [{"in": (1, 2)}, {"in": (4, 2)}]),
        ("x:-1,-1", "1,2;3,4", 1, [{"in": (1, 2)}, {"in": (3, 4)}]),
        ("x:-1,2", "1,2", 1, []),
        ("x:-1,2;y:1", "1", 1, []),
        ("x:-1,2", "1;4", 0, []),
        ("x:-1,2", "", 1, []),
    ],
)
def test_a_gear_is_a_shape_for_each_input_by_its_name_in_the_signature(shapes, gears, kind, expected) -> None:
    signature = ModelSignature({"in": TensorSpec("x:0", "float32", None)}, {}, "")
    options = {"input_shape": shapes, "dynamic_dims": gears, "dynamic_node_type": kind}
    assert gear_shapes(options, signature) == expected

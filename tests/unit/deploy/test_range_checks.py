"""in_out_pair against the nodes of the model."""

from __future__ import annotations

from pathlib import Path

import model_messages as wire
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.deploy.range_checks import check_iterations, check_ranges, check_sunk_ranges
from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.models.saved_model import MetaGraph, read_saved_model


def found(tmp_path: Path, pairs: str) -> list[Finding]:
    nodes = [wire.node(name, "Relu") for name in ("scope/first", "middle", "last")]
    path = tmp_path / "saved_model.pb"
    path.write_bytes(wire.saved_model(wire.meta_graph(wire.graph(nodes), {})))
    return list(check_ranges({"in_out_pair": pairs}, read_saved_model(path)[0], "npu"))


@pytest.mark.parametrize(
    ("pairs", "severity"),
    [
        ("[[['scope/first'],['last']]]", None),
        ("[[[scope/first, middle],[last]], [['middle'], ['last'], ['third']]]", None),
        ("[[['scope/first'],['gone']]]", WARNING),
        ("[[['first'],['gone']]]", PROBLEM),
        ("[[['scope/first:0'],['last:0']]]", PROBLEM),
    ],
)
def test_the_first_and_last_operators_of_a_range_are_looked_up_in_the_model(
    tmp_path: Path, pairs: str, severity: str | None
) -> None:
    assert [finding.severity for finding in found(tmp_path, pairs)] == ([] if severity is None else [severity])


def test_the_nearest_node_is_proposed_and_helps(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, "[[['scope/first:0'],['lasts']]]")
    assert finding.details == ("scope/first:0: perhaps scope/first", "lasts: perhaps last")
    assert found(tmp_path, "[[['scope/first'],['last']]]") == []


@given(pairs=st.text("[],' a\"", max_size=30))
def test_no_text_of_the_option_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, pairs: str) -> None:
    found(tmp_path_factory.mktemp("pairs"), pairs)


def chain(tmp_path: Path) -> MetaGraph:
    """first -> odd -> last, and beside it first -> aside, which leads nowhere; `before` comes before first."""
    nodes = [
        wire.node("before", "StringJoin"),
        wire.node("first", "Relu", inputs=["before"]),
        wire.node("odd", "StringUpper", inputs=["first:0"]),
        wire.node("aside", "StringLower", inputs=["first"]),
        wire.node("last", "Relu", inputs=["odd"]),
    ]
    path = tmp_path / "saved_model.pb"
    path.write_bytes(wire.saved_model(wire.meta_graph(wire.graph(nodes), {})))
    return read_saved_model(path)[0]


@pytest.mark.parametrize(
    ("pairs", "named"),
    [
        ("[[['first'],['last']]]", ["odd (StringUpper)"]),
        ("[[['first'],['aside']],[['last'],['last']]]", ["aside (StringLower)"]),
        ("[[['last'],['last']]]", []),
        ("[[['last'],['first']]]", []),
        ("[[['first'],['last','gone']]]", []),
    ],
)
def test_an_operator_on_the_way_through_a_range_that_the_npu_does_not_have_is_a_problem(
    tmp_path: Path, pairs: str, named: list[str]
) -> None:
    options = {"mix_compile_mode": True, "in_out_pair": pairs}
    found = list(check_sunk_ranges(options, chain(tmp_path), lambda operator: operator == "Relu", "npu"))
    assert [detail for finding in found for detail in finding.details] == named
    assert all(finding.severity == PROBLEM for finding in found)


@pytest.mark.parametrize("more", [{"in_out_pair_flag": False}, {"mix_compile_mode": False}, {"in_out_pair": 1}])
def test_a_range_that_stays_on_the_cpu_may_have_any_operator(tmp_path: Path, more: dict[str, object]) -> None:
    options = {"mix_compile_mode": True, "in_out_pair": "[[['first'],['last']]]", **more}
    assert list(check_sunk_ranges(options, chain(tmp_path), lambda operator: False, "npu")) == []


def test_a_loop_over_a_one_shot_iterator_would_end_the_process(tmp_path: Path) -> None:
    def found_with(operator: str, count: int) -> list[Finding]:
        path = tmp_path / "saved_model.pb"
        path.write_bytes(wire.saved_model(wire.meta_graph(wire.graph([wire.node("data", operator)]), {})))
        return list(check_iterations({"iterations_per_loop": count}, read_saved_model(path)[0], "npu"))

    (finding,) = found_with("OneShotIterator", 2)
    assert (finding.severity, finding.where) == (PROBLEM, "npu.iterations_per_loop")
    assert found_with("OneShotIterator", 1) == found_with("Iterator", 2) == []

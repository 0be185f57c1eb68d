"""How much of a model the lists of operators would let the adapter give to the NPU."""

from __future__ import annotations

from pathlib import Path

import model_messages as wire
import pytest

from npu_serving.cann.operator_list import OperatorLists
from npu_serving.checking.npu_share import NpuShare, share_findings, shares_of, sunk_range_findings
from npu_serving.deploy.model_checks import CheckedModel, CheckedVersion
from npu_serving.findings import PROBLEM
from npu_serving.models.saved_model import read_saved_model

NAMES = frozenset(("Mul", "Add", "Relu", "TakeDataset", "StringJoin", "Placeholder"))
LISTS = OperatorLists(Path("/list"), len(NAMES), 0, "", names=NAMES, gray=frozenset(("Relu",)))


def checked(tmp_path: Path, operators: list[str], **options: bool | str) -> CheckedModel:
    nodes = [wire.placeholder("x")]
    for at, operator in enumerate(operators):
        nodes.append(wire.node(f"n{at}", operator, [f"n{at - 1}" if at else "x"]))
    nodes += [wire.constant("c", b""), wire.node("save", "SaveV2", ["c"])]
    asked = wire.signature({"x": wire.tensor("x:0", None)}, {"y": wire.tensor(f"n{len(operators) - 1}:0", None)})
    path = tmp_path / "saved_model.pb"
    path.write_bytes(wire.saved_model(wire.meta_graph(wire.graph(nodes), {"s": asked})))
    (graph,) = read_saved_model(path)
    return CheckedModel("m", "/m", (CheckedVersion(1, tmp_path, graph),), (), options)


def share(tmp_path: Path, operators: list[str], **options: bool) -> NpuShare:
    ((found,),) = shares_of(checked(tmp_path, operators, **options), LISTS).values()
    return found


def test_only_what_a_request_runs_is_counted_and_the_rest_is_named(tmp_path: Path) -> None:
    found = share(tmp_path, ["Mul", "Add", "Unique", "Identity", "Unique", "StringJoin"])
    assert (found.nodes, found.on_npu, dict(found.on_cpu)) == (5, 2, {"Unique": 2, "StringJoin": 1})
    assert found.text() == "s: 40.0 % of 5 nodes may run on the NPU; on the CPU: Unique (2), StringJoin (1)"


@pytest.mark.parametrize(("mixed", "on_npu"), [(False, 2), (True, 1)])
def test_gray_operators_stay_on_the_cpu_in_mixed_computing(tmp_path: Path, mixed: bool, on_npu: int) -> None:
    assert share(tmp_path, ["Mul", "Relu"], mix_compile_mode=mixed).on_npu == on_npu


def test_datasets_never_go_to_the_npu_whatever_the_list_says(tmp_path: Path) -> None:
    assert share(tmp_path, ["TakeDataset"]).on_npu == 0


def test_a_model_of_which_nothing_would_run_on_the_npu_is_a_problem(tmp_path: Path) -> None:
    model = checked(tmp_path, ["Unique"])
    (finding,) = share_findings(model, shares_of(model, LISTS))
    assert finding.severity == PROBLEM
    assert "the CPU would silently serve it" in finding.what
    some = checked(tmp_path, ["Unique", "Mul"])
    assert list(share_findings(some, shares_of(some, LISTS))) == []


def test_a_model_for_the_cpu_has_no_share(tmp_path: Path) -> None:
    model = checked(tmp_path, ["Mul"])
    assert shares_of(CheckedModel("m", "/m", model.versions, (), None), LISTS) == {}


@pytest.mark.parametrize(("operators", "named"), [(["Mul", "Identity", "Add"], 0), (["Mul", "Relu", "Add"], 1)])
def test_a_range_to_be_sunk_takes_in_what_mixed_computing_gives_to_the_npu(
    tmp_path: Path, operators: list[str], named: int
) -> None:
    model = checked(tmp_path, operators, mix_compile_mode=True, in_out_pair="[[['n0'],['n2']]]")
    findings = list(sunk_range_findings(model, LISTS, "npu"))
    assert [(each.where, each.details) for each in findings] == [("npu.in_out_pair", ("n1 (Relu)",))] * named

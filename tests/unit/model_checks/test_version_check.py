"""A version directory by itself: what is found of it, whoever asks."""

from __future__ import annotations

from pathlib import Path

import model_messages as wire

from npu_serving.model_checks.version_check import check_version

HANDLE = {"dtype": wire.number(6, wire.FLOAT), "shape": wire.message(7, wire.shape([2]))}


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_good_version_has_no_finding_and_its_graph(tmp_path: Path) -> None:
    put(tmp_path / "1/saved_model.pb", wire.simple_model({"x": [-1]}))
    found = check_version(tmp_path / "1")
    assert found.findings == ()
    assert found.graph is not None and list(found.graph.signatures) == ["serving_default"]


def test_the_cures_are_flags_of_a_task_where_no_deployment_is_asked_about(tmp_path: Path) -> None:
    put(tmp_path / "1/saved_model.pb", wire.simple_model({"x": None}, tags=["serve", "gpu"]))
    found = check_version(tmp_path / "1")
    assert [(each.kind, each.where, each.cure) for each in found.findings] == [
        ("tags", "--tag", "give --tag gpu --tag serve, or export it again")
    ]


def test_a_variable_with_an_attribute_of_a_later_release_is_cured_by_the_conversion_that_makes_it_a_constant(
    tmp_path: Path,
) -> None:
    """As TensorFlow 2.21 writes each variable: debug_name has no default there that 1.15.0 could go without."""
    handle = wire.node("w", "VarHandleOp", (), {"debug_name": wire.message(2, "w/"), **HANDLE})
    nodes = [handle, wire.node("y", "ReadVariableOp", ["w"], {"dtype": wire.number(6, wire.FLOAT)})]
    signatures = {"serving_default": wire.signature({}, {"y": wire.tensor("y:0", [2])})}
    put(tmp_path / "m/1/saved_model.pb", wire.saved_model(wire.meta_graph(wire.graph(nodes), signatures)))
    (finding,) = [each for each in check_version(tmp_path / "m/1").findings if "debug_name" in each.what]
    assert finding.cure == f"./inv convert-pb {tmp_path / 'm/1'} --output {tmp_path / 'm-converted'}"

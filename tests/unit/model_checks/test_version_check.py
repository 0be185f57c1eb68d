"""A version directory by itself: what is found of it, whoever asks."""

from __future__ import annotations

from pathlib import Path

import model_messages as wire

from npu_serving.model_checks.version_check import check_version


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

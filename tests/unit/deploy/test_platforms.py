"""Models with different options get entries of their own; what is the process's has to be the same for all of them."""

from __future__ import annotations

from pathlib import Path

import yaml

from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.deploy.platforms import platforms_of, process_options


def deployment(tmp_path: Path, *models: dict[str, object], **sections: object) -> DeploymentFile:
    named = [{"name": name, "base_path": f"/models/{name}", **model} for name, model in zip("abcdefg", models)]
    file = tmp_path / "d.yaml"
    file.write_text(yaml.safe_dump({"version": 1, "models": named, **sections}, sort_keys=False))
    return read_deployment(file)


def test_models_with_the_same_options_share_an_entry_and_others_have_their_own(tmp_path: Path) -> None:
    made = deployment(
        tmp_path, {}, {"npu": {"mix_compile_mode": True}}, {"npu": {}}, {"npu": False},
        {"npu": {"mix_compile_mode": True}},
        npu={"deterministic": 1},
    )  # fmt: skip
    entries, names = platforms_of(made)
    assert list(names.values()) == ["tensorflow", "tensorflow_2", "tensorflow", "tensorflow_3", "tensorflow_2"]
    assert [entry.npu for entry in entries.values()] == [
        {"deterministic": 1}, {"deterministic": 1, "mix_compile_mode": True}, None,
    ]  # fmt: skip


def test_true_and_1_are_different_options(tmp_path: Path) -> None:
    _, names = platforms_of(deployment(tmp_path, {"npu": {"x": True}}, {"npu": {"x": 1}}))
    assert len(set(names.values())) == 2


def test_batching_of_its_own_or_none_is_an_entry_of_its_own(tmp_path: Path) -> None:
    made = deployment(tmp_path, {}, {"batching": False}, {"batching": {"max_batch_size": 4}}, server={"batching": {}})
    entries, names = platforms_of(made)
    assert list(names.values()) == ["tensorflow", "tensorflow_2", "tensorflow_3"]
    sizes = [None if entry.batching is None else entry.batching.max_batch_size for entry in entries.values()]
    assert sizes == [None, None, 4]
    assert entries["tensorflow"].batching is not None
    assert entries["tensorflow_2"].batching is None


def test_the_options_of_the_process_are_those_of_the_catalogue_and_the_device() -> None:
    assert {"session_device_id", "precision_mode_v2", "op_compiler_cache_mode", "op_debug_level"} <= process_options()
    assert process_options().isdisjoint({"mix_compile_mode", "input_shape", "graph_run_mode"})

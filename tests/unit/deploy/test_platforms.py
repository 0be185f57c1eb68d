"""Models with different options get entries of their own; what is the process's has to be the same for all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.deploy.platforms import platforms_of, process_options
from npu_serving.errors import DocumentError
from npu_serving.options.catalogue import session_options


def deployment(tmp_path: Path, *models: dict[str, object], **sections: object) -> DeploymentFile:
    named = [{"name": name, "base_path": f"/models/{name}", **model} for name, model in zip("abcdefg", models)]
    file = tmp_path / "d.yaml"
    file.write_text(yaml.safe_dump({"version": 1, "models": named, **sections}, sort_keys=False))
    return read_deployment(file)


def refusal(tmp_path: Path, *models: dict[str, object], **sections: object) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        deployment(tmp_path, *models, **sections)
    return [line.split(": ", 1)[1] for line in caught.value.what.split("\n")]


def test_models_with_the_same_options_share_an_entry_and_others_have_their_own(tmp_path: Path) -> None:
    made = deployment(
        tmp_path, {}, {"npu": {"mix_compile_mode": True}}, {"npu": {}}, {"npu": False},
        {"npu": {"mix_compile_mode": True}},
        npu={"debug_dir": "/d"},
    )  # fmt: skip
    entries, names = platforms_of(made)
    assert list(names.values()) == ["tensorflow", "tensorflow_2", "tensorflow", "tensorflow_3", "tensorflow_2"]
    assert [entry.npu for entry in entries.values()] == [
        {"debug_dir": "/d"}, {"debug_dir": "/d", "mix_compile_mode": True}, None,
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


@pytest.mark.parametrize("name", sorted(process_options() - {"precision_mode", "precision_mode_v2"}))
def test_an_option_of_the_process_has_one_value_for_all_models(tmp_path: Path, name: str) -> None:
    value = session_options()[name].example.get(name, "x")
    found = refusal(tmp_path, {}, {"npu": {name: value}}, {"npu": False}, npu={})
    differs = f"{name} is {json.dumps(value)} for b and not set for a, and the first session decides"
    assert any(line.startswith(f"models[1].npu.{name}: {differs}") for line in found)
    if session_options()[name].scenes == ("training",):
        return  # no server may have it
    deployment(tmp_path, {"npu": {name: value}}, {"npu": {name: value, "mix_compile_mode": True}}, {"npu": False})
    deployment(tmp_path, {}, {}, npu={name: value})


def test_what_no_adapter_takes_is_a_mistake_at_the_option_that_it_is_about(tmp_path: Path) -> None:
    found = refusal(
        tmp_path,
        {"npu": {"mix_compile_mode": True}},
        {"npu": {"hccl_timeout": 60}},
        npu={"local_rank_id": 9, "input_shape": "x:-1", "dynamic_dims": "1;2", "dynamic_node_type": 1},
    )
    assert [(line.split(": ")[0], "the whole server" in line) for line in found] == [
        ("models[0].npu.mix_compile_mode", True),
        ("models[1].npu.hccl_timeout", False),
        ("npu.local_rank_id", True),
    ]


def test_gears_that_do_not_agree_and_a_variable_beside_its_option_are_mistakes(tmp_path: Path) -> None:
    gears = {"input_shape": "x:-1", "dynamic_dims": "1,2;3,4", "dynamic_node_type": 1}
    assert [line.split(": ")[0] for line in refusal(tmp_path, {"npu": gears})] == ["models[0].npu.input_shape"]
    found = refusal(tmp_path, {}, npu={"session_device_id": 0}, environment={"ASCEND_DEVICE_ID": "1"})
    assert [line.split(": ")[0] for line in found] == ["npu.session_device_id"]
    found = refusal(tmp_path, {}, npu={}, environment={"ASCEND_DEVICE_ID": "x"})
    assert [line.split(": ")[0] for line in found] == ["environment.ASCEND_DEVICE_ID"]


def test_what_only_some_adapters_refuse_or_another_machine_has_is_none(tmp_path: Path) -> None:
    deployment(tmp_path, {}, npu={"precision_mode_v2": "mixed_hif8"})  # 9.0.0 takes it
    deployment(tmp_path, {}, npu={"enable_dump": True, "dump_path": "/no/such"})
    deployment(tmp_path, {}, npu={"deterministic": 7, "no_such_option": 1})


def test_the_precision_that_is_written_by_default_counts_as_well(tmp_path: Path) -> None:
    found = refusal(tmp_path, {}, {"npu": {"precision_mode_v2": "mixed_float16"}}, npu={})
    assert found == [
        'models[1].npu.precision_mode_v2: precision_mode_v2 is "mixed_float16" for b and "fp16" for a, and the first '
        "session decides it for the whole process: give them one value, or a deployment for each."
    ]
    deployment(tmp_path, {}, {"npu": {"precision_mode_v2": "fp16"}}, npu={})


def test_a_precision_of_the_models_own_takes_the_place_of_the_other_kind(tmp_path: Path) -> None:
    made = deployment(tmp_path, {"npu": {"precision_mode": "force_fp16"}}, npu={"precision_mode_v2": "fp16"})
    assert made.npu_of(made.models[0]) == {"precision_mode": "force_fp16"}


def test_each_wrong_option_is_named_before_they_are_judged_together(tmp_path: Path) -> None:
    found = refusal(tmp_path, {"npu": {"graph_run_mode": 1}}, npu={"use_off_line": False})
    assert [line.split(":")[0] for line in found] == ["models[0].npu.graph_run_mode", "npu.use_off_line"]

"""Session options in a deployment: each finding of the rules at its place, and the process's the same for all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from npu_serving.deploy.deployed_options import judged_options
from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.deploy.platforms import process_options
from npu_serving.documents.reader import path_text
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


def warnings(tmp_path: Path, **npu: object) -> list[str]:
    judged = judged_options(deployment(tmp_path, {}, npu=npu))
    return [f"{path_text(found.place)}: {found.message}" for found in judged if not found.is_mistake]


VALUES: dict[str, object] = {"b": True, "i": 1, "s": "x"}


@pytest.mark.parametrize("name", sorted(process_options() - {"precision_mode", "precision_mode_v2"}))
def test_an_option_of_the_process_has_one_value_for_all_models(tmp_path: Path, name: str) -> None:
    value = VALUES[next(kind for kind in session_options()[name].kinds.values() if kind in VALUES)]
    found = refusal(tmp_path, {}, {"npu": {name: value}}, {"npu": False}, npu={})
    said = (
        f"models[1].npu.{name}: {name} is {json.dumps(value)} for b and not set for a, and the first session decides it"
    )
    assert any(line.startswith(said) for line in found), found


def test_models_that_agree_on_the_process_may_differ_in_the_rest(tmp_path: Path) -> None:
    same = {"op_compiler_cache_mode": "enable"}
    deployment(tmp_path, {"npu": same}, {"npu": {**same, "mix_compile_mode": True}}, {"npu": False})
    deployment(tmp_path, {}, {"npu": {"mix_compile_mode": True}}, npu=same)


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


def test_what_is_refused_alone_and_what_the_rules_refuse_is_named_at_once(tmp_path: Path) -> None:
    found = refusal(tmp_path, {"npu": {"graph_run_mode": 1}}, npu={"use_off_line": False, "aoe_mode": "2"})
    assert [line.split(":")[0] for line in found] == [
        "models[0].npu.graph_run_mode",
        "npu.use_off_line",
        "npu.aoe_mode",
    ]


def test_two_precisions_do_not_hide_what_else_is_wrong(tmp_path: Path) -> None:
    both = {"precision_mode": "force_fp16", "precision_mode_v2": "fp16", "aoe_mode": "2"}
    assert [line.split(":")[0] for line in refusal(tmp_path, {}, npu=both)] == ["npu", "npu.aoe_mode"]


@pytest.mark.parametrize(
    ("npu", "place", "said"),
    [
        ({"mix_compile_mode": 1}, "npu.mix_compile_mode", "not 1: it would silently be read as false"),
        ({"mix_compile_mode": "true"}, "npu.mix_compile_mode", 'must be true or false, not "true"'),
        ({"op_debug_level": "1"}, "npu.op_debug_level", "must be a whole number"),
        ({"precision_mode_v2": "fp17"}, "npu.precision_mode_v2", "the model would not load"),
        ({"modify_mixlist": "/x"}, "npu.modify_mixlist", "without a mixed precision"),
        ({"aoe_mode": "2"}, "npu.aoe_mode", "is for training: the guide forbids it"),
        ({"dynamic_dims": "1;2"}, "npu", "input_shape"),
        (
            {"mix_compile_mode": True, "input_shape": "x:-1", "dynamic_dims": "1;2", "dynamic_node_type": 1},
            "npu.mix_compile_mode",
            "the adapter would end the whole server",
        ),
    ],
)  # fmt: skip
def test_what_the_rules_refuse_is_a_mistake_at_the_option(
    tmp_path: Path, npu: dict[str, object], place: str, said: str
) -> None:
    found = refusal(tmp_path, {}, npu=npu)
    assert any(line.startswith(place) and said in line for line in found), found
    in_a_model = refusal(tmp_path, {"npu": npu}, {}, npu={})
    assert any(line.startswith(f"models[0].{place}") and said in line for line in in_a_model), in_a_model


def test_the_same_finding_is_reported_once_for_all_models_that_share_the_option(tmp_path: Path) -> None:
    found = refusal(tmp_path, {}, {"npu": {"deterministic": 1}}, npu={"mix_compile_mode": 1})
    assert [line.split(":")[0] for line in found] == ["npu.mix_compile_mode"]


def test_what_is_only_advised_against_is_a_warning(tmp_path: Path) -> None:
    assert warnings(tmp_path, op_debug_level=1)[0].startswith("npu.op_debug_level: op_debug_level is deprecated")
    (mistyped,) = warnings(tmp_path, mix_compile_mod=True)
    assert mistyped.startswith("npu.mix_compile_mod: NpuOptimizer has no option 'mix_compile_mod'")
    assert mistyped.endswith("write mix_compile_mode")
    assert warnings(tmp_path, op_compiler_cache_mode="enable") == []


def test_graphs_that_share_memory_are_warned_about_where_several_models_run(tmp_path: Path) -> None:
    def shared(*models: dict[str, object], policy: int = 2) -> list[str]:
        judged = judged_options(deployment(tmp_path, *models, npu={"static_memory_policy": policy}))
        return [found.message for found in judged if not found.is_mistake]

    (said,) = shared({}, {})
    assert said.startswith("static_memory_policy is 2, with which graphs share memory, and requests run 2 models")
    assert shared({}) == shared({}, {"npu": False}) == shared({}, {}, policy=0) == []


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
    deployment(tmp_path, {}, npu={}, environment={"ASCEND_OPP_PATH": "/no/such"})
    deployment(tmp_path, {}, npu={"precision_mode_v2": "mixed_hif8"})  # 9.0.0 takes it
    deployment(tmp_path, {}, npu={"enable_dump": True, "dump_path": "/no/such"})
    deployment(tmp_path, {}, npu={"deterministic": 7, "no_such_option": 1})

"""Presets stand for options; what the file says itself counts first, and contradictions are mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from npu_serving.deploy.deployed_options import judged_options
from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.deploy.rendering import rendered_files
from npu_serving.errors import DocumentError
from npu_serving.options.catalogue import presets, session_options

GEARS = {"input_shape": "x:-1,3", "dynamic_dims": "1;2"}


def read(directory: Path, *names: str, **sections: Any) -> DeploymentFile:
    file = directory / "d.json"
    models = [{"name": "a", "base_path": "/a"}]
    file.write_text(json.dumps({"version": 1, "models": models, "presets": list(names), **sections}))
    return read_deployment(file)


def options(made: DeploymentFile) -> dict[str, bool | int | str]:
    return made.npu_of(made.models[0]) or {}


@pytest.mark.parametrize("name", presets())
def test_each_preset_alone_is_one_that_the_rules_take(tmp_path: Path, name: str) -> None:
    made = read(tmp_path, name, npu=GEARS if presets()[name].needs else {})
    assert made.uses_npu()
    assert set(presets()[name].options.items()) <= set(options(made).items())
    assert [found.message for found in judged_options(made)] == []


@pytest.mark.parametrize("preset", presets().values(), ids=presets())
def test_each_preset_names_options_and_presets_that_there_are(preset: Any) -> None:
    assert {*preset.options, *preset.needs} <= set(session_options())
    assert set(preset.conflicts) <= set(presets())
    for option, value in preset.options.items():
        values = session_options()[option].values
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        assert not values or session_options()[option].form or shown in values


def test_what_the_file_says_itself_counts_first(tmp_path: Path) -> None:
    made = read(tmp_path, "dump", "mixed-precision", npu={"dump_mode": "input", "precision_mode": "force_fp16"})
    assert options(made)["dump_mode"] == "input"
    assert options(made)["precision_mode"] == "force_fp16"
    assert "precision_mode_v2" not in options(made)
    models = [{"name": "a", "base_path": "/a", "npu": {"dump_mode": "output"}}]
    assert options(read(tmp_path, "dump", models=models))["dump_mode"] == "output"
    assert read(tmp_path, "dump", models=[{"name": "a", "base_path": "/a", "npu": False}]).uses_npu() is False


def test_two_presets_that_contradict_each_other_are_a_mistake_with_both_names(tmp_path: Path) -> None:
    for first, second in (("compile-cache", "final-release"), ("mixed-computing", "dynamic-gears")):
        for names in ((first, second), (second, first)):
            with pytest.raises(DocumentError) as caught:
                read(tmp_path, *names, npu=GEARS if "dynamic-gears" in names else {})
            assert "presets[1]: " in caught.value.what
            assert first in caught.value.what
            assert second in caught.value.what
    made = read(tmp_path, "compile-cache", "final-release", npu={"op_compiler_cache_mode": "force"})
    assert options(made)["op_compiler_cache_mode"] == "force"


def test_gears_need_what_only_the_model_knows(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="dynamic-gears needs input_shape and dynamic_dims under npu, for a"):
        read(tmp_path, "dynamic-gears")
    models = [{"name": "a", "base_path": "/a", "npu": GEARS}, {"name": "b", "base_path": "/b", "npu": False}]
    made = read(tmp_path, "dynamic-gears", models=models)
    assert options(made) == {"dynamic_node_type": 1, **GEARS}


def test_a_mistyped_preset_is_answered_with_the_nearest_and_one_twice_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"presets\[0\]: must be one of .*: did you mean mixed-precision\?"):
        read(tmp_path, "mixed_precision")
    with pytest.raises(DocumentError, match=r"presets\[1\]: dump is there twice"):
        read(tmp_path, "dump", "dump")


def test_what_the_rules_have_against_a_preset_s_option_is_said_at_the_presets(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"^[^\n]*: presets\[0\]: .*enable_dump"):
        read(tmp_path, "dump", npu={"dump_path": True})


def test_what_a_preset_became_stands_in_the_platform_config(tmp_path: Path) -> None:
    made = read(tmp_path, "dump", "mixed-precision", npu={"dump_mode": "input", "dump_path": "/a\nb"})
    head = [line for line in rendered_files(made, Path("/x"))["config.cfg"].text.splitlines() if "Preset" in line]
    assert head == [
        "# Preset dump: enable_dump true; dump_path /a\\nb, which the file says itself; "
        "dump_mode input, which the file says itself",
        "# Preset mixed-precision: precision_mode_v2 mixed_float16",
    ]
    assert made.expanded_presets()["mixed-precision"] == ("precision_mode_v2 mixed_float16",)

"""Presets of single models, and the one for new weights: what counts first, and what is refused with its cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.deploy.render_deployment import plan_files
from npu_serving.deploy.rendering import rendered_files
from npu_serving.errors import DocumentError
from npu_serving.options.catalogue import presets
from npu_serving.options.explaining import explain


class File:
    """A deployment of two models, of which the first has presets of its own."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "d.json"

    def read(self, *own: str, npu: Any = None, versions: Any = None, **sections: Any) -> DeploymentFile:
        first = {"name": "a", "base_path": "/a", "presets": list(own)}
        first.update({} if npu is None else {"npu": npu})
        first.update({} if versions is None else {"versions": versions})
        models = [first, {"name": "b", "base_path": "/b"}]
        self.path.write_text(json.dumps({"version": 1, "models": models, **sections}))
        return read_deployment(self.path)

    def refused(self, *own: str, **sections: Any) -> str:
        with pytest.raises(DocumentError) as caught:
            self.read(*own, **sections)
        return caught.value.what


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


def test_a_model_s_own_preset_is_its_own_alone(file: File) -> None:
    made = file.read("mixed-computing")
    assert made.npu_of(made.models[0]) == {"mix_compile_mode": True}
    assert made.npu_of(made.models[1]) is None
    text = rendered_files(made, Path("/x"))["config.cfg"].text
    assert text.count("mix_compile_mode") == 2  # in the comment and in one of the two platforms
    assert 'key: "tensorflow_2"' in text


def test_what_is_nearer_to_the_model_counts_first(file: File) -> None:
    everywhere = {"dump_path": "/everywhere", "dump_mode": "input"}
    own = {"name": "a", "base_path": "/a", "presets": ["dump"], "npu": {"dump_mode": "output"}}
    file.path.write_text(json.dumps({"version": 1, "models": [own], "npu": everywhere, "presets": ["mixed-precision"]}))
    read = read_deployment(file.path)
    assert read.npu_of(read.models[0]) == {
        "precision_mode_v2": "mixed_float16",
        "enable_dump": True,
        "dump_path": presets()["dump"].options["dump_path"],
        "dump_mode": "output",
    }


def test_what_they_became_is_shown_with_the_model_s_name(file: File, tmp_path: Path) -> None:
    made = file.read("dump", npu={"dump_mode": "input"}, presets=["mixed-precision"])
    shown = "dump_mode input, which the file says itself"
    assert made.expanded_presets()["dump of a"][-1] == shown
    assert any(
        line.startswith("# Preset dump of a: ") and line.endswith(shown)
        for line in rendered_files(made, Path("/x"))["config.cfg"].text.splitlines()
    )
    plan = plan_files(made, tmp_path / "out")
    assert "preset dump of a: " in plan.text()
    assert "preset mixed-precision: " in plan.text()


@pytest.mark.parametrize("name", ["mixed-precision", "compile-cache", "final-release", "weight-update"])
def test_what_the_process_has_is_refused_for_one_model_and_the_cure_helps(file: File, name: str) -> None:
    said = file.refused(name)
    assert f"models[0].presets[0]: {name} sets " in said
    assert "decides for the whole process" in said
    assert f"presets: [{name}]" in said
    assert file.read(presets=[name]).uses_npu()


@pytest.mark.parametrize(
    ("own", "sections", "said"),
    [
        (("dump", "dump"), {}, "models[0].presets[1]: dump is there twice"),
        (("dump",), {"presets": ["dump"]}, "models[0].presets[0]: dump is there twice"),
        (
            ("dynamic-gears",),
            {},
            "models[0].presets[0]: dynamic-gears needs input_shape and dynamic_dims under npu, for a",
        ),
        (("mixed-computing",), {"presets": ["dynamic-gears"]}, "mixed-computing can't stand beside dynamic-gears"),
        (("dump",), {"npu": False}, "models[0].presets: have no effect, because npu is false"),
        (("dmup",), {}, "models[0].presets[0]: must be one of"),
    ],
)
def test_a_mistake_is_named_at_the_model(file: File, own: tuple[str, ...], sections: Any, said: str) -> None:
    assert said in file.refused(*own, **sections)


def test_what_the_rules_have_against_it_is_said_at_the_model_s_presets(file: File) -> None:
    assert "models[0].presets[0]: " in file.refused("dump", npu={"dump_path": True})


def test_new_weights_need_a_server_that_looks_for_new_versions(file: File) -> None:
    assert "file_system_poll_wait_seconds: is 0" in file.refused(
        presets=["weight-update"], server={"file_system_poll_wait_seconds": 0}
    )
    assert "models[0].versions: are fixed" in file.refused(presets=["weight-update"], versions=[3])
    made = file.read(presets=["weight-update"], versions={"latest": 2})
    assert (made.npu_of(made.models[0]) or {})["frozen_variable"] is False
    for other in ("compile-cache", "final-release"):
        for names in ([other, "weight-update"], ["weight-update", other]):
            assert "can't stand beside" in file.refused(presets=names)


def test_explain_says_that_new_versions_are_the_way_to_new_weights() -> None:
    (found,) = explain("weight-update").found
    said = " ".join(found.text().split())
    assert "new versions take its place" in said
    assert "Only weights may differ" in said
    assert any(each.name == "weight-update" for each in (*explain("权重更新").found, *explain("权重更新").also))

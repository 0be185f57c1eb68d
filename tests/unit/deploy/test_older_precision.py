"""For an adapter that does not read precision_mode_v2, what is written is what it does read; nothing else changes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from cann_trees import SITE, make_cann

from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.deploy.init_deployment import init_deployment
from npu_serving.deploy.older_precision import is_older, precision_note
from npu_serving.deploy.preset_values import filled_in
from npu_serving.deploy.rendering import rendered_files
from npu_serving.options.catalogue import session_options
from npu_serving.options.rules import check_options
from npu_serving.options.session_options import complete_options
from npu_serving.settings import Settings

OLD = b"use_off_line\0precision_mode\0modify_mixlist\0"
NEW = OLD + b"precision_mode_v2\0"


class Site:
    """A machine with an adapter that has these texts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = make_cann(directory / "Ascend", "5.1.RC2")
        self.settings = dataclasses.replace(Settings(), cann_root=str(self.root))
        self.install(OLD)

    def install(self, texts: bytes) -> None:
        adapter = self.root / "tfplugin/latest" / SITE / "npu_bridge/_tf_adapter.so"
        adapter.write_bytes(b"\x7fELF\0" + texts)

    def read(self, **sections: Any) -> DeploymentFile:
        file = self.directory / "d.json"
        file.write_text(json.dumps({"version": 1, "models": [{"name": "a", "base_path": "/a"}], **sections}))
        return read_deployment(file)

    def options(self, **sections: Any) -> list[dict[str, Any] | None]:
        made = filled_in(self.read(**sections), self.settings)
        return [made.npu_of(model) for model in made.models]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def model(name: str, **own: Any) -> dict[str, Any]:
    return {"name": name, "base_path": f"/{name}", **own}


@pytest.mark.parametrize(("value", "older"), session_options()["precision_mode_v2"].counterparts.items())
def test_every_value_of_the_guide_has_its_counterpart_that_every_release_takes(
    site: Site, value: str, older: str
) -> None:
    assert site.options(npu={"precision_mode_v2": value, "job": "x"}) == [{"job": "x", "precision_mode": older}]
    (options,) = site.options(npu={"precision_mode_v2": value})
    assert not [each for each in check_options(complete_options(options or {}), "5.1.RC2") if each.needs_action]


def test_the_default_and_a_preset_are_written_for_it_too(site: Site) -> None:
    assert site.options(npu={}) == [{"precision_mode": "force_fp16"}]
    assert site.options(presets=["mixed-precision"]) == [{"precision_mode": "allow_mix_precision"}]
    assert site.options(presets=["mixed-precision"], npu={"precision_mode_v2": "origin"}) == [
        {"precision_mode": "must_keep_origin_dtype"}
    ]
    assert site.options(presets=["mixed-precision"], npu={"precision_mode": "force_fp32"}) == [
        {"precision_mode": "force_fp32"}
    ]
    models = [model("a", npu={}), model("b", npu=False), model("c", presets=["dump"])]
    found = site.options(models=models)
    assert found[:2] == [{"precision_mode": "force_fp16"}, None]
    assert (found[2] or {})["precision_mode"] == "force_fp16"


def test_a_model_s_own_precision_is_written_for_it_and_an_inherited_one_stays_one(site: Site) -> None:
    models = [model("a", npu={"precision_mode_v2": "origin"}), model("b")]
    assert site.options(models=models, npu={"precision_mode_v2": "origin"}) == [
        {"precision_mode": "must_keep_origin_dtype"},
        {"precision_mode": "must_keep_origin_dtype"},
    ]
    models = [model("a", npu={"job": "x"}), model("b")]
    found = site.options(models=models, npu={"precision_mode": "force_fp32"})
    assert found == [{"precision_mode": "force_fp32", "job": "x"}, {"precision_mode": "force_fp32"}]


def test_a_value_without_a_counterpart_stays_and_is_left_to_the_check(site: Site) -> None:
    assert site.options(npu={"precision_mode_v2": "mixed_bfloat16"}) == [{"precision_mode_v2": "mixed_bfloat16"}]


def test_an_adapter_that_reads_it_and_none_at_all_leave_the_file_as_it_is(site: Site, tmp_path: Path) -> None:
    made = site.read(npu={"precision_mode_v2": "fp16"})
    site.install(NEW)
    assert filled_in(made, site.settings) is made
    site.install(b"")  # its texts are not to be seen
    assert filled_in(made, site.settings) is made
    nothing = tmp_path / "empty"
    nothing.mkdir()
    assert not is_older(dataclasses.replace(Settings(), cann_root=str(nothing)))
    site.install(OLD)
    on_cpu = site.read()
    assert filled_in(on_cpu, site.settings) is on_cpu


def test_what_was_done_is_said_once_and_with_the_preset(site: Site) -> None:
    made = site.read(presets=["mixed-precision"], models=[model("a"), model("b")])
    filled = filled_in(made, site.settings)
    assert precision_note(made, filled) == (
        "precision_mode_v2 mixed_float16 is written as precision_mode allow_mix_precision: "
        "the adapter that is installed does not read precision_mode_v2"
    )
    assert filled.expanded_presets() == {
        "mixed-precision": ("precision_mode_v2 mixed_float16, in the option that this adapter reads",)
    }
    assert (
        "precision_mode_v2"
        not in rendered_files(filled, Path("/x"))["config.cfg"].text.partition("platform_configs")[2]
    )
    older = site.read(npu={"precision_mode": "force_fp16"})
    assert precision_note(older, filled_in(older, site.settings)) == ""


def test_a_first_deployment_has_the_option_that_the_adapter_reads(site: Site) -> None:
    base = site.directory / "m"
    (base / "1").mkdir(parents=True)
    (base / "1/saved_model.pb").write_bytes(b"x")
    for texts, wanted in ((OLD, {"precision_mode": "force_fp16"}), (NEW, {"precision_mode_v2": "fp16"})):
        site.install(texts)
        output = site.directory / f"{len(texts)}.yaml"
        init_deployment([f"m={base}"], output, settings=site.settings)
        assert read_deployment(output).npu == wanted

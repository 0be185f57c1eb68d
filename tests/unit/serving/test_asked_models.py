"""What a server is asked for, read from its flags and its list of models; and what of it is not there yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_serving.client.model_types import ModelStatus, VersionStatus
from npu_serving.deploy.platform_config import ServedModel, render_models_config
from npu_serving.serving.asked_models import asked_models, lacking


def status(**states: str) -> ModelStatus:
    return ModelStatus("m", tuple(VersionStatus(int(name[1:]), state, "OK", "") for name, state in states.items()))


def base(tmp_path: Path, *versions: int) -> str:
    for version in versions:
        (tmp_path / "m" / str(version)).mkdir(parents=True)
    return str(tmp_path / "m")


def test_the_list_that_this_project_writes_is_read_back_and_flags_name_one_model(tmp_path: Path) -> None:
    models = [
        ServedModel("a", "/models/a"),
        ServedModel("b", "s3://models/b", versions="all"),
        ServedModel("c", "/models/c", versions=(3, 4)),
        ServedModel("d", "/models/d", versions=2),
    ]
    listed = tmp_path / "models.config"
    listed.write_text(render_models_config(models))
    assert list(asked_models(["server", f"--model_config_file={listed}"])) == models
    assert asked_models(["s", "--model_name=m", "--model_base_path=/x/m"]) == (ServedModel("m", "/x/m"),)
    listed.write_text("model_config_list {")
    assert asked_models(["server", f"--model_config_file={listed}"]) == ()


@pytest.mark.parametrize(
    ("versions", "answer", "missing"),
    [
        ((1, 2), status(v1="AVAILABLE", v2="LOADING"), ("version 2: LOADING",)),
        ((1, 2), status(v1="AVAILABLE"), ("version 2: the server has not found it yet",)),
        ((1,), status(v1="AVAILABLE", v2="END"), ()),
        (1, status(v1="AVAILABLE"), ("version 2: the server has not found it yet",)),
        (1, status(v1="END", v2="AVAILABLE"), ()),
        ("all", status(v2="AVAILABLE"), ("version 1: the server has not found it yet",)),
    ],
)
def test_every_version_that_is_asked_for_has_to_be_available(
    tmp_path: Path, versions: int | tuple[int, ...], answer: ModelStatus, missing: tuple[str, ...]
) -> None:
    assert lacking(ServedModel("m", base(tmp_path, 1, 2), versions=versions), answer) == missing


def test_of_a_model_elsewhere_the_server_knows_which_versions_there_are() -> None:
    model = ServedModel("m", "s3://models/m")
    failed = ModelStatus("m", (VersionStatus(1, "END", "NOT_FOUND", "no tags"),))
    assert lacking(model, status(v1="AVAILABLE", v2="START")) == ("version 2: START",)
    assert lacking(model, failed) == ("version 1: END, no tags",)
    assert lacking(model, status(v1="END")) == ("no version is AVAILABLE",)
    assert lacking(model, status(v1="END", v2="AVAILABLE")) == ()

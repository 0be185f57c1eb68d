"""A list of models that somebody wrote: each mistake with its place and what to write there, and models not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from npu_serving.deploy.listed_models import LABELS_FLAG, check_model_places, check_models_config
from npu_serving.deploy.platform_config import ServedModel, render_models_config
from npu_serving.errors import RequestError
from npu_serving.models.layout import ModelPlace, RemotePlace

WITH_LABELS = {LABELS_FLAG: "true"}
FIRST = 'model_config_list {\n  config { name: "a" base_path: "/m/a" model_platform: "tensorflow" }\n'


def mistakes(directory: Path, text: str, **flags: str) -> list[str]:
    path = directory / "models.config"
    path.write_text(text)
    with pytest.raises(RequestError) as caught:
        check_models_config(path, flags)
    return [line.removeprefix(f"{path}:") for line in caught.value.what.splitlines()]


def test_an_entry_without_a_platform_and_one_whose_policy_is_a_word_are_one_error_each_with_line_and_column(
    tmp_path: Path,
) -> None:
    second = '  config { name: "b" base_path: "/m/b" }\n'
    third = '  config {\n    name: "c" model_platform: "tensorflow"\n    model_version_policy: ALL_VERSIONS\n  }\n}\n'
    without, word = mistakes(tmp_path, FIRST + second + third)
    assert without.startswith("3:3: the model 'b' has no platform: write model_platform: \"tensorflow\"")
    assert word == (
        "6:5: ALL_VERSIONS is not a version policy, which is a block: write model_version_policy { all {} }"
    )


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("model_version_policy: LATEST_VERSION", "write model_version_policy { latest { num_versions: 1 } }"),
        ("version_policy: ALL_VERSIONS", "write model_version_policy { all {} }"),
        ("model_version_policy { all: true }", "write model_version_policy { all {} }"),
        ("model_version_policy { specfic { versions: 2 } }", "there is no version policy specfic"),
        ("model_platfrom: 'x'", "write model_platform"),
        ("base_pth: '/m'", "write base_path"),
        ("nothing_like_it: 1", "leave it out"),
        ("version_labels { key: 's' value: 1 }", f"--flag=--{LABELS_FLAG}=true"),
    ],
)
def test_what_stands_there_wrongly_is_answered_with_what_to_write(tmp_path: Path, written: str, instead: str) -> None:
    text = FIRST + f'config {{ name: "b" base_path: "/m/b" model_platform: "tensorflow"\n {written} }} }}'
    (only,) = mistakes(tmp_path, text)
    assert re.match(r"4:\d+: ", only)
    assert instead in only


def test_what_is_no_text_format_is_refused_at_its_place_with_an_entry_that_is_right(tmp_path: Path) -> None:
    (only,) = mistakes(tmp_path, "model_config_list {\n  config { name }\n}")
    assert only.startswith("2:17: ")
    path = tmp_path / "models.config"
    with pytest.raises(RequestError) as caught:
        check_models_config(path, {})
    path.write_text(f"model_config_list {{ {caught.value.cure.partition('is: ')[2]} }}")
    check_models_config(path, {})


def test_a_label_on_a_version_outside_the_policy_is_refused(tmp_path: Path) -> None:
    policy = "model_version_policy { specific { versions: 1 versions: 2 } }"
    labels = 'version_labels { key: "stable" value: 1 }\nversion_labels { key: "canary" value: 3 }'
    text = f'model_config_list {{ config {{ name: "b" model_platform: "t" {policy}\n{labels} }} }}'
    (only,) = mistakes(tmp_path, text, **WITH_LABELS)
    assert only == "3:1: the label 'canary' is for version 3, and only 1, 2 are served"
    (tmp_path / "models.config").write_text(text.replace("value: 3", "value: 2"))
    check_models_config(tmp_path / "models.config", WITH_LABELS)


@given(
    some.lists(
        some.builds(
            ServedModel,
            some.text("abc-_.", min_size=1).filter(lambda name: name not in (".", "..")),
            some.text("ab'\"\\ {}#", max_size=8).map("/".__add__),
            some.sampled_from(["tensorflow", "other"]),
            some.one_of(some.integers(1, 9), some.just("all"), some.just((1, 2))),
            some.dictionaries(some.sampled_from(["stable", "canary"]), some.integers(1, 2)),
        ),
        min_size=1,
        unique_by=lambda model: model.name,
    )
)
def test_every_list_that_this_project_writes_is_right(
    tmp_path_factory: pytest.TempPathFactory, models: list[ServedModel]
) -> None:
    path = tmp_path_factory.mktemp("list") / "models.config"
    path.write_text(render_models_config(models))
    assert check_models_config(path, WITH_LABELS) == path.read_text()


@pytest.mark.parametrize("has_directory", [False, True])
def test_a_model_that_is_not_there_is_named_first_and_then_those_that_wait_for_it(
    tmp_path: Path, has_directory: bool
) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1/saved_model.pb").touch()
    if has_directory:
        (tmp_path / "c/first").mkdir(parents=True)
    places: list[tuple[str, ModelPlace]] = [
        *((name, tmp_path / name) for name in "abc"),
        ("far", RemotePlace("s3://bucket/far")),
    ]
    with pytest.raises(RequestError) as caught:
        check_model_places(places)
    said = "contains no version directory" if has_directory else "does not exist"
    assert re.match(rf"c: .*{tmp_path}/c {said}", caught.value.what)
    assert caught.value.what.endswith("Without it the server does not offer a, b, far either.")
    check_model_places([*places[:2], places[3]])

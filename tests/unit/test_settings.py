"""Settings: defaults, invoke.yaml, flags."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from npu_serving.errors import RequestError, SettingsError
from npu_serving.settings import PROJECT_ROOT, Settings, load_settings, table_of, user_path
from npu_serving.settings_reference import Reference, SettingsSchema, settings_in_force


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "invoke.yaml"
    path.write_text(text)
    return path


def test_the_shipped_file_is_what_the_generator_writes_and_means_the_defaults() -> None:
    shipped = PROJECT_ROOT / "invoke.yaml"
    assert shipped.read_text() == Reference().text() + "\n"
    assert load_settings(shipped) == Settings()
    assert list(yaml.safe_load(shipped.read_text())["npu_serving"]) == list(table_of())


def test_the_schema_of_the_file_accepts_the_shipped_one_and_refuses_a_slip() -> None:
    schema = jsonschema.Draft202012Validator(SettingsSchema().to_json())
    shipped = yaml.safe_load((PROJECT_ROOT / "invoke.yaml").read_text())
    assert schema.is_valid(shipped)
    assert schema.is_valid({})
    for section in ({"jobs": "8"}, {"jobs": -1}, {"runner": "dockr"}, {"job": 1}):
        assert not schema.is_valid({"npu_serving": section})
    assert "npu_servin" not in schema.schema["$defs"]["InvokeFile"]["properties"]


def test_every_setting_says_what_it_is_for_and_has_a_kind_that_can_be_loaded() -> None:
    assert all(row.help and not row.help.endswith(".") for row in table_of().values())
    assert {row.kind for row in table_of().values()} == {str, int, bool, Path, tuple}
    assert len({row.flag for row in table_of().values()}) == len(table_of())


@pytest.mark.parametrize(
    ("flags", "message", "cure"),
    [
        ({"jobs": "many"}, "--jobs must be a whole number, not 'many'.", "0 or more"),
        ({"runner": "dockr"}, "--runner must be auto, host or docker, not 'dockr'.", "did you mean 'docker'?"),
        ({"docker_flavour": "vanilla"}, "--flavour must be distro or guide, not 'vanilla'.", "distro, guide"),
    ],
)
def test_a_flag_that_is_refused_is_named_as_it_was_typed(
    tmp_path: Path, flags: dict[str, str], message: str, cure: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path / "none.yaml", **flags)
    assert caught.value.what == message
    assert cure in caught.value.cure


def test_the_settings_in_force_say_where_each_comes_from_and_keep_a_password_to_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _file(tmp_path, "npu_serving: {jobs: 4, remote_cache: 'http://me:geheim@host:1', runner: auto}")
    monkeypatch.setenv("NPU_SERVING_SETTINGS", str(file))
    in_force = settings_in_force({"build-serving": ("jobs", "runner"), "doctor": ("runner",)})
    assert "geheim" not in in_force.text() + json.dumps(in_force.to_json())
    text = in_force.text()
    assert f"jobs: 4  (from {file}; the default is 0)" in text
    assert "runner: auto  (the default, as invoke.yaml says)" in text
    assert "memory_mb: 0  (the default)" in text
    assert "    --runner: build-serving, doctor\n" in text
    shown = {each["name"]: each for each in in_force.to_json()["settings"]}  # type: ignore[attr-defined]
    assert list(shown) == list(table_of())
    assert (shown["jobs"]["value"], shown["jobs"]["default"], shown["jobs"]["from"]) == (4, 0, str(file))
    assert shown["runner"]["choices"] == ["auto", "host", "docker"]
    assert shown["runner"]["tasks"] == ["build-serving", "doctor"]
    assert (shown["memory_mb"]["from"], shown["memory_mb"]["flag"]) == ("default", None)


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    path = _file(tmp_path, "npu_serving: {source: sample, runner: docker}")
    settings = load_settings(path, runner="host", adapter=None)
    assert (settings.source, settings.runner, settings.adapter) == ("sample", "host", "auto")


def test_an_unknown_key_is_named_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(_file(tmp_path, "npu_serving: {pyhton_prefix: /x}"))
    assert caught.value.what.endswith(
        "invoke.yaml:1:15: npu_serving.pyhton_prefix: unknown key; did you mean python_prefix?"
    )


def test_all_mistakes_of_the_file_are_told_at_once_with_their_places(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(_file(tmp_path, "npu_serving:\n  jobs: '8'\n  runner: dockr\n  offline: yes\nrunn: {}\n"))
    assert [line.partition("invoke.yaml:")[2] for line in caught.value.what.split("\n")] == [
        "2:9: npu_serving.jobs: must be a whole number that is 0 or more, not '8': leave out the quotes.",
        "3:11: npu_serving.runner: must be one of auto, host, docker, not 'dockr': did you mean docker?",
        "4:12: npu_serving.offline: must be true or false, not 'yes'.",
        "5:1: runn: unknown key; did you mean run?",
    ]


def test_an_unknown_section_is_refused_and_invokes_own_are_not(tmp_path: Path) -> None:
    load_settings(_file(tmp_path, "run: {echo: true}"))
    with pytest.raises(SettingsError, match="npu_servin"):
        load_settings(_file(tmp_path, "npu_servin: {}"))


@pytest.mark.parametrize(
    "text",
    [
        "npu_serving: {jobs: many}",
        "npu_serving: {jobs: -1}",
        "npu_serving: {jobs: true}",
        "npu_serving: {offline: 3}",
        "npu_serving: {mirrors: one}",
        "npu_serving: {mirrors: [1]}",
        "npu_serving: {source: [x]}",
        "npu_serving: {build_root: ''}",
        "npu_serving: {runner: podman}",
        "npu_serving: {docker_flavour: vanilla}",
        'npu_serving: {build_root: "a\\0b"}',
        "npu_serving: [x]",
        "[x]",
        "npu_serving: {",
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_a_cure(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(_file(tmp_path, text))
    assert caught.value.cure


def test_a_url_in_the_place_of_a_path_is_told_as_it_was_typed() -> None:
    """As a path it would become s3:/bucket/x below the working directory, which is missing."""
    with pytest.raises(RequestError, match=r"--platform-config-file can't be 's3://bucket/x'") as caught:
        user_path("s3://bucket/x", "--platform-config-file")
    assert "copy it to this machine" in caught.value.cure


def test_an_empty_file_and_a_missing_one_mean_the_defaults(tmp_path: Path) -> None:
    assert load_settings(_file(tmp_path, "")) == Settings()
    assert load_settings(tmp_path / "none.yaml") == Settings()


def test_an_adapters_file_is_a_path_wherever_it_stands_alone_too_and_a_release_stays_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for directory in (here, elsewhere):
        directory.mkdir()
    monkeypatch.chdir(here)
    file = _file(elsewhere, "npu_serving: {adapter: _tf_adapter.so, also_fits: [x.whl, 8.0.0, known, a/b.so]}")
    settings = load_settings(file)
    assert settings.adapter == str(elsewhere / "_tf_adapter.so")
    assert settings.also_fits == (str(elsewhere / "x.whl"), "8.0.0", "known", str(elsewhere / "a/b.so"))
    flags = load_settings(file, also_fits=("_tf_adapter.so", "none"))
    assert flags.also_fits == (str(here / "_tf_adapter.so"), "none")


def test_paths_of_the_file_are_relative_to_the_project_and_those_of_flags_to_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    file = _file(tmp_path / "elsewhere", "npu_serving: {build_root: b, cann_root: ../Ascend, source: ./tree}")
    settings = load_settings(file)
    assert settings.build_root == tmp_path / "elsewhere" / "b"
    assert settings.cann_root == str(tmp_path / "elsewhere" / "../Ascend")
    assert settings.source == str(tmp_path / "elsewhere" / "tree")
    monkeypatch.setenv("NPU_SERVING_SETTINGS", str(file))
    assert load_settings() == settings
    monkeypatch.delenv("NPU_SERVING_SETTINGS")
    assert load_settings(tmp_path / "none.yaml", build_root="b").build_root == tmp_path / "b"

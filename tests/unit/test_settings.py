"""Settings: defaults, invoke.yaml, flags."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from npu_serving.errors import SettingsError
from npu_serving.settings import PROJECT_ROOT, Settings, load_settings


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "invoke.yaml"
    path.write_text(text)
    return path


def test_the_shipped_file_states_the_defaults_of_the_code() -> None:
    stated = yaml.safe_load((PROJECT_ROOT / "invoke.yaml").read_text())["npu_serving"]
    shipped = {name: list(value) if isinstance(value := getattr(Settings(), name), tuple) else value for name in stated}
    shown = {
        **stated,
        "build_root": PROJECT_ROOT / stated["build_root"],
        "dist_root": PROJECT_ROOT / stated["dist_root"],
    }
    assert {name: str(value) for name, value in shown.items()} == {name: str(value) for name, value in shipped.items()}
    assert set(stated) <= set(Settings.__dataclass_fields__)


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    path = _file(tmp_path, "npu_serving: {source: sample, runner: docker}")
    settings = load_settings(path, runner="host", adapter=None)
    assert (settings.source, settings.runner, settings.adapter) == ("sample", "host", "auto")


def test_an_unknown_key_is_named_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(_file(tmp_path, "npu_serving: {pyhton_prefix: /x}"))
    assert "pyhton_prefix" in caught.value.what
    assert "python_prefix" in caught.value.cure


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


def test_an_empty_file_and_a_missing_one_mean_the_defaults(tmp_path: Path) -> None:
    assert load_settings(_file(tmp_path, "")) == Settings()
    assert load_settings(tmp_path / "none.yaml") == Settings()


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

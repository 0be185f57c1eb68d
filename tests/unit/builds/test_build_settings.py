"""The settings that what is done later to a build is done with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from npu_serving.builds import build_settings
from npu_serving.builds.build_settings import settings_of, settings_to_serve
from npu_serving.builds.current import find_build, make_current
from npu_serving.builds.manifest import BuildManifest
from npu_serving.settings import Settings


def test_what_serves_is_served_with_the_cann_of_the_current_build_and_as_given_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_settings, "with_sample", lambda settings: settings)
    settings = Settings(dist_root=tmp_path)
    assert settings_to_serve(settings) == settings
    for name, source in (("a", "sample"), ("b", "1.15.0")):
        (tmp_path / name).mkdir()
        manifest = BuildManifest(
            name, "d", "1.15.0", {"name": source}, {"cann_version": ""}, "l", {}, (), {}, {}, {}, "2026-01-01"
        )
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest.to_json()))
    make_current(find_build(tmp_path, "a"))
    of_sample = dataclasses.replace(settings, source="sample")
    assert settings_to_serve(settings).source == of_sample.source
    assert settings_to_serve(settings, "b").source == "1.15.0"
    assert settings_to_serve(settings, "no such build") == settings


def test_a_build_is_made_again_to_fit_what_it_was_asked_to_fit_and_an_older_one_what_the_settings_say(
    tmp_path: Path,
) -> None:
    settings = Settings(dist_root=tmp_path, also_fits=("known",))
    builds: dict[str, tuple[str, ...]] = {"older": (), "none": ("none",), "two": ("6.3.RC2", "7.0.RC1")}
    for name, asked in builds.items():
        (tmp_path / name).mkdir()
        manifest = BuildManifest(
            name, "d", "1.15.0", {"name": "1.15.0"}, {}, "l", {}, (), {}, {}, {}, "2026-01-01", also_fits=asked
        )
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest.to_json()))
        assert settings_of(find_build(tmp_path, name), settings).also_fits == (asked or ("known",))


def test_a_build_whose_linker_was_asked_for_is_linked_again_by_that_one_and_any_other_as_the_settings_say(
    tmp_path: Path,
) -> None:
    settings = Settings(dist_root=tmp_path, linker="bfd")
    asked = {"older": None, "auto": "auto", "gold": "gold", "by-hand": "no linker"}
    for name, linker in asked.items():
        (tmp_path / name).mkdir()
        document = BuildManifest(
            name,
            "d",
            "1.15.0",
            {"name": "1.15.0"},
            {},
            "l",
            {},
            (),
            {},
            {},
            {},
            "2026-01-01",
            linker_setting=linker or "",
        ).to_json()
        if linker is None:
            del document["linker_setting"]
        (tmp_path / name / "manifest.json").write_text(json.dumps(document))
        found = settings_of(find_build(tmp_path, name), settings)
        assert found.linker == ("gold" if name == "gold" else "bfd")

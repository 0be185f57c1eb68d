"""What is told of two builds: files that differ, files that only one has."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_serving import fsutil
from npu_serving.building import reproduction
from npu_serving.building.reproduction import ReproduceResult
from npu_serving.builds.manifest import SERVER
from npu_serving.console import Silent
from npu_serving.settings import Settings

PLACES = (Path("/b/first"), Path("/b/second"))


def result(**files: tuple[str, str]) -> ReproduceResult:
    named = {name.replace("_", "/"): pair for name, pair in files.items()}
    return ReproduceResult({SERVER: ("a" * 64, "a" * 64), **named}, PLACES, None, 12.0)


def test_the_same_files_are_told_with_the_servers_digest() -> None:
    same = result(lib_x=("b", "b"))
    assert same.exit_code == 0
    assert "a" * 64 in same.text()
    assert same.to_json()["server_sha256"] == "a" * 64


def test_a_file_that_differs_and_one_that_only_one_build_has_are_both_named() -> None:
    other = result(lib_x=("b", "c"), lib_y=("d", ""))
    assert other.exit_code == 3
    assert other.differing == ("lib/x", "lib/y")
    assert "missing" in other.text()
    assert all(str(place) in other.text() for place in PLACES)
    assert other.to_json()["server_sha256"] == ""


def test_a_dry_run_names_both_places_and_makes_none(tmp_path: Path) -> None:
    plan = reproduction.plan(Settings(build_root=tmp_path))
    assert len({len(place.name) for place in plan.places}) == 2, "paths of different length show more"
    assert all(str(place) in plan.text() for place in plan.places)
    assert list(tmp_path.iterdir()) == []


def test_a_diffoscope_that_comes_to_no_end_does_not_hide_what_was_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsutil.write_file(tmp_path / "bin" / "diffoscope", b"#!/bin/sh\nexec sleep 60\n", mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(reproduction, "DIFFOSCOPE_TIMEOUT_S", 0.2)
    assert reproduction._diffoscope([], SERVER, tmp_path, Silent()) is None
    assert f"diffoscope {PLACES[0]} {PLACES[1]}" in result(lib_x=("b", "c")).text()

"""clean removes what this project made below its build root, and nothing else."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path

import pytest
from model_server import record

from npu_serving import fsutil
from npu_serving.clean import FETCHED, MADE_HERE, OF_SERVERS, clean_state
from npu_serving.errors import RequestError, StateLockedError
from npu_serving.serving.server_record import RecordKeeper
from npu_serving.settings import PROJECT_ROOT, Settings
from npu_serving.state_lock import state_lock


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A build root in which everything was made, beside strangers' files."""
    root = tmp_path / "data"
    for name in (*MADE_HERE, *FETCHED, *OF_SERVERS, "photographs", "dist"):
        fsutil.write_file(root / name / "file", name)
    fsutil.write_file(root / "letter.txt", "dear")
    return Settings(build_root=root, dist_root=root / "dist")


def _left(settings: Settings) -> set[str]:
    return {path.name for path in settings.build_root.iterdir()}


def test_each_place_below_the_build_root_that_the_package_names_is_one_that_clean_knows() -> None:
    modules = [path for path in (PROJECT_ROOT / "npu_serving").rglob("*.py") if path.name != "demo.py"]  # has its own
    texts = {path: path.read_text(encoding="utf-8") for path in modules}
    named = {name for text in texts.values() for name in re.findall(r'build_root / "([\w.]+)"', text)}
    for path, text in texts.items():
        module = ".".join(path.relative_to(PROJECT_ROOT).with_suffix("").parts)
        for constant in re.findall(r"build_root / ([A-Z_]+)\b", text):
            named.add(Path(getattr(importlib.import_module(module), constant)).parts[0])
    assert {"store", "logs", "prepared", "upgrade-times.json"} < named
    assert named - {*MADE_HERE, *FETCHED, *OF_SERVERS} == set()


def test_strangers_files_and_the_builds_beside_ours_stay(settings: Settings) -> None:
    result = clean_state(settings, everything=True, dry_run=False)
    assert _left(settings) == {"photographs", "letter.txt", "dist", ".lock"}
    assert {path.name for path in result.removed} == {*MADE_HERE, *FETCHED, *OF_SERVERS}


def test_what_was_fetched_stays_unless_everything_is_asked_for(settings: Settings) -> None:
    clean_state(settings, everything=False, dry_run=False)
    assert _left(settings) == {*FETCHED, *OF_SERVERS, "photographs", "letter.txt", "dist", ".lock"}


def test_who_removes_what_upgrades_link_from_is_told_what_that_costs(settings: Settings) -> None:
    planned = clean_state(settings, everything=False, dry_run=True).text()
    assert "compiles everything again" in planned
    assert "./inv package --format kit" in planned
    assert "compiles everything again" in clean_state(settings, everything=False, dry_run=False).text()
    fsutil.write_file(settings.build_root / "logs" / "file", "")
    assert "compiles everything again" not in clean_state(settings, everything=False, dry_run=False).text()


def test_a_dry_run_names_the_same_paths_and_removes_none(settings: Settings) -> None:
    before = _left(settings)
    planned = clean_state(settings, everything=True, dry_run=True)
    assert _left(settings) == before | {".lock"}
    done = clean_state(settings, everything=True, dry_run=False)
    assert planned.removed == done.removed
    assert "would be removed" in planned.text()
    assert clean_state(settings, everything=True, dry_run=False).text() == "Nothing to remove."


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("place", ["tools", "src/dist", "linked/dist"])
def test_builds_inside_of_what_is_to_be_removed_are_refused_before_anything_goes(
    settings: Settings, tmp_path: Path, place: str, dry_run: bool
) -> None:
    (tmp_path / "linked").symlink_to(settings.build_root / "src")
    dist = tmp_path / place if place.startswith("linked") else settings.build_root / place
    before = _left(settings)
    with pytest.raises(RequestError, match=r"dist_root in invoke\.yaml"):
        clean_state(Settings(build_root=settings.build_root, dist_root=dist), everything=True, dry_run=dry_run)
    assert _left(settings) == before | {".lock"}


def test_a_build_that_is_under_way_is_not_pulled_away(settings: Settings) -> None:
    with state_lock(settings.build_root, doing="build-serving"):
        before = _left(settings)
        with pytest.raises(StateLockedError, match="build-serving"):
            clean_state(settings, everything=False, dry_run=False)
        assert _left(settings) == before


def test_a_server_that_runs_is_not_lost_sight_of(settings: Settings) -> None:
    keeper = RecordKeeper(settings.build_root, record(8501))
    keeper.began(os.getpid())
    for dry_run in (True, False):
        with pytest.raises(StateLockedError, match="Removed nothing: server 8501 runs") as caught:
            clean_state(settings, everything=False, dry_run=dry_run)
        assert caught.value.cure == "./inv stop --all"
    keeper.ended(None)
    clean_state(settings, everything=False, dry_run=False)


def test_a_directory_that_was_moved_and_linked_loses_only_its_link(settings: Settings, tmp_path: Path) -> None:
    (settings.build_root / "src").rename(tmp_path / "elsewhere")
    (settings.build_root / "src").symlink_to(tmp_path / "elsewhere")
    clean_state(settings, everything=False, dry_run=False)
    assert not (settings.build_root / "src").is_symlink()
    assert (tmp_path / "elsewhere" / "file").exists()

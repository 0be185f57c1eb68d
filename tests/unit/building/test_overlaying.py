"""render-overlay on the tree that is set: what only reads goes on beside a build, what writes does not."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from npu_serving.building import inputs, overlaying
from npu_serving.errors import StateLockedError
from npu_serving.overlay.content import OverlayInputs
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.settings import Settings
from npu_serving.state_lock import state_lock


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Those of the sample's tree at a path of its own, with an overlay that has only its edit of the BUILD file."""
    tree = tmp_path / "tree"
    shutil.copytree(SAMPLE_DIRECTORY / "serving", tree)
    monkeypatch.setattr(OverlayInputs, "content", ())
    adapter = SimpleNamespace(path=tmp_path / "_tf_adapter.so", elf=None)
    monkeypatch.setattr(overlaying, "cann_of", lambda _settings: SimpleNamespace(adapter=adapter))
    monkeypatch.setattr(inputs, "find_libpython", lambda _settings: tmp_path / "libpython3.7m.so")
    return Settings(source=str(tree), build_root=tmp_path / "build")


@pytest.mark.parametrize("reading", [{"check": True}, {"diff": True}, {"dry_run": True}, {"remove": True, "check": 1}])
def test_what_only_reads_the_tree_is_not_refused_while_a_build_runs(settings: Settings, reading: Any) -> None:
    with state_lock(settings.build_root, doing="build-serving"):
        overlaying.render(settings, **reading)


def test_what_writes_into_the_tree_is_refused_while_a_build_runs(settings: Settings) -> None:
    with state_lock(settings.build_root, doing="build-serving"), pytest.raises(StateLockedError, match="build-serving"):
        overlaying.render(settings)

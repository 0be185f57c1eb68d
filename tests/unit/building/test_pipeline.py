"""The whole build, before it changes anything: a dry run refuses what the run refuses."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from npu_serving.building import pipeline
from npu_serving.building.context import BuildContext
from npu_serving.building.runner import Layout, Runner
from npu_serving.building.sources import LOCKS, resolve_source
from npu_serving.cann.install import Cann
from npu_serving.console import Silent
from npu_serving.errors import LockFileError
from npu_serving.lock.lockfile import read_lock
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.settings import Settings


class Machine:
    """A runner whose toolchain has to be made: a plan asks nothing more of it."""

    name = "host"

    def check(self, layout: Layout) -> None:
        """Any will do."""

    def what_is_missing(self) -> str:
        return "the image has to be made"

    def identity(self) -> dict[str, str]:
        return {"compiler": "gcc 8.4.0, g++ 8.4.0", "glibc": "glibc 2.27"}


@pytest.fixture
def fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A copy of the sample's tree, which is the user's own: the sample's lock goes with it."""
    shutil.copytree(SAMPLE_DIRECTORY / "serving", tmp_path / "fork")
    settings = Settings(source=str(tmp_path / "fork"), build_root=tmp_path / "build", dist_root=tmp_path / "dist")

    def found(settings: Settings, _reporter: object) -> BuildContext:
        source, cann = resolve_source(settings), cast(Cann, SimpleNamespace())
        return BuildContext(settings, source, cann, Path("libpython"), cast(Runner, Machine()), ())

    monkeypatch.setattr(pipeline, "find_context", found)
    return settings


def test_a_dry_run_refuses_a_tree_that_declares_other_archives_than_its_lock(fork: Settings) -> None:
    (step, *_) = pipeline.dry_run(fork, Silent()).steps
    assert step.name == "dependencies", "the tree as it was copied agrees"
    declared = Path(fork.source, "tensorflow_serving/workspace.bzl")
    digest = next(item.sha256 for item in read_lock(LOCKS / "sample.json").archives if "libevent" in item.name)
    assert digest is not None
    declared.write_text(declared.read_text().replace(digest, "0" * 64))
    with pytest.raises(LockFileError, match="does not match its lock") as caught:
        pipeline.dry_run(fork, Silent())
    assert "libevent" in caught.value.what
    assert f"lock-deps --source {fork.source}" in caught.value.cure

"""A relink or a swap that is killed at any moment: `current` names a build that starts, the next run completes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from states import adapter_of, ascend_of, copy_of, library_path, switch_cann

from npu_serving.building.context import find_context
from npu_serving.building.pipeline import BuildResult, build_serving
from npu_serving.builds import digest_memo
from npu_serving.builds.current import CURRENT, DIST_LOCK, PREVIOUS, find_build, make_current, read_builds
from npu_serving.builds.verify import verify_build
from npu_serving.console import Silent
from npu_serving.process import descendants
from npu_serving.sample.cann import FIRST_RELEASE, NEXT_RELEASE, install_sample_cann
from npu_serving.settings import PROJECT_ROOT, Settings
from npu_serving.upgrade.rebuild import rebuild_after_cann
from npu_serving.upgrade.rebuild_plan import NOTHING, SWAP, plan_rebuild

pytestmark = pytest.mark.bazel
KILLS_OF_THE_SAVED_LINK = 46
KILLS_DURING_BAZEL = 4
KILLS_OF_A_SWAP = 30

# Forks a relink for each line that it reads, and tells its number and its end. Where the line says so, Bazel links.
RELINKS = """
import json, os, sys
from pathlib import Path
from npu_serving.upgrade.rebuild import rebuild_after_cann
from npu_serving.console import Silent
from npu_serving.settings import load_settings

settings = load_settings(Path("/none"), **json.loads(sys.argv[1]))
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            rebuild_after_cann(settings, Silent(), with_bazel=line.strip() == "Bazel")
            os._exit(0)
        finally:
            os._exit(1)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture
def upgraded(built: BuildResult, sample_settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """The sample's new CANN, with a dist/ of its own that holds the former build only."""
    settings = dataclasses.replace(sample_settings, dist_root=tmp_path / "dist", install_link="")
    shutil.copytree(built.build.directory, settings.dist_root / built.build.directory.name)
    make_current(find_build(settings.dist_root, built.build.manifest.build_id))
    install_sample_cann(settings.build_root / "sample", (FIRST_RELEASE, NEXT_RELEASE), NEXT_RELEASE)
    yield settings
    switch_cann(settings, FIRST_RELEASE)
    build_serving(sample_settings, Silent())


class Relinks:
    """Runs of rebuild-after-cann, each in a process of its own."""

    def __init__(self, settings: Settings) -> None:
        values = {
            field.name: str(value) if isinstance(value, Path) else value
            for field in dataclasses.fields(settings)
            if (value := getattr(settings, field.name)) not in ("", ())
        }
        argv = [sys.executable, "-c", RELINKS, json.dumps(values)]
        self.process = subprocess.Popen(
            argv, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _start(self, who: str) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{who}\n")
        self.process.stdin.flush()
        return self._number()

    def _number(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def finish(self, who: str = "") -> float:
        """Seconds that a relink takes which nobody kills."""
        began = time.monotonic()
        self._start(who)
        assert self._number() == 0
        return time.monotonic() - began

    def kill_after(self, seconds: float, who: str = "") -> None:
        """A relink that is killed after so long, if it takes that long; Bazel goes with the one that started it."""
        child = self._start(who)
        time.sleep(seconds)  # the moment of the kill
        family = descendants(child)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        self._number()
        while any(Path("/proc", str(pid)).exists() for pid in family):
            time.sleep(0.01)


def _check(settings: Settings) -> None:
    """`current` names a whole build, and its server starts."""
    build = find_build(settings.dist_root)
    assert not build.damaged_file()
    environment = {"LD_LIBRARY_PATH": ":".join(map(str, library_path(settings)))}
    server = settings.dist_root / CURRENT / "bin" / "tensorflow_model_server"
    subprocess.run([server, "--version"], env=environment, capture_output=True, check=True)


def _as_before(settings: Settings, former: str) -> None:
    """Takes a relink that was quicker than its killer back."""
    make_current(find_build(settings.dist_root, former))
    for build in read_builds(settings.dist_root).sound:
        if not build.current:
            shutil.rmtree(build.directory)


def test_killed_at_fifty_random_moments_current_names_a_build_that_starts_and_the_next_run_completes(
    upgraded: Settings,
) -> None:
    former = os.readlink(upgraded.dist_root / CURRENT)
    chance = random.Random(5)
    relinks = Relinks(upgraded)
    with relinks.process:
        whole_s = relinks.finish("Bazel")
        context = find_context(upgraded, Silent())
        (server,) = (context.output_base / "execroot").glob(
            "*/bazel-out/*/bin/tensorflow_serving/model_servers/tensorflow_model_server"
        )
        _as_before(upgraded, former)
        by_saved_link_s = relinks.finish()
        for _ in range(KILLS_OF_THE_SAVED_LINK):
            _as_before(upgraded, former)
            relinks.kill_after(chance.uniform(0, by_saved_link_s))
            _check(upgraded)
        for _ in range(KILLS_DURING_BAZEL):
            _as_before(upgraded, former)
            server.unlink(missing_ok=True)  # so that the link runs
            relinks.kill_after(chance.uniform(0, whole_s), "Bazel")
            _check(upgraded)
        _as_before(upgraded, former)
    result = rebuild_after_cann(upgraded, Silent())
    assert result.build.current
    assert result.build.manifest.adapter["cann_version"] == NEXT_RELEASE
    assert plan_rebuild(upgraded).action == NOTHING
    assert verify_build(upgraded).exit_code == 0
    assert {path.name for path in upgraded.dist_root.iterdir()} == {
        former, result.build.directory.name, CURRENT, PREVIOUS, ".lock", DIST_LOCK, digest_memo.FILE_NAME,
    }  # fmt: skip


def test_killed_at_thirty_moments_of_a_swap_the_former_build_starts_and_is_whole_and_the_next_run_completes(
    built: BuildResult, sample_settings: Settings, tmp_path: Path
) -> None:
    settings = copy_of(sample_settings, tmp_path)
    adapter = tmp_path / "_tf_adapter.so"
    note = tmp_path / "note"
    note.write_text("the same needs, other bytes")
    subprocess.run(["objcopy", "--add-section", f".note.test={note}", adapter_of(settings), adapter], check=True)
    settings = dataclasses.replace(settings, adapter=str(adapter), cann_root=str(ascend_of(settings)))
    make_current(find_build(settings.dist_root, built.build.manifest.build_id))
    former = os.readlink(settings.dist_root / CURRENT)
    assert plan_rebuild(settings).action == SWAP
    swaps = Relinks(settings)
    with swaps.process:
        whole_s = swaps.finish()
        for number in range(KILLS_OF_A_SWAP):
            _as_before(settings, former)
            swaps.kill_after(whole_s * number / KILLS_OF_A_SWAP)
            _check(settings)
            assert not find_build(settings.dist_root, former).damaged_file(), "what both share is whole"
        _as_before(settings, former)
    result = rebuild_after_cann(settings, Silent())
    assert (result.plan.action, result.build.current) == (SWAP, True)
    assert plan_rebuild(settings).action == NOTHING
    assert not list(settings.dist_root.glob(".serving-*")), "nothing half made is left"

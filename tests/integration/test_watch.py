"""rebuild-after-cann --watch with the real command, the real Bazel and the sample's CANN."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from npu_serving.building.pipeline import BuildResult, build_serving
from npu_serving.builds.current import find_build
from npu_serving.console import Silent
from npu_serving.sample.cann import FIRST_RELEASE, NEXT_RELEASE, install_sample_cann, upgrade_sample_cann
from npu_serving.settings import PROJECT_ROOT, Settings

pytestmark = [
    pytest.mark.bazel,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
]


def started(settings: Settings, tmp_path: Path, *flags: str) -> subprocess.Popen[str]:
    section = {
        "bazel": settings.bazel,
        "runner": settings.runner,
        "build_root": str(settings.build_root),
        "dist_root": str(settings.dist_root),
        "source": "sample",
        "adapter": "sample",
    }
    file = tmp_path / "invoke.yaml"
    file.write_text(json.dumps({"npu_serving": section}))
    words = [sys.executable, "-m", "npu_serving", "--search-root", str(PROJECT_ROOT), "rebuild-after-cann", "--watch"]
    environment = {**os.environ, "NPU_SERVING_SETTINGS": str(file), "PYTHONPATH": str(PROJECT_ROOT)}
    return subprocess.Popen(
        [*words, "--json", "--interval", "0.1", *flags],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def next_event(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    event: dict[str, object] = json.loads(process.stdout.readline())
    return event


def test_the_watch_relinks_by_itself_when_cann_was_upgraded_and_a_later_one_has_nothing_to_do(
    built: BuildResult, sample_settings: Settings, tmp_path: Path
) -> None:
    root = sample_settings.build_root / "sample"
    process = started(sample_settings, tmp_path, "--act")
    try:
        assert [next_event(process)["event"] for _ in range(2)] == ["watching", "fits"]
        upgrade_sample_cann(root)
        kinds: list[object] = []
        while not kinds or kinds[-1] not in ("rebuilt", "failed"):
            event = next_event(process)
            kinds.append(event["event"])
        assert kinds[-2:] == ["rebuilding", "rebuilt"], event
        current = find_build(sample_settings.dist_root)
        assert current.manifest.adapter["cann_version"] == NEXT_RELEASE
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 130
        once = started(sample_settings, tmp_path, "--once")
        out, _ = once.communicate(timeout=120)
        assert [json.loads(line)["event"] for line in out.splitlines()] == ["watching", "fits"]
        assert once.returncode == 0
        install_sample_cann(root)
        once = started(sample_settings, tmp_path, "--once")
        out, _ = once.communicate(timeout=120)
        assert json.loads(out.splitlines()[-1])["event"] == "due"
        assert once.returncode == 3
        assert find_build(sample_settings.dist_root).directory == current.directory, "it only reports"
    finally:
        process.kill()
        process.communicate()
        install_sample_cann(root)
        restored = build_serving(sample_settings, Silent())
        assert restored.build.manifest.adapter["cann_version"] == FIRST_RELEASE
        assert restored.build.manifest.build_id == built.build.manifest.build_id

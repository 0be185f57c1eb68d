"""The demo does what it says, twice over, and leaves nothing behind but its own directory."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from npu_serving import fsutil
from npu_serving.clean import clean_state
from npu_serving.console import Silent
from npu_serving.demo import WIDEST_RESULT, DemoResult, DemoStep, _placed_on_npu, run_demo
from npu_serving.errors import ServerError, StateLockedError
from npu_serving.sample.cann import FIRST_RELEASE, NEXT_RELEASE, UNKNOWN_RELEASE
from npu_serving.settings import PROJECT_ROOT, Settings

STEPS = [
    f"install CANN {FIRST_RELEASE} (sample)",
    "fetch",
    "overlay",
    "build",
    "verify",
    "write deployment.yaml",
    "check it",
    "check it with a broken option",
    "serve until it is ready",
    "predict",
    "predict from an image",
    "load test",
    f"upgrade to CANN {NEXT_RELEASE} (simulated)",
    "swap the adapter",
    "serve and predict",
    f"upgrade to CANN {UNKNOWN_RELEASE} (simulated)",
    "verify the old server",
    "relink",
    "verify the new server",
    "serve and predict",
]


class Watching(Silent):
    """Says nothing, and tries at each step whether `clean` would pull the demo's directory away."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.refused = 0

    def note(self, text: str) -> None:
        with pytest.raises(StateLockedError, match="demo"):
            clean_state(self._settings, everything=False, dry_run=False)
        self.refused += 1


def _project_state() -> str:
    argv = ["git", "status", "--porcelain", "--untracked-files=all"]
    return subprocess.run(argv, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True).stdout


def _running_below(directory: Path) -> list[str]:
    """The command lines of the programs that have to do with `directory`, but for this one's."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(directory) in line:
                found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.mark.bazel
def test_the_demo_serves_on_the_npu_before_and_after_each_upgrade_and_a_second_one_compiles_nothing(
    tmp_path: Path, bazel: Path
) -> None:
    settings = Settings(bazel=str(bazel), build_root=tmp_path / "build", dist_root=tmp_path / "dist")
    before = _project_state()
    watching = Watching(settings)
    placements = set()
    for run in ("first", "second"):
        result = run_demo(settings, watching)
        assert [step.name for step in result.steps] == STEPS
        done = {step.name: step.result for step in result.steps}
        served = [step.result for step in result.steps if step.name in ("predict", "serve and predict")]
        assert served == [
            f"[1.0, 2.0, 5.0] -> [3.5, 4.0, 5.5] on the NPU (sample, CANN {version})"
            for version in (FIRST_RELEASE, NEXT_RELEASE, UNKNOWN_RELEASE)
        ]
        assert done["build"].startswith("0 sources compiled") == (run == "second"), done["build"]
        assert "the adapter would end the whole server" in done["check it with a broken option"]
        assert "ready after" in done["serve until it is ready"]
        assert "answered: half_plus_two (its golden request)" in done["serve until it is ready"]
        assert done["swap the adapter"].startswith("nothing linked")
        assert "rejected before starting" in done["verify the old server"]
        assert done["relink"].startswith("0 sources compiled, 1 linked"), done["relink"]
        log = fsutil.read_text(settings.build_root / "demo" / "logs" / f"server-{FIRST_RELEASE}.log")
        placements.add(log.count("placed on NPU"))
    assert len(placements) == 1, "a log of an earlier demo is no proof of this one"
    assert watching.refused >= 2 * 2 * len(STEPS)
    assert _project_state() == before
    assert not settings.dist_root.exists(), "it has builds of its own"
    assert {entry.name for entry in settings.build_root.iterdir()} == {"demo", ".lock"}
    assert _running_below(tmp_path) == []


def test_the_table_is_cut_to_a_width_that_a_terminal_has_and_json_is_whole(tmp_path: Path) -> None:
    long = "rejected before starting: " + "symbol " * 40
    result = DemoResult(tmp_path, [DemoStep("verify the old server", long, 1.0), DemoStep("fetch", "short", 2.0)])
    rows = result.text().splitlines()[1:3]
    assert max(map(len, rows)) <= len("verify the old server") + WIDEST_RESULT + len("seconds") + 4
    assert "..." in rows[0]
    assert "short " in rows[1]
    assert long in json.dumps(result.to_json())


def test_a_log_without_the_adapters_line_is_no_proof(tmp_path: Path) -> None:
    log = tmp_path / "log"
    fsutil.write_file(log, f"placed on NPU (sample, CANN {FIRST_RELEASE})\n")
    assert FIRST_RELEASE in _placed_on_npu(log, FIRST_RELEASE)
    with pytest.raises(ServerError, match="no graph was placed on the NPU"):
        _placed_on_npu(log, NEXT_RELEASE)

"""Two runs on one state directory keep out of each other's way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from npu_serving.errors import StateLockedError
from npu_serving.state_lock import state_lock


def test_a_second_run_on_a_locked_directory_is_told_who_is_in_there(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from npu_serving.state_lock import state_lock\n"
        "with state_lock(Path(sys.argv[1]), doing='build-serving'):\n"
        "    print('in', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "in\n"
        refused = pytest.raises(StateLockedError, match=rf"process {holder.pid} \(build-serving\)")
        with refused, state_lock(tmp_path, doing="other"):
            pass
        holder.kill()
        holder.wait()
    with state_lock(tmp_path, doing="after a kill"):
        pass


def test_locks_of_two_names_on_one_directory_are_two_locks_each_with_its_cure(tmp_path: Path) -> None:
    with state_lock(tmp_path, doing="one"), state_lock(tmp_path, doing="two", name=".other"):
        with pytest.raises(StateLockedError, match=r"\(one\)") as first, state_lock(tmp_path, doing="x"):
            pass
        other = pytest.raises(StateLockedError, match=r"\(two\)")
        with other as second, state_lock(tmp_path, doing="x", name=".other", cure="wait for it"):
            pass
    assert "use another build_root" in first.value.cure
    assert second.value.cure == "wait for it"


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    for _ in range(2):
        with state_lock(tmp_path, doing="x"):
            pass

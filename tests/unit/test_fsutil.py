"""Files appear whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving import fsutil
from npu_serving.errors import DiskFullError, FileAccessError, StateLockedError


def test_a_file_that_already_holds_the_data_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert fsutil.write_file(path, "one")
    before = path.stat()
    assert not fsutil.write_file(path, "one")
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino


def test_a_file_keeps_its_mode_when_its_content_changes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    path.chmod(0o750)
    fsutil.write_file(path, "two")
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


def test_a_full_disk_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    """A file-size limit fails a write in the same way, and at the same place, as a disk without space."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from npu_serving import fsutil\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    fsutil.write_file(Path(sys.argv[1]), b'x' * 100_000)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
    )
    path = tmp_path / "file"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "FileAccessError"
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_named_with_its_cure(tmp_path: Path) -> None:
    full = Path("/dev/full")
    with (
        pytest.raises(DiskFullError, match="the disk is full"),
        fsutil.explained(full),
        full.open("wb", buffering=0) as file,
    ):
        file.write(b"x")


def test_a_link_is_switched_in_one_step_and_never_missing(tmp_path: Path) -> None:
    link = tmp_path / "current"
    assert fsutil.point_link(link, "a")
    assert fsutil.point_link(link, "b")
    assert not fsutil.point_link(link, "b")
    assert os.readlink(link) == "b"
    assert [entry.name for entry in tmp_path.iterdir()] == ["current"]


def test_a_link_never_replaces_a_file(tmp_path: Path) -> None:
    (tmp_path / "current").write_text("mine")
    with pytest.raises(FileAccessError, match="not a symbolic link"):
        fsutil.point_link(tmp_path / "current", "a")
    assert (tmp_path / "current").read_text() == "mine"


def test_a_directory_appears_only_when_it_is_filled(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with pytest.raises(RuntimeError), fsutil.new_directory(target) as directory:
        (directory / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with fsutil.new_directory(target) as directory:
        (directory / "whole").write_text("x")
        assert not target.exists()
    assert [entry.name for entry in target.iterdir()] == ["whole"]


def test_a_new_directory_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "made"
    target.mkdir()
    (target / "old").write_text("x")
    with fsutil.new_directory(target) as directory:
        (directory / "new").write_text("x")
    assert [entry.name for entry in target.iterdir()] == ["new"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]


def test_write_protected_directories_are_removed_too(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    directory.mkdir(parents=True)
    (directory / "file").write_text("x")
    directory.chmod(0o500)
    fsutil.remove(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("directory")
    fsutil.remove(tmp_path / "link")
    assert (tmp_path / "directory").is_dir()


def test_a_second_run_on_a_locked_directory_is_told_who_is_in_there(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from npu_serving import fsutil\n"
        "with fsutil.state_lock(Path(sys.argv[1]), doing='build-serving'):\n"
        "    print('in', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "in\n"
        refused = pytest.raises(StateLockedError, match=rf"process {holder.pid} \(build-serving\)")
        with refused, fsutil.state_lock(tmp_path, doing="other"):
            pass
        holder.kill()
        holder.wait()
    with fsutil.state_lock(tmp_path, doing="after a kill"):
        pass


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    for _ in range(2):
        with fsutil.state_lock(tmp_path, doing="x"):
            pass


@given(content=st.binary(max_size=300))
def test_a_copy_holds_the_same_bytes(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("copy")
    (directory / "from").write_bytes(content)
    assert fsutil.copy_file(directory / "from", directory / "to")
    assert (directory / "to").read_bytes() == content
    assert not fsutil.copy_file(directory / "from", directory / "to")


def test_a_hard_link_shares_the_bytes_and_is_made_once(tmp_path: Path) -> None:
    (tmp_path / "from").write_text("x")
    assert fsutil.link_or_copy(tmp_path / "from", tmp_path / "to")
    assert (tmp_path / "to").samefile(tmp_path / "from")
    assert not fsutil.link_or_copy(tmp_path / "from", tmp_path / "to")

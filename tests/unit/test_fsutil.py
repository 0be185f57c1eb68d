"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving import fsutil
from npu_serving.errors import DiskFullError, FileAccessError, NoSuchFileError, RequestError
from npu_serving.settings import PROJECT_ROOT


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


def test_a_directory_that_can_not_be_replaced_is_still_there_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "made"
    fsutil.write_file(target / "old", "x")
    real = os.rename

    def rename(source: Path, goal: Path) -> None:
        if goal == target and Path(source).name != fsutil.FORMER:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, goal)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(DiskFullError), fsutil.new_directory(target) as directory:
        (directory / "new").write_text("x")
    assert [entry.name for entry in target.iterdir()] == ["old"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]


def _killed_while_making(target: Path, *, swapping: bool = False) -> None:
    """A run that is killed with SIGKILL: while it fills the directory, or between the two renames."""
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from npu_serving import fsutil\n"
        "target = Path(sys.argv[1])\n"
        "real = os.rename\n"
        "def rename(source, goal):\n"
        "    real(source, goal)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.rename = rename\n"
        "with fsutil.new_directory(target) as directory:\n"
        "    (directory / 'half').write_text('x')\n"
        "    if not int(sys.argv[2]):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, target, str(int(swapping))], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("swapping", [False, True])
def test_what_a_killed_run_left_is_removed_when_the_directory_is_made_anew(tmp_path: Path, swapping: bool) -> None:
    target = tmp_path / "made"
    fsutil.write_file(target / "old", "x")
    _killed_while_making(target, swapping=swapping)
    assert len(list(tmp_path.iterdir())) == 2
    with fsutil.new_directory(target) as directory:
        (directory / "new").write_text("x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]
    assert [entry.name for entry in target.iterdir()] == ["new"]


def test_a_directory_that_a_killed_run_had_moved_away_comes_back_even_if_the_next_run_fails(tmp_path: Path) -> None:
    target = tmp_path / "made"
    fsutil.write_file(target / "old", "x")
    _killed_while_making(target, swapping=True)
    assert not target.exists()
    with pytest.raises(RuntimeError), fsutil.new_directory(target):
        raise RuntimeError
    assert [entry.name for entry in target.iterdir()] == ["old"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]


def test_what_a_living_run_is_making_and_files_of_a_like_name_are_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "made"
    for name in (".made.1.abcdefgh", ".made.old", ".made.9999999.x.abcdefgh", ".other.9999999.abcdefgh"):
        (tmp_path / name).mkdir()
    before = {entry.name for entry in tmp_path.iterdir()}
    with fsutil.new_directory(target), fsutil.new_directory(target) as second:
        (second / "file").write_text("x")
    assert {entry.name for entry in tmp_path.iterdir()} == before | {"made"}


def test_a_disk_that_fills_up_while_a_directory_is_filled_is_named_with_its_cure(tmp_path: Path) -> None:
    full = pytest.raises(DiskFullError, match="made could not be made: the disk is full")
    with full, fsutil.new_directory(tmp_path / "made") as directory:
        (directory / "sub").mkdir()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory / "sub"))
    assert list(tmp_path.iterdir()) == []


def test_the_many_errors_of_a_tree_that_is_copied_are_told_as_the_first_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: str, target: str, **_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)

    fsutil.write_file(tmp_path / "from" / "file", "x")
    monkeypatch.setattr(shutil, "copystat", full)
    with pytest.raises(DiskFullError), fsutil.new_directory(tmp_path / "to") as directory:
        shutil.copytree(tmp_path / "from", directory, copy_function=full, dirs_exist_ok=True)


@pytest.mark.parametrize("copy", [fsutil.copy_file, fsutil.link_or_copy])
@pytest.mark.parametrize("there", [False, True])
def test_a_source_that_can_not_be_read_is_named_and_not_the_target(
    tmp_path: Path, copy: Callable[[Path, Path], bool], there: bool
) -> None:
    if there:
        (tmp_path / "to").write_text("x")
    with pytest.raises(FileAccessError, match="from could not be read"):
        copy(tmp_path / "from", tmp_path / "to")
    assert [entry.name for entry in tmp_path.iterdir()] == (["to"] if there else [])


def test_a_failure_in_the_middle_of_reading_is_not_called_one_of_writing(tmp_path: Path) -> None:
    """Linux refuses to read a process's own memory at address 0, which no other file does to root."""
    with pytest.raises(FileAccessError, match="mem could not be read"):
        fsutil.copy_file(Path("/proc/self/mem"), tmp_path / "to")
    assert list(tmp_path.iterdir()) == []


def test_a_file_to_be_replaced_that_can_not_be_read_is_told_without_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="mem could not be read"):
        fsutil.write_file(Path("/proc/self/mem"), b"", mode=0o600)


def test_a_new_file_takes_no_pipes_or_devices_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link to a device").symlink_to("/dev/null")
    for name in ("pipe", "link to a device"):
        with pytest.raises(RequestError, match="a device or a pipe"), fsutil.new_file(tmp_path / name) as file:
            file.write(b"x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link to a device", "pipe"]


@pytest.mark.parametrize(
    "path", [Path("/tmp") / ("x" * 10_000), Path("/" + "/".join(["y" * 200] * 50)), Path("é" * 200)]
)
def test_a_path_that_no_file_system_takes_is_a_bad_request_told_in_a_few_words(path: Path) -> None:
    for attempt in (fsutil.read_text, fsutil.make_directory):
        with pytest.raises(RequestError, match="it is too long") as caught:
            attempt(path)
        assert caught.value.exit_code == 2
        assert f"it has {len(os.fsencode(path))} bytes" in caught.value.cause
        assert len(str(caught.value)) < 400


DEEP = """
import os, sys, tempfile
from pathlib import Path
from npu_serving import fsutil
if os.geteuid() == 0:
    os.setuid(int(sys.argv[1]))
top = Path(tempfile.mkdtemp(dir="/tmp"))
(top / ".deep.0").mkdir()
(top / ".deep.0" / "file").touch()
(top / ".deep.1").touch()
outside = Path(tempfile.mkdtemp(dir="/tmp"))
(outside / "kept").touch()
place = os.open(top, os.O_RDONLY)
for depth in range(3000):
    os.mkdir("directory", dir_fd=place)
    os.mkdir("beside", dir_fd=place)
    os.symlink(outside, "link", dir_fd=place)
    inner = os.open("directory", os.O_RDONLY, dir_fd=place)
    os.close(os.open("file", os.O_CREAT, dir_fd=inner))
    os.fchmod(place, 0o555 if depth % 3 else 0)
    os.close(place)
    place = inner
fsutil.remove(top)
assert not top.exists()
assert (outside / "kept").exists()
fsutil.remove(outside)
"""


@pytest.mark.parametrize("user", [0, 65534])
def test_a_tree_is_removed_however_deep_and_write_protected_it_is_and_nothing_outside(user: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEEP, str(user)],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_tree_is_walked_as_os_walk_does_however_deep_it_is(tmp_path: Path) -> None:
    for name in ("b/x", "a/deep/y", "left out/z"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")

    def seen(walk: Callable[[Path], Iterator[tuple[str, list[str], list[str]]]]) -> list[tuple[str, list[str]]]:
        found = []
        for directory, names, files in walk(tmp_path):
            names[:] = sorted(set(names) - {"left out"})
            found.append((directory, sorted(files)))
        return found

    assert seen(fsutil.walk) == seen(os.walk)
    deepest = tmp_path / "a"
    for _ in range(1500):
        deepest /= "d"
        deepest.mkdir()
    try:
        assert str(deepest) in [directory for directory, _, _ in fsutil.walk(tmp_path)]
    finally:
        fsutil.remove(tmp_path / "a")  # pytest's own removal calls itself for each directory
    refused: list[OSError] = []
    assert list(fsutil.walk(tmp_path / "none", onerror=refused.append)) == []
    assert refused[0].errno == errno.ENOENT


def test_what_never_ends_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for read in (fsutil.read_bytes, fsutil.read_text):
        with pytest.raises(RequestError, match=r"/dev/zero has more than 268\.4 MB"):
            read(Path("/dev/zero"))
    for refused in (fsutil.sha256_of, lambda path: fsutil.copy_file(path, tmp_path / "copy")):
        with pytest.raises(RequestError, match="/dev/zero is a device or a pipe"):
            refused(Path("/dev/zero"))
    monkeypatch.setattr(fsutil, "READ_WHOLE_BYTES", 4)
    (tmp_path / "four").write_bytes(b"1234")
    (tmp_path / "five").write_bytes(b"12345")
    assert fsutil.read_text(tmp_path / "four") == "1234"
    with pytest.raises(RequestError, match="name the file that was meant"):
        fsutil.read_bytes(tmp_path / "five")


@pytest.mark.parametrize("name", ["none", "directory", "file/none"])
def test_a_path_that_is_no_file_to_read_is_a_bad_request_that_shows_what_is_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NoSuchFileError, match=f"{name} could not be read") as caught:
        fsutil.read_text(tmp_path / name)
    assert caught.value.exit_code == 2
    assert caught.value.cure.startswith(f"ls -ld {tmp_path / name} ")


def test_a_pipe_that_ends_is_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"text")
    os.close(writing)
    assert fsutil.read_bytes(Path(f"/proc/self/fd/{reading}")) == b"text"  # what <(...) of a shell is
    os.close(reading)


def test_each_directory_from_deep_below_is_moved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying each name that is taken would take the square of their number: archives have a hundred thousand."""
    deep = tmp_path.joinpath("top", *("d" for _ in range(fsutil._OPEN_AT_ONCE)))
    for number in range(40):
        (deep / str(number) / "inner").mkdir(parents=True)
    renamed: list[str] = []

    def rename(source: str, target: str, **places: int) -> None:
        renamed.append(source)
        real(source, target, **places)

    real = os.rename
    monkeypatch.setattr(os, "rename", rename)
    fsutil.remove(tmp_path / "top")
    assert sorted(renamed) == sorted(map(str, range(40)))
    assert not (tmp_path / "top").exists()


def test_a_file_is_copied_and_hashed_in_one_pass_and_moved_without_a_copy(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 3_000_000)
    wanted = fsutil.sha256_of(source)
    assert fsutil.copy_hashed(source, tmp_path / "in" / "copy", mode=0o755) == wanted
    inode = source.stat().st_ino
    assert fsutil.move_hashed(source, tmp_path / "moved" / "file", mode=0o755) == wanted
    assert not source.exists()
    assert (tmp_path / "moved" / "file").stat().st_ino == inode
    for path in (tmp_path / "in" / "copy", tmp_path / "moved" / "file"):
        assert (fsutil.sha256_of(path), stat.S_IMODE(path.stat().st_mode)) == (wanted, 0o755)


def test_a_large_file_reaches_the_disk_while_it_is_copied_and_an_error_of_the_disk_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(70 << 20)
    synced: list[int] = []

    def failing(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    assert fsutil.copy_hashed(source, tmp_path / "copy", mode=0o644) == fsutil.sha256_of(source)
    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(FileAccessError, match="Input/output error"):
        fsutil.copy_hashed(source, tmp_path / "other", mode=0o644)
    assert synced


def test_a_file_that_is_shared_takes_no_space_and_no_permission_to_write_is_left_where_it_is_a_hard_link(
    tmp_path: Path,
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 100_000)
    source.chmod(0o755)
    assert fsutil.share_file(source, tmp_path / "in" / "shared")
    shared = tmp_path / "in" / "shared"
    assert shared.read_bytes() == source.read_bytes()
    if source.samefile(shared):
        assert stat.S_IMODE(source.stat().st_mode) == 0o555
    else:
        assert stat.S_IMODE(shared.stat().st_mode) == 0o755


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_where_no_file_can_be_shared_nothing_is_left_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr("npu_serving.fsutil.fcntl.ioctl", refused)
    source = tmp_path / "source"
    source.write_bytes(b"x")
    assert not fsutil.share_file(source, tmp_path / "in" / "shared")
    assert list((tmp_path / "in").iterdir()) == []


def test_a_directory_has_its_other_name_on_the_disk_before_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "7").mkdir()
    synced: list[set[str]] = []

    def fsync(descriptor: int) -> None:
        synced.append(set(os.listdir(descriptor)))

    monkeypatch.setattr("os.fsync", fsync)
    fsutil.rename_directory(tmp_path / "7", tmp_path / "7.taken-back")
    assert synced == [{"7.taken-back"}]
    with pytest.raises(FileAccessError, match="renamed"):
        fsutil.rename_directory(tmp_path / "7", tmp_path / "8")

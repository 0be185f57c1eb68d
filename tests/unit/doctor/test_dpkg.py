"""Taking a broken record out of dpkg's status file: that record, and nothing else."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.doctor import dpkg
from npu_serving.errors import ActionNeeded, FileAccessError, StateLockedError

BROKEN = (
    b"Package: ascend-cann-toolkit\nStatus: deinstall reinstreq half-configured\nPriority: extra\nSection: net\n"
    b"Installed-Size: 1113915\nArchitecture: amd64\nVersion:\nConfig-Version:\nDescription: ascend-cann-toolkit\n"
)
GOOD = b"Package: zip\nStatus: install ok installed\nDescription: archiver\n It packs.\n .\n Package: not-a-field\n"


@pytest.fixture
def status(tmp_path: Path) -> Path:
    path = tmp_path / "dpkg's files" / "status"
    path.parent.mkdir()
    path.write_bytes(GOOD + b"\n" + BROKEN + b"\n" + GOOD)
    return path


def test_the_record_of_the_guides_faq_is_found() -> None:
    (found,) = dpkg.broken_records(GOOD + b"\n" + BROKEN + b"\n")
    assert found == dpkg.BrokenRecord("ascend-cann-toolkit", "deinstall reinstreq half-configured")
    assert found.removable


@pytest.mark.parametrize(
    "line",
    [b"install ok installed", b"deinstall ok config-files", b"install ok reinstreq", b"reinstreq", b"", b"a b c d"],
)
def test_a_record_whose_package_need_not_be_reinstalled_is_not_broken(line: bytes) -> None:
    assert dpkg.broken_records(b"Package: ascend-cann-toolkit\nStatus: " + line + b"\n") == []


def test_a_broken_record_of_another_package_is_told_but_never_taken_out() -> None:
    data = b"Package: libc6\nStatus: install reinstreq half-installed\n\n"
    (found,) = dpkg.broken_records(data)
    assert not found.removable
    assert dpkg.without_removable(data) == data


@pytest.mark.parametrize("data", [(GOOD + b"\n" + BROKEN).replace(b"\n", b"\r\n"), GOOD + b" \n" + BROKEN])
def test_a_file_that_is_not_separated_as_dpkg_does_it_is_left_alone(data: bytes) -> None:
    assert dpkg.without_removable(data) == data


words = st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"~"))
fields = st.tuples(st.sampled_from([b"Package", b"Version", b"Depends", b"Description", b"Status-X"]), words)
continuation = words.map(lambda data: b" ." + data + b"\n")


def _record(parts: list[tuple[bytes, bytes]], more: list[bytes]) -> bytes:
    return b"".join(name + b": " + value + b"\n" for name, value in parts) + b"".join(more)


other_records = st.builds(_record, st.lists(fields, min_size=1, max_size=4), st.lists(continuation, max_size=3))
separators = st.sampled_from([b"\n", b"\n\n", b"\n\n\n"])


@given(st.lists(st.tuples(other_records, separators, st.booleans())), st.booleans())
def test_every_other_record_keeps_its_bytes(records: list[tuple[bytes, bytes, bool]], at_end: bool) -> None:
    data = kept = b""
    for record, separator, broken_before in records:
        data += (BROKEN + b"\n" if broken_before else b"") + record + separator
        kept += record + separator
    data += BROKEN if at_end else b""
    assert dpkg.without_removable(data) == kept


@given(st.binary())
def test_the_records_of_any_bytes_put_together_are_those_bytes_again(data: bytes) -> None:
    assert b"".join(dpkg.split_records(data)) == data


@given(st.binary())
def test_bytes_without_a_broken_record_stay_as_they_are(data: bytes) -> None:
    if not any(record.removable for record in dpkg.broken_records(data)):
        assert dpkg.without_removable(data) == data


def test_the_file_is_repaired_and_a_copy_of_it_kept(status: Path) -> None:
    before = status.read_bytes()
    status.chmod(0o640)
    backup = dpkg.repair(status)
    assert backup is not None
    assert backup.read_bytes() == before
    assert status.read_bytes() == GOOD + b"\n" + GOOD
    assert status.stat().st_mode & 0o777 == 0o640


def test_an_earlier_copy_is_never_overwritten(status: Path) -> None:
    first = dpkg.repair(status)
    status.write_bytes(BROKEN)
    second = dpkg.repair(status)
    assert first != second
    assert first is not None
    assert first.exists()


def test_a_second_run_changes_nothing_and_makes_no_copy(status: Path) -> None:
    dpkg.repair(status)
    before = sorted(os.listdir(status.parent))
    assert dpkg.repair(status) is None
    assert sorted(os.listdir(status.parent)) == before


@pytest.mark.parametrize("name", dpkg.LOCKS)
def test_nothing_is_touched_while_apt_or_dpkg_holds_its_lock(status: Path, name: str) -> None:
    before = status.read_bytes()
    lock = status.parent / name
    lock.touch()
    holder = (
        "import fcntl, sys\n"
        "with open(sys.argv[1], 'r+') as file:\n"
        "    fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "    print('held', flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StateLockedError, match=name):
            dpkg.repair(status)
        process.communicate("\n")
    assert status.read_bytes() == before
    assert dpkg.repair(status) is not None


def test_the_locks_are_free_again_after_a_repair(status: Path) -> None:
    dpkg.repair(status)
    for name in dpkg.LOCKS:
        with (status.parent / name).open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_an_interrupted_dpkg_has_to_end_its_work_first(status: Path) -> None:
    before = status.read_bytes()
    updates = status.parent / "updates"
    updates.mkdir()
    (updates / "0001").touch()
    with pytest.raises(ActionNeeded) as caught:
        dpkg.repair(status)
    assert caught.value.cure == "run dpkg --configure -a, then run the same command again"
    assert status.read_bytes() == before


def test_a_file_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError):
        dpkg.repair(tmp_path / "status")


@pytest.mark.skipif(not Path("/var/lib/dpkg/status").exists(), reason="this machine has no dpkg")
def test_the_records_of_this_machine_are_read_as_dpkg_itself_reads_them() -> None:
    data = Path("/var/lib/dpkg/status").read_bytes()
    ours = sorted(
        line.split(b":", 1)[1].strip().decode()
        for record in dpkg.split_records(data)
        for line in record.split(b"\n")
        if line.startswith(b"Package:")
    )
    query = ["dpkg-query", "--show", "--showformat", "${Package}\n"]
    theirs = subprocess.run(query, check=True, capture_output=True, text=True).stdout.split()
    assert ours == sorted(theirs)
    assert len(dpkg.split_records(data)) == len(ours)

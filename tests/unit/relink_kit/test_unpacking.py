"""The members of a kit in the cache: whole, or not trusted."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
from small_kits import spoil_unnoticed, write_small_kit

from npu_serving.console import Silent
from npu_serving.errors import DiskFullError, KitError
from npu_serving.relink_kit.kit_file import read_kit
from npu_serving.relink_kit.unpacking import check_machine, is_unpacked, unpack, unpacked_directory, verify_kit

POSITIONS = 250


def _checked(path: Path, cache: Path) -> dict[str, bytes]:
    kit = read_kit(path)
    verify_kit(kit, Silent())
    members = unpack(kit, cache, Silent())
    return {name: (members / name).read_bytes() for name in kit.file.members}


def test_members_come_out_as_they_went_in_and_only_once(
    small_kit: Path, small_members: dict[str, Path], tmp_path: Path
) -> None:
    assert _checked(small_kit, tmp_path) == {name: path.read_bytes() for name, path in small_members.items()}
    kit = read_kit(small_kit)
    assert is_unpacked(kit, tmp_path)
    before = unpacked_directory(kit, tmp_path).stat()
    unpack(kit, tmp_path, Silent())
    assert unpacked_directory(kit, tmp_path).stat().st_ino == before.st_ino


def test_a_byte_altered_anywhere_is_refused_or_changes_nothing(small_kit: Path, tmp_path: Path) -> None:
    """Some bytes of a zip mean nothing, such as the time of an entry."""
    data = small_kit.read_bytes()
    whole = _checked(small_kit, tmp_path / "whole")
    chosen = random.Random(15)
    refused = 0
    for number in range(POSITIONS):
        at, bit = chosen.randrange(len(data)), 1 << chosen.randrange(8)
        bad = tmp_path / "bad.pyz"
        bad.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
        try:
            assert _checked(bad, tmp_path / str(number)) == whole
        except KitError:
            refused += 1
    assert refused > POSITIONS // 2


def test_a_kit_cut_short_at_any_length_is_refused(small_kit: Path, tmp_path: Path) -> None:
    data = small_kit.read_bytes()
    cut = tmp_path / "cut.pyz"
    for length in range(0, len(data), len(data) // 60):
        cut.write_bytes(data[:length])
        with pytest.raises(KitError, match="not a whole relink kit") as refused:
            _checked(cut, tmp_path / "cache")
        assert "copy the kit" in refused.value.cure


@pytest.mark.parametrize("damage", ["removed", "shorter", "no seal"])
def test_members_that_are_no_longer_as_they_were_unpacked_are_unpacked_again(
    damage: str, small_kit: Path, tmp_path: Path
) -> None:
    whole = _checked(small_kit, tmp_path)
    kit = read_kit(small_kit)
    member = unpacked_directory(kit, tmp_path) / "members/objects/main.o"
    if damage == "removed":
        member.unlink()
    elif damage == "shorter":
        member.write_bytes(b"short")
    else:
        (unpacked_directory(kit, tmp_path) / "sealed.json").unlink()
    assert not is_unpacked(kit, tmp_path)
    assert _checked(small_kit, tmp_path) == whole


def test_a_member_that_was_written_into_and_given_its_former_time_is_unpacked_again(
    small_kit: Path, tmp_path: Path
) -> None:
    whole = _checked(small_kit, tmp_path)
    kit = read_kit(small_kit)
    member = unpacked_directory(kit, tmp_path) / "members/objects/main.o"
    before = member.stat()
    member.write_bytes(bytes(before.st_size))
    os.utime(member, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not is_unpacked(kit, tmp_path)
    assert _checked(small_kit, tmp_path) == whole


def test_a_bit_that_turned_on_the_disk_is_found_by_the_full_check_alone(small_kit: Path, tmp_path: Path) -> None:
    _checked(small_kit, tmp_path)
    kit = read_kit(small_kit)
    assert is_unpacked(kit, tmp_path, full_check=True)
    spoil_unnoticed(kit, tmp_path)
    assert is_unpacked(kit, tmp_path)
    assert not is_unpacked(kit, tmp_path, full_check=True)


UNPACKS = """
import os, signal, sys
from pathlib import Path
from npu_serving.console import Silent
from npu_serving.relink_kit.kit_file import read_kit
from npu_serving.relink_kit.unpacking import unpack
left = int(sys.argv[3])
def count(event, _):
    global left
    if event in ("open", "os.rename", "os.mkdir", "os.link", "os.chmod"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
kit = read_kit(Path(sys.argv[1]))
sys.addaudithook(count)
unpack(kit, Path(sys.argv[2]), Silent())
"""


def test_what_a_killed_run_has_unpacked_is_never_trusted(small_kit: Path, tmp_path: Path) -> None:
    kit = read_kit(small_kit)
    for moment in (3, 9, 14):
        words = [sys.executable, "-c", UNPACKS, str(small_kit), str(tmp_path), str(moment)]
        assert subprocess.run(words, check=False, capture_output=True).returncode == -9
        assert not is_unpacked(kit, tmp_path)
    unpack(kit, tmp_path, Silent())
    assert [path.name for path in tmp_path.iterdir()] == [unpacked_directory(kit, tmp_path).name]


def test_a_kit_that_needs_more_than_the_disk_has_is_refused_before_it_is_unpacked(
    small_members: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = read_kit(write_small_kit(tmp_path / "a.pyz", small_members, program=False))
    monkeypatch.setattr("npu_serving.fsutil.free_bytes", lambda _path: 5)
    with pytest.raises(DiskFullError, match="--cache DIR"):
        unpack(kit, tmp_path / "cache", Silent())
    assert not any((tmp_path / "cache").iterdir())


def test_a_kit_for_another_architecture_is_refused_with_both_named(
    small_members: dict[str, Path], tmp_path: Path
) -> None:
    kit = read_kit(write_small_kit(tmp_path / "a.pyz", small_members, program=False, machine="aarch64"))
    with pytest.raises(KitError, match="is for aarch64, but this machine is x86_64"):
        check_machine(kit, "x86_64")


def test_members_that_another_user_has_put_into_the_cache_are_not_linked(
    small_kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _checked(small_kit, tmp_path)
    kit = read_kit(small_kit)
    assert is_unpacked(kit, tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: unpacked_directory(kit, tmp_path).stat().st_uid + 1)
    assert not is_unpacked(kit, tmp_path)


@pytest.mark.parametrize("name", ["hashlib.py", "kit.json"])
def test_a_kit_that_something_was_added_to_is_not_whole(name: str, small_kit: Path, tmp_path: Path) -> None:
    """Python would import it in place of its own."""
    more = tmp_path / "more.pyz"
    shutil.copy(small_kit, more)
    with zipfile.ZipFile(more, "a") as packed, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a second entry by that name
        packed.writestr(name, zipfile.ZipFile(small_kit).read(name) if name == "kit.json" else b"x = 1")
    with pytest.raises(KitError, match=f"{name} was added to it"):
        verify_kit(read_kit(more), Silent())

"""The file of a relink kit: each content once, the same bytes wherever it is made, whole or not there at all."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from packed_links import small_kit

from npu_serving.console import Silent
from npu_serving.errors import DiskFullError, NoSuchFileError, SourceError
from npu_serving.packaging import kit_writer
from npu_serving.packaging.kit_members import PackedMember
from npu_serving.packaging.kit_writer import write_kit
from npu_serving.packaging.zip_writer import ZipWriter
from npu_serving.relink_kit.kit_file import checksum_file, read_kit, write_checksum

CONTENTS = {"first": b"one" * 1000, "second": b"two", "the same as first": b"one" * 1000, "empty": b""}


def members(directory: Path) -> tuple[PackedMember, ...]:
    directory.mkdir(parents=True, exist_ok=True)
    made = []
    for name, content in CONTENTS.items():
        (directory / name).write_bytes(content)
        made.append(PackedMember(f"objects/{name}", (directory / name,), (hashlib.sha256(content).hexdigest(),)))
    return tuple(made)


def test_each_content_is_there_once_and_each_member_says_which_it_has(tmp_path: Path) -> None:
    kit = read_kit(small_kit(tmp_path / "kit.pyz", "x86_64", *members(tmp_path / "objects")))
    with zipfile.ZipFile(kit.path) as packed:
        blobs = [name for name in packed.namelist() if name.startswith("blobs/")]
        assert len(blobs) == len(set(CONTENTS.values()))
        for name, content in CONTENTS.items():
            member = kit.file.members[f"objects/{name}"]
            assert zlib.decompress(packed.read(f"blobs/{member.sha256}")) == content
            assert member.size_bytes == len(content)
    assert os.access(kit.path, os.X_OK)


def test_the_same_inputs_give_the_same_bytes_in_another_directory_on_any_number_of_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = small_kit(tmp_path / "kit.pyz", "x86_64", *members(tmp_path / "here"))
    monkeypatch.setattr(kit_writer, "usable_processors", lambda: 7)
    other = small_kit(tmp_path / "elsewhere" / "other.pyz", "x86_64", *members(tmp_path / "there"))
    assert one.read_bytes() == other.read_bytes()


def test_an_object_that_changed_leaves_the_kit_that_was_there(tmp_path: Path) -> None:
    parts = members(tmp_path / "objects")
    kit = small_kit(tmp_path / "out" / "kit.pyz", "x86_64", *parts)
    before = kit.read_bytes()
    (tmp_path / "objects" / "second").write_bytes(b"2wo")
    with pytest.raises(SourceError, match="objects/second"):
        small_kit(kit, "x86_64", *parts)
    (tmp_path / "objects" / "second").unlink()
    with pytest.raises(NoSuchFileError, match="objects/second"):
        small_kit(kit, "x86_64", *parts)
    assert kit.read_bytes() == before
    assert [path.name for path in kit.parent.iterdir()] == ["kit.pyz"]


def test_a_full_disk_is_told_and_leaves_the_kit_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = members(tmp_path / "objects")
    kit = small_kit(tmp_path / "out" / "kit.pyz", "x86_64", *parts)
    before = kit.read_bytes()

    class Full(ZipWriter):
        def __init__(self, file: IO[bytes], head: bytes = b"") -> None:
            super().__init__(file, head)
            self.left = 3

        def write(self, piece: bytes) -> None:
            self.left -= 1
            if not self.left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().write(piece)

    monkeypatch.setattr(kit_writer, "ZipWriter", Full)
    with pytest.raises(DiskFullError, match=r"kit\.pyz"):
        small_kit(kit, "x86_64", *parts)
    assert kit.read_bytes() == before
    assert [path.name for path in kit.parent.iterdir()] == ["kit.pyz"]


PACK = """
import sys
from pathlib import Path
from npu_serving.packaging.kit_members import PackedMember
from packed_links import small_kit
small_kit(Path(sys.argv[1]), "x86_64", PackedMember("objects/endless", (Path(sys.argv[2]),), ("",)))
"""


def test_a_killed_run_leaves_nothing_under_the_kits_name_and_the_next_one_clears_up(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(20 << 30)  # takes no space, and longer to pack than anybody waits
    kit = tmp_path / "out" / "kit.pyz"
    path = os.pathsep.join(place for place in sys.path if place)
    words = [sys.executable, "-c", PACK, str(kit), str(large)]
    process = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": path})
    try:
        while not any(_sizes(kit.parent)):
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not kit.exists()
    small_kit(kit, "x86_64", *members(tmp_path / "objects"))
    assert [path.name for path in kit.parent.iterdir()] == ["kit.pyz"]


def _sizes(directory: Path) -> Iterator[int]:
    if directory.is_dir():
        yield from (path.stat().st_size for path in directory.iterdir())


def test_no_checksum_of_another_kit_stays_beside_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "kit.pyz"
    path.write_bytes(b"a former kit")
    write_checksum(path, "0" * 64)
    small_kit(path, "x86_64")
    assert not checksum_file(path).exists()


def test_a_kit_that_could_not_be_written_leaves_the_former_one_and_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "kit.pyz"
    small_kit(path, "x86_64")
    write_checksum(path, "0" * 64)
    with pytest.raises(RuntimeError):
        write_kit(path, (), {}, _fails, Silent())
    assert checksum_file(path).exists()


def _fails(_held: object) -> bytes:
    raise RuntimeError

"""Digests that are remembered: a file is read again when it changed, and only then."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from npu_serving import fsutil
from npu_serving.builds.digest_memo import FILE_NAME, DigestMemo


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read, in order."""
    read: list[Path] = []
    genuine = fsutil.sha256_of

    def reading(path: Path) -> str:
        read.append(path)
        return genuine(path)

    monkeypatch.setattr(fsutil, "sha256_of", reading)
    return read


def _older(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the file had been written a second ago."""
    later = time.time_ns() + 1_000_000_000
    monkeypatch.setattr("npu_serving.builds.digest_memo.time.time_ns", lambda: later)


def test_a_file_is_read_once_and_again_after_it_changed_even_with_its_size_and_time_put_back(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    _older(monkeypatch)
    for _ in range(2):
        memo = DigestMemo(tmp_path)
        first = memo.sha256_of(file)
        memo.save()
    assert len(reads) == 1
    before = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert DigestMemo(tmp_path).sha256_of(file) != first
    assert len(reads) == 2


def test_a_file_that_was_written_just_now_is_not_remembered(tmp_path: Path, reads: list[Path]) -> None:
    """Another write within the same tick of the clock would leave the same times."""
    file = tmp_path / "file"
    memo = DigestMemo(tmp_path)
    file.write_bytes(b"one")
    first = memo.sha256_of(file)
    file.write_bytes(b"two")
    assert memo.sha256_of(file) != first
    assert len(reads) == 2


def test_what_is_known_of_a_file_holds_for_its_other_names(tmp_path: Path, reads: list[Path]) -> None:
    (tmp_path / "a").write_bytes(b"one")
    os.link(tmp_path / "a", tmp_path / "b")
    memo = DigestMemo(tmp_path)
    memo.remember(tmp_path / "a", "digest")
    assert memo.sha256_of(tmp_path / "b") == "digest"
    assert reads == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"1": 2}', b'{"1": [1, 2]}', b"\xff", b"[" * 100_000])
def test_a_damaged_memo_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    file = tmp_path / "file"
    file.write_bytes(b"one")
    memo = DigestMemo(tmp_path)
    assert memo.sha256_of(file) == fsutil.sha256_of(file)
    memo.remember(file, "digest")
    memo.save()
    assert DigestMemo(tmp_path).sha256_of(file) == "digest"


def test_where_no_memo_can_be_written_none_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    memo = DigestMemo(tmp_path / "file")  # a directory cannot be there
    memo.remember(file, "digest")
    memo.save()
    assert memo.sha256_of(file) == "digest"

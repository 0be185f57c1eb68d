"""Tar files of our own writing: the bytes that Python's tarfile writes for the same members, whoever writes them."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from npu_serving.errors import FileAccessError
from npu_serving.tar_writer import GNU, PAX, USTAR, Format, TarWriter, compressed, stored_gzip

NAMES = ("plain", "a/" * 60 + "long", "ä", "x" * 90)


@pytest.mark.parametrize("form", [USTAR, GNU, PAX])
def test_a_tar_is_byte_for_byte_what_the_standard_library_writes_for_the_same_members(
    form: Format, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"z" * 1500)
    ours, theirs = io.BytesIO(), io.BytesIO()
    with TarWriter(ours, form, mtime=7, owner="root") as tar:
        tar.add_directory("d/")
        for name in NAMES:
            tar.add_bytes(name, name.encode() * 300)
        tar.add_file("d/file", path, mode=0o755)
    with tarfile.open(fileobj=theirs, mode="w", format=form, encoding="utf-8") as tar:
        for name, kind, mode, data in [
            ("d/", tarfile.DIRTYPE, 0o755, b""),
            *((name, tarfile.REGTYPE, 0o644, name.encode() * 300) for name in NAMES),
            ("d/file", tarfile.REGTYPE, 0o755, path.read_bytes()),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.size, info.mtime, info.uname, info.gname = (
                kind,
                mode,
                len(data),
                7,
                "root",
                "root",
            )
            tar.addfile(info, io.BytesIO(data))
    assert ours.getvalue() == theirs.getvalue()


def test_a_file_that_is_gone_is_said_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="gone"), TarWriter(io.BytesIO(), GNU) as tar:
        tar.add_file("x", tmp_path / "gone")


def test_neither_kind_of_gzip_tells_when_or_from_what_it_was_made() -> None:
    packed = io.BytesIO()
    with compressed(packed) as stream:
        stream.write(b"content" * 20_000)
    for data in (packed.getvalue(), stored_gzip(b"content" * 20_000)):
        assert gzip.decompress(data) == b"content" * 20_000
        assert data[3] == 0, "no name follows the header"
        assert data[4:8] == bytes(4), "and no time is in it"

"""Archives are unpacked safely or not at all."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from npu_serving import archives
from npu_serving.errors import UnsafeArchiveError


def _tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def _file(name: str, data: bytes = b"x", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.mode = mode
    return info, data


def _special(name: str, kind: bytes, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info, b""


def test_a_tree_is_unpacked_without_its_prefix(tmp_path: Path) -> None:
    archive = _tar(
        tmp_path / "a.tgz",
        _special("top", tarfile.DIRTYPE),
        _file("top/dir/program", b"run", 0o755),
        _file("top/dir/text", b"read"),
        _special("top/dir/link", tarfile.SYMTYPE, "../dir/text"),
        _special("top/copy", tarfile.LNKTYPE, "top/dir/text"),
        _file("elsewhere/file"),
    )
    archives.extract(archive, tmp_path / "out", strip_prefix="top")
    out = tmp_path / "out"
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*")) == [
        "copy", "dir", "dir/link", "dir/program", "dir/text",
    ]  # fmt: skip
    assert os.access(out / "dir/program", os.X_OK)
    assert not os.access(out / "dir/text", os.X_OK)
    assert (out / "dir/link").read_text() == "read"
    assert (out / "copy").read_text() == "read"


@pytest.mark.parametrize(
    "member",
    [
        _file("../outside"),
        _file("a/../../outside"),
        _file("/outside"),
        _special("link", tarfile.SYMTYPE, "../outside"),
        _special("link", tarfile.SYMTYPE, "/etc/passwd"),
        _special("a/link", tarfile.SYMTYPE, "../../outside"),
        _special("hard", tarfile.LNKTYPE, "../../etc/passwd"),
        _special("device", tarfile.CHRTYPE),
        _special("block", tarfile.BLKTYPE),
        _special("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member[0].name}->{member[0].linkname}" if isinstance(member, tuple) else "",
)
def test_a_member_that_leaves_the_directory_is_refused_and_nothing_is_left(
    tmp_path: Path, member: tuple[tarfile.TarInfo, bytes]
) -> None:
    archive = _tar(tmp_path / "a.tgz", _file("fine"), member)
    with pytest.raises(UnsafeArchiveError):
        archives.extract(archive, tmp_path / "deep" / "out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tgz", "deep"]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tgz", _file("d/x"), _special("l", tarfile.SYMTYPE, "d"), _file("l/file"))
    with pytest.raises(UnsafeArchiveError, match="through a link"):
        archives.extract(archive, tmp_path / "out")


def test_a_file_that_takes_the_place_of_a_link_replaces_the_link(tmp_path: Path) -> None:
    archive = _tar(
        tmp_path / "a.tgz", _file("target", b"kept"), _special("l", tarfile.SYMTYPE, "target"), _file("l", b"new")
    )
    archives.extract(archive, tmp_path / "out")
    assert (tmp_path / "out/target").read_bytes() == b"kept"
    assert (tmp_path / "out/l").read_bytes() == b"new"


def test_a_zip_keeps_execute_bits_and_refuses_links_out(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        info = zipfile.ZipInfo("top/run")
        info.external_attr = (stat.S_IFREG | 0o755) << 16
        packed.writestr(info, "x")
    archives.extract(archive, tmp_path / "out", strip_prefix="top")
    assert os.access(tmp_path / "out/run", os.X_OK)
    with zipfile.ZipFile(archive, "w") as packed:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(info, "../../etc/passwd")
    with pytest.raises(UnsafeArchiveError):
        archives.extract(archive, tmp_path / "out2")


def test_an_archive_of_too_many_members_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    archive = _tar(tmp_path / "a.tgz", *[_file(f"f{number}") for number in range(6)])
    with pytest.raises(UnsafeArchiveError):
        archives.extract(archive, tmp_path / "out")


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 1000)
    archive = _tar(tmp_path / "a.tgz", _file("bomb", b"\0" * 2000))
    with pytest.raises(UnsafeArchiveError):
        archives.extract(archive, tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 10, 60, -2000])
def test_a_truncated_archive_is_an_error_not_a_traceback(tmp_path: Path, keep: int) -> None:
    archive = _tar(tmp_path / "a.tgz", _file("f", os.urandom(5000)))
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(UnsafeArchiveError, match=r"a\.tgz"):
        archives.extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_prefix_that_is_not_there_is_named(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tgz", _file("other/f"))
    with pytest.raises(UnsafeArchiveError, match=r"serving-1\.15\.0"):
        archives.extract(archive, tmp_path / "out", strip_prefix="serving-1.15.0")


def test_names_with_blanks_quotes_newlines_and_letters_are_kept(tmp_path: Path) -> None:
    names = ["a b", "it's", "line\nbreak", "ümläut", "back\\slash"]
    archive = _tar(tmp_path / "a.tgz", *[_file(name) for name in names])
    archives.extract(archive, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)

"""Archives are unpacked safely or not at all."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import random
import re
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import FrameType
from typing import Any, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import examples

from npu_serving import archives
from npu_serving.errors import FileAccessError, UnsafeArchiveError


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
    with pytest.raises(UnsafeArchiveError, match=re.escape(f"member {member[0].name!r} is not allowed")):
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


def test_a_tar_of_a_million_members_is_refused_long_before_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert archives.MAX_MEMBERS < 1_000_000
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10_000)  # spares the test some seconds
    one = tarfile.TarInfo("again and again")
    one.type = tarfile.DIRTYPE
    with gzip.open(tmp_path / "a.tgz", "wb", compresslevel=1) as packed:
        for _ in range(100):
            packed.write(one.tobuf() * 10_000)
        packed.write(bytes(1024))
    with pytest.raises(
        UnsafeArchiveError, match=r"'again and again' is not allowed, because .* more than 10,000 members"
    ):
        archives.extract(tmp_path / "a.tgz", tmp_path / "deep" / "out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tgz", "deep"]


def _bomb(path: Path, kind: str) -> Path:
    """A few hundred kB that unpack to 80 MB: beside a small file, one of nothing but zeros."""
    size = 80 << 20
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr("fine", "x")
            with zipped.open("bomb", "w", force_zip64=True) as member:
                for _ in range(80):
                    member.write(bytes(1 << 20))
        return path
    info = tarfile.TarInfo("bomb")
    info.size = size
    opener = {"gzip": gzip.open, "bzip2": bz2.open}[kind]
    with opener(path, "wb") as packed:  # type: ignore[operator]
        packed.write(info.tobuf())
        for _ in range(80):
            packed.write(bytes(1 << 20))
        packed.write(bytes(1024))
    return path


@pytest.mark.parametrize("kind", ["zip", "gzip", "bzip2"])
def test_a_bomb_is_refused_by_the_name_of_its_member_before_it_is_unpacked(tmp_path: Path, kind: str) -> None:
    archive = _bomb(tmp_path / "a.bomb", kind)
    assert archive.stat().st_size < 1 << 20
    with pytest.raises(
        UnsafeArchiveError, match="member 'bomb' is not allowed, because the archive unpacks to more than"
    ):
        archives.extract(archive, tmp_path / "deep" / "out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.bomb", "deep"]


def test_a_bomb_whose_header_lies_about_its_size_is_cut_off_there(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("bomb", bytes(5_000_000))
    data = archive.read_bytes()
    archive.write_bytes(data.replace((5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(UnsafeArchiveError):
        archives.extract(archive, tmp_path / "deep" / "out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "deep"]


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"], ids=["pax", "pax global", "long name", "long link"])
def test_a_bomb_in_a_header_is_not_read_into_memory(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 4 << 30
    with gzip.open(tmp_path / "a.tgz", "wb") as packed:
        packed.write(info.tobuf())
        packed.write(bytes(1 << 20))
    with pytest.raises(UnsafeArchiveError, match="a header says that it has 4,294,967,296 bytes"):
        archives.extract(tmp_path / "a.tgz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_zeros_without_end_after_a_tar_are_not_read_to_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_PADDING_BYTES", 5 << 20)
    info, data = _file("fine")
    info.size = len(data)
    with gzip.open(tmp_path / "a.tgz", "wb") as packed:
        packed.write(info.tobuf() + data.ljust(512, b"\0") + bytes(20 << 20))
    with pytest.raises(UnsafeArchiveError, match="zeros follow its end"):
        archives.extract(tmp_path / "a.tgz", tmp_path / "out")


@pytest.mark.parametrize("target", ["a/b/deep", "a/b/deep/x", "missing", "/etc/passwd", "hard"])
def test_a_hard_link_to_a_deeper_symbolic_link_or_to_no_file_is_refused(tmp_path: Path, target: str) -> None:
    archive = _tar(
        tmp_path / "a.tgz",
        _file("a/b/file"),
        _special("a/b/deep", tarfile.SYMTYPE, "../../a"),
        _special("hard", tarfile.LNKTYPE, target),
    )
    with pytest.raises(UnsafeArchiveError, match="member 'hard' is not allowed, because it is a hard link"):
        archives.extract(archive, tmp_path / "deep" / "out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tgz", "deep"]


def test_a_zip_of_too_many_members_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for number in range(6):
            packed.writestr(f"f{number}", "x")
    with pytest.raises(UnsafeArchiveError, match="'f5' is not allowed"):
        archives.extract(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/outside"])
def test_a_zip_member_that_leaves_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("fine", "x")
        packed.writestr(name, "x")
    with pytest.raises(UnsafeArchiveError, match="points outside the directory"):
        archives.extract(tmp_path / "a.zip", tmp_path / "deep" / "out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "deep"]


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


def _many(path: Path, mode: str, count: int = 40) -> Path:
    """A tar of `count` files, in pax format with a global header first as `git archive` writes it."""
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT, pax_headers={"comment": "0" * 40}) as tar:  # type: ignore[call-overload]
        for number in range(count):
            info, data = _file(f"f{number:03}", random.Random(number).randbytes(700))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_every_file_of_a_tar_with_a_global_header_is_unpacked(tmp_path: Path, mode: str) -> None:
    archives.extract(_many(tmp_path / "a.tar", mode), tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 40


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress], ids=["tar", "gzip", "bzip2"])
def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    data = bytearray(_many(tmp_path / "a.tar", "w").read_bytes())
    data[data.index(b"f020\0")] ^= 0x01
    (tmp_path / "a.tar").write_bytes(compress(bytes(data)))
    with pytest.raises(UnsafeArchiveError, match="header of a member is damaged"):
        archives.extract(tmp_path / "a.tar", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize("zeros_left", [0, 511])
def test_a_tar_that_was_cut_between_two_members_is_refused(tmp_path: Path, zeros_left: int) -> None:
    data = _many(tmp_path / "a.tar", "w").read_bytes().rstrip(b"\0")
    data += b"\0" * (-len(data) % tarfile.BLOCKSIZE + zeros_left)
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(UnsafeArchiveError, match="mark at its end is missing"):
        archives.extract(tmp_path / "a.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrong_checksum_of_gzip_is_noticed(tmp_path: Path) -> None:
    archive = _many(tmp_path / "a.tgz", "w:gz")
    data = bytearray(archive.read_bytes())
    data[-8] ^= 0x01  # RFC 1952: CRC32 and ISIZE are the last eight bytes
    archive.write_bytes(data)
    with pytest.raises(UnsafeArchiveError, match="CRC"):
        archives.extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
@given(data=st.data())
@settings(max_examples=examples(15, 10_000))
def test_one_flipped_bit_never_unpacks_to_something_else(
    mode: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("flip")
    archive = _many(place / "a.tar", mode, count=12)
    archives.extract(archive, place / "whole")
    content = bytearray(archive.read_bytes())
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    archive.write_bytes(content)
    try:
        archives.extract(archive, place / "out")
    except UnsafeArchiveError:
        assert not (place / "out").exists()
    else:  # such as the time stamp in gzip's header
        assert _content(place / "out") == _content(place / "whole")


def _content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_damaged_bzip2_is_a_damaged_archive_and_not_a_file_that_could_not_be_written(tmp_path: Path) -> None:
    info, data = _file("large", os.urandom(3_000_000))
    info.size = len(data)
    with tarfile.open(tmp_path / "a.tbz", "w:bz2") as tar:
        tar.addfile(info, io.BytesIO(data))
    packed = bytearray((tmp_path / "a.tbz").read_bytes())
    packed[len(packed) * 2 // 3] ^= 0x10
    (tmp_path / "a.tbz").write_bytes(packed)
    with pytest.raises(UnsafeArchiveError, match="damaged"):
        archives.extract(tmp_path / "a.tbz", tmp_path / "out")


@pytest.mark.parametrize("field", [12, 16], ids=["size", "offset"])
@pytest.mark.parametrize("read", ["extract", "read_files", "read_beginnings"])
def test_a_zip_that_names_a_place_before_its_beginning_is_a_damaged_archive(
    tmp_path: Path, field: int, read: str
) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("file", "x")
    data = bytearray(archive.read_bytes())
    (said,) = struct.unpack_from("<I", data, len(data) - 22 + field)  # of its directory, in the record at its end
    struct.pack_into("<I", data, len(data) - 22 + field, said + 500)
    archive.write_bytes(data)
    with pytest.raises(UnsafeArchiveError, match="as an archive") as raised:
        if read == "extract":
            archives.extract(archive, tmp_path / "out")
        elif read == "read_files":
            archives.read_files(archive, None)
        else:
            archives.read_beginnings(archive, 10)
    assert "damaged" in raised.value.cause
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_full_is_not_called_a_damaged_archive(tmp_path: Path) -> None:
    """A file-size limit fails a write in the same way, and at the same place, as a disk without space."""
    archive = _tar(tmp_path / "a.tgz", _file("large", b"x" * 100_000))
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from npu_serving import archives\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    archives.extract(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
    )
    argv = [sys.executable, "-c", script, str(archive), str(tmp_path / "out")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "FileAccessError"
    assert not (tmp_path / "out").exists()


def test_an_archive_that_is_not_there_could_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="could not be read"):
        archives.extract(tmp_path / "missing", tmp_path / "out")


def test_a_chain_of_links_that_leads_out_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    archive = _tar(
        tmp_path / "a.tgz",
        _file("a/b/c/fine"),
        _special("a/b/c/d", tarfile.SYMTYPE, "../../.."),
        _special("esc", tarfile.SYMTYPE, "a/b/c/d/../.."),
    )
    with pytest.raises(UnsafeArchiveError, match=r"'esc' is not allowed.*points outside"):
        archives.extract(archive, tmp_path / "deep" / "out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tgz", "deep"]


def test_links_that_lead_nowhere_or_in_a_circle_within_the_directory_are_kept(tmp_path: Path) -> None:
    archive = _tar(
        tmp_path / "a.tgz",
        _special("d/up", tarfile.SYMTYPE, ".."),
        _special("missing", tarfile.SYMTYPE, "d/none"),
        _special("one", tarfile.SYMTYPE, "two"),
        _special("two", tarfile.SYMTYPE, "one"),
    )
    archives.extract(archive, tmp_path / "out")
    assert os.readlink(tmp_path / "out/two") == "one"
    assert (tmp_path / "out/d/up").resolve() == tmp_path / "out"


@pytest.mark.parametrize("target", ["../../etc/passwd", "a\0b"])
def test_a_link_in_a_zip_to_no_path_of_its_own_is_refused(tmp_path: Path, target: str) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(info, target)
    with pytest.raises(UnsafeArchiveError, match="it is a link"):
        archives.extract(archive, tmp_path / "out")


def test_a_hard_link_holds_what_its_file_holds_and_may_lead_to_another_one(tmp_path: Path) -> None:
    archive = _tar(
        tmp_path / "a.tgz",
        _file("top/old", b"old"),
        _file("./top/run", b"run", 0o755),
        _special("top/dir/one", tarfile.LNKTYPE, "top/run"),
        _special("top/dir/two", tarfile.LNKTYPE, "./top/dir/one"),
        _special("top/keeps", tarfile.LNKTYPE, "top/old"),
        _file("top/old", b"new"),
        _special("top/follows", tarfile.LNKTYPE, "top/old"),
    )
    archives.extract(archive, tmp_path / "out", strip_prefix="top")
    held = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*/*")
    }
    assert held == {"dir/one": b"run", "dir/two": b"run"}
    assert os.access(tmp_path / "out" / "dir" / "two", os.X_OK)
    assert [(tmp_path / "out" / name).read_bytes() for name in ("keeps", "follows")] == [b"old", b"new"]


@pytest.mark.parametrize(
    "members",
    [
        [_special("top/x", tarfile.LNKTYPE, "top/later"), _file("top/later")],
        [_file("top/a"), _special("top/a", tarfile.SYMTYPE, "b"), _special("top/x", tarfile.LNKTYPE, "top/a")],
        [_file("other/a"), _special("top/x", tarfile.LNKTYPE, "other/a")],
        [_file("top/a"), _special("top/x", tarfile.LNKTYPE, "top/../top/a")],
    ],
)
def test_a_hard_link_to_what_is_no_unpacked_file_is_refused(
    members: list[tuple[tarfile.TarInfo, bytes]], tmp_path: Path
) -> None:
    with pytest.raises(UnsafeArchiveError, match="member 'top/x' is not allowed, because it is a hard link to"):
        archives.extract(_tar(tmp_path / "a.tgz", *members), tmp_path / "out", strip_prefix="top")
    assert not (tmp_path / "out").exists()


def test_hard_links_are_unpacked_in_time_that_grows_with_their_number_only(tmp_path: Path) -> None:
    def steps(count: int) -> int:
        files = [_file(f"f{number}") for number in range(count)]
        links = [_special(f"l{number}", tarfile.LNKTYPE, f"f{number}") for number in range(count)]
        archive = _tar(tmp_path / f"{count}.tgz", *files, *links)
        lines = 0

        def trace(_frame: FrameType, event: str, _argument: object) -> Any:
            nonlocal lines
            lines += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            archives.extract(archive, tmp_path / f"{count}")
        finally:
            sys.settrace(before)
        return lines

    assert steps(200) < 2.5 * steps(100)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_path_of_too_many_directories_is_refused_and_nothing_is_left(tmp_path: Path, kind: str) -> None:
    name = "d/" * 1900 + "file"
    archive = tmp_path / f"a.{kind}"
    if kind == "tar":
        _tar(archive, _file("fine"), _file(name))
    else:
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr(name, b"x")
    with pytest.raises(UnsafeArchiveError, match="more than 200 directories deep") as caught:
        archives.extract(archive, tmp_path / "out")
    assert len(str(caught.value)) < 1000
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]


def test_a_name_that_no_file_system_takes_is_the_archives_fault_and_not_the_targets(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    _tar(archive, _file("fine"), _file("ü" * 128))
    with pytest.raises(UnsafeArchiveError, match="more than 255 bytes"):
        archives.extract(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]

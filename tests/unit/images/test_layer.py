"""One layer of a container's files: the same bytes whenever it was made, and what differs where something does."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.images.layer import EPOCH_S, LayerFile, differences, normalised

LATER = EPOCH_S + 10**8


def member(name: str, content: bytes = b"", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.mtime = LATER
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def export(*members: tuple[tarfile.TarInfo, bytes], chunk: int = 1000) -> Iterator[bytes]:
    """A tar as the engine sends it: in pieces that end anywhere."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    data = whole.getvalue()
    return (data[start : start + chunk] for start in range(0, len(data), chunk))


def layer(*members: tuple[tarfile.TarInfo, bytes], chunk: int = 1000) -> tuple[bytes, dict[str, LayerFile]]:
    entries: dict[str, LayerFile] = {}
    return b"".join(normalised(export(*members, chunk=chunk), entries)), entries


def read(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {info.name: info for info in archive}


def test_the_time_of_the_build_leaves_no_trace() -> None:
    first, _ = layer(member("a", b"x", mtime=LATER), member("d", type=tarfile.DIRTYPE, mtime=LATER + 0.25))
    second, _ = layer(member("a", b"x", mtime=LATER + 99), member("d", type=tarfile.DIRTYPE, mtime=LATER + 1.5))
    assert first == second


def test_times_before_the_epoch_are_kept_for_they_come_from_packages() -> None:
    data, _ = layer(member("old", b"x", mtime=EPOCH_S - 5), member("new", b"x", mtime=LATER))
    assert {name: info.mtime for name, info in read(data).items()} == {"old": EPOCH_S - 5, "new": EPOCH_S}


def test_everything_else_of_a_file_is_kept() -> None:
    data, entries = layer(
        member("etc", type=tarfile.DIRTYPE, mode=0o755),
        member("etc/shadow", b"root:*:", mode=0o640, uid=0, gid=42),
        member("bin/su", b"\x7fELF", mode=0o4755),
        member("bin/link", type=tarfile.SYMTYPE, linkname="../etc/x"),
        member("bin/hard", type=tarfile.LNKTYPE, linkname="bin/su"),
        member("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("bin/ping", b"p", pax_headers={"SCHILY.xattr.user.x": "caps", "atime": "1.5"}),
        member("n" * 200 + "/é\udcff", b"long"),
    )
    found = read(data)
    assert found["bin/su"].mode == 0o4755
    assert (found["etc/shadow"].mode, found["etc/shadow"].gid) == (0o640, 42)
    assert found["bin/link"].linkname == "../etc/x"
    assert (found["bin/hard"].islnk(), found["bin/hard"].linkname) == (True, "bin/su")
    assert (found["dev/null"].devmajor, found["dev/null"].devminor) == (1, 3)
    assert found["bin/ping"].pax_headers["SCHILY.xattr.user.x"] == "caps"
    assert "atime" not in found["bin/ping"].pax_headers
    assert "n" * 200 + "/é\udcff" in found
    assert set(found) == set(entries)
    assert entries["etc/shadow"].sha256 == hashlib.sha256(b"root:*:").hexdigest()


@pytest.mark.parametrize("name", [".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf"])
def test_what_the_engine_lays_over_a_container_is_left_out(name: str) -> None:
    assert set(read(layer(member(name, b"this machine"), member("etc/other", b"x"))[0])) == {"etc/other"}


@given(st.lists(st.binary(max_size=3000), max_size=6), st.integers(1, 4000))
def test_contents_come_through_whole_however_the_engine_cuts_its_answer(contents: list[bytes], chunk: int) -> None:
    members = [member(f"f{number}", content) for number, content in enumerate(contents)]
    data, entries = layer(*members, chunk=chunk)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for number, content in enumerate(contents):
            file = archive.extractfile(f"f{number}")
            assert file is not None
            assert file.read() == content
            assert entries[f"f{number}"].size_bytes == len(content)


CHANGES: list[tuple[str, Callable[[], tuple[tarfile.TarInfo, bytes]], str]] = [
    ("content", lambda: member("f", b"other"), "size_bytes 1 / 5; sha256 "),
    ("mode", lambda: member("f", b"x", mode=0o600), "mode 0o644 / 0o600"),
    ("owner", lambda: member("f", b"x", uid=7), "owner (0, 0) / (7, 0)"),
    ("kind", lambda: member("f", type=tarfile.SYMTYPE, linkname="g"), "kind 0 / 2"),
    ("time", lambda: member("f", b"x", mtime=5), "mtime 1556150400 / 5"),
    ("xattr", lambda: member("f", b"x", pax_headers={"SCHILY.xattr.user.a": "b"}), "xattrs {} / {"),
]


@pytest.mark.parametrize(("what", "other", "told"), CHANGES, ids=[change[0] for change in CHANGES])
def test_a_difference_is_told_file_by_file(
    what: str, other: Callable[[], tuple[tarfile.TarInfo, bytes]], told: str
) -> None:
    same = member("same", b"s")
    _, first = layer(member("f", b"x"), same)
    _, second = layer(other(), same)
    (found,) = differences(first, second)
    assert found.path == "f"
    assert told in found.what


def test_files_of_only_one_layer_are_told_and_equal_layers_have_no_differences() -> None:
    _, first = layer(member("a"), member("b"))
    _, second = layer(member("b"), member("c"))
    assert [(item.path, item.what) for item in differences(first, second)] == [
        ("a", "only in the first"),
        ("c", "only in the second"),
    ]
    assert differences(first, dict(first)) == ()

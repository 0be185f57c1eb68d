"""Unpacking tar and zip archives safely: every member is checked before anything of it is written.

Python's own tarfile filters have been bypassed more than once (CVE-2025-4517 and others), and most Python versions in
use lack the fixes, so the rules are kept here: no absolute names, no "..", no links out of the directory, no writing
through a link, no devices, and bounds on the number of members and on what they unpack to.
"""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import errno
import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Callable, cast

from npu_serving import fsutil
from npu_serving.errors import UnsafeArchiveError

MAX_MEMBERS = 150_000  # LLVM, the largest, has 70,000
MAX_UNPACKED_BYTES = 20 << 30
SHOWN = 200  # letters of a member's name
MAX_DEPTH = 200  # directories in each other; of a path's 4,095 bytes there would be some 2,000
MAX_NAME_BYTES = 255  # NAME_MAX of Linux
MAX_TIMES_UNPACKED = 200  # LLVM unpacks to 10 times its size; deflate reaches 1,000 with nothing but zeros
ALWAYS_FINE_BYTES = 64 << 20  # small files may well be one long repetition
MAX_HEADER_BYTES = 8 << 20  # a tar's long names and extended headers, which are read at once; files are read in pieces
MAX_TEXT_BYTES = 64 << 20  # of a file that is read whole
MAX_PADDING_BYTES = 64 << 20  # after a tar's end; tapes have records of 10 kB
UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,  # a zip compression method that Python doesn't know
)

# How a tar may be compressed, by its first bytes. The files are opened here and not by tarfile, so that a failure
# to read them is recognised as such wherever it occurs.
_COMPRESSIONS: tuple[tuple[bytes, Callable[[Path], IO[bytes]]], ...] = (
    (b"\x1f\x8b", lambda path: cast("IO[bytes]", gzip.GzipFile(path))),
    (b"BZh", lambda path: cast("IO[bytes]", bz2.BZ2File(path))),
    (b"\xfd7zXZ\0", lambda path: cast("IO[bytes]", lzma.LZMAFile(path))),  # noqa: SIM115 - _opened() closes it
)


@dataclass(frozen=True)
class Member:
    """One entry of an archive. `link_to` is set for a symbolic link, `open` for a file.

    `copy_of` is the name of the file before it that a hard link is a second name of.
    """

    name: str
    is_directory: bool
    size_bytes: int
    executable: bool
    link_to: str | None
    open: Callable[[], IO[bytes]] | None
    copy_of: str = ""


def extract(archive: Path, directory: Path, *, strip_prefix: str = "") -> None:
    """Unpacks `archive` into the new directory `directory`, which appears only when every member is in place.

    `strip_prefix` is a directory at the top of the archive that is left out, as in Bazel's http_archive; members
    outside it are skipped. Raises UnsafeArchiveError for an archive that must not be unpacked, and for one that does
    not hold `strip_prefix`.
    """
    with fsutil.new_directory(directory) as temporary, _readable(archive):
        _fill(archive, temporary, strip_prefix)


def read_files(
    archive: Path, names: Collection[str] | None, *, strip_prefix: str = "", most_bytes: int = MAX_TEXT_BYTES
) -> dict[str, bytes]:
    """The bytes of those files (of all for None) below `strip_prefix` that the archive holds; no link is followed.

    Raises UnsafeArchiveError for an archive that can't be read, and where the files together have more than
    `most_bytes`.
    """
    found: dict[str, bytes] = {}
    left_bytes = most_bytes
    for count, member in enumerate(_members(archive), 1):
        if count > MAX_MEMBERS:
            raise _refused(archive, member.name, f"the archive has more than {MAX_MEMBERS:,} members")
        parts = _inside(archive, member.name, strip_prefix)
        name = "/".join(parts or ())
        if (names is not None and name not in names) or member.open is None:
            continue
        if member.size_bytes > left_bytes:
            raise _refused(archive, member.name, f"what is read of the archive has more than {most_bytes:,} bytes")
        left_bytes -= member.size_bytes
        with _reading(archive), member.open() as file:
            found[name] = file.read(most_bytes)
    return found


def read_beginnings(archive: Path, most_bytes: int) -> dict[str, tuple[int, bytes]]:
    """The size of each file of an archive, and its first bytes, `most_bytes` at most; no link is followed.

    Raises UnsafeArchiveError for an archive that can't be read, and for one of too many files.
    """
    found: dict[str, tuple[int, bytes]] = {}
    for count, member in enumerate(_members(archive), 1):
        if count > MAX_MEMBERS:
            raise _refused(archive, member.name, f"the archive has more than {MAX_MEMBERS:,} members")
        if member.open is not None:
            with _reading(archive), member.open() as file:
                found["/".join(_inside(archive, member.name, "") or ())] = member.size_bytes, file.read(most_bytes)
    return found


def _fill(archive: Path, directory: Path, strip_prefix: str) -> None:
    count = 0
    total_bytes = 0
    found = False
    packed_bytes = archive.stat().st_size if archive.exists() else 0
    most_bytes = min(MAX_UNPACKED_BYTES, max(ALWAYS_FINE_BYTES, packed_bytes * MAX_TIMES_UNPACKED))
    for member in _members(archive):
        count += 1
        total_bytes += member.size_bytes
        if count > MAX_MEMBERS:
            raise _refused(archive, member.name, f"the archive has more than {MAX_MEMBERS:,} members")
        if total_bytes > most_bytes:
            raise _refused(archive, member.name, f"the archive unpacks to more than {most_bytes:,} bytes with it")
        parts = _inside(archive, member.name, strip_prefix)
        if parts is None:
            continue
        found = True
        if member.copy_of:
            member = _copy_of_unpacked(archive, member, directory, strip_prefix)
        if parts:
            _place(archive, member, directory, parts)
    _check_where_links_lead(archive, directory)
    if not found:
        raise UnsafeArchiveError(
            f"{archive} has no directory {strip_prefix!r}.",
            cause="it is a different archive, or its top directory was renamed",
            cure="fetch the archive again: ./inv fetch-deps --verify",
        )


@contextlib.contextmanager
def _readable(archive: Path) -> Iterator[None]:
    """Turns whatever the readers of Python raise for a damaged archive into one error.

    An OSError is not caught, because it may come from writing; _reading() takes those that don't.
    """
    try:
        yield
    except UNREADABLE as error:
        raise _damaged(archive, str(error)) from error


@contextlib.contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """The same around what only reads.

    Decompressors raise an OSError without a number for damaged data; the system says EINVAL where a zip file names a
    place before its beginning.
    """
    try:
        with _readable(archive):
            yield
    except OSError as error:
        if error.errno in (None, errno.EINVAL):
            raise _damaged(archive, str(error)) from error
        raise fsutil.as_error(error, archive, doing="read") from error


def _damaged(archive: Path, why: str) -> UnsafeArchiveError:
    return UnsafeArchiveError(
        f"Could not read {archive} as an archive ({why}).",
        cause="the file is truncated or damaged, or is not an archive",
        cure="fetch it again: ./inv fetch-deps --verify",
    )


def _members(archive: Path) -> Iterator[Member]:
    with _reading(archive):
        yield from _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive)


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[IO[bytes]]:
    """The bytes of a tar, decompressed."""
    with archive.open("rb") as file:
        start = file.read(8)
    for magic, opener in _COMPRESSIONS:
        if start.startswith(magic):
            with opener(archive) as stream:
                yield stream
            return
    with archive.open("rb") as stream:
        yield stream


def _tar_members(archive: Path) -> Iterator[Member]:
    files: dict[tuple[str, ...], tarfile.TarInfo] = {}
    with _opened(archive) as stream, tarfile.open(fileobj=_Tracked(stream, archive), mode="r:") as tar:  # type: ignore[call-overload]
        for info in tar:
            if not (info.isreg() or info.isdir() or info.issym() or info.islnk()):
                raise _refused(archive, info.name, "it is a device or a pipe")
            parts = PurePosixPath(info.name).parts
            if info.islnk():
                # A hard link is a second name of a file before it in the archive: written as a copy of that one.
                source = files.get(PurePosixPath(info.linkname).parts)
                if source is None:
                    raise _refused(archive, info.name, "it is a hard link to something that is not a file before it")
                files[parts] = source
                yield _tar_file(tar, info.name, source, copy_of=info.linkname)
            elif info.isreg():
                files[parts] = info
                yield _tar_file(tar, info.name, info)
            else:
                files.pop(parts, None)
                yield Member(info.name, info.isdir(), 0, False, info.linkname if info.issym() else None, None)
        _check_end(archive, stream, tar.offset)


class _Tracked:
    """A stream for tarfile whose failures are not an OSError, which tarfile might take for the archive's end."""

    def __init__(self, stream: IO[bytes], archive: Path) -> None:
        self._stream = stream
        self._archive = archive

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise _damaged(self._archive, f"a header says that it has {size:,} bytes")
        with _reading(self._archive):
            return self._stream.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _reading(self._archive):
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _check_end(archive: Path, stream: IO[bytes], offset: int) -> None:
    """Refuses a tar that does not end, at `offset`, in blocks of zeros as POSIX has it.

    tarfile takes a damaged header for the end as well. Reading to the last byte makes gzip compare its checksum.
    """
    stream.seek(offset)
    length = 0
    while chunk := stream.read(fsutil.CHUNK_BYTES):
        if chunk.strip(b"\0"):
            raise _damaged(archive, f"the header of a member is damaged, about {offset} bytes from the start")
        length += len(chunk)
        if length > MAX_PADDING_BYTES:
            raise _damaged(archive, f"more than {MAX_PADDING_BYTES:,} zeros follow its end")
    if length < tarfile.BLOCKSIZE:
        raise _damaged(archive, "the mark at its end is missing")


def _tar_file(tar: tarfile.TarFile, name: str, info: tarfile.TarInfo, *, copy_of: str = "") -> Member:
    def open_it() -> IO[bytes]:
        file = tar.extractfile(info)
        assert file is not None
        return file

    return Member(name, False, info.size, bool(info.mode & 0o111), None, open_it, copy_of)


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            mode = info.external_attr >> 16
            if info.flag_bits & 0x1:
                raise _refused(archive, info.filename, "it is encrypted")
            if stat.S_ISLNK(mode):
                target = packed.read(info).decode("utf-8", "surrogateescape") if info.file_size < 4096 else "/"
                yield Member(info.filename, False, 0, False, target, None)
            elif info.is_dir():
                yield Member(info.filename, True, 0, False, None, None)
            else:
                yield _zip_file(packed, info, bool(mode & 0o111))


def _zip_file(packed: zipfile.ZipFile, info: zipfile.ZipInfo, executable: bool) -> Member:
    return Member(info.filename, False, info.file_size, executable, None, lambda: packed.open(info))


def _inside(archive: Path, name: str, strip_prefix: str) -> tuple[str, ...] | None:
    """The parts of a member's path below `strip_prefix`; None when it is outside."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise _refused(archive, name, "its name points outside the directory")
    prefix = PurePosixPath(strip_prefix).parts if strip_prefix else ()
    if len(path.parts) > MAX_DEPTH:
        raise _refused(archive, name, f"it lies more than {MAX_DEPTH} directories deep")
    if any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in path.parts):
        raise _refused(archive, name, f"a name in it has more than {MAX_NAME_BYTES} bytes, which no file system takes")
    if path.parts[: len(prefix)] != prefix:
        return None
    return path.parts[len(prefix) :]


def _copy_of_unpacked(archive: Path, member: Member, directory: Path, strip_prefix: str) -> Member:
    """The member with its bytes from the file that is unpacked already; in the archive it may be gigabytes back."""
    parts = _inside(archive, member.copy_of, strip_prefix)
    if not parts:
        raise _refused(archive, member.name, f"it is a hard link to a file outside of {strip_prefix!r}")
    source = directory.joinpath(*parts)
    return dataclasses.replace(member, open=lambda: cast("IO[bytes]", source.open("rb")))


def _place(archive: Path, member: Member, directory: Path, parts: tuple[str, ...]) -> None:
    target = directory.joinpath(*parts)
    _make_parents(archive, member, directory, parts)
    if member.is_directory:
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise _refused(archive, member.name, "it is a directory where the archive has something else")
        target.mkdir(exist_ok=True)
        return
    if target.is_symlink() or target.exists():
        if target.is_dir() and not target.is_symlink():
            raise _refused(archive, member.name, "it is a file where the archive has a directory")
        target.unlink()
    if member.link_to is not None:
        _check_link(archive, member, parts)
        target.symlink_to(member.link_to)
        return
    assert member.open is not None
    with _reading(archive):
        source = member.open()
    with fsutil.explained(target), source:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(target, flags, 0o755 if member.executable else 0o644), "wb") as file:
            shutil.copyfileobj(_Bounded(source, member, archive), file, fsutil.CHUNK_BYTES)
            if file.tell() != member.size_bytes:
                raise _damaged(archive, f"member {member.name!r} ends early")


def _make_parents(archive: Path, member: Member, directory: Path, parts: tuple[str, ...]) -> None:
    """Makes the directories above a member; a link among them would take the member somewhere else."""
    place = directory
    for part in parts[:-1]:
        place = place / part
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise _refused(archive, member.name, "it would be written through a link")
        place.mkdir(exist_ok=True)


def _check_link(archive: Path, member: Member, parts: tuple[str, ...]) -> None:
    """A link may point anywhere within the directory, by name, and nowhere else."""
    target = PurePosixPath(member.link_to or "")
    depth = len(parts) - 1
    if target.is_absolute() or "\0" in str(target):
        raise _refused(archive, member.name, "it is a link to an absolute path, or to no path")
    for part in target.parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            raise _refused(archive, member.name, "it is a link that points outside the directory")


def _check_where_links_lead(archive: Path, directory: Path) -> None:
    """Refuses links that lead out by way of other links: a -> b/c/.. is elsewhere once b/c is a link itself."""
    root = os.path.realpath(directory)
    for place, directories, files in os.walk(root):
        for path in (Path(place, name) for name in directories + files):
            if path.is_symlink() and os.path.commonpath([root, os.path.realpath(path)]) != root:
                raise _refused(archive, os.path.relpath(path, root), "it is a link that points outside the directory")


class _Bounded:
    """Reads a member up to the size that its header states: a bomb may state less than it holds."""

    def __init__(self, source: IO[bytes], member: Member, archive: Path) -> None:
        self._source = source
        self._archive = archive
        self._left = member.size_bytes
        self._refusal = _refused(archive, member.name, "it contains more than its header says")

    def read(self, size: int = -1) -> bytes:
        with _reading(self._archive):
            data = self._source.read(size if size >= 0 else fsutil.CHUNK_BYTES)
        self._left -= len(data)
        if self._left < 0:
            raise self._refusal
        return data


def _refused(archive: Path, name: str, why: str) -> UnsafeArchiveError:
    shown = name if len(name) <= SHOWN else f"{name[:SHOWN]}..."
    return UnsafeArchiveError(
        f"Did not unpack {archive}: its member {shown!r} is not allowed, because {why}.",
        cause="the archive is damaged or malicious",
        cure="fetch it from another mirror, and report it to whoever runs this one",
    )

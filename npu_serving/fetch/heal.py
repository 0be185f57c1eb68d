"""What wrong bytes are, in words; and right bytes made again from an archive that was only recompressed.

GitHub's archives change their bytes, not their content, when GitHub changes its compressor. The digests pinned in the
years of TensorFlow 1.15 are those of `git archive --format=tar … | gzip -n` with GNU gzip.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, Callable, cast

from npu_serving import fsutil, process
from npu_serving.archives import ALWAYS_FINE_BYTES, MAX_TIMES_UNPACKED
from npu_serving.errors import DiskFullError, MissingToolError, ProgramError
from npu_serving.fetch.heal_zip import deflate_again

LARGEST_TAR_BYTES = 8 << 30
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_TAR_MAGIC_AT = 257
_DAMAGED = " that is cut off or damaged"


def describe(file: Path, expected_bytes: int | None) -> str:
    """What the file seems to be, for the message about its wrong digest: `an HTML page`, `cut off` and so on."""
    head = _head(file)
    size = file.stat().st_size
    lowered = head.lstrip().lower()
    kind = ""
    if not size:
        return "empty"
    if lowered.startswith((b"<!doctype html", b"<html")):
        kind = "an HTML page"
    elif lowered.startswith(b"version https://git-lfs"):
        kind = "a Git LFS pointer, not the file"
    elif lowered.startswith((b"<?xml", b"{")):
        kind = "apparently an error message from the server"
    elif head.startswith(_GZIP):
        kind = "a gzip archive" + ("" if _gzip_is_whole(file) else _DAMAGED)
    elif head.startswith(_ZIP):
        kind = "a zip archive" + ("" if zipfile.is_zipfile(file) else _DAMAGED)
    parts = [f"{size} bytes" + (f", not the expected {expected_bytes}" if expected_bytes not in (None, size) else "")]
    return ", ".join([part for part in (kind, *parts) if part])


def can_be_healed(file: Path) -> bool:
    """Whether it is worth trying heal() on: a gzip, a zip or an unpacked tar, by its first bytes."""
    head = _head(file)
    return head.startswith((_GZIP, _ZIP)) or head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar"


def top_directory(file: Path) -> str:
    """The first part of the first member's name of a zip or a tar, compressed or not; empty if it can't be read."""
    unreadable = (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError, zlib.error, ValueError)
    if zipfile.is_zipfile(file):
        with contextlib.suppress(*unreadable), zipfile.ZipFile(file) as zipped:
            return (zipped.namelist() or [""])[0].strip("/").split("/")[0]
        return ""
    with contextlib.suppress(*unreadable), tarfile.open(file, "r:*") as tar:
        for member in tar:
            return member.name.strip("/").split("/")[0]
    return ""


def heal(file: Path, wanted: Callable[[str], bool], work: Path) -> Path | None:
    """The file that `file` was before somebody recompressed or unpacked it, or None.

    Tries what is inside the gzip, and what GNU gzip makes of it with -n; of a zip, what git makes of its content. The
    first whose sha256 is `wanted` is returned, a new file in the scratch directory `work`. `file` itself is only read.
    Must not run beside other threads of ours, because it starts a program.
    """
    tar, packed = work / "unpacked", work / "unpacked.gz"
    try:
        if _head(file).startswith(_ZIP):
            with fsutil.explained(packed):
                return packed if deflate_again(file, packed) and wanted(fsutil.sha256_of(packed)) else None
        if _unpack(file, tar, wanted):
            return tar
        return packed if _pack(tar, packed) and wanted(fsutil.sha256_of(packed)) else None
    except DiskFullError:
        return None  # healing is an extra: the message about the wrong digest says more than one about the disk


def _unpack(file: Path, target: Path, wanted: Callable[[str], bool]) -> bool:
    """Writes what is inside the gzip (or the file itself if it is not a gzip) to `target`; True if that is wanted.

    Of a damaged gzip, and of one that no archive is packed so densely as, nothing is left in `target`.
    """
    digest = hashlib.sha256()
    size = 0
    most_bytes = min(LARGEST_TAR_BYTES, max(ALWAYS_FINE_BYTES, file.stat().st_size * MAX_TIMES_UNPACKED))
    try:
        with _open_unpacked(file) as source, target.open("wb") as out:
            while chunk := source.read(fsutil.CHUNK_BYTES):
                size += len(chunk)
                if size > most_bytes:
                    raise _TooDense
                digest.update(chunk)
                with fsutil.explained(target):
                    out.write(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error, _TooDense):
        target.write_bytes(b"")
        return False
    return wanted(digest.hexdigest())


class _TooDense(Exception):
    """It unpacks to more than any archive does: a bomb."""


def _open_unpacked(file: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file, "rb")) if _head(file).startswith(_GZIP) else file.open("rb")


def _pack(tar: Path, packed: Path) -> bool:
    """Runs `gzip -n`; False where there is no GNU gzip, whose bytes are the ones that were pinned."""
    if not tar.stat().st_size:
        return False
    try:
        if "Free Software Foundation" not in process.run(["gzip", "--version"]).stdout:
            return False
        process.run(["gzip", "-n", "-k", "-f", tar])
    except (MissingToolError, ProgramError):
        return False
    return packed.exists()


def _head(file: Path) -> bytes:
    with fsutil.explained(file, doing="read"), file.open("rb") as opened:
        return opened.read(512)


def _gzip_is_whole(file: Path) -> bool:
    try:
        with gzip.open(file, "rb") as unpacked:
            while unpacked.read(fsutil.CHUNK_BYTES):
                pass
    except (OSError, EOFError, zlib.error):
        return False
    return True

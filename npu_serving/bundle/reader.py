"""Reading a bundle: its shape is checked to the last byte before any of it is used, and each member as it is copied.

Nothing here trusts the tar: where a member stands and what its header says follows from the manifest, and what stands
there has to be exactly that. So there is no link to follow and no name to leave a directory by.
"""

from __future__ import annotations

import hashlib
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Callable

from npu_serving import fsutil
from npu_serving.bundle.writer import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    Manifest,
    MemberPlace,
    header,
    parse_manifest,
    places,
)
from npu_serving.errors import PinMismatchError, RequestError, UnsafeArchiveError
from npu_serving.tar_writer import END, padding

CARRY_AGAIN = "copy the bundle again, and compare its sha256sum on both machines"

_KINDS_OF_MEMBERS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.DIRTYPE: "a directory",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


@dataclass(frozen=True)
class Bundle:
    """A bundle whose shape is right; its members are yet to be verified, by copying them."""

    path: Path
    size_bytes: int
    manifest: Manifest
    places: tuple[MemberPlace, ...]


def read_bundle(path: Path) -> Bundle:
    """The bundle at `path`. Reads its manifest and the headers only.

    Raises RequestError for what is not a bundle, UnsafeArchiveError for one that is truncated (how many bytes are
    missing), that goes on behind its end, or that holds anything other than its manifest lists, at the place it has to
    be.
    """
    with fsutil.explained(path, doing="read"):
        if not path.exists():
            raise RequestError(f"The bundle {path} does not exist.", cure="name the file that ./inv bundle made")
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise RequestError(f"{path} is not a file.", cure="name the file that ./inv bundle made")
    with fsutil.explained(path, doing="read"), path.open("rb") as file:
        content = _manifest_bytes(path, file, status.st_size)
        manifest = parse_manifest(content, str(path))
        standing, total = places(manifest)
        _check_size(path, status.st_size, total)
        for place in standing:
            _check_header(path, file, place)
        _check_zeros(path, file, len(header(MANIFEST_NAME, 0)) + len(content), padding(len(content)))
        for place in standing:
            behind = place.data_at + place.member.size_bytes
            _check_zeros(path, file, behind, padding(place.member.size_bytes))
        _check_zeros(path, file, total - len(END), END)
    return Bundle(path, status.st_size, manifest, standing)


def member_bytes(bundle: Bundle, place: MemberPlace) -> Iterator[bytes]:
    """The bytes of a member, in pieces; at the end PinMismatchError unless they have its sha256.

    So what was made of them may be used only when the iteration has succeeded.
    """
    digest = hashlib.sha256()
    left = place.member.size_bytes
    with fsutil.explained(bundle.path, doing="read"):
        file = bundle.path.open("rb")
    with file:
        file.seek(place.data_at)
        while left:
            with fsutil.explained(bundle.path, doing="read"):
                chunk = file.read(min(left, fsutil.CHUNK_BYTES))
            if not chunk:
                break
            left -= len(chunk)
            digest.update(chunk)
            yield chunk
    if digest.hexdigest() != place.member.sha256:
        raise PinMismatchError(
            f"{bundle.path}: {place.member.file_name} has sha256 {digest.hexdigest()}, not {place.member.sha256}.",
            cause="the bundle was damaged in transfer",
            cure=CARRY_AGAIN,
        )


def copy_member(bundle: Bundle, place: MemberPlace, target: IO[bytes], count: Callable[[int], None]) -> None:
    """Writes a member's bytes to `target`; calls `count` with the size of each piece. Raises like member_bytes()."""
    for chunk in member_bytes(bundle, place):
        target.write(chunk)
        count(len(chunk))


def _manifest_bytes(path: Path, file: IO[bytes], size_bytes: int) -> bytes:
    block = file.read(tarfile.BLOCKSIZE)
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError as error:
        raise _no_bundle(path) from error
    if info.name != MANIFEST_NAME:
        raise _no_bundle(path)
    if info.size > MAX_MANIFEST_BYTES or block != header(MANIFEST_NAME, info.size):
        raise _refused(path, "its manifest has a header that this project does not write")
    if size_bytes < len(block) + info.size:
        raise _truncated(path, size_bytes, len(block) + info.size, at_least=True)
    return file.read(info.size)


def _check_size(path: Path, found: int, expected: int) -> None:
    if found < expected:
        raise _truncated(path, found, expected)
    if found > expected:
        raise _refused(path, f"{found - expected} bytes follow its end")


def _check_header(path: Path, file: IO[bytes], place: MemberPlace) -> None:
    expected = header(place.member.name, place.member.size_bytes)
    file.seek(place.header_at)
    found = file.read(len(expected))
    if found == expected:
        return
    try:
        info = tarfile.TarInfo.frombuf(found[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
        described = f"{_KINDS_OF_MEMBERS.get(info.type, 'a file')} {info.name[:200]!r}"
    except tarfile.TarError:
        described = "no file header"
    raise _refused(path, f"at byte {place.header_at} there is {described}, but its manifest lists {place.member.name}")


def _check_zeros(path: Path, file: IO[bytes], position: int, zeros: bytes) -> None:
    file.seek(position)
    if file.read(len(zeros)) != zeros:
        raise _refused(path, f"at byte {position} there are bytes other than the zeros between its members")


def _no_bundle(path: Path) -> RequestError:
    return RequestError(
        f"{path} is not a bundle of this project.",
        cause="it is another kind of file: it does not begin with a bundle's manifest",
        cure="make one with: ./inv bundle --output FILE",
    )


def _truncated(path: Path, found: int, expected: int, *, at_least: bool = False) -> UnsafeArchiveError:
    missing = f"{'at least ' if at_least else ''}{expected - found} bytes"
    return UnsafeArchiveError(
        f"{path} is truncated: {missing} are missing at its end.",
        cause="the copy was not finished, or the medium is full or can't hold files of that size (FAT32: 4 GB)",
        cure=CARRY_AGAIN,
    )


def _refused(path: Path, why: str) -> UnsafeArchiveError:
    return UnsafeArchiveError(
        f"{path} was not unpacked: {why}.",
        cause="it was damaged in transfer, or is malicious",
        cure=CARRY_AGAIN,
    )

"""Tar and gzip files that are the same bytes whoever writes them: without owners and times but those that are given.

What others packed is read in archives.py.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, cast

from npu_serving import fsutil

Format = Literal[0, 1, 2]
USTAR: Format = 0  # tarfile.USTAR_FORMAT and so on
GNU: Format = 1
PAX: Format = 2
END = b"\0" * (2 * tarfile.BLOCKSIZE)
"""Two blocks of zeros end a tar (POSIX.1-2008, pax)."""
CHUNK_BYTES = 1 << 20
COMPRESSION = 6
_STORED_BLOCK_BYTES = 0xFFFF


def member(
    name: str, size_bytes: int = 0, *, mode: int = 0o644, mtime: int = 0, owner: str = "", kind: bytes = tarfile.REGTYPE
) -> tarfile.TarInfo:
    """What stands before a file's bytes; it belongs to user and group 0, whom `owner` names."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime, info.type = size_bytes, mode, mtime, kind
    info.uname = info.gname = owner
    return info


def header(info: tarfile.TarInfo, form: Format = PAX, errors: str = "surrogateescape") -> bytes:
    """The blocks of it; in pax, names and sizes that ustar has no room for take three."""
    return info.tobuf(form, "utf-8", errors)


def padding(size_bytes: int, block: int = tarfile.BLOCKSIZE) -> bytes:
    """The zeros behind so many bytes, up to the next block."""
    return b"\0" * (-size_bytes % block)


class TarWriter:
    """A tar file that is being written; leaving the block ends it, in whole records as tar(1) writes them."""

    def __init__(self, file: IO[bytes], form: Format, *, mtime: int = 0, owner: str = "") -> None:
        self._file = file
        self._form = form
        self._mtime = mtime
        self._owner = owner
        self._written = 0

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write(END)
            self._write(padding(self._written, tarfile.RECORDSIZE))

    def add_directory(self, name: str) -> None:
        """A directory; whoever wants its name to end in a slash gives it so."""
        self.add(self._member(name, 0, 0o755, tarfile.DIRTYPE))

    def add_bytes(self, name: str, data: bytes, *, mode: int = 0o644) -> None:
        """A file that isn't on the disk."""
        self.add(self._member(name, len(data), mode), io.BytesIO(data))

    def add_file(self, name: str, path: Path, *, mode: int = 0o644) -> None:
        """The file at `path`; FileAccessError where it can't be read, or becomes shorter meanwhile."""
        with fsutil.explained(path, doing="read"), path.open("rb") as data:
            self.add(self._member(name, path.stat().st_size, mode), data)

    def add(self, info: tarfile.TarInfo, data: IO[bytes] | None = None) -> None:
        """A member as it is described, with as many bytes of `data` as it says."""
        self._write(header(info, self._form))
        left = info.size if data is not None else 0
        while left:
            assert data is not None
            chunk = data.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise OSError(f"{info.name} became shorter while it was packed")
            left -= len(chunk)
            self._write(chunk)
        self._write(padding(info.size if data is not None else 0))

    def _member(self, name: str, size_bytes: int, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
        return member(name, size_bytes, mode=mode, mtime=self._mtime, owner=self._owner, kind=kind)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._written += len(data)


@contextlib.contextmanager
def compressed(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Gzip without a name and a time in its header."""
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=COMPRESSION, mtime=0) as stream:
        yield cast("IO[bytes]", stream)


def stored_gzip(content: bytes) -> bytes:
    """A gzip file (RFC 1952) of stored blocks (RFC 1951, 3.2.4), without time, name or operating system.

    No zlib has a say in its bytes, so they can be pinned.
    """
    blocks = [content[start : start + _STORED_BLOCK_BYTES] for start in range(0, len(content), _STORED_BLOCK_BYTES)]
    last = len(blocks) - 1
    body = b"".join(
        struct.pack("<BHH", index == last, len(block), len(block) ^ 0xFFFF) + block
        for index, block in enumerate(blocks)
    )
    head = struct.pack("<BBBBIBB", 0x1F, 0x8B, 8, 0, 0, 0, 255)
    return head + body + struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF)

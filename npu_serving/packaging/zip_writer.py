"""Zip files that are the same bytes whoever writes them: no times, no owners, members in the order in which they come.

None of 4 GB or of 65,535 members: Python before 3.13 can't start one that needs zip64 (APPNOTE.TXT, 4.3.14).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import IO

from npu_serving.errors import RequestError

_LOCAL = struct.Struct("<4s5H3L2H")  # APPNOTE.TXT, 4.3.7
_CENTRAL = struct.Struct("<4s6H3L5H2L")  # 4.3.12
_END = struct.Struct("<4s4H2LH")  # 4.3.16
_VERSION = 20
_UNIX = 3 << 8
_STORED = 0
_IN_UTF_8 = 1 << 11  # 4.4.4: without it a name is in code page 437
_DAY = 0x21  # 1 January 1980, the first there is
_REGULAR = 0o100000
MOST_MEMBERS, MOST_BYTES = 0xFFFE, 0xFFFFFFFE


@dataclass(frozen=True)
class _Member:
    name: bytes
    checksum: int
    size_bytes: int
    mode: int
    offset: int


class ZipWriter:
    """A zip file that is being written, all of it stored as it is; finish() ends it.

    zipfile wants a member's name before its bytes. The name of a kit's member is the digest of what it holds, which is
    known only after them, and one that is there already is taken back: nothing has to be read twice, or kept.
    """

    def __init__(self, file: IO[bytes], head: bytes = b"") -> None:
        self._file = file
        self._members: list[_Member] = []
        file.write(head)
        self._offset = len(head)
        self._checksum = self._size = self._name_size = 0

    def add(self, name: str, content: bytes, *, mode: int = 0o644) -> None:
        """A member whose bytes are all here."""
        self.begin(len(_encoded(name)))
        self.write(content)
        self.end(name, mode=mode)

    def begin(self, name_size: int) -> None:
        """Begins a member whose name, so many bytes, is known when its bytes are written."""
        self._checksum = self._size = 0
        self._name_size = name_size
        self._file.write(b"\0" * (_LOCAL.size + name_size))

    def write(self, piece: bytes) -> None:
        """The next bytes of the member."""
        self._file.write(piece)
        self._checksum = zlib.crc32(piece, self._checksum)
        self._size += len(piece)

    def end(self, name: str, *, mode: int = 0o644) -> None:
        """Gives the member its name. RequestError where the file would be too large to be started, or no zip file can
        have that name.
        """
        member = _Member(_encoded(name), self._checksum, self._size, mode, self._offset)
        assert len(member.name) == self._name_size
        behind = self._offset + _LOCAL.size + self._name_size + self._size
        if behind > MOST_BYTES or len(self._members) >= MOST_MEMBERS:
            raise RequestError(
                "The kit would be larger than 4 GB, and Python can't start such a file.",
                cause="the objects hold debug information",
                cure="build without -g: leave it out of bazel_args in invoke.yaml, then run ./inv build-serving",
            )
        self._file.seek(self._offset)
        described = (_VERSION, _flags(member), _STORED, 0, _DAY, *self._described(member))
        self._file.write(_LOCAL.pack(b"PK\3\4", *described, 0) + member.name)
        self._file.seek(behind)
        self._members.append(member)
        self._offset = behind

    def take_back(self) -> None:
        """Leaves out the member that was begun."""
        self._file.seek(self._offset)
        self._file.truncate()

    def finish(self) -> None:
        """Writes the list of the members, with which a zip file ends."""
        listed = b"".join(
            _CENTRAL.pack(
                b"PK\1\2", _UNIX | _VERSION, _VERSION, _flags(member), _STORED, 0, _DAY,
                *self._described(member), 0, 0, 0, 0, (_REGULAR | member.mode) << 16, member.offset,
            )
            + member.name
            for member in self._members
        )  # fmt: skip
        count = len(self._members)
        self._file.write(listed + _END.pack(b"PK\5\6", 0, 0, count, count, len(listed), self._offset, 0))

    def _described(self, member: _Member) -> tuple[int, int, int, int]:
        return member.checksum, member.size_bytes, member.size_bytes, len(member.name)


def _encoded(name: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"The file name {name!a} can't be packed: it is not in UTF-8.",
            cause="it was made on a system with another encoding",
            cure="rename the file, and what names it, then run the same command again",
        ) from error


def _flags(member: _Member) -> int:
    return 0 if member.name.isascii() else _IN_UTF_8

"""A zip whose members were deflated again, turned back into what `git archive --format=zip` writes: zlib at its default
level.

Checked on the zips of GitHub that TensorFlow 1.15 pins (gemmlowp, double-conversion, libevent, rapidjson): all 671
deflated members of theirs are what zlib 1.2.13 makes of the content. Only the compressed bytes are made again; names,
times and modes have to be as they were, so a zip that somebody packed from unpacked files stays another one.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

LARGEST_UNPACKED_BYTES = 1 << 30
_LOCAL = struct.Struct("<4s5H3I2H")  # APPNOTE.TXT 4.3.7
_CENTRAL = struct.Struct("<4s6H3I5H2I")  # 4.3.12
_END = struct.Struct("<4s4H2IH")  # 4.3.16
_STORED, _DEFLATED = 0, 8
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, RuntimeError, NotImplementedError, EOFError)


def deflate_again(file: Path, target: Path, *, level: int = zlib.Z_DEFAULT_COMPRESSION) -> bool:
    """Writes the zip in `file` to `target` with every member deflated by zlib at `level`; False for what is not a zip
    of the plain kind that git writes.
    """
    try:
        with zipfile.ZipFile(file) as packed:
            members = packed.infolist()
            if sum(member.file_size for member in members) > LARGEST_UNPACKED_BYTES:
                return False
            contents = [packed.read(member) for member in members]
            made = _rebuilt(file.read_bytes(), members, contents, packed.start_dir, level)
    except _UNREADABLE:
        return False
    target.write_bytes(made)
    return True


def _rebuilt(
    old: bytes, members: Sequence[zipfile.ZipInfo], contents: Sequence[bytes], directory_at: int, level: int
) -> bytes:
    """The headers as they are in `old`, but for sizes and places, around the members that were deflated again."""
    made = bytearray()
    directory = bytearray()
    place = directory_at
    for member, content in zip(members, contents):
        method, data = _packed(content, level)
        local = list(_LOCAL.unpack_from(old, member.header_offset))
        central = list(_CENTRAL.unpack_from(old, place))
        local_end = member.header_offset + _LOCAL.size + local[9] + local[10]
        central_end = place + _CENTRAL.size + central[10] + central[11] + central[12]
        if local[0] != b"PK\x03\x04" or central[0] != b"PK\x01\x02" or local[2] & 0x08:  # sizes that follow the data
            raise ValueError("not a zip of the kind that git writes")
        local[3], local[7] = method, len(data)
        central[4], central[8], central[16] = method, len(data), len(made)
        made += _LOCAL.pack(*local) + old[member.header_offset + _LOCAL.size : local_end] + data
        directory += _CENTRAL.pack(*central) + old[place + _CENTRAL.size : central_end]
        place = central_end
    end = list(_END.unpack_from(old, place))
    end[6] = len(made)
    return bytes(made + directory + _END.pack(*end) + old[place + _END.size :])


def _packed(content: bytes, level: int) -> tuple[int, bytes]:
    """The method and the bytes of a member: stored, where deflating makes nothing smaller."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflated = compressor.compress(content) + compressor.flush()
    return (_DEFLATED, deflated) if len(deflated) < len(content) else (_STORED, content)

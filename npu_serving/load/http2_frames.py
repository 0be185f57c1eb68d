"""HTTP/2's frames (RFC 9113) as a client writes them, and the headers of answers, read once for each distinct block.

Headers are written as literals that touch no table, and the server is told to keep none (SETTINGS_HEADER_TABLE_SIZE 0):
equal headers are equal bytes then, in every frame, so a block that was read once is known by its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)
NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, CANCEL = 0x0, 0x1, 0x7, 0x8
FRAME_HEAD = struct.Struct("!IBI")
"""Length and kind (24 and 8 bits), flags, stream."""
SMALLEST_MAX_FRAME = 16384  # bytes: every peer takes frames of this length, and it is what we take
FIRST_WINDOW = 65535  # bytes, before a peer has said otherwise
LARGEST_WINDOW = (1 << 31) - 1
STREAM_BITS = (1 << 31) - 1  # the one above them is reserved

_MOST_BLOCKS = 256  # remembered; a server whose messages differ each time must not fill the memory
_LITERAL, _NEVER_INDEXED = 0x00, 0x10
_METHOD_POST, _SCHEME_HTTP, _SCHEME_HTTPS = b"\x83", b"\x86", b"\x87"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return FRAME_HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """A frame of settings."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack("!HI", *pair) for pair in values))


def window_update(stream: int, more: int) -> bytes:
    """A frame that lets the peer send that many bytes more."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack("!I", more))


def rst_stream(stream: int, code: int) -> bytes:
    """A frame that ends a stream."""
    return frame(RST_STREAM, 0, stream, struct.pack("!I", code))


def request_block(path: str, authority: str, *, has_tls: bool, headers: Iterable[tuple[str, bytes]] = ()) -> bytes:
    """The headers of a POST, the same in every request. `headers` may hold secrets, which no proxy may keep."""
    fixed = ((b":path", path.encode()), (b":authority", authority.encode()))
    return b"".join(
        (
            _METHOD_POST,
            _SCHEME_HTTPS if has_tls else _SCHEME_HTTP,
            *(_literal(_LITERAL, name, value) for name, value in fixed),
            *(_literal(_NEVER_INDEXED, name.encode(), value) for name, value in headers),
        )
    )


@dataclass(frozen=True)
class HeaderBlock:
    """What is of interest in the headers or trailers of an answer."""

    status: int | None = None
    """HTTP's; None where there is none, as in trailers."""
    grpc_status: int | None = None
    grpc_message: str = ""
    is_grpc: bool = False
    """Whether the content is said to be gRPC's."""


class HeaderReader:
    """Blocks of headers read, each distinct one once."""

    def __init__(self) -> None:
        self._known: dict[bytes, HeaderBlock] = {}

    def read(self, block: bytes) -> HeaderBlock | None:
        """What the block says; None where it can't be read."""
        found = self._known.get(block)
        if found is not None:
            return found
        found = _read(block)
        if found is not None and len(self._known) < _MOST_BLOCKS:
            self._known[block] = found
        return found


def _read(block: bytes) -> HeaderBlock | None:
    import hpack

    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    decoder.header_table_size = 0
    try:
        pairs = decoder.decode(block, raw=True)
    except hpack.HPACKError:
        return None
    headers: dict[bytes, bytes] = {bytes(name).lower(): bytes(value) for name, value in pairs}
    status, grpc_status = _number(headers.get(b":status")), _number(headers.get(b"grpc-status"))
    if -1 in (status, grpc_status):
        return None
    return HeaderBlock(
        status,
        grpc_status,
        _unescaped(headers.get(b"grpc-message", b"")),
        headers.get(b"content-type", b"").startswith(b"application/grpc"),
    )


def _number(text: bytes | None) -> int | None:
    """A status; -1 for another text."""
    if text is None:
        return None
    return int(text) if text.isdigit() and len(text) <= 3 else -1


def _unescaped(text: bytes) -> str:
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(text).decode(errors="replace")


def _literal(kind: int, name: bytes, value: bytes) -> bytes:
    return b"".join((bytes((kind,)), _length(len(name)), name, _length(len(value)), value))


def _length(number: int) -> bytes:
    """The length of a text that is not Huffman-coded, with a prefix of seven bits."""
    if number < 127:
        return bytes((number,))
    out, number = bytearray((127,)), number - 127
    while number > 127:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)

"""The server's side of HTTP/2 for tests, in bytes: answers written, and a client's bytes held to the rules."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
OK = ((":status", "200"), ("content-type", "application/grpc"))
DONE = (("grpc-status", "0"), ("grpc-message", ""))


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!IBI", len(payload) << 8 | kind, flags, stream) + payload


def block(headers: Sequence[tuple[str, str]], *, huffman: bool = False) -> bytes:
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode(headers, huffman=huffman))


def message(content: bytes) -> bytes:
    return struct.pack("!BI", 0, len(content)) + content


def answer(stream: int, content: bytes, trailers: Sequence[tuple[str, str]] = DONE) -> bytes:
    """A whole answer in the frames that grpc's own servers write."""
    return b"".join(
        (
            frame(1, 4, stream, block(OK)),
            frame(0, 0, stream, message(content)),
            frame(1, 5, stream, block(trailers)),
        )
    )


class Received:
    """What a client has sent, frame by frame; asserts that it keeps to the windows and to the size of frames."""

    def __init__(self, window: int = 65535, max_frame: int = 16384) -> None:
        self.window = 65535
        self.stream_window = window
        self.windows: dict[int, int] = {}
        self.max_frame = max_frame
        self.messages: dict[int, bytearray] = {}
        self.ended: list[int] = []
        self.resets: dict[int, int] = {}
        self.headers: dict[int, list[tuple[str, str]]] = {}
        self.acknowledged: list[bytes] = []
        self.updates = 0
        self._rest = b""
        self._begun = False
        self._decoder = hpack.Decoder()

    def take(self, data: bytes) -> None:
        data = self._rest + data
        if not self._begun:
            assert data.startswith(PREFACE)
            data, self._begun = data[len(PREFACE) :], True
        while len(data) >= 9:
            length, flags, stream = struct.unpack_from("!IBI", data)
            kind, length = length & 0xFF, length >> 8
            assert length <= self.max_frame
            if len(data) < 9 + length:
                break
            self._frame(kind, flags, stream, data[9 : 9 + length])
            data = data[9 + length :]
        self._rest = data

    def grow(self, stream: int, more: int) -> bytes:
        """A frame that opens a window by so much."""
        if stream:
            self.windows[stream] += more
        else:
            self.window += more
        return frame(8, 0, stream, struct.pack("!I", more))

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == 1:
            self.headers[stream] = [(str(name), str(value)) for name, value in self._decoder.decode(payload)]
            self.messages[stream] = bytearray()
            self.windows[stream] = self.stream_window
        elif kind == 0:
            self.window -= len(payload)
            self.windows[stream] -= len(payload)
            assert self.window >= 0
            assert self.windows[stream] >= 0
            self.messages[stream] += payload
            if flags & 1:
                self.ended.append(stream)
        elif kind == 3:
            self.resets[stream] = int.from_bytes(payload, "big")
        elif kind in (4, 6) and flags & 1:
            self.acknowledged.append(payload)
        elif kind == 8:
            self.updates += 1

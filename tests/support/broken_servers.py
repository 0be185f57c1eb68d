"""Servers that speak HTTP/2 and gRPC wrongly, or not at all: each does one wrong thing with a connection."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, ACK, END_HEADERS = 1, 1, 4
HEAD = [(":status", "200"), ("content-type", "application/grpc")]
MESSAGE = b"\x0a\x00"  # a PredictResponse with one empty output


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def _headers(fields: list[tuple[str, str]], flags: int = END_HEADERS) -> bytes:
    return frame(HEADERS, flags, 1, hpack.Encoder().encode(fields))


def _message(data: bytes, size: int | None = None, *, compressed: int = 0) -> bytes:
    return bytes([compressed]) + struct.pack(">I", len(data) if size is None else size) + data


_OK = _headers([("grpc-status", "0")], END_HEADERS | END_STREAM)
_ANSWERS = {
    "closes after the headers": _headers(HEAD),
    "half a frame": _headers(HEAD) + frame(DATA, 0, 1, _message(bytes(1000)))[:60],
    "half a message": _headers(HEAD) + frame(DATA, 0, 1, _message(MESSAGE, 1000)) + _OK,
    "no message": _headers(HEAD) + _OK,
    "two messages": _headers(HEAD) + frame(DATA, 0, 1, 2 * _message(MESSAGE)) + _OK,
    "no status": _headers(HEAD) + frame(DATA, END_STREAM, 1, _message(MESSAGE)),
    "a status that is no number": _headers([*HEAD, ("grpc-status", "often")], END_HEADERS | END_STREAM),
    "a compressed message": _headers(HEAD) + frame(DATA, 0, 1, _message(MESSAGE, compressed=1)) + _OK,
    "a reset": frame(RST_STREAM, 0, 1, struct.pack(">I", 2)),
    "a farewell": frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)),
    "headers that can't be read": frame(HEADERS, END_HEADERS, 1, b"\xff" * 20),
    "a frame of 16 MB": struct.pack(">I", (1 << 24) - 1)[1:] + bytes([DATA, 0]) + struct.pack(">I", 1) + bytes(100),
    "a web page": _headers([(":status", "200"), ("content-type", "text/html")])
    + frame(DATA, END_STREAM, 1, b"<html>sign in</html>"),
}
_ENDS = ("closes after the headers", "half a frame", "closes after the request", "a farewell", "a frame of 16 MB")
WRONGS = (
    *_ANSWERS,
    "nothing",  # the connection is taken, and nothing is ever said
    "closes at once",
    "closes after the request",
    "bytes of something else",
    "an HTTP/1 page",
)


@contextlib.contextmanager
def broken(wrong: str) -> Iterator[int]:
    """The port of a server that does this to each connection."""
    with contextlib.ExitStack() as opened, socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        stopping = threading.Event()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    if stopping.is_set():
                        connection.close()
                        return
                    opened.callback(connection.close)
                    threading.Thread(target=_serve, args=(connection, wrong), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stopping.set()
            with contextlib.suppress(OSError):
                socket.create_connection(listener.getsockname(), 1).close()  # the thread waits for one
            accepting.join()


def _serve(connection: socket.socket, wrong: str) -> None:
    with contextlib.suppress(OSError):
        if wrong == "nothing":
            return
        if wrong == "closes at once":
            connection.close()
        elif wrong == "bytes of something else":
            connection.sendall(b"\x00\xff220 mail.example.com ESMTP\r\n" * 3)
            _end(connection)
        elif wrong == "an HTTP/1 page":
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\nContent-Type: text/html\r\n\r\noops")
            _end(connection)
        else:
            _speak_http2(connection, wrong)


def _speak_http2(connection: socket.socket, wrong: str) -> None:
    reader = connection.makefile("rb")
    if reader.read(len(PREFACE)) != PREFACE:
        connection.close()
        return
    connection.sendall(frame(SETTINGS, 0, 0))
    while True:
        head = reader.read(9)
        if len(head) < 9:
            return
        reader.read(int.from_bytes(head[:3], "big"))
        kind, flags = head[3], head[4]
        if kind == SETTINGS and not flags & ACK:
            connection.sendall(frame(SETTINGS, ACK, 0))
        if flags & END_STREAM and kind in (HEADERS, DATA):
            break
    connection.sendall(_ANSWERS.get(wrong, b""))
    if wrong in (
        "closes after the headers",
        "half a frame",
        "closes after the request",
        "a farewell",
        "a frame of 16 MB",
    ):
        _end(connection)


def _end(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(1 << 16):
        pass
    connection.close()

"""Connections of the load test's own paths, written to faster than anybody reads."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from npu_serving.errors import RequestError
from npu_serving.load.generator import LoadTls
from npu_serving.load.http2_connection import Http2Connection
from npu_serving.load.socket_lines import LoadTarget, SenderLine, target_of


def certificate(directory: Path) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the keys")
    key, pem = directory / "key", directory / "pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    named = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(pem)]
    subprocess.run([*words, *named], check=True, capture_output=True, timeout=60)
    return key, pem


@contextlib.contextmanager
def slow_reader(tmp_path: Path, *, has_tls: bool) -> Iterator[tuple[LoadTarget, bytearray, threading.Event]]:
    """A server that reads when it is told to: its target, what it has read, and the word to read."""
    taken, may_read = bytearray(), threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    port = listener.getsockname()[1]
    if has_tls:
        key, pem = certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem, key)
        target = target_of(f"grpcs://localhost:{port}", LoadTls(pem.read_bytes()), "h2")
    else:
        target = target_of(f"grpc://127.0.0.1:{port}", LoadTls(), "h2")

    def run() -> None:
        connection, _ = listener.accept()
        if has_tls:
            connection = context.wrap_socket(connection, server_side=True)
        with connection:
            may_read.wait(20)
            while data := connection.recv(65536):
                taken.extend(data)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield target, taken, may_read
    finally:
        may_read.set()
        thread.join(20)
        listener.close()


def opened(target: LoadTarget) -> SenderLine:
    for address in target.addresses:
        with contextlib.suppress(OSError):
            line = SenderLine(target, address, Http2Connection())
            deadline = time.monotonic() + 20
            while not line.open and time.monotonic() < deadline:
                line.go_on_opening()
                time.sleep(0.005)
            return line
    raise AssertionError("nobody listens")


@pytest.mark.parametrize("has_tls", [False, True])
@pytest.mark.parametrize("size", [1000, 60_000])
def test_what_is_not_taken_at_once_is_sent_later_whole_and_in_order(tmp_path: Path, has_tls: bool, size: int) -> None:
    chance = random.Random(size)
    expected = bytearray()
    with slow_reader(tmp_path, has_tls=has_tls) as (target, taken, may_read):
        line = opened(target)
        line.wire.outgoing.clear()
        waited = False
        for _ in range(10_000_000 // size):
            piece = chance.randbytes(size)
            expected += piece
            line.wire.outgoing.append(piece)
            line.flush()
            waited = waited or bool(line.interest & 4)  # EPOLLOUT
            if waited and len(expected) > 6_000_000:
                may_read.set()
        may_read.set()
        deadline = time.monotonic() + 30
        while line.interest & 4 and time.monotonic() < deadline:
            line.flush()
            time.sleep(0.001)
        line.receive()  # the server's tickets: closed with bytes unread, a connection loses what was sent
        line.close()
    assert waited
    assert taken == expected


def test_an_address_without_a_host_is_refused() -> None:
    with pytest.raises(RequestError, match="has no host"):
        target_of("grpc://:8500", LoadTls(), "h2")

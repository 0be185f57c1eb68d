"""Whatever passes through arrives as it was sent, and ends as it ended; what looks on has no say in it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_serving.recording.pass_through import PassThrough
from npu_serving.recording.tap import END, HEAD, LOST, MESSAGE, Tap

PIECES = st.lists(st.binary(min_size=1, max_size=3000), max_size=5)


class Passing:
    """A pass-through in a thread, in front of a listener whose connections a test answers itself."""

    def __init__(self, tap: Tap | None = None, *, with_server: bool = True) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        address = self.server.getsockname()
        if not with_server:
            self.server.close()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.passing = PassThrough(self.listener, [(socket.AF_INET, address)], tap)
        self.over = threading.Event()
        self.thread = threading.Thread(target=lambda: self.passing.run(self.over.is_set, lambda: None))
        self.thread.start()

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """A client's socket, and the server's for the same connection."""
        client = socket.create_connection(self.address, timeout=30)
        server, _ = self.server.accept()
        server.settimeout(30)
        return client, server

    def close(self) -> None:
        self.over.set()
        self.thread.join()
        self.passing.close()
        self.server.close()


@contextlib.contextmanager
def passing(tap: Tap | None = None, **how: bool) -> Iterator[Passing]:
    made = Passing(tap, **how)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def through() -> Iterator[Passing]:
    with passing() as made:
        yield made


def read_all(sock: socket.socket) -> bytes:
    data = bytearray()
    while piece := sock.recv(1 << 16):
        data += piece
    return bytes(data)


@settings(max_examples=40, deadline=None)
@given(asked=PIECES, answered=PIECES, client_ends_first=st.booleans())
def test_bytes_are_equal_both_ways_and_each_direction_ends_by_itself(
    through: Passing, asked: list[bytes], answered: list[bytes], client_ends_first: bool
) -> None:
    client, server = through.pair()
    with client, server:
        for piece in asked:
            client.sendall(piece)
        if client_ends_first:
            client.shutdown(socket.SHUT_WR)
            assert read_all(server) == b"".join(asked)
        for piece in answered:
            server.sendall(piece)
        server.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"".join(answered)
        client.close()
        if not client_ends_first:
            assert read_all(server) == b"".join(asked)


def send_all(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def test_large_bodies_go_both_ways_at_once(through: Passing) -> None:
    client, server = through.pair()
    data = [os.urandom(1 << 20) * 20, os.urandom(1 << 20) * 20]
    with client, server, ThreadPoolExecutor(4) as pool:
        for sock, whole in zip((client, server), data):
            pool.submit(send_all, sock, whole)
        read = [pool.submit(read_all, sock) for sock in (server, client)]
        assert [each.result() == whole for each, whole in zip(read, data)] == [True, True]


def test_a_slow_reader_slows_its_writer_and_nothing_piles_up(through: Passing) -> None:
    client, server = through.pair()
    with client, server:
        client.setblocking(False)
        sent, last = 0, time.monotonic()
        while time.monotonic() - last < 0.5:  # until nothing goes for so long
            try:
                sent += client.send(bytes(1 << 20))
                last = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
        assert sent < 64 << 20  # the system's own buffers, on both sides
        client.settimeout(30)
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(read_all, server)
            client.shutdown(socket.SHUT_WR)
            assert len(read.result()) == sent


def test_many_connections_at_once(through: Passing) -> None:
    pairs = [through.pair() for _ in range(200)]
    for number, (client, _) in enumerate(pairs):
        client.sendall(b"%d" % number)
    for number, (client, server) in enumerate(pairs):
        assert server.recv(100) == b"%d" % number
        server.sendall(b"!")
        assert client.recv(100) == b"!"
        client.close()
        assert server.recv(1) == b""
        server.close()


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_is_passed_on_as_a_reset(through: Passing, who: str) -> None:
    client, server = through.pair()
    dropped, other = (client, server) if who == "client" else (server, client)
    client.sendall(b"x")
    assert server.recv(1) == b"x"
    dropped.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    dropped.close()
    with other, pytest.raises(ConnectionResetError):
        other.recv(1)


def test_an_answer_before_the_request_was_read_arrives(through: Passing) -> None:
    """As a gateway gives that refuses a body for its size."""
    client, server = through.pair()
    client.sendall(b"POST ")
    assert server.recv(5) == b"POST "
    server.sendall(b"413")
    server.shutdown(socket.SHUT_WR)
    with client, server:
        assert read_all(client) == b"413"


def test_without_a_server_the_connection_is_reset_at_once() -> None:
    with passing(with_server=False) as through:
        with pytest.raises(ConnectionResetError), socket.create_connection(through.address, timeout=30) as client:
            client.recv(1)  # unless it came before the connection was known to be there
        assert through.passing.counts.refused == 1


class Faulty(Tap):
    """A tap whose insides fail at each byte."""

    def put_head(self, *_: Any) -> None:
        raise MemoryError("in the recording")


def test_an_error_in_the_tap_never_reaches_the_traffic() -> None:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    tap = Faulty(writes, share=1, seed=0)
    request = b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
    try:
        with passing(tap) as through:
            for _ in range(3):
                client, server = through.pair()
                with client, server:
                    client.sendall(request)
                    client.shutdown(socket.SHUT_WR)
                    assert read_all(server) == request
                    server.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    server.shutdown(socket.SHUT_WR)
                    assert read_all(client) == b"HTTP/1.1 200 OK\r\n\r\n"
        assert tap.counts.not_followed == 3
    finally:
        os.close(reads)
        os.close(writes)


def kinds_in(tap: Tap, reads: int) -> list[int]:
    """The kinds of all messages that are on their way to a keeper."""
    data = b""
    os.set_blocking(reads, False)
    while True:
        tap.write()
        try:
            data += os.read(reads, 1 << 20)
        except BlockingIOError:
            break
    kinds = []
    while data:
        kind, _, _, _, _, length = MESSAGE.unpack_from(data)
        kinds.append(kind)
        data = data[MESSAGE.size + length :]
    return kinds


def test_a_keeper_that_does_not_read_costs_records_and_not_traffic() -> None:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    tap = Tap(writes, share=1, seed=0, most_queued_bytes=1 << 16)
    head = b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: 50000\r\n\r\n"
    try:
        with passing(tap) as through:
            client, server = through.pair()
            with client, server, ThreadPoolExecutor(1) as pool:
                read = pool.submit(read_all, server)
                for _ in range(20):
                    client.sendall(head + bytes(50000))
                client.shutdown(socket.SHUT_WR)
                assert len(read.result()) == 20 * (len(head) + 50000)
        kinds = kinds_in(tap, reads)
        assert (kinds.count(HEAD), kinds.count(LOST) > 10, kinds.count(LOST) + kinds.count(END)) == (20, True, 20)
        os.close(reads)
        tap.feed(99, head, 0)
        tap.write()  # its reader has left
        assert not tap.is_open
        tap.feed(99, head, 0)
    finally:
        os.close(writes)


def test_at_the_end_requests_get_their_answers_and_idle_connections_are_closed() -> None:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with passing(Tap(writes, share=1, seed=0)) as through:
        idle, _idle_server = through.pair()
        busy, server = through.pair()
        busy.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n")
        assert server.recv(100)
        through.over.set()
        through.thread.join()
        with ThreadPoolExecutor(1) as pool:
            left = pool.submit(through.passing.drain, lambda: False, lambda: None)
            assert idle.recv(1) == b""
            server.sendall(b"answer")
            assert busy.recv(100) == b"answer"
            assert left.result() == 0
        for sock in (idle, busy, server, _idle_server):
            sock.close()
    os.close(reads)
    os.close(writes)

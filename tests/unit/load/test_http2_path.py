"""The path of hand-written HTTP/2 against grpc's own server, and against what stands in its place."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_server import ModelServer, serving
from http2_server import SETTINGS, Received, answer, frame
from load_sink import Record, recorded

from npu_serving.errors import UnreachableError
from npu_serving.load import http2_connection
from npu_serving.load.arrivals import Schedule, Stage
from npu_serving.load.generator import LoadTls, Plan, ReadyRequest
from npu_serving.load.http2_path import send_requests

METHOD = "/tensorflow.serving.PredictionService/Predict"


def echo(data: bytes, context: grpc.ServicerContext) -> bytes:
    """The request; or what it asks for by its first word."""
    if data.startswith(b"busy"):
        context.abort(grpc.StatusCode.UNAVAILABLE, "The batch scheduling queue is full")
    if data.startswith(b"absent"):
        context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found: größe")
    if data.startswith(b"slow"):
        time.sleep(1)
    return data


@contextlib.contextmanager
def echoing(**options: Any) -> Iterator[ModelServer]:
    with serving({"Predict": echo}, **options) as server:
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with echoing(max_receive_message_length=-1) as found:
        yield found


def closed(url: str, *bodies: bytes, concurrency: int = 4, most: int = 40, **more: object) -> list[Record]:
    requests = tuple(ReadyRequest(METHOD, body) for body in bodies or (b"x" * 50,))
    plan = Plan(url, requests, time.monotonic_ns(), concurrency=concurrency, compares=True, **more)  # type: ignore[arg-type]
    return recorded(send_requests, plan, most)


def kinds(records: list[Record]) -> set[str]:
    return {record[4] for record in records}


def test_requests_of_every_size_are_answered_whole_and_each_by_its_own_answer(server: ModelServer) -> None:
    bodies = [bytes((size % 251,)) * size for size in (0, 1, 4, 16379, 16380, 65536, 1_000_000)]
    records = closed(server.url, *bodies, most=35)
    assert kinds(records) == {""}
    assert {record[0] for record in records} == set(range(len(bodies)))
    assert all(record[5] == bodies[record[0]] for record in records)
    assert all(record[1] <= record[2] <= record[3] for record in records)


def test_as_many_as_asked_are_in_flight(server: ModelServer) -> None:
    records = closed(server.url, concurrency=8, most=100, connections=2)
    assert 100 <= len(records) <= 107
    assert kinds(records) == {""}


def test_a_request_of_twenty_megabytes_passes_the_windows(server: ModelServer) -> None:
    large = bytes(range(256)) * (20 << 12)
    records = closed(server.url, large, concurrency=2, most=2)
    assert [record[5] == large for record in records[:2]] == [True, True]


def test_an_open_loop_sends_at_its_times_and_ends_with_its_schedule(server: ModelServer) -> None:
    begin = time.monotonic_ns() + 50_000_000
    schedule = Schedule("step", stages=(Stage(0.2, 200, 200),))
    plan = Plan(server.url, (ReadyRequest(METHOD, b"a"), ReadyRequest(METHOD, b"absent")), begin, schedule=schedule)
    records = recorded(send_requests, plan, -1)
    assert Counter((record[0], record[4]) for record in records) == {(0, ""): 20, (1, "unknown_model"): 20}
    assert sorted(record[1] - begin for record in records) == [5_000_000 * at for at in range(40)]
    assert all(record[2] >= record[1] for record in records)


def test_a_status_is_counted_by_its_meaning(server: ModelServer) -> None:
    records = closed(server.url, b"busy", b"absent", b"good", most=30)
    assert {(record[0], record[4]) for record in records} == {(0, "busy"), (1, "unknown_model"), (2, "")}


def test_what_takes_longer_than_its_time_is_a_timeout_and_the_connection_goes_on() -> None:
    with echoing() as server:
        begun = time.monotonic()
        records = closed(server.url, b"slow", b"quick", b"quick", concurrency=2, most=6, timeout_s=0.3, connections=1)
        assert time.monotonic() - begun < 10
    assert {record[4] for record in records if record[0] == 0} == {"timeout"}
    assert "" in {record[4] for record in records if record[0]}


def test_a_server_that_ends_connections_in_order_loses_no_request() -> None:
    with echoing(max_connection_age_ms=100, max_connection_age_grace_ms=1000) as server:
        schedule = Schedule("step", stages=(Stage(1.0, 300, 300),))
        plan = Plan(server.url, (ReadyRequest(METHOD, b"a"),), time.monotonic_ns(), schedule=schedule)
        records = recorded(send_requests, plan, -1)
    assert Counter(record[4] for record in records) == {"": 300}


def test_a_connection_whose_streams_have_run_out_is_followed_by_another(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http2_connection, "_LARGEST_STREAM", 7)
    records = closed(server.url, most=40, concurrency=2)
    assert kinds(records) == {""}
    assert len(records) >= 40


def test_more_connections_are_opened_where_a_server_takes_few_streams(server: ModelServer) -> None:
    with echoing(max_concurrent_streams=1) as narrow:
        schedule = Schedule("step", stages=(Stage(0.2, 200, 200),))
        plan = Plan(narrow.url, (ReadyRequest(METHOD, b"a"),), time.monotonic_ns(), schedule=schedule)
        records = recorded(send_requests, plan, -1)
    assert Counter(record[4] for record in records) == {"": 40}


def test_a_unix_socket_is_a_target(tmp_path: Path) -> None:
    running = grpc.server(futures.ThreadPoolExecutor(2))
    handler: Any = grpc.unary_unary_rpc_method_handler(echo)
    service = "tensorflow.serving.PredictionService"
    running.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Predict": handler}),))
    running.add_insecure_port(f"unix:{tmp_path}/s")
    running.start()
    try:
        assert kinds(closed(f"unix:{tmp_path}/s")) == {""}
    finally:
        running.stop(None).wait()


def test_where_nobody_listens_requests_are_unreachable_and_they_do_not_come_by_the_thousand() -> None:
    with echoing() as gone:
        url = gone.url
    begun = time.monotonic()
    records = closed(url, concurrency=1, most=5)
    assert [record[4] for record in records] == ["unreachable"] * 5
    assert time.monotonic() - begun >= 4 * 0.05


def test_a_host_that_does_not_exist_is_said_at_once() -> None:
    with pytest.raises(UnreachableError, match=r"nowhere\.invalid"):
        closed("grpc://nowhere.invalid:8500")


def test_a_server_that_comes_back_is_asked_again() -> None:
    with echoing() as first:
        port = int(first.url.rpartition(":")[2])
    restarted: list[ModelServer] = []
    stack = contextlib.ExitStack()

    def restart() -> None:
        restarted.append(stack.enter_context(echoing(port=port)))

    timer = threading.Timer(0.3, restart)
    timer.start()
    with stack:
        schedule = Schedule("step", stages=(Stage(1.5, 100, 100),))
        plan = Plan(first.url, (ReadyRequest(METHOD, b"a"),), time.monotonic_ns(), schedule=schedule)
        records = recorded(send_requests, plan, -1)
        timer.join()
    assert kinds(records) == {"", "unreachable"}
    assert records[-1][4] == ""
    assert len(records) == 150


# ---- what stands in the server's place


@contextlib.contextmanager
def program(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A program that is talked to connection by connection; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        talk(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"grpc://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_a_server_of_http_1_is_malformed() -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with program(talk) as url:
        assert kinds(closed(url, concurrency=1, most=3)) == {"malformed"}


def test_a_server_that_closes_in_the_middle_is_unreachable_and_one_that_says_nothing_a_timeout() -> None:
    with program(lambda connection: (connection.recv(100), None)[1]) as url:
        assert kinds(closed(url, concurrency=1, most=2)) == {"unreachable"}
    silent = threading.Event()
    with program(lambda connection: (silent.wait(10), None)[1]) as url:
        assert kinds(closed(url, concurrency=1, most=2, timeout_s=0.2)[:2]) == {"timeout"}
        silent.set()


def test_the_server_hears_that_nobody_waits_for_an_answer_any_more() -> None:
    received = Received()

    def talk(connection: socket.socket) -> None:
        connection.sendall(SETTINGS)
        while not received.resets:
            data = connection.recv(65536)
            if not data:
                return
            received.take(data)

    with program(talk) as url:
        assert kinds(closed(url, concurrency=1, most=1, timeout_s=0.1)[:1]) == {"timeout"}
    assert received.resets == {1: 8}


def test_what_the_server_never_began_is_sent_again_and_what_it_began_is_counted() -> None:
    talks = iter(range(100))

    def talk(connection: socket.socket) -> None:
        received = Received()
        number = next(talks)
        connection.sendall(SETTINGS)
        while len(received.ended) < 2:
            data = connection.recv(65536)
            if not data:
                return
            received.take(data)
        if number == 0:  # it has begun the first alone
            connection.sendall(frame(7, 0, 0, b"\0\0\0\1\0\0\0\0"))
            return
        connection.sendall(answer(1, b"a") + answer(3, b"b"))

    with program(talk) as url:
        records = closed(url, concurrency=2, most=3, connections=1)
    assert [record[4] for record in records[:3]] == ["unreachable", "", ""]


# ---- TLS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the keys")
    directory = tmp_path_factory.mktemp("tls")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    named = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    for name in ("server", "client"):
        files = ("-keyout", f"{directory}/{name}.key", "-out", f"{directory}/{name}.pem")
        words = ["openssl", "req", "-x509", *curve, "-nodes", *named, "-days", "2", *files]
        subprocess.run(words, check=True, capture_output=True, timeout=60)
    return directory


def test_tls_carries_large_requests_and_a_server_may_want_a_certificate(made: Path) -> None:
    pair = ((made / "server.key").read_bytes(), (made / "server.pem").read_bytes())
    own = LoadTls(pair[1], (made / "client.pem").read_bytes(), (made / "client.key").read_bytes())
    wants_one = grpc.ssl_server_credentials([pair], own.cert, require_client_auth=True)
    bodies = (b"small", bytes(range(256)) * 8000)
    with serving({"Predict": echo}, credentials=wants_one) as server:
        records = closed(server.url, *bodies, tls=own, most=20)
        assert kinds(records) == {""}
        assert all(record[5] == bodies[record[0]] for record in records)
        assert kinds(closed(server.url, tls=LoadTls(own.ca), most=2, concurrency=1)) == {"unreachable"}


def test_a_certificate_that_is_not_trusted_is_not_talked_to(made: Path) -> None:
    pair = ((made / "server.key").read_bytes(), (made / "server.pem").read_bytes())
    with serving({"Predict": echo}, credentials=grpc.ssl_server_credentials([pair])) as server:
        other = LoadTls((made / "client.pem").read_bytes())
        assert kinds(closed(server.url, tls=other, most=2, concurrency=1)) == {"unreachable"}

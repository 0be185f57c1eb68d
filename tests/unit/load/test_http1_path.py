"""The path of hand-written HTTP/1.1 against Python's own server and a real nginx."""

from __future__ import annotations

import contextlib
import getpass
import http.server
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
from load_sink import Record, recorded

from npu_serving.load.arrivals import Schedule, Stage
from npu_serving.load.generator import Plan, ReadyRequest
from npu_serving.load.http1_path import send_requests

PLACES = "/usr/sbin:/usr/bin:/sbin:/bin"
NGINX = """
user USER;
daemon off;
pid nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  keepalive_requests 5;
  server {
    listen 127.0.0.1:PORT;
    location /small/ { client_max_body_size 1k; proxy_pass http://127.0.0.1:MODEL/; }
    location /dead/ { proxy_pass http://127.0.0.1:1/; }
    location /model/ { client_max_body_size 100m; proxy_pass http://127.0.0.1:MODEL/; }
    location /down/ { return 503; }
  }
}
"""


class Model(http.server.BaseHTTPRequestHandler):
    """Answers with the request; chunked where the path says so, an error where it says that."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[Counter[str]] = Counter()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked[self.path] += 1
        if "slow" in self.path:
            time.sleep(1)
        busy = "busy" in self.path
        self.send_response(503 if busy else 200)
        answer = b'{"error": "The queue is full"}' if busy else body
        if "chunked" in self.path:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(f"{len(answer):x}\r\n".encode() + answer + b"\r\n0\r\n\r\n")
            return
        if "closing" in self.path:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone."""


@contextlib.contextmanager
def model(port: int = 0) -> Iterator[str]:
    server = Server(("127.0.0.1", port), Model)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with model() as found:
        yield found


@pytest.fixture(scope="module")
def gateway(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("nginx", path=PLACES)
    if program is None:
        pytest.skip("nginx is a gateway")
    place = tmp_path_factory.mktemp("nginx")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    words = {"USER": getpass.getuser(), "PORT": str(port), "MODEL": url.rpartition(":")[2]}
    text = NGINX
    for word, value in words.items():
        text = text.replace(word, value)
    (place / "nginx.conf").write_text(text)
    with subprocess.Popen([program, "-p", place, "-c", "nginx.conf"], cwd=place) as running:
        try:
            wait_for(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            running.terminate()


def wait_for(port: int) -> None:
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError("nginx does not listen")


def closed(
    url: str,
    *requests: tuple[str, bytes],
    concurrency: int = 4,
    most: int = 40,
    timeout_s: float = 60,
    connections: int = 0,
) -> list[Record]:
    ready = tuple(ReadyRequest(path, body) for path, body in requests or (("/v1/models/m:predict", b"{}"),))
    plan = Plan(
        url,
        ready,
        time.monotonic_ns(),
        concurrency=concurrency,
        compares=True,
        timeout_s=timeout_s,
        connections=connections,
    )
    return recorded(send_requests, plan, most)


def kinds(records: list[Record]) -> set[str]:
    return {record[4] for record in records}


def test_answers_of_every_form_and_size_are_those_of_their_requests(url: str) -> None:
    requests = [
        (path, b'{"a": "' + b"x" * size + b'"}')
        for path in ("/whole", "/chunked", "/closing")
        for size in (0, 1000, 70_000, 2_000_000)
    ]
    records = closed(url, *requests, most=24)
    assert kinds(records) == {""}
    assert {record[0] for record in records} == set(range(len(requests)))
    assert all(record[5] == requests[record[0]][1] for record in records)


def test_a_closed_loop_keeps_as_many_in_flight_as_asked_and_counts_what_the_server_counts(url: str) -> None:
    before = Model.asked["/counted"]
    records = closed(url, ("/counted", b"{}"), concurrency=6, most=60)
    assert kinds(records) == {""}
    assert 60 <= len(records) <= 65
    assert Model.asked["/counted"] - before == len(records)


def test_an_open_loop_opens_as_many_connections_as_its_times_take() -> None:
    begin = time.monotonic_ns() + 20_000_000
    with model() as url:
        schedule = Schedule("step", stages=(Stage(0.2, 100, 100),))
        plan = Plan(url, (ReadyRequest("/slow", b"{}"),), begin, schedule=schedule)
        records = recorded(send_requests, plan, -1)
    assert Counter(record[4] for record in records) == {"": 20}
    assert sorted(record[1] - begin for record in records) == [10_000_000 * at for at in range(20)]
    # One after the other on a few connections, the last would have been sent seconds later.
    assert max(record[2] - record[1] for record in records) < 1_000_000_000


def test_errors_are_counted_by_their_meaning_and_late_answers_as_timeouts(url: str) -> None:
    assert kinds(closed(url, ("/busy", b"{}"), most=5)) == {"busy"}
    records = closed(url, ("/slow", b"{}"), ("/quick", b"{}"), concurrency=2, most=6, timeout_s=0.2)
    assert {record[4] for record in records if record[0] == 0} <= {"timeout", "unfinished"}
    assert {record[4] for record in records if record[0] == 1} == {""}
    one = closed(url, ("/slow", b"{}"), ("/quick", b"{}"), concurrency=1, most=4, timeout_s=0.2, connections=1)
    assert [record[4] for record in one[:4]] == ["timeout", "", "timeout", ""]


def test_a_gateway_is_told_from_the_server_and_its_closed_connections_lose_nothing(gateway: str) -> None:
    large = b'{"a": "' + b"x" * 3_000_000 + b'"}'
    assert kinds(closed(gateway, ("/small/m", large), most=5)) == {"too_large_for_gateway"}
    assert kinds(closed(gateway, ("/dead/m", b"{}"), most=5)) == {"gateway"}
    assert kinds(closed(gateway, ("/down/m", b"{}"), most=5)) == {"gateway"}
    assert kinds(closed(gateway, ("/model/m", b"{}"), most=50)) == {""}
    assert kinds(closed(gateway, ("/model/m", large), most=6)) == {""}


def test_where_nobody_listens_requests_are_unreachable_and_another_program_is_malformed() -> None:
    with model() as gone:
        pass
    assert kinds(closed(gone, concurrency=1, most=3)) == {"unreachable"}
    with program(lambda connection: connection.sendall(b"SSH-2.0-Other\r\n")) as there:
        assert kinds(closed(there, concurrency=1, most=2)[:2]) == {"malformed"}


def test_a_refusal_that_comes_while_the_request_is_sent_is_read_though_the_connection_breaks() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with program(refuse) as there:
        records = closed(there, ("/m", b"{" + b" " * 30_000_000 + b"}"), concurrency=1, most=2)
    assert kinds(records[:2]) == {"too_large_for_gateway"}


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

        thread = threading.Thread(target=run)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)

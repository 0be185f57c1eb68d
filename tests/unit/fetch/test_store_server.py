"""The store as a mirror for other machines: what it hands out, what it refuses, and what it outlives."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from npu_serving.console import Silent
from npu_serving.errors import RequestError
from npu_serving.fetch import store_server
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.fetching import fetch, plan_fetch
from npu_serving.fetch.store_server import Address, StoreServer, names_of, parse_address
from npu_serving.fetch.transfer import WantedFile
from npu_serving.fetch.tuning import Tuning
from npu_serving.lock.lockfile import Archive

SMALL = random.Random(1).randbytes(300_000)
LARGE = random.Random(2).randbytes(2_500_000)
TUNING = Tuning(backoff_s=0.01, rounds=3, ranges_from_bytes=1_000_000, range_bytes=200_000, ranges_at_once=3)


def archive(name: str, data: bytes, *urls: str) -> Archive:
    return Archive(name, "http_archive", urls, hashlib.sha256(data).hexdigest(), size_bytes=len(data))


A_SMALL = archive("small", SMALL, "https://github.example/a/b/v1.0%2B1.zip", "http://me:pw@other.example/small.zip?x=1")
A_LARGE = archive("large", LARGE, "https://github.example/a/b/large.tar.gz")
ABSENT = archive("absent", b"absent", "https://github.example/absent.zip")


class Listener(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def after(self, count: int) -> list[str]:
        """The lines, once there are so many: a client may have its answer before the line about it is written."""
        deadline = time.monotonic() + 20
        while len(self.lines) < count and time.monotonic() < deadline:
            time.sleep(0.001)
        return self.lines


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    made = ContentStore(tmp_path / "store")
    for data, item in ((SMALL, A_SMALL), (LARGE, A_LARGE)):
        (tmp_path / "file").write_bytes(data)
        made.adopt(tmp_path / "file", item.sha256 or "")
    return made


@pytest.fixture
def server(store: ContentStore) -> Iterator[StoreServer]:
    with serving(store) as running:
        yield running


@contextlib.contextmanager
def serving(store: ContentStore) -> Iterator[StoreServer]:
    made = StoreServer(store, names_of([A_SMALL, A_LARGE, ABSENT]), Address("127.0.0.1", 0), Listener())
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def told(server: StoreServer) -> Listener:
    assert isinstance(server._reporter, Listener)
    return server._reporter


def ask(server: StoreServer, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=20)
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def raw(server: StoreServer, data: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", server.address.port), timeout=20) as connection:
        received = b""
        with contextlib.suppress(OSError):  # it may hang up before all was sent
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received += piece
        return received


def slow_client(server: StoreServer) -> socket.socket:
    """A connection in which only a few kB are under way at a time."""
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # those that it accepts inherit it
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", server.address.port))
    return connection


@pytest.mark.parametrize(
    "path",
    [
        "/github.example/a/b/v1.0%2B1.zip",
        "/github.example/a/b/v1.0+1.zip",
        "/other.example/small.zip",
        f"/content_addressable/sha256/{A_SMALL.sha256}/file",
        "/v1.0%2B1.zip?from=a-browser",
    ],
)
def test_a_file_is_had_by_its_urls_by_its_digest_and_by_its_name(server: StoreServer, path: str) -> None:
    answer, body = ask(server, path)
    assert (answer.status, body) == (200, SMALL)
    assert answer.getheader("ETag") == f'"{A_SMALL.sha256}"'
    assert answer.getheader("Accept-Ranges") == "bytes"


def test_head_tells_length_and_etag_and_sends_no_bytes(server: StoreServer) -> None:
    answer, body = ask(server, "/large.tar.gz", "HEAD")
    assert (answer.status, body, answer.getheader("Content-Length")) == (200, b"", str(len(LARGE)))
    assert answer.getheader("ETag") == f'"{A_LARGE.sha256}"'


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=299990-", 299_990, 300_000),
        ("bytes=-10", 299_990, 300_000),
        ("bytes=-999999", 0, 300_000),
        ("bytes=299999-400000", 299_999, 300_000),
    ],
)
def test_a_range_is_answered_with_just_these_bytes(server: StoreServer, asked: str, first: int, end: int) -> None:
    answer, body = ask(server, "/v1.0%2B1.zip", Range=asked)
    assert (answer.status, body) == (206, SMALL[first:end])
    assert answer.getheader("Content-Range") == f"bytes {first}-{end - 1}/300000"


@pytest.mark.parametrize("asked", ["bytes=300000-", "bytes=5-4", "bytes=-0", "bytes=999999999999-"])
def test_a_range_beyond_the_file_is_refused_with_its_size(server: StoreServer, asked: str) -> None:
    answer, body = ask(server, "/v1.0%2B1.zip", Range=asked)
    assert (answer.status, body, answer.getheader("Content-Range")) == (416, b"", "bytes */300000")


@pytest.mark.parametrize(
    "asked", ["bytes=", "bytes=-", "bytes=1-2,5-6", "lines=1-2", "bytes=a-b", "bytes=" + "9" * 5000]
)
def test_what_is_no_single_range_gets_the_whole_file(server: StoreServer, asked: str) -> None:
    assert ask(server, "/v1.0%2B1.zip", Range=asked)[1] == SMALL


def test_a_range_of_a_file_that_changed_gets_the_whole_new_file(server: StoreServer) -> None:
    assert ask(server, "/v1.0%2B1.zip", Range="bytes=5-9", If_Range='"other"')[0].status == 200
    assert ask(server, "/v1.0%2B1.zip", Range="bytes=5-9", If_Range=f'"{A_SMALL.sha256}"')[0].status == 206


def test_who_has_the_file_already_is_told_so(server: StoreServer) -> None:
    answer, body = ask(server, "/v1.0%2B1.zip", If_None_Match=f'"{A_SMALL.sha256}"')
    assert (answer.status, body) == (304, b"")


def test_the_list_of_names_is_what_sha256sum_reads(server: StoreServer) -> None:
    assert ask(server, "/")[1].decode().splitlines() == [
        f"{A_LARGE.sha256}  large.tar.gz",
        f"{A_SMALL.sha256}  v1.0+1.zip",
    ]


def test_several_requests_go_over_one_connection(server: StoreServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=20)
    for number in range(5):
        connection.request("GET", "/large.tar.gz", headers={"Range": f"bytes={number}-{number}"})
        assert connection.getresponse().read() == LARGE[number : number + 1]
    connection.close()


def test_the_fetch_engine_gets_everything_in_ranges_and_resumes(server: StoreServer, tmp_path: Path) -> None:
    other = ContentStore(tmp_path / "other")
    other.partial.mkdir(parents=True)
    (other.partial / (A_SMALL.sha256 or "")).write_bytes(SMALL[:250_000])
    report = fetch(plan_fetch([A_SMALL, A_LARGE], other), other, mirrors=[server.address.url], tuning=TUNING)
    assert other.path(A_SMALL.sha256 or "").read_bytes() == SMALL
    assert other.path(A_LARGE.sha256 or "").read_bytes() == LARGE
    assert report.fetched_bytes == len(LARGE) + 50_000
    assert sum(" 206 " in line for line in told(server).after(14)) == 14  # 13 ranges, and one that is resumed


def test_a_mirror_by_rewriting_finds_the_files_too(server: StoreServer, tmp_path: Path) -> None:
    other = ContentStore(tmp_path / "other")
    mirror = f"{server.address.url}github.example/=https://github.example/"
    assert fetch(plan_fetch([A_LARGE], other), other, mirrors=[mirror], tuning=TUNING).fetched[0].retries == 0


# ---- what is refused


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2fetc/passwd",
        "/content_addressable/sha256/../../memo.json",
        "/content_addressable/sha256/..%2f..%2fmemo.json/file",
        "/memo.json",
        "/partial/x",
        "//etc/passwd",
        "/%00",
        "/%ff%fe",
        "/content_addressable/sha256/" + "0" * 64 + "/file",
        "/content_addressable/sha256/" + "A" * 64 + "/file",
        "/absent.zip",
        "/github.example",
        "http://github.example/a/b/large.tar.gz",
        "*",
    ],
)
def test_nothing_but_the_known_files_can_be_asked_for(server: StoreServer, path: str) -> None:
    answer, body = ask(server, path)
    assert answer.status == 404
    assert b"root:" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_written(server: StoreServer, store: ContentStore, method: str) -> None:
    before = sorted(path for path in store.root.rglob("*"))
    answer, _ = ask(server, "/new.zip", method, Content_Length="0")
    assert (answer.status, answer.getheader("Allow")) == (405, "GET, HEAD")
    assert sorted(path for path in store.root.rglob("*")) == before


def test_a_damaged_file_is_not_handed_out_and_is_again_once_it_is_right(
    server: StoreServer, store: ContentStore
) -> None:
    place = store.path(A_SMALL.sha256 or "")
    place.write_bytes(b"damaged")
    assert ask(server, "/v1.0%2B1.zip")[0].status == 404
    place.write_bytes(SMALL)
    assert ask(server, "/v1.0%2B1.zip")[1] == SMALL


def test_a_link_in_the_store_is_not_followed_even_to_the_right_bytes(
    server: StoreServer, store: ContentStore, tmp_path: Path
) -> None:
    place = store.path(A_SMALL.sha256 or "")
    for target, data in (("secret", b"secret"), ("right", SMALL)):
        (tmp_path / target).write_bytes(data)
        place.unlink()
        place.symlink_to(tmp_path / target)
        assert ask(server, "/v1.0%2B1.zip")[0].status == 404


def test_a_file_that_comes_into_the_store_later_is_handed_out(
    server: StoreServer, store: ContentStore, tmp_path: Path
) -> None:
    assert ask(server, "/absent.zip")[0].status == 404
    (tmp_path / "absent").write_bytes(b"absent")
    ContentStore(store.root).adopt(tmp_path / "absent", ABSENT.sha256 or "")
    assert ask(server, "/absent.zip")[1] == b"absent"


def test_a_store_that_may_only_be_read_is_handed_out(store: ContentStore) -> None:
    (store.root / "memo.json").unlink()
    store.root.chmod(0o555)
    try:
        with serving(ContentStore(store.root)) as server:
            assert ask(server, "/v1.0%2B1.zip")[1] == SMALL
    finally:
        store.root.chmod(0o755)


# ---- what it outlives


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v1.0%2B1.zip HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"GET /v1.0%2B1.zip HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["zeros", "many headers", "long path", "long header", "version", "nonsense", "tls", "a body", "chunks"],
)
def test_absurd_requests_are_refused_or_answered_once_and_the_next_client_is_served(
    server: StoreServer, data: bytes
) -> None:
    assert raw(server, data).count(b"HTTP/1.1 ") <= 1
    assert ask(server, "/v1.0%2B1.zip")[1] == SMALL


def test_more_than_a_request_may_have_is_said_to_be_too_much(server: StoreServer) -> None:
    request = b"GET / HTTP/1.1\r\nA: "
    assert b" 431 " in raw(server, request.ljust(store_server.MOST_REQUEST_BYTES + 1, b"x"))


def test_a_request_that_comes_letter_by_letter_is_given_up(server: StoreServer, monkeypatch) -> None:
    monkeypatch.setattr(store_server, "SECONDS_FOR_A_REQUEST", 0.3)
    with socket.create_connection(("127.0.0.1", server.address.port), timeout=20) as connection:
        stop = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                while not stop.wait(0.02):  # each letter comes well within the time
                    connection.send(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        with contextlib.suppress(ConnectionError):
            assert connection.recv(100) == b""
        stop.set()
        thread.join()


def test_hundreds_of_idle_connections_do_not_keep_a_working_one_out(server: StoreServer) -> None:
    with contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.address.port), timeout=20))
            for _ in range(store_server.MOST_CONNECTIONS + 50)
        ]
        assert ask(server, "/v1.0%2B1.zip")[1] == SMALL
        assert idle[0].recv(1) == b"", "the one that has been idle longest made room"
    assert ask(server, "/large.tar.gz")[1] == LARGE


def test_a_client_that_is_told_to_wait_gets_its_file_when_others_have_left(
    server: StoreServer, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(store_server, "MOST_CONNECTIONS", 1)
    with slow_client(server) as busy:
        busy.sendall(b"GET /large.tar.gz HTTP/1.1\r\n\r\n")
        assert busy.recv(10) == b"HTTP/1.1 2"
        assert ask(server, "/")[0].status == 503
    other = ContentStore(tmp_path / "other")
    fetch(plan_fetch([A_SMALL], other), other, mirrors=[server.address.url], tuning=TUNING)
    assert other.has(A_SMALL.sha256 or "")


def test_a_client_that_leaves_in_the_middle_is_told_with_what_it_took(server: StoreServer) -> None:
    with slow_client(server) as connection:
        connection.sendall(b"GET /large.tar.gz HTTP/1.1\r\n\r\n")
        connection.recv(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert ask(server, "/v1.0%2B1.zip")[1] == SMALL
    assert any(re.search(r"GET /large.tar.gz 200 \d+ of 2500000", line) for line in told(server).after(2))


def test_each_request_is_told_in_one_line_that_a_terminal_can_bear(server: StoreServer) -> None:
    raw(server, b"GET /a\x1b[31mb\xff HTTP/1.0\r\n\r\n")
    assert told(server).after(1) == ["127.0.0.1 GET /a\\x1b[31mb\\xff 404 28"]
    ask(server, "/v1.0%2B1.zip", Range="bytes=1-3")
    assert told(server).after(2)[1] == "127.0.0.1 GET /v1.0%2B1.zip 206 3"


def test_a_hundred_clients_at_once_all_get_the_right_bytes(server: StoreServer) -> None:
    wrong: list[int] = []

    def client(number: int) -> None:
        data = ask(server, "/large.tar.gz", Range=f"bytes={number * 1000}-{number * 1000 + 99_999}")[1]
        if data != LARGE[number * 1000 : number * 1000 + 100_000]:
            wrong.append(number)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---- addresses


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("0.0.0.0:8280", "0.0.0.0", 8280), ("[::1]:0", "::1", 0), ("build-1.lan:80", "build-1.lan", 80)],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)


@pytest.mark.parametrize(
    "text", ["", "8280", ":8280", "host", "host:", "host:x", "host:65536", "::1:80", "a b:80", "h:٣"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="--listen"):
        parse_address(text)


def test_an_address_that_is_taken_or_not_ours_is_refused(server: StoreServer, store: ContentStore) -> None:
    for address in (server.address, Address("192.0.2.1", 80), Address("no-such-host.invalid", 80)):
        with pytest.raises(RequestError, match="Could not listen on"):
            StoreServer(store, {}, address, Silent())


def test_the_first_of_two_files_of_one_name_keeps_it() -> None:
    names = names_of(
        [
            archive("one", b"1", "https://a.example/v1.zip"),
            archive("two", b"2", "https://b.example/v1.zip"),
            Archive("unpinned", "http_archive", ("https://c.example/x.zip",), None),
            WantedFile("tool 1", "tool", ("https://d.example/tool",), hashlib.sha256(b"3").hexdigest()),
        ]
    )
    assert names["/v1.zip"] == names["/a.example/v1.zip"] != names["/b.example/v1.zip"]
    assert "/x.zip" not in names
    assert "/d.example/tool" in names

"""The relay between Bazel and a remote cache: what it hands on, and what it does when the cache fails."""

from __future__ import annotations

import hashlib
import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import cache_server
import pytest
from cache_server import CacheServer
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.building import cache_relay
from npu_serving.building.cache_relay import Breaker, Relay

DATA = bytes(range(256)) * 9000  # more than the relay keeps in memory
CAS = f"/cas/{hashlib.sha256(DATA).hexdigest()}"
AC = f"/ac/{'0' * 64}"


class Door(http.client.HTTPConnection):
    """HTTP over a Unix socket, as Bazel speaks it."""

    def __init__(self, path: str) -> None:
        super().__init__("npu-serving-cache")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


@pytest.fixture
def cache() -> Iterator[CacheServer]:
    with cache_server.serving() as server:
        yield server


@pytest.fixture
def door(cache: CacheServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    monkeypatch.setattr(cache_relay, "SILENCE_S", 0.3)
    yield from opened(cache.url, tmp_path)


def opened(url: str, directory: Path) -> Iterator[Door]:
    path = str(directory / "s")
    with Relay(path, url) as relay:
        thread = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        door = Door(path)
        try:
            yield door
        finally:
            door.close()
            relay.shutdown()
            thread.join()


def ask(door: Door, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
    door.request(method, path, body)
    answer = door.getresponse()
    return answer.status, answer.reason, answer.read()


def test_what_is_put_comes_back_whole(door: Door, cache: CacheServer) -> None:
    assert ask(door, "GET", CAS)[0] == 404
    assert ask(door, "PUT", CAS, DATA)[0] == 200
    assert ask(door, "PUT", AC, b"")[0] == 200
    assert ask(door, "GET", CAS) == (200, "OK", DATA)
    assert ask(door, "GET", AC) == (200, "OK", b"")
    assert cache.entries == {CAS: DATA, AC: b""}


def test_a_prefix_and_credentials_of_the_url_go_to_the_cache_only(cache: CacheServer, tmp_path: Path) -> None:
    url = cache.url.replace("//", "//me:p%40ss@") + "/team/"
    for door in opened(url, tmp_path):
        ask(door, "PUT", CAS, b"x")
    assert cache.requests == [("PUT", f"/team{CAS}", "Basic bWU6cEBzcw==")]


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (CacheServer.ERRORS, "it answered 500 Internal Server Error"),
        (CacheServer.HANGS, "it did not answer for 0 s"),
        (CacheServer.TRUNCATES, "the connection broke"),
    ],
)
def test_a_cache_that_fails_is_named_once_and_then_left_alone(
    door: Door, cache: CacheServer, mode: str, reason: str
) -> None:
    ask(door, "PUT", CAS, DATA)
    cache.mode = mode
    status, told, _ = ask(door, "GET", CAS)
    assert status == 503
    assert reason in told
    asked = len(cache.requests)
    assert ask(door, "GET", CAS)[0] == 404
    assert len(cache.requests) == asked
    cache.mode = CacheServer.GOOD
    assert ask(door, "PUT", AC, b"writing is another matter")[0] == 200
    assert cache.entries[AC] == b"writing is another matter"


def test_an_upload_that_is_never_answered_ends_and_later_ones_are_dropped(door: Door, cache: CacheServer) -> None:
    cache.mode = CacheServer.HANGS_ON_PUT
    assert ask(door, "PUT", CAS, DATA)[0] == 503
    assert ask(door, "PUT", AC, DATA)[0] == 200
    assert cache.entries == {}


def test_a_cache_that_is_not_there_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for door in opened(f"http://127.0.0.1:{port}", tmp_path):
        status, told, _ = ask(door, "GET", CAS)
        assert (status, told) == (503, "nothing listens there")


def test_paths_that_are_no_entries_never_reach_the_cache(door: Door, cache: CacheServer) -> None:
    for path in ("/", "/cas/../../etc/passwd", "/cas/xyz", f"/other/{'0' * 64}"):
        assert ask(door, "GET", path)[0] == 404
        assert ask(door, "PUT", path, b"x")[0] == 200
    assert cache.requests == []


@given(st.lists(st.sampled_from(["fail", "work", "pass"]), max_size=30))
def test_each_failure_in_a_row_makes_the_pause_longer_and_one_success_forgives(
    events: list[str],
) -> None:
    now, pause = 0.0, cache_relay.FIRST_PAUSE_S
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("npu_serving.building.cache_relay.time.monotonic", lambda: now)
        breaker, until = Breaker(), 0.0
        for event in events:
            if event == "pass":
                now += 1 + max(0.0, until - now)
            elif event == "work":
                breaker.worked()
                pause = cache_relay.FIRST_PAUSE_S
            elif now >= until:
                breaker.failed()
                until, pause = now + pause, pause * 2
            else:
                breaker.failed()  # a request that was under way: counts once
            assert breaker.is_closed() == (now < until)

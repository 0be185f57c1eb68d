"""The client's side of HTTP/1.1 without a socket."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.load.http1_connection import Http1Connection, RestEnd, http1_request

REQUEST = http1_request("/v1/models/m:predict", "host:1", b"{}")
GOOD = b'{"predictions": []}'
EARLY = (b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
ERROR = b'{ "error": "the queue is full" }'


def asked(*, keeps: bool = True) -> Http1Connection:
    connection = Http1Connection(keeps_bodies=keeps)
    connection.begin(REQUEST)
    connection.outgoing.clear()
    return connection


def in_pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[first:last] for first, last in zip(places, places[1:])]


def whole(body: bytes, status: str = "200 OK", *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *more]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + body


def chunked(body: bytes, cuts: Sequence[int], status: str = "200 OK", *, trailer: bool = False) -> bytes:
    parts = [f"HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n".encode()]
    parts += [f"{len(piece):x};a=b\r\n".encode() + piece + b"\r\n" for piece in in_pieces(body, cuts) if piece]
    return b"".join(parts) + b"0\r\n" + (b"x: y\r\n" if trailer else b"") + b"\r\n"


@st.composite
def scripts(draw: st.DrawFn) -> bytes:
    body = b"{" + draw(st.binary(max_size=600))
    status = draw(st.sampled_from(["200 OK", "503 Service Unavailable", "400", "404 Not Found"]))
    early = draw(
        st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"])
    )
    if draw(st.booleans()):
        return early + whole(body, status, "Date: now", draw(st.sampled_from(["Connection: close", "X: y"])))
    return early + chunked(body, draw(st.lists(st.integers(0, 600), max_size=4)), status, trailer=draw(st.booleans()))


@given(script=scripts(), cuts=st.lists(st.integers(0, 2000), max_size=12), keeps=st.booleans())
def test_any_split_of_what_comes_gives_the_same_answer(script: bytes, cuts: list[int], keeps: bool) -> None:
    one, many = asked(keeps=keeps), asked(keeps=keeps)
    expected = one.receive(script)
    assert len(expected) == 1
    assert [each for piece in in_pieces(script, cuts) for each in many.receive(piece)] == expected
    assert many.leaving == one.leaving
    assert not many.broken


@given(script=scripts(), changes=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), min_size=1, max_size=5))
def test_damaged_bytes_end_the_request_once_and_never_raise(script: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(script)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    connection = asked()
    assert len(connection.receive(bytes(damaged)) + connection.close()) == 1


@given(data=st.binary(max_size=100), begins=st.sampled_from([b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n"]))
def test_no_bytes_whatever_raise(data: bytes, begins: bytes) -> None:
    connection = asked()
    assert len(connection.receive(begins + data) + connection.close()) == 1


def test_a_request_is_as_a_server_expects_it() -> None:
    connection = Http1Connection()
    request = http1_request("/v1/models/m:predict", "host:1", b'{"inputs": 1}', (("authorization", "Bearer x"),))
    assert connection.begin(request) == 1
    head, _, body = b"".join(connection.outgoing).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /v1/models/m:predict HTTP/1.1",
        b"Host: host:1",
        b"User-Agent: npu-serving-load-test",
        b"Content-Type: application/json",
        b"Content-Length: 13",
        b"authorization: Bearer x",
    ]
    assert body == b'{"inputs": 1}'


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (whole(GOOD), ""),
        (chunked(GOOD, [3, 9]), ""),
        (whole(ERROR, "503 Service Unavailable"), "busy"),
        (whole(b"<html>no server</html>", "503 Service Unavailable"), "gateway"),
        (whole(ERROR, "429"), "expired"),
        (whole(ERROR, "504 Gateway Timeout"), "timeout"),
        (whole(ERROR, "400 Bad Request"), "refused"),
        (whole(ERROR, "404 Not Found"), "unknown_model"),
        (whole(b"", "413 Request Entity Too Large", "Connection: close"), "too_large_for_gateway"),
        (whole(b"", "302 Found", "Location: /login"), "gateway"),
        (whole(ERROR, "500 Internal Server Error"), "failed"),
        (whole(b"<html>hello</html>"), "malformed"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "failed"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "malformed"),
        (b"SSH-2.0-OpenSSH\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n{}", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}", "malformed"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n{}", "malformed"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}}}\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}}}0\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * (1 << 16), "malformed"),
    ],
)
def test_what_comes_has_one_meaning(script: bytes, kind: str) -> None:
    (end,) = asked().receive(script)
    assert (end.number, end.kind) == (1, kind)
    assert end.body == GOOD if not kind else end.body


def test_what_the_server_says_of_an_error_is_handed_on() -> None:
    assert asked(keeps=False).receive(whole(ERROR, "503")) == [RestEnd(1, "busy", b"the queue is full")]
    assert asked(keeps=False).receive(whole(b"", "502")) == [RestEnd(1, "gateway", b"HTTP status 502")]


def test_a_servers_message_is_handed_on_as_a_person_reads_it() -> None:
    body = b'{ "error": "input \\\'gr\\303\\266\\303\\237e\\\' is unknown" }'  # as TensorFlow Serving escapes it
    (end,) = asked(keeps=False).receive(whole(body, "400 Bad Request"))
    assert (end.body or b"").decode() == "input 'größe' is unknown"


def test_an_answer_without_a_length_ends_with_the_connection_and_one_with_a_length_does_not() -> None:
    open_ended = asked()
    assert open_ended.receive(b"HTTP/1.0 200 OK\r\n\r\n" + GOOD) == []
    assert open_ended.close() == [RestEnd(1, "", GOOD)]
    cut = asked()
    assert cut.receive(whole(GOOD)[:-1]) == []
    assert [end.kind for end in cut.close()] == ["unreachable"]


def test_one_request_follows_the_other_until_the_server_wants_no_more() -> None:
    connection = asked()
    assert connection.free_places == 0
    connection.receive(whole(GOOD))
    assert connection.free_places == 1
    assert connection.begin(REQUEST) == 2
    assert connection.receive(whole(GOOD, "200 OK", "Connection: close")) == [RestEnd(2, "", GOOD)]
    assert connection.leaving
    assert connection.free_places == 0


def test_what_nobody_asked_for_breaks_the_connection_and_not_the_answer() -> None:
    connection = asked()
    assert connection.receive(whole(GOOD) + whole(GOOD)) == [RestEnd(1, "", GOOD)]
    assert connection.broken
    assert connection.leaving


def test_a_connection_whose_request_was_given_up_is_not_used_again() -> None:
    connection = asked()
    connection.give_up(1)
    assert connection.leaving
    assert connection.receive(whole(GOOD)) == []
    assert connection.close() == []

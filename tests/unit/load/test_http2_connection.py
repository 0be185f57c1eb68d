"""The client's side of HTTP/2 without a socket, against frames that are written here and headers of hpack's."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

import hpack
import pytest
from http2_server import DONE, OK, SETTINGS, Received, answer, block, frame, message
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.load.http2_connection import AGAIN, CallEnd, Http2Connection, Http2Request
from npu_serving.load.http2_frames import request_block

BLOCK = request_block("/s/m", "host:1", has_tls=False, headers=(("te", b"trailers"), ("x", b"y" * 200)))
GROWN = struct.pack("!I", 5)
PING = frame(6, 0, 0, b"12345678")
LATE_STATUS = [(":status", "103"), ("link", "x")]


def begun(count: int = 3, *, keeps: bool = True, content: bytes = b"request") -> Http2Connection:
    connection = Http2Connection(keeps_messages=keeps)
    for _ in range(count):
        connection.begin(Http2Request(BLOCK, content))
    connection.outgoing.clear()
    return connection


def told(script: bytes, count: int = 3, *, keeps: bool = True) -> list[CallEnd]:
    return begun(count, keeps=keeps).receive(SETTINGS + script)


def sent(connection: Http2Connection) -> bytes:
    data = b"".join(connection.outgoing)
    connection.outgoing.clear()
    return data


def in_pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[first:last] for first, last in zip(places, places[1:])]


@st.composite
def scripts(draw: st.DrawFn) -> bytes:
    """What a server may send: answers in any form, and between them what it says of the connection."""
    parts = []
    for stream in draw(st.permutations([1, 3, 5])):
        content = draw(st.binary(max_size=300))
        first, last = block(OK, huffman=draw(st.booleans())), block(DONE, huffman=draw(st.booleans()))
        parts.append(frame(1, 4, stream, block(LATE_STATUS)) if draw(st.booleans()) else b"")
        if draw(st.booleans()):
            parts += [frame(1, 0, stream, first[:2]), frame(9, 0, stream), frame(9, 4, stream, first[2:])]
        elif draw(st.booleans()):
            parts.append(frame(1, 4 | 8 | 0x20, stream, b"\3" + bytes(5) + first + bytes(3)))
        else:
            parts.append(frame(1, 4, stream, first))
        for piece in in_pieces(message(content), draw(st.lists(st.integers(0, 400), max_size=3))):
            padded = draw(st.booleans())
            parts.append(frame(0, 8, stream, b"\2" + piece + b"\0\0") if padded else frame(0, 0, stream, piece))
        parts.append(
            draw(
                st.sampled_from(
                    [
                        b"",
                        frame(6, 0, 0, b"12345678"),
                        frame(8, 0, 0, GROWN),
                        frame(8, 0, stream, GROWN),
                        frame(77, 1, 1, b"?"),
                    ]
                )
            )
        )
        parts.append(frame(1, 5, stream, last))
    return SETTINGS + frame(4, 0, 0, struct.pack("!HI", 3, 100)) + b"".join(parts)


@given(script=scripts(), cuts=st.lists(st.integers(0, 5000), max_size=12), keeps=st.booleans())
def test_any_split_of_what_comes_gives_the_same_answers(script: bytes, cuts: list[int], keeps: bool) -> None:
    whole = begun(keeps=keeps)
    expected = whole.receive(script)
    assert {each.kind for each in expected} == {""}
    assert {each.stream for each in expected} == {1, 3, 5}
    split = begun(keeps=keeps)
    assert [each for piece in in_pieces(script, cuts) for each in split.receive(piece)] == expected
    assert sent(split) == sent(whole)
    assert not split.broken


@given(script=scripts(), changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=5))
def test_damaged_bytes_end_every_call_once_and_never_raise(script: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(script)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    connection = begun()
    answers = connection.receive(bytes(damaged)) + connection.close()
    assert sorted(each.stream for each in answers) == [1, 3, 5]


@given(data=st.binary(max_size=200), begins=st.booleans())
def test_no_bytes_whatever_raise(data: bytes, begins: bool) -> None:
    connection = begun(1)
    answers = connection.receive(SETTINGS + data if begins else data) + connection.close()
    assert [each.stream for each in answers] == [1]


@given(
    sizes=st.lists(st.integers(0, 200_000), min_size=1, max_size=4),
    window=st.integers(0, 100_000),
    max_frame=st.integers(16384, 1 << 20),
    seed=st.integers(0, 1 << 30),
)
def test_large_requests_keep_to_both_windows_and_arrive_whole(
    sizes: list[int], window: int, max_frame: int, seed: int
) -> None:
    chance = random.Random(seed)
    connection, server = Http2Connection(), Received(window, max_frame)
    said = struct.pack("!HIHI", 4, window, 5, max_frame)
    connection.receive(frame(4, 0, 0, said))
    contents = {connection.begin(Http2Request(BLOCK, chance.randbytes(size))): size for size in sizes}
    for _ in range(10_000):
        server.take(sent(connection))
        if len(server.ended) == len(sizes):
            break
        waiting = [stream for stream in contents if stream not in server.ended]
        connection.receive(server.grow(chance.choice([0, *waiting]), chance.randint(1, 60_000)))
    assert {stream: len(content) - 5 for stream, content in server.messages.items()} == contents
    again = random.Random(seed)
    assert [bytes(server.messages[stream]) for stream in contents] == [message(again.randbytes(size)) for size in sizes]


def test_small_requests_together_keep_to_the_window_of_the_connection() -> None:
    connection, server = Http2Connection(), Received()
    for _ in range(10):
        connection.begin(Http2Request(BLOCK, b"x" * 16_000))
    server.take(sent(connection))
    assert len(server.ended) == 4
    connection.receive(SETTINGS + server.grow(0, 200_000))
    server.take(sent(connection))
    assert len(server.ended) == 10


def test_a_connection_whose_streams_have_run_out_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npu_serving.load.http2_connection._LARGEST_STREAM", 5)
    connection = begun(2)
    assert not connection.leaving
    assert connection.begin(Http2Request(BLOCK, b"")) == 5
    assert connection.leaving
    assert connection.free_places == 0


def test_a_window_that_shrinks_below_nothing_is_waited_for() -> None:
    connection, server = Http2Connection(), Received()
    stream = connection.begin(Http2Request(BLOCK, b"x" * 100_000))
    server.take(sent(connection))
    connection.receive(frame(4, 0, 0, struct.pack("!HI", 4, 10)))
    server.windows[stream] -= 65535 - 10
    connection.receive(server.grow(0, 200_000))
    server.take(sent(connection))
    connection.receive(server.grow(stream, 65526))
    server.take(sent(connection))
    assert len(server.messages[stream]) == 65536
    connection.receive(server.grow(stream, 200_000))
    server.take(sent(connection))
    assert server.messages[stream] == message(b"x" * 100_000)


def test_hpack_reads_the_headers_of_a_request() -> None:
    headers = request_block("/a/" + "b" * 300, "h:1", has_tls=True, headers=(("authorization", b"Bearer x"),))
    read = list(hpack.Decoder().decode(headers))
    assert [(str(name), str(value)) for name, value in read] == [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/a/" + "b" * 300),
        (":authority", "h:1"),
        ("authorization", "Bearer x"),
    ]
    assert not read[-1].indexable


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (answer(1, b"good"), ""),
        (frame(1, 5, 1, block([*OK, ("grpc-status", "5")])), "unknown_model"),
        (answer(1, b"", [("grpc-status", "14"), ("grpc-message", "The batch queue is full%21")]), "busy"),
        (answer(1, b"", [("grpc-status", "8"), ("grpc-message", "expired")]), "expired"),
        (frame(1, 5, 1, block([(":status", "502"), ("content-type", "text/html")])), "gateway"),
        (frame(1, 4, 1, block([(":status", "413")])) + frame(0, 1, 1, b"<html>too large"), "too_large_for_gateway"),
        (frame(1, 4, 1, block([(":status", "200")])) + frame(0, 1, 1, b"<html>hello</html>"), "malformed"),
        (frame(1, 4, 1, block(OK)) + frame(0, 0, 1, message(b"half")[:-1]) + frame(1, 5, 1, block(DONE)), "malformed"),
        (frame(1, 4, 1, block(OK)) + frame(0, 0, 1, b"\1\0\0\0\0") + frame(1, 5, 1, block(DONE)), "malformed"),
        (frame(1, 4, 1, block(OK)) + frame(1, 5, 1, block(DONE)), "malformed"),
        (frame(1, 4, 1, block(OK)) + frame(1, 5, 1, block([("x", "y")])), "malformed"),
        (frame(1, 4, 1, block(OK)) + frame(1, 5, 1, block([("grpc-status", "none")])), "malformed"),
        (frame(1, 4, 1, block(OK)) + frame(1, 4, 1, block(OK)), "malformed"),
        (frame(1, 4, 1, b"\xff\xff\xff\xff"), "malformed"),
        (frame(1, 4, 1, b"\x3f\x21" + block(OK)), "malformed"),  # a table larger than allowed
        (frame(1, 4, 1, b"\xbe"), "malformed"),  # from a table that was said to be empty
        (frame(1, 4, 1, block(OK)) + frame(0, 0, 1, b"\0\x7f\xff\xff\xff"), "too_large_for_client"),
        (frame(3, 0, 1, b"\0\0\0\7"), AGAIN),
        (frame(3, 0, 1, b"\0\0\0\2"), "failed"),
        (frame(3, 0, 1, b"\0\0\0\x08"), "unfinished"),
        (frame(7, 0, 0, bytes(8)), AGAIN),
        (frame(5, 4, 1, bytes(8)), "malformed"),
        (frame(1, 4, 2, block(OK)), "malformed"),
        (frame(0, 0, 9, b"x"), "malformed"),
        (frame(9, 4, 1, b""), "malformed"),
        (frame(1, 0, 1, b"") + frame(6, 0, 0, bytes(8)), "malformed"),
        (frame(8, 0, 0, bytes(4)), "malformed"),
        (frame(8, 0, 0, b"\x7f\xff\xff\xff"), "malformed"),
        (frame(6, 0, 0, b"7 bytes"), "malformed"),
        (frame(4, 0, 0, b"7 bytes"), "malformed"),
        (b"\0\x7f\xff\0\0\0\0\0\1", "malformed"),
    ],
)
def test_what_comes_has_one_meaning(script: bytes, kind: str) -> None:
    answers = told(script, 1)
    assert [(each.stream, each.kind) for each in answers] == [(1, kind)]
    assert answers[0].message == b"good" if not kind else answers[0].message


def test_what_the_server_says_of_an_error_is_handed_on() -> None:
    told_so = told(answer(1, b"", [("grpc-status", "14"), ("grpc-message", "gr%C3%B6%C3%9Fe")]), 1, keeps=False)
    assert told_so == [CallEnd(1, "unreachable", "größe".encode())]
    gateways = told(frame(1, 5, 1, block([(":status", "502")])), 1, keeps=False)
    assert gateways == [CallEnd(1, "gateway", b"HTTP status 502")]


def test_a_server_that_speaks_http_1_is_another_program() -> None:
    connection = begun(2)
    assert [each.kind for each in connection.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n")] == ["malformed"] * 2
    assert connection.broken


def test_headers_without_end_do_not_fill_the_memory() -> None:
    endless = frame(1, 0, 1) + frame(9, 0, 1, bytes(16384)) * 17
    assert [each.kind for each in told(endless, 1)] == ["malformed"]


def test_calls_that_the_server_never_began_may_be_sent_again_and_the_others_are_answered() -> None:
    connection = begun()
    answers = connection.receive(
        SETTINGS + frame(7, 0, 0, struct.pack("!II", 3, 0)) + answer(1, b"a") + answer(3, b"b")
    )
    assert [(each.stream, each.kind) for each in answers] == [(5, AGAIN), (1, ""), (3, "")]
    assert connection.leaving
    assert connection.free_places == 0


def test_no_more_calls_are_begun_than_the_server_takes() -> None:
    connection = begun(2)
    connection.receive(SETTINGS + frame(4, 0, 0, struct.pack("!HI", 3, 3)))
    assert connection.free_places == 1


def test_pings_and_settings_are_acknowledged() -> None:
    connection, server = Http2Connection(), Received()
    connection.receive(SETTINGS + frame(6, 0, 0, b"12345678") + frame(6, 1, 0, b"not this"))
    server.take(sent(connection))
    assert server.acknowledged == [b"", b"12345678"]


def test_an_answer_before_the_request_is_sent_stops_the_sending() -> None:
    connection, server = Http2Connection(), Received()
    stream = connection.begin(Http2Request(BLOCK, b"x" * 100_000))
    answers = connection.receive(SETTINGS + frame(1, 5, stream, block([(":status", "413")])))
    assert [each.kind for each in answers] == ["too_large_for_gateway"]
    connection.receive(frame(8, 0, 0, struct.pack("!I", 1 << 20)) + frame(8, 0, stream, struct.pack("!I", 1 << 20)))
    server.take(sent(connection))
    assert server.resets == {stream: 8}
    assert len(server.messages[stream]) == 65535


def test_a_call_that_was_given_up_is_reset_and_its_answer_passed_over() -> None:
    connection = begun(2)
    connection.give_up(1)
    assert b"".join(connection.outgoing) == frame(3, 0, 1, b"\0\0\0\x08")
    assert [each.stream for each in connection.receive(SETTINGS + answer(1, b"late") + answer(3, b"b"))] == [3]


def test_the_window_for_answers_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npu_serving.load.http2_connection._REFILL", 100)
    connection = begun(1, keeps=False)
    assert connection.receive(SETTINGS + answer(1, b"x" * 200)) == [CallEnd(1, "")]
    assert b"".join(connection.outgoing).endswith(frame(8, 0, 0, struct.pack("!I", 205)))

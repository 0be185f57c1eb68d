"""Requests are cut out of a connection's bytes alike however these come, and other bytes are told from them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.recording.scanning import (
    HTTP2_PREFACE,
    EndedAnswers,
    Http1Scanner,
    Http2Scanner,
    NotFollowedError,
    scanner_for,
)

Request = tuple[bytes, bytes]


class Found:
    """What a scanner finds: heads, bodies as a whole, and which requests have ended."""

    def __init__(self, wanted: bool = True) -> None:
        self.wanted = wanted
        self.heads: list[tuple[int, bytes]] = []
        self.bodies: dict[int, bytes] = {}
        self.ends: list[tuple[int, bool]] = []

    def head(self, request: int, content: bytes) -> bool:
        self.heads.append((request, content))
        return self.wanted

    def body(self, request: int, piece: bytes | memoryview) -> None:
        self.bodies[request] = self.bodies.get(request, b"") + bytes(piece)

    def end(self, request: int, *, whole: bool) -> None:
        self.ends.append((request, whole))


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!IBI", len(payload) << 8 | kind, flags, stream) + payload


@st.composite
def http2_requests(draw: st.DrawFn) -> tuple[list[Request], bytes]:
    """Requests, and their frames: split, padded, with others between them."""
    asked = draw(st.lists(st.tuples(st.binary(min_size=1, max_size=30), st.binary(max_size=60)), max_size=4))
    streams: list[list[bytes]] = []
    for at, (head, body) in enumerate(asked):
        stream = 2 * at + 1
        cut = draw(st.integers(0, len(head)))
        padding, priority = draw(st.integers(0, 5)), draw(st.booleans())
        flags = (0x8 if padding else 0) | (0x20 if priority else 0)
        first = (bytes([padding]) if padding else b"") + (b"prior" if priority else b"") + head[:cut] + bytes(padding)
        frames = [frame(1, flags, stream, first) + frame(9, 0x4, stream, head[cut:])]
        cut = draw(st.integers(0, len(body)))
        for piece, ends in ((body[:cut], 0), (body[cut:], 1)):
            padding = draw(st.integers(0, 5))
            if padding:
                frames.append(frame(0, 0x8 | ends, stream, bytes([padding]) + piece + bytes(padding)))
            else:
                frames.append(frame(0, ends, stream, piece))
        streams.append(frames)
    data = HTTP2_PREFACE + frame(4, 0, 0, b"\0\1\0\0\0\0")
    while any(streams):
        frames = draw(st.sampled_from([frames for frames in streams if frames]))
        data += frames.pop(0)
        data += draw(
            st.sampled_from([b"", frame(6, 0, 0, bytes(8)), frame(8, 0, 0, b"\0\0\0\1"), frame(99, 7, 3, b"x")])
        )
    return asked, data


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[one:other] for one, other in zip(places, places[1:])]


CUTS = st.lists(st.integers(0, 10_000), max_size=12)


@given(made=http2_requests(), cuts=CUTS)
def test_requests_over_http2_are_the_same_in_whatever_pieces_they_come(
    made: tuple[list[Request], bytes], cuts: list[int]
) -> None:
    asked, data = made
    found, answers = Found(), EndedAnswers()
    scanner = Http2Scanner(found)
    for piece in pieces(data, cuts):
        scanner.feed(piece)
    for piece in pieces(data[len(HTTP2_PREFACE) :], cuts):
        answers.feed(piece)
    assert sorted(found.heads) == [(2 * at + 1, head) for at, (head, _) in enumerate(asked)]
    assert {number: body for number, body in found.bodies.items() if body} == {
        2 * at + 1: body for at, (_, body) in enumerate(asked) if body
    }
    assert sorted(found.ends) == [(2 * at + 1, True) for at in range(len(asked))]
    assert answers.count == len(asked)


@given(
    asked=st.lists(st.tuples(st.binary(max_size=50), st.sampled_from(["length", "chunks", "none"])), max_size=4),
    cuts=CUTS,
    before=st.sampled_from([b"", b"\r\n"]),
)
def test_requests_over_http1_are_the_same_in_whatever_pieces_they_come(
    asked: list[tuple[bytes, str]], cuts: list[int], before: bytes
) -> None:
    data, expected = b"", []
    for at, (body, form) in enumerate(asked):
        head = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\n"
        if form == "length":
            data += before + head + b"content-LENGTH: %d\r\n\r\n" % len(body) + body
        elif form == "chunks":
            parts = [part for part in (body[:7], body[7:]) if part]
            chunks = b"".join(b"%X;x=y\r\n%s\r\n" % (len(part), part) for part in parts)
            data += before + head + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunks + b"0\r\nTrailer: x\r\n\r\n"
        else:
            data += before + b"GET / HTTP/1.1\r\n\r\n"
            body = b""
        if body:
            expected.append((at + 1, body))
    found = Found()
    scanner = Http1Scanner(found)
    for piece in pieces(data, cuts):
        scanner.feed(piece)
    assert [number for number, _ in found.heads] == list(range(1, len(asked) + 1))
    assert sorted(found.bodies.items()) == expected
    assert found.ends == [(number, True) for number in range(1, len(asked) + 1)]


@given(data=st.binary(max_size=200), begin=st.sampled_from([b"", HTTP2_PREFACE, b"POST / HTTP/1.1\r\n"]), cuts=CUTS)
def test_any_other_bytes_are_followed_or_given_up_and_nothing_worse(data: bytes, begin: bytes, cuts: list[int]) -> None:
    found = Found()
    scanner, first = None, b""
    answers = EndedAnswers()
    try:
        for piece in pieces(begin + data, cuts):
            answers.feed(piece)
            if scanner is None:
                first += piece
                scanner = scanner_for(first, found)
                piece = first
            if scanner is not None:
                scanner.feed(piece)
    except NotFollowedError as error:
        assert str(error)


def test_a_body_that_is_not_wanted_is_not_shown() -> None:
    found = Found(wanted=False)
    Http2Scanner(found).feed(HTTP2_PREFACE + frame(1, 0x4, 1, b"h") + frame(0, 1, 1, b"body"))
    Http1Scanner(found).feed(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody")
    assert (found.bodies, found.ends, len(found.heads)) == ({}, [], 2)


def test_a_request_that_the_client_gives_up_is_not_whole() -> None:
    found = Found()
    Http2Scanner(found).feed(HTTP2_PREFACE + frame(1, 0x4, 1, b"h") + frame(0, 0, 1, b"bo") + frame(3, 0, 1, bytes(4)))
    assert found.ends == [(1, False)]


def test_what_follows_a_body_is_a_head_of_the_same_request() -> None:
    found = Found()
    Http2Scanner(found).feed(HTTP2_PREFACE + frame(1, 4, 1, b"h") + frame(0, 0, 1, b"b") + frame(1, 5, 1, b"t"))
    assert (found.heads, found.ends) == ([(1, b"h"), (1, b"t")], [(1, True)])


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x00\xa5",
        b"SSH-2.0-x\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
        b"CONNECT h:1 HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5000,
        b"G" * (1 << 20) + b"G",
        b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n",
        HTTP2_PREFACE + frame(9, 4, 1, b"h"),
        HTTP2_PREFACE + frame(1, 0, 1, b"h") + frame(1, 4, 3, b"h"),
        HTTP2_PREFACE + frame(1, 0xC, 1, b"\x09h"),
        HTTP2_PREFACE + frame(0, 0x8, 1, b"\x09h"),
        HTTP2_PREFACE + struct.pack("!IBI", (1 << 24) - 1 << 8 | 1, 4, 1),
        HTTP2_PREFACE + frame(1, 0, 1, b"h") + frame(9, 0, 1, b"h") * 1001,
    ],
)
def test_what_can_t_be_followed_is_given_up(data: bytes) -> None:
    found = Found()
    with pytest.raises(NotFollowedError):
        scanner = scanner_for(data, found)
        assert scanner is not None
        scanner.feed(data)

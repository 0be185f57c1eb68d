"""REST against servers and gateways that answer oddly; real models are asked in test_grpc_client.py."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from npu_serving.client.errors import (
    AnswerTooLargeError,
    BusyError,
    ClientError,
    DeadlineError,
    ExpiredError,
    FailedError,
    FromGatewayError,
    MalformedAnswerError,
    NotReachedError,
    NotSentError,
    RefusedError,
    TooLargeForGatewayError,
    UnknownModelError,
)
from npu_serving.client.rest_client import RestClient

ROOT = Path(__file__).parents[3]
TENSOR = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}]}}
SIGNATURE = {"inputs": {"x": TENSOR}, "outputs": {"y": TENSOR}}
METADATA = {
    "model_spec": {"name": "m", "version": "3"},
    "metadata": {"signature_def": {"signature_def": {"serving_default": SIGNATURE}}},
}
ANSWER = b'{"outputs": [2.0, NaN]}'


def reply(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def answering(*predictions: bytes, ends: bool = False) -> Iterator[tuple[str, list[bytes]]]:
    """A server whose answers to predictions are these bytes, one after the other; the heads that it got."""
    seen: list[bytes] = []
    left = list(predictions)

    def serve(line: socket.socket) -> None:
        with line, contextlib.suppress(OSError, IndexError):
            while True:
                data = b""
                while b"\r\n\r\n" not in data:
                    piece = line.recv(65536)
                    if not piece:
                        return
                    data += piece
                head, _, body = data.partition(b"\r\n\r\n")
                length = next(
                    (int(item[15:]) for item in head.split(b"\r\n") if item.lower().startswith(b"content-length:")), 0
                )
                while len(body) < length:
                    body += line.recv(65536)
                seen.append(head + b"\r\n\r\n" + body)
                if b"/metadata " in head:
                    line.sendall(reply(200, json.dumps(METADATA).encode()))
                    continue
                answer = left.pop(0)
                line.sendall(answer)
                if ends or not answer:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def test_connections_are_used_again_and_a_closed_one_is_noticed() -> None:
    closing = reply(200, ANSWER, "Connection: close")
    with (
        answering(reply(200, ANSWER), closing, reply(200, ANSWER), ends=False) as (url, seen),
        RestClient(url) as client,
    ):
        for _ in range(3):
            assert client.predict("m", {"x": [1.0, 2.0]})["y"][0] == 2.0
    assert json.loads(seen[1].partition(b"\r\n\r\n")[2]) == {
        "signature_name": "serving_default",
        "inputs": {"x": [1.0, 2.0]},
    }


def test_a_connection_that_the_server_has_ended_meanwhile_is_replaced() -> None:
    with answering(reply(200, ANSWER), reply(200, ANSWER), ends=True) as (url, _), RestClient(url) as client:
        for _ in range(2):
            assert client.predict("m", {"x": [1.0, 2.0]})["y"][0] == 2.0


def test_pieces_of_an_answer_are_put_together() -> None:
    pieces = b"".join(b"1\r\n%c\r\n" % letter for letter in ANSWER) + b"0\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces
    with answering(chunked) as (url, _), RestClient(url) as client:
        assert client.predict("m", {"x": [1.0, 2.0]})["y"][0] == 2.0


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (reply(400, b"{ \"error\": \"no \\'gr\\303\\266\\303\\237e\\'\" }"), RefusedError, "no 'größe'"),
        (reply(404, b'{"error": "Servable not found"}'), UnknownModelError, "Servable not found"),
        (reply(429, b'{"error": "expired"}'), ExpiredError, "expired"),
        (reply(500, b'{"error": "GE failed"}'), FailedError, "GE failed"),
        (reply(501, b'{"error": "half"}'), FailedError, "half"),
        (reply(503, b'{"error": "the queue is full"}'), BusyError, "queue"),
        (reply(504, b'{"error": "Timed out"}'), DeadlineError, "Timed out"),
        (reply(401, b"<html><title>Login</title>", "Server: nginx"), FromGatewayError, "Login"),
        (reply(403, b"no", "Server: nginx"), FromGatewayError, "403"),
        (reply(413, b"<html>", "Server: nginx"), TooLargeForGatewayError, "413"),
        (reply(429, b"slow down", "Server: nginx"), FromGatewayError, "429"),
        (reply(502, b'{"error": "x"}'), FromGatewayError, "502"),
        (reply(503, b"<html>", "Server: nginx"), FromGatewayError, "503"),
        (reply(504, b"<html>"), FromGatewayError, "504"),
        (reply(302, b"", "Location: https://sso.example/login?next=secret"), FromGatewayError, "it redirects to"),
        (reply(404, b"nothing here"), MalformedAnswerError, "no error in JSON"),
        (reply(200, b"hello"), MalformedAnswerError, "not JSON"),
        (reply(200, b"[" * 100_000), MalformedAnswerError, "nested too deeply"),
        (reply(200, b'{"outputs": ["a"]}'), MalformedAnswerError, "DT_FLOAT"),
        (reply(200, b'{"outputs": [[1], [2, 3]]}'), MalformedAnswerError, "DT_FLOAT"),
        (reply(200, b'{"predictions": [1]}'), MalformedAnswerError, "lacks 'outputs'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", NotReachedError, "broke off"),
        (b"", NotReachedError, "closed the connection"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\n\n\n", MalformedAnswerError, "no valid answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", MalformedAnswerError, "no valid answer"),
    ],
)  # fmt: skip
def test_each_answer_has_its_own_class(answer: bytes, kind: type[ClientError], said: str) -> None:
    with answering(answer, ends=True) as (url, _), RestClient(url) as client, pytest.raises(kind) as caught:
        client.predict("m", {"x": [1.0]})
    assert type(caught.value) is kind
    assert said in caught.value.what
    assert "secret" not in str(caught.value)
    assert caught.value.cure
    assert caught.value.model == "m"


def test_an_answer_over_the_limit_is_not_read_further() -> None:
    limit = 1_000_000
    with answering(reply(200, b" " * 2 * limit)) as (url, _), RestClient(url, max_message_bytes=limit) as client:
        client.metadata("m")
        with pytest.raises(AnswerTooLargeError, match="was not read further") as caught:
            client.predict("m", {"x": [1.0]})
    assert "max_message_bytes" in caught.value.cure


def test_an_answer_in_drops_ends_at_the_deadline() -> None:
    """A limit between two pieces of an answer would never be over."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as line:
                line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while True:
                    line.sendall(b" ")
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        begun = time.monotonic()
        with RestClient(f"http://127.0.0.1:{listener.getsockname()[1]}") as client, pytest.raises(DeadlineError):
            client.status("m", timeout_s=0.3)
        assert time.monotonic() - begun < 5


def test_nobody_there_is_told_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with (
        RestClient(f"http://127.0.0.1:{port}") as client,
        pytest.raises(NotReachedError, match=f"Nothing listens.*{port}"),
    ):
        client.status("m")


@pytest.mark.parametrize(
    "url", ["h:1", "ftp://h", "http://", "http://h:0", "http://h?x", "http://u:secret@h", "http://h h"]
)
def test_what_is_no_url_is_refused_and_no_password_shown(url: str) -> None:
    with pytest.raises(NotSentError, match="not the URL of a server") as caught:
        RestClient(url)
    assert "secret" not in str(caught.value)


def test_labels_and_empty_batches_that_json_can_not_say_are_refused_before_sending() -> None:
    with answering() as (url, seen), RestClient(url) as client:
        with pytest.raises(NotSentError, match="label"):
            client.predict("m", {"x": [1.0]}, label="stable")
        assert seen == []


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("variable", "value", "what"),
    [
        ("ALL_PROXY", "socks5://user:topsecret@p:1080", "a SOCKS proxy"),
        ("http_proxy", "http://user:top#secret@p:1", "not the URL of a proxy"),
        ("http_proxy", "ftp://p", "not an HTTP proxy"),
    ],
)
def test_a_proxy_that_can_not_be_used_is_named_without_its_password(
    proxied: pytest.MonkeyPatch, variable: str, value: str, what: str
) -> None:
    proxied.setenv(variable, value)
    with pytest.raises(NotSentError, match=what) as caught:
        RestClient("http://models.example:8501")
    assert variable in str(caught.value)
    assert "secret" not in str(caught.value)
    RestClient("http://localhost:8501")
    proxied.setenv("no_proxy", "example")
    RestClient("http://models.example:8501")


def test_plain_http_goes_through_a_proxy_by_whole_urls_with_its_login(proxied: pytest.MonkeyPatch) -> None:
    with answering(reply(200, ANSWER)) as (url, seen):
        proxied.setenv("http_proxy", url.replace("http://", "http://user:p%40ss@"))
        with RestClient("http://models.example:8501/prefix", headers=[("Authorization", "Bearer t")]) as client:
            assert client.predict("m", {"x": [1.0, 2.0]})["y"][0] == 2.0
    assert seen[1].startswith(b"POST http://models.example:8501/prefix/v1/models/m:predict HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in seen[1]
    assert b"Authorization: Bearer t\r\n" in seen[1]


def test_a_proxy_that_does_not_reach_the_server_is_named(proxied: pytest.MonkeyPatch) -> None:
    with answering(reply(503, b"<html>"), ends=True) as (url, _):
        proxied.setenv("http_proxy", url)
        with RestClient("http://models.example:8501") as client, pytest.raises(FromGatewayError) as caught:
            client.status("m")
        assert "the proxy of http_proxy" in caught.value.cause
    proxied.setenv("https_proxy", "http://127.0.0.1:9")
    with RestClient("https://models.example") as client, pytest.raises(NotReachedError, match="that https_proxy names"):
        client.status("m")


def test_https_is_tunnelled_through_a_proxy_that_refuses_by_its_own_words(proxied: pytest.MonkeyPatch) -> None:
    with answering(b"HTTP/1.1 407 Login first\r\n\r\n", ends=True) as (url, seen):
        proxied.setenv("https_proxy", url)
        with RestClient("https://models.example") as client, pytest.raises(NotReachedError, match="407 Login first"):
            client.status("m")
    assert seen[0].startswith(b"CONNECT models.example:443 HTTP/1.1\r\nHost: models.example:443\r\n")


FORKED = """
import os, sys
from npu_serving.client import RestClient
client = RestClient(sys.argv[1])
asked = lambda: float(client.predict("m", {"x": [1.0, 2.0]})["y"][0])
first = asked()
child = os.fork()
if not child:
    os._exit(int(asked()))
print(first, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), asked())
"""


def test_after_a_fork_the_connections_of_the_other_process_are_left_alone() -> None:
    with answering(*[reply(200, ANSWER)] * 3) as (url, _):
        words = [sys.executable, "-c", FORKED, url]
        ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.split() == ["2.0", "2", "2.0"], ran.stderr


def test_a_client_of_many_threads_answers_each(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    with answering(*[reply(200, ANSWER)] * 16) as (url, _), RestClient(url) as client:
        client.metadata("m")
        threads = [threading.Thread(target=lambda: found.append(client.predict("m", {"x": [1.0]}))) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 16

"""The gRPC client against a server of grpcio on loopback, whose messages protobuf reads and writes."""

from __future__ import annotations

import contextlib
import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from grpc_server import ModelServer, serving

from npu_serving.asking.grpc_client import predict
from npu_serving.asking.request import PredictRequest, read_request
from npu_serving.client import address
from npu_serving.client.model_spec import ModelSpec
from npu_serving.errors import GatewayError, NpuServingError, RequestError, ServerError, UnreachableError

ROWS = read_request("[[1, 2], [0.1, 4]]")


@pytest.fixture(scope="module")
def running() -> Iterator[ModelServer]:
    with serving(max_receive_message_length=-1, max_send_message_length=-1) as server:
        yield server


@pytest.fixture
def server(running: ModelServer) -> ModelServer:
    running.answer = None
    running.requests.clear()
    return running


def test_a_prediction_is_asked_and_answered_as_over_rest(server: ModelServer) -> None:
    found = predict(server.url, ModelSpec("m"), ROWS)
    assert (found.model, found.version, found.key, found.outputs) == ("m", 2, "predictions", [[2, 4], [0.2, 8]])
    (asked,) = server.requests
    assert (asked.model_spec.name, asked.model_spec.HasField("version")) == ("m", False)


def test_version_label_and_signature_reach_the_server(server: ModelServer) -> None:
    assert predict(server.url, ModelSpec("m", 1, "", "two"), read_request('[{"x": [1, 2], "n": 5}]')).outputs == [
        {"n": 5, "y": [2, 4]}
    ]
    predict(server.url, ModelSpec("m", None, "stable"), ROWS)
    predict(server.url, ModelSpec("m"), read_request('{"signature_name": "texts", "inputs": ["a"]}'))
    by_version, by_label, of_request = (asked.model_spec for asked in server.requests)
    assert (by_version.version.value, by_version.signature_name) == (1, "two")
    assert (by_label.version_label, by_label.HasField("version")) == ("stable", False)
    assert of_request.signature_name == "texts"


def test_texts_that_are_not_utf_8_arrive_as_base64(server: ModelServer) -> None:
    found = predict(server.url, ModelSpec("m", signature_name="texts"), read_request('["a", {"b64": "/w=="}]'))
    assert (found.outputs, found.in_bytes) == (["a", {"b64": "/w=="}], 1)


def test_more_than_grpcs_four_megabytes_pass_both_ways(server: ModelServer) -> None:
    rows = [[1.0, 2.0]] * 700_000
    assert predict(server.url, ModelSpec("m"), PredictRequest("instances", rows)).outputs == [[2, 4]] * 700_000


@pytest.mark.parametrize("spec", [ModelSpec("other"), ModelSpec("m", 9), ModelSpec("m", None, "canary")])
def test_an_unknown_model_version_or_label_is_named(server: ModelServer, spec: ModelSpec) -> None:
    with pytest.raises(RequestError, match=r"has no model .*Servable not found") as caught:
        predict(server.url, spec, ROWS)
    assert spec.name in caught.value.what
    assert spec.label in caught.value.what
    assert "that ./inv status shows" in caught.value.cure


def test_a_signature_that_the_model_lacks_is_answered_with_those_it_has(server: ModelServer) -> None:
    with pytest.raises(RequestError) as caught:
        predict(server.url, ModelSpec("m", signature_name="none"), ROWS)
    assert "only 'serving_default', 'texts', 'two'" in caught.value.cause
    assert not server.requests


def test_a_request_that_does_not_fit_is_not_sent(server: ModelServer) -> None:
    with pytest.raises(RequestError, match=r"has the shape \[1, 3\]"):
        predict(server.url, ModelSpec("m"), read_request("[[1, 2, 3]]"))
    assert not server.requests


def test_outputs_that_are_no_rows_have_a_cure_that_helps(server: ModelServer) -> None:
    from serving_messages import message_class

    answer = message_class("tensorflow.serving.PredictResponse")()
    for name, sizes in {"y": [1], "s": []}.items():
        answer.outputs[name].dtype = 3
        answer.outputs[name].int_val.append(7)
        for size in sizes:
            answer.outputs[name].tensor_shape.dim.add(size=size)
    server.answer = lambda _data, _context: answer.SerializeToString()
    with pytest.raises(RequestError, match="row by row") as caught:
        predict(server.url, ModelSpec("m"), ROWS)
    assert '{"inputs": ...}' in caught.value.cure
    found = predict(server.url, ModelSpec("m"), read_request('{"inputs": [[1, 2]]}'))
    assert found.outputs == {"s": 7, "y": [7]}


@pytest.mark.parametrize(
    ("code", "said", "kind", "what", "cure"),
    [
        ("INVALID_ARGUMENT", "Incompatible shapes", RequestError, "rejected the request", "type and shape"),
        ("FAILED_PRECONDITION", "no such key", RequestError, "rejected the request", "type and shape"),
        ("RESOURCE_EXHAUSTED", "expired in the queue", ServerError, "too busy", "fewer requests"),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 4194304)", ServerError, "takes no", "gateway"),
        ("UNAVAILABLE", "The batch scheduling queue is full", ServerError, "too busy", "max_enqueued_batches"),
        ("UNAVAILABLE", "gone", UnreachableError, "Got no answer", "gRPC port"),
        ("INTERNAL", "GE failed\n\x1b[31m", ServerError, "INTERNAL", "./inv status"),
        ("UNKNOWN", "", ServerError, "UNKNOWN", "./inv status"),
    ],
)
def test_each_status_has_its_own_cause_and_cure(
    server: ModelServer, code: str, said: str, kind: type[NpuServingError], what: str, cure: str
) -> None:
    def refuse(_data: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(getattr(grpc.StatusCode, code), said)
        raise AssertionError

    server.answer = refuse
    with pytest.raises(kind, match=what) as caught:
        predict(server.url, ModelSpec("m"), ROWS)
    assert cure in caught.value.cure
    assert "\x1b" not in str(caught.value)
    if kind is RequestError:
        assert "x: DT_FLOAT [-1, 2]" in caught.value.cause


def test_a_server_that_computes_too_long_is_not_waited_for_beyond_the_limit(server: ModelServer) -> None:
    done = threading.Event()
    server.answer = lambda _data, _context: bytes(not done.wait(30))
    try:
        with pytest.raises(ServerError, match=r"did not answer within 0\.1 s") as caught:
            predict(server.url, ModelSpec("m"), ROWS, timeout_s=0.1)
        assert "compiles the model" in caught.value.cause
    finally:
        done.set()


def test_a_gateway_that_takes_four_megabytes_is_named() -> None:
    with serving() as server, pytest.raises(ServerError, match=r"takes no request of 5\.6 MB") as caught:
        predict(server.url, ModelSpec("m"), PredictRequest("instances", [[1.0, 2.0]] * 700_000))
    assert "4.2 MB" in caught.value.cause


@pytest.mark.parametrize("answer", [b"\xff", b"\x0a\x7f", b"\x0a\x05\x0a\x01y\x12\x00"])
def test_an_answer_that_is_another_message_is_told_as_such(server: ModelServer, answer: bytes) -> None:
    server.answer = lambda _data, _context: answer
    with pytest.raises(ServerError, match="not TensorFlow Serving's gRPC API: its answer is not"):
        predict(server.url, ModelSpec("m"), ROWS)


def test_a_grpc_server_of_another_service_is_told_as_such() -> None:
    with serving({}) as server, pytest.raises(ServerError, match="does not know tensorflow"):
        predict(server.url, ModelSpec("m"), ROWS)


def test_a_refused_connection_names_the_address_and_the_cure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UnreachableError, match=f"Nothing listens at grpc://127.0.0.1:{port}") as caught:
        predict(f"grpc://127.0.0.1:{port}", ModelSpec("m"), ROWS)
    assert "./inv serve" in caught.value.cure


def test_the_rest_port_is_told_from_the_grpc_port() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as web:
        threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            with pytest.raises(ServerError, match="not TensorFlow Serving's gRPC API") as caught:
                predict(f"grpc://127.0.0.1:{web.server_port}", ModelSpec("m"), ROWS)
        finally:
            web.shutdown()
    assert "gRPC port of the server" in caught.value.cure


@contextmanager
def gateway(status: bytes) -> Iterator[int]:
    """A server of HTTP/2 that answers a request with that status and nothing else; without one, it ends."""

    def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def answer(listener: socket.socket) -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            connection.sendall(frame(4, 0, 0) + frame(4, 1, 0))  # SETTINGS, and the acknowledgement of theirs
            seen = b""
            while b"/tensorflow.serving" not in seen:
                seen += connection.recv(65536)
            if not status:
                return
            # HEADERS that end the stream; the name :status is number 8 of HPACK's table
            connection.sendall(frame(1, 5, 1, b"\x08\x03" + status))
            while connection.recv(65536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]


def test_a_server_that_ends_at_a_request_is_told_from_one_that_is_not_there() -> None:
    with gateway(b"") as port, pytest.raises(UnreachableError, match="closed the connection before") as caught:
        predict(f"grpc://127.0.0.1:{port}", ModelSpec("m"), ROWS)
    assert "./inv status" in caught.value.cure


@pytest.mark.parametrize("status", [b"401", b"403", b"404", b"502", b"503"])
def test_a_gateway_that_answers_in_the_servers_place_is_told_from_the_server(status: bytes) -> None:
    with gateway(status) as port, pytest.raises(GatewayError, match=f"HTTP status {status.decode()}") as caught:
        predict(f"grpc://127.0.0.1:{port}", ModelSpec("m"), ROWS)
    assert "own gRPC port" in caught.value.cure


def test_a_proxy_that_answers_in_the_servers_place_is_named_with_the_way_past_it(monkeypatch) -> None:
    # A name that is this machine's to its resolver, and not to the rule for loopback addresses.
    monkeypatch.setattr(address, "is_this_machine", lambda _host: False)
    for name in ("no_proxy", "NO_PROXY", "grpc_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with gateway(b"503") as port:
        with pytest.raises(UnreachableError, match="Got no answer") as refused:
            predict(f"grpc://127.0.0.1:{port}", ModelSpec("m"), ROWS)
        assert "http_proxy" in refused.value.cause
        assert "add 127.0.0.1 to no_proxy" in refused.value.cure
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(GatewayError, match="HTTP status 503"):
            predict(f"grpc://127.0.0.1:{port}", ModelSpec("m"), ROWS)


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_a_proxy_is_not_asked_for_this_machine(server: ModelServer, monkeypatch, name: str) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert predict(server.url, ModelSpec("m"), ROWS).version == 2


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (ModelSpec(""), "name is empty"),
        (ModelSpec("\udcff"), "can't be written in UTF-8"),
        (ModelSpec("m", -1), "can't be -1"),
        (ModelSpec("m", 2**63), "can't be"),
        (ModelSpec("m", 1, "stable"), "--version and --label"),
    ],
)
def test_what_no_message_can_say_is_refused(spec: ModelSpec, what: str) -> None:
    with pytest.raises(RequestError, match=what):
        predict("grpc://127.0.0.1:9", spec, ROWS)


def test_grpc_and_numpy_are_not_loaded_before_something_is_asked() -> None:
    code = "import sys, npu_serving.asking.grpc_client; assert not {'grpc', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

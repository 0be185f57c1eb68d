"""The REST client against a server on loopback that answers as TensorFlow Serving 1.15.0 does, byte for byte."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import math
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.asking import rest_client
from npu_serving.asking.answers import status_table
from npu_serving.asking.request import PredictRequest
from npu_serving.asking.rest_client import model_metadata, model_status, predict
from npu_serving.client.http_answers import error_message
from npu_serving.errors import GatewayError, NpuServingError, RequestError, ServerError, UnreachableError

# As MessageToJsonString() and http_rest_api_handler.cc write them.
STATUS = b"""{
 "model_version_status": [
  {
   "version": "3",
   "state": "LOADING",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  },
  {
   "version": "9007199254740993",
   "state": "END",
   "status": {
    "error_code": "NOT_FOUND",
    "error_message": "no such tags"
   }
  }
 ]
}
"""
METADATA = b"""{
"model_spec":{
 "name": "m",
 "signature_name": "",
 "version": "123"
}
,
"metadata": {"signature_def": {
 "signature_def": {
  "serving_default": {
   "inputs": {
    "x": {
     "dtype": "DT_FLOAT",
     "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}], "unknown_rank": false},
     "name": "x:0"
    }
   },
   "outputs": {
    "y": {"dtype": "DT_INT64", "tensor_shape": {"dim": [], "unknown_rank": true}, "name": "y:0"}
   },
   "method_name": "tensorflow/serving/predict"
  }
 }
}
}
}
"""


@dataclass
class Teller:
    """Answers each (method, path) with the status and body it was given, and keeps what it was asked."""

    url: str = ""
    answers: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)


@pytest.fixture
def teller() -> Iterator[Teller]:
    told = Teller()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            told.asked.append((self.command, self.path, body))
            code, answer = told.answers.get((self.command, self.path), (404, b"<html>no such page</html>"))
            self.send_response(code)
            if code == 302:
                self.send_header("Location", "/login")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield told
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def talker(reply: bytes) -> Iterator[str]:
    """A port where something listens that answers with these bytes, or says nothing for b""."""
    done = threading.Event()

    def talk() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                if reply:
                    connection.recv(1 << 16)
                    connection.sendall(reply)
                else:
                    done.wait()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=talk)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


@contextlib.contextmanager
def repeater(begin: bytes, again: bytes) -> Iterator[str]:
    """A port where something listens that sends the beginning, and then the rest again and again until nobody reads."""
    done = threading.Event()

    def talk() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(begin)
                while again and not done.is_set():
                    connection.sendall(again)
                done.wait()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            done.set()


def rows(*values: object) -> PredictRequest:
    return PredictRequest("instances", list(values))


# ---- status


def test_the_state_is_read_from_the_body_though_the_answer_is_200(teller: Teller) -> None:
    teller.answers["GET", "/v1/models/m"] = (200, STATUS)
    status = model_status(teller.url, "m")
    assert [(item.version, item.state) for item in status.versions] == [(9007199254740993, "END"), (3, "LOADING")]
    assert not status.available
    assert not status.failed
    assert "no such tags" in status_table(status)
    assert status.to_json()["available"] is False


def test_a_model_with_one_available_version_is_available(teller: Teller) -> None:
    teller.answers["GET", "/v1/models/m"] = (200, STATUS.replace(b"LOADING", b"AVAILABLE"))
    status = model_status(teller.url + "/", "m")
    assert status.available


def test_one_version_is_asked_for_by_its_number(teller: Teller) -> None:
    teller.answers["GET", "/v1/models/m/versions/3"] = (200, STATUS)
    assert model_status(teller.url, "m", 3).model == "m"


@pytest.mark.parametrize("name", ["a/b", "a b", "é", "a?b", "a#b", "a%b", 'a"b'])
def test_a_name_is_one_part_of_the_url_whatever_it_holds(teller: Teller, name: str) -> None:
    with pytest.raises(ServerError):
        model_status(teller.url, name)
    path = teller.asked[0][1]
    assert path.count("/") == 3
    assert not set(path) & set(' ?#"')


def test_a_name_that_needs_no_quoting_is_sent_as_it_is_because_the_server_does_not_decode(teller: Teller) -> None:
    teller.answers["GET", "/v1/models/a@b+c,d=e_f~g"] = (200, STATUS)
    model_status(teller.url, "a@b+c,d=e_f~g")


def test_an_unknown_model_is_named_with_what_the_server_said(teller: Teller) -> None:
    teller.answers["GET", "/v1/models/m"] = (404, b'{ "error": "Could not find any versions of model m" }')
    with pytest.raises(RequestError, match=r"no model 'm' \(Could not find any versions of model m") as caught:
        model_status(teller.url, "m")
    assert "./inv status shows" in caught.value.cure
    teller.answers["GET", "/v1/models/m/versions/7"] = (404, b'{ "error": "Could not find version 7 of model m" }')
    with pytest.raises(RequestError, match="no model 'm' in version 7") as caught:
        model_status(teller.url, "m", 7)
    # a next step repeats --version, unless the step names it
    assert caught.value.cure == "name with --version one that ./inv status m lists"


def test_a_name_that_the_server_can_not_decode_is_explained(teller: Teller) -> None:
    teller.answers["GET", "/v1/models/a%20b"] = (404, b'{ "error": "Could not find any versions of model a%20b" }')
    with pytest.raises(RequestError) as caught:
        model_status(teller.url, "a b")
    assert "does not decode" in caught.value.cause


# ---- something else answers, or nothing


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (200, b"<html>welcome</html>"),
        (200, b""),
        (200, b"\xff\xfe"),
        (200, b"[" * 100_000),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"model_version_status": [1]}'),
        (200, b'{"model_version_status": [{"version": "x", "state": "END"}]}'),
        (200, b'{"model_version_status": [{"version": "1", "state": "END", "status": 3}]}'),
        (404, b"<html>no such page</html>"),
        (418, b""),
    ],
)
def test_an_answer_of_another_program_is_told_from_a_model_server(teller: Teller, code: int, body: bytes) -> None:
    teller.answers["GET", "/v1/models/m"] = (code, body)
    with pytest.raises(ServerError, match="not TensorFlow Serving"):
        model_status(teller.url, "m")


def test_a_redirection_is_not_followed(teller: Teller) -> None:
    teller.answers["GET", "/v1/models/m"] = (302, b"")
    teller.answers["GET", "/login"] = (200, STATUS)
    with pytest.raises(ServerError, match="HTTP status 302"):
        model_status(teller.url, "m")
    assert len(teller.asked) == 1


@pytest.mark.parametrize("body", [b"{}", b'{"metadata": 1}', METADATA.replace(b'"2"', b'"two"')])
def test_metadata_of_another_shape_are_told(teller: Teller, body: bytes) -> None:
    teller.answers["GET", "/v1/models/m/metadata"] = (200, body)
    with pytest.raises(ServerError, match="not TensorFlow Serving"):
        model_metadata(teller.url, "m")


def test_a_refused_connection_names_the_address_and_the_cure() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(ServerError, match=f"Nothing listens at {url}") as caught:
            model_status(url, "m")
    assert "./inv serve" in caught.value.cure


def test_a_port_that_does_not_speak_http_is_told() -> None:
    http2_settings = b"\0\0\6\4\0\0\0\0\0\0\5\0\0\x40\0\r\n\r\n"
    with talker(http2_settings) as url, pytest.raises(ServerError, match="no valid answer") as caught:
        model_status(url, "m")
    assert "gRPC" in caught.value.cause


def test_a_server_that_says_nothing_is_not_waited_for_beyond_the_limit() -> None:
    with talker(b"") as url, pytest.raises(ServerError, match=r"did not answer within 0\.2 s"):
        model_status(url, "m", timeout_s=0.2)


def test_a_server_that_ends_at_a_request_is_told_from_one_that_speaks_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def dies() -> None:
            connection, _ = listener.accept()
            connection.recv(1 << 16)
            connection.close()

        thread = threading.Thread(target=dies)
        thread.start()
        with pytest.raises(UnreachableError, match="closed the connection before it had answered") as caught:
            predict(url, "m", rows(1))
        thread.join()
    assert "has ended at this request" in caught.value.cause
    assert f"./inv status MODEL --url {url}" in caught.value.cure


def test_an_answer_that_breaks_off_is_told() -> None:
    broken = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
    with talker(broken) as url, pytest.raises(UnreachableError, match="broke off its answer") as caught:
        model_status(url, "m")
    assert "has ended while it answered" in caught.value.cause


@pytest.mark.parametrize(
    "location", ["http://[::1/x", "https://me:geheim@h[oops/", "http://h:99999999/\xff", "//", "\x1b[31m"]
)
def test_a_redirection_to_what_is_no_url_is_told_and_never_read_as_one(location: str) -> None:
    reply = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location.encode("latin-1") + b"\r\n\r\n"
    with talker(reply) as url, pytest.raises(GatewayError, match=r"it redirects|HTTP status 302") as caught:
        model_status(url, "m")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b""),
    ],
    ids=["100 Continue", "drops", "nothing more"],
)
def test_an_answer_that_never_ends_is_not_waited_for_beyond_the_limit(
    begin: bytes, again: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_client, "SECONDS_TO_CONNECT", 0.2)
    with repeater(begin, again) as url, pytest.raises(ServerError, match=r"did not answer within 0\.3 s"):
        model_status(url, "m", timeout_s=0.3)


@pytest.mark.parametrize("bound", ["MOST_STATUS_BYTES", "MOST_PREDICTED_BYTES"])
def test_an_answer_longer_than_any_model_gives_is_not_read_into_memory(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_client, bound, 1 << 20)
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    with repeater(endless, b"[" * 4096) as url, pytest.raises(ServerError, match=r"longer than 1\.0 MB") as caught:
        if bound == "MOST_STATUS_BYTES":
            model_status(url, "m")
        else:
            predict(url, "m", rows(1))
    assert "fewer instances" in caught.value.cure


def test_an_unknown_host_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ServerError, match=r"no-such-host\.invalid"):
        model_status("http://no-such-host.invalid:1", "m")


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8501", "ftp://host", "http://", "http://host:port", "http://[::1", "http://host:99999",
     "http://host/?q", "http://" + "a" * 70 + ".invalid", "http://a..b"],
)  # fmt: skip
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(NpuServingError):
        model_status(url, "m")


@pytest.mark.parametrize(("model", "version"), [("", None), ("m", -1), ("\ud800", None)])
def test_names_and_versions_that_can_not_be_are_refused(model: str, version: int | None) -> None:
    with pytest.raises(RequestError):
        model_status("http://127.0.0.1:1", model, version)


def test_no_proxy_is_asked_for_the_machine_itself(teller: Teller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    teller.answers["GET", "/v1/models/m"] = (200, STATUS)
    assert model_status(teller.url, "m").versions
    assert model_status(teller.url.replace("127.0.0.1", "localhost"), "m").versions
    with pytest.raises(ServerError, match="proxy"):
        model_status("http://192.0.2.1:8501", "m")


@pytest.mark.parametrize(
    ("variable", "proxy"),
    [
        ("ALL_PROXY", "socks5://me:geheim@127.0.0.1:1080"),
        ("all_proxy", "socks5h://127.0.0.1:1080"),
        ("http_proxy", "http://me:ge#heim@127.0.0.1:3128"),
        ("http_proxy", "me:ge/heim@127.0.0.1:3128"),
        ("http_proxy", "http://[::1"),
        ("http_proxy", "http://"),
        ("http_proxy", "ftp://127.0.0.1:21"),
    ],
)
def test_a_proxy_that_can_not_be_used_is_named_in_place_of_a_url_that_is_right(
    teller: Teller, monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(RequestError) as caught:
        model_status("http://192.0.2.1:8501", "m")
    assert variable in caught.value.what
    assert "is not the URL of a server" not in str(caught.value)
    assert "heim" not in str(caught.value)
    assert "add 192.0.2.1 to no_proxy" in caught.value.cure
    monkeypatch.setenv("no_proxy", "127.0.0.1,192.0.2.1,model-server.example")  # the cure, for a host that answers
    teller.answers["GET", "/v1/models/m"] = (200, STATUS)
    monkeypatch.setattr("npu_serving.proxies.is_this_machine", lambda host: False)
    assert model_status(teller.url, "m").versions


@pytest.mark.parametrize(
    "url", ["htp://me:geheim@host", "http://me:ge#heim@host:1", "me:geheim@host:1", "//me:geheim@h"]
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(RequestError, match="not the URL of a server") as caught:
        model_status(url, "m")
    assert "heim" not in caught.value.what


@pytest.mark.parametrize("answer", [(503, b"<html>"), (403, b"denied"), (200, b"<html>"), (404, b"<html>")])
def test_a_proxy_that_answers_for_a_server_is_named_with_the_way_past_it(
    teller: Teller, answer: tuple[int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", teller.url)
    teller.answers["GET", "http://models.example:8501/v1/models/m"] = answer
    with pytest.raises(ServerError) as caught:
        model_status("http://models.example:8501", "m")
    assert "it is the proxy of http_proxy" in caught.value.cause
    assert caught.value.cure.startswith("export no_proxy=models.example ")
    monkeypatch.setenv("no_proxy", "models.example")
    with pytest.raises(ServerError) as direct:
        model_status("http://models.example:8501", "m")
    assert "http_proxy" not in str(direct.value)


def test_a_password_for_the_machine_in_netrc_is_not_sent(
    teller: Teller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    seen: list[object] = []
    monkeypatch.setattr("npu_serving.proxies.is_this_machine", lambda host: False)
    monkeypatch.setenv("no_proxy", "*")
    original = http.server.BaseHTTPRequestHandler.parse_request

    def parse(self: http.server.BaseHTTPRequestHandler) -> bool:
        ok = original(self)
        seen.append(self.headers.get("Authorization"))
        return ok

    monkeypatch.setattr(http.server.BaseHTTPRequestHandler, "parse_request", parse)
    teller.answers["GET", "/v1/models/m"] = (200, STATUS)
    model_status(teller.url, "m")
    assert seen == [None]


# ---- metadata


def test_the_signatures_are_read_with_types_and_shapes(teller: Teller) -> None:
    teller.answers["GET", "/v1/models/m/metadata"] = (200, METADATA)
    metadata = model_metadata(teller.url, "m")
    (signature,) = metadata.signatures
    assert (metadata.version, signature.name) == (123, "serving_default")
    assert [item.text() for item in signature.inputs] == ["x: DT_FLOAT [-1, 2]"]
    assert [item.text() for item in signature.outputs] == ["y: DT_INT64 of any rank"]
    assert metadata.what_it_takes("") == "the signature 'serving_default' takes x: DT_FLOAT [-1, 2]"


# ---- predictions


def test_rows_are_answered_by_predictions_and_columns_by_outputs(teller: Teller) -> None:
    teller.answers["POST", "/v1/models/m:predict"] = (200, b'{\n "predictions": [3.5, [4.0]]\n}')
    prediction = predict(teller.url, "m", rows(1.0, 2.0))
    assert prediction.outputs == [3.5, [4.0]]
    assert prediction.text().split("\n")[:2] == ["3.5", "[4.0]"]
    teller.answers["POST", "/v1/models/m/versions/7:predict"] = (200, b'{"outputs": {"y": [1], "z": ["\xc3\xa9"]}}')
    prediction = predict(teller.url, "m", PredictRequest("inputs", {"x": [1]}), signature_name="s", version=7)
    assert prediction.to_json()["outputs"] == {"y": [1], "z": ["é"]}
    assert prediction.text().split("\n")[:2] == ["y: [1]", 'z: ["é"]']
    assert [json.loads(body) for _, _, body in teller.asked] == [
        {"instances": [1.0, 2.0]},
        {"signature_name": "s", "inputs": {"x": [1]}},
    ]


def test_nan_and_the_infinities_go_there_and_come_back_and_json_stays_valid(teller: Teller) -> None:
    teller.answers["POST", "/v1/models/m:predict"] = (200, b'{"predictions": [NaN, [Infinity], {"y": -Infinity}, 1.5]}')
    prediction = predict(teller.url, "m", rows(math.nan, math.inf, -math.inf))
    assert teller.asked[0][2] == b'{"instances":[NaN,Infinity,-Infinity]}'
    text = json.dumps(prediction.to_json(), allow_nan=False)
    assert json.loads(text)["predictions"] == ["NaN", ["Infinity"], {"y": "-Infinity"}, 1.5]
    assert prediction.text().startswith("NaN\n[Infinity]\n")


def test_a_refused_request_is_told_with_what_the_signature_takes(teller: Teller) -> None:
    refusal = rb"""{ "error": "JSON Value: \"a\" Type: String is not of expected type: float" }"""
    teller.answers["POST", "/v1/models/m:predict"] = (400, refusal)
    teller.answers["GET", "/v1/models/m/metadata"] = (200, METADATA)
    with pytest.raises(RequestError, match=r'rejected the request \(JSON Value: "a" Type: String') as caught:
        predict(teller.url, "m", rows("a"))
    assert caught.value.cause == "the signature 'serving_default' takes x: DT_FLOAT [-1, 2]"
    with pytest.raises(RequestError) as caught:
        predict(teller.url, "m", rows("a"), signature_name="other")
    assert caught.value.cause == "the model has no signature 'other', only 'serving_default'"


def test_a_refused_request_is_told_where_the_metadata_can_not_be_had(teller: Teller) -> None:
    teller.answers["POST", "/v1/models/m:predict"] = (400, b'{ "error": "no" }')
    with pytest.raises(RequestError, match=r"rejected the request \(no"):
        predict(teller.url, "m", rows(1))


def test_an_error_that_json_can_not_read_is_read_as_the_server_escaped_it(teller: Teller) -> None:
    refusal = rb"""{ "error": "Missing \'inputs\' or \'instances\' key in \303\251\n\"x\"" }"""
    with pytest.raises(json.JSONDecodeError):
        json.loads(refusal)
    teller.answers["POST", "/v1/models/m:predict"] = (400, refusal)
    with pytest.raises(RequestError) as caught:
        predict(teller.url, "m", rows(1))
    assert "Missing 'inputs' or 'instances' key in é\n\"x\"" in caught.value.what


def c_escaped(data: bytes) -> bytes:
    """What absl::CEscape makes of the bytes."""
    letters = {10: b"\\n", 13: b"\\r", 9: b"\\t", 34: b'\\"', 39: b"\\'", 92: b"\\\\"}
    return b"".join(letters.get(b) or (bytes([b]) if 32 <= b < 127 else b"\\%03o" % b) for b in data)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_message_is_read_back(message: str) -> None:
    assert error_message(b'{ "error": "' + c_escaped(message.encode()) + b'" }') == message


def test_a_prediction_that_fails_in_the_server_is_no_fault_of_the_request(teller: Teller) -> None:
    teller.answers["POST", "/v1/models/m:predict"] = (503, b'{ "error": "the NPU is lost" }')
    with pytest.raises(ServerError, match=r"HTTP status 503 \(the NPU is lost"):
        predict(teller.url, "m", rows(1))


@pytest.mark.parametrize(
    ("value", "data"),
    [("\u4f60\u597d".encode("gbk"), b"\xc4\xe3\xba\xc3"), (b"\x89PNG\xff\\u0000", b"\x89PNG\xff\0"),
     (b"\\ud83d", b"\xed\xa0\xbd"), (b"\\udcff", b"\xff")],
)  # fmt: skip
def test_an_answer_that_is_not_utf8_keeps_the_prediction_and_json_stays_valid(
    teller: Teller, value: bytes, data: bytes
) -> None:
    body = b'{"predictions": [{"label": "' + value + b'", "score": 0.5, "text": "\xc3\xa9"}]}'
    teller.answers["POST", "/v1/models/m:predict"] = (200, body)
    prediction = predict(teller.url, "m", rows(1))
    (answer,) = json.loads(json.dumps(prediction.to_json(), ensure_ascii=False).encode())["predictions"]
    assert base64.b64decode(answer["label"]["b64"]) == data
    assert (answer["score"], answer["text"]) == (0.5, "\u00e9")
    assert prediction.to_json()["not_utf8"] == 1
    assert "1 value is not UTF-8 text but bytes" in prediction.text()
    prediction.text().encode()


def test_a_name_or_a_status_that_is_not_utf8_is_no_traceback(teller: Teller) -> None:
    teller.answers["POST", "/v1/models/m:predict"] = (200, b'{"outputs": {"\xff": ["\xfe"]}}')
    prediction = predict(teller.url, "m", PredictRequest("inputs", {"x": [1]}))
    json.dumps(prediction.to_json(), ensure_ascii=False).encode()
    teller.answers["GET", "/v1/models/m"] = (200, STATUS.replace(b"no such tags", b"\xff\xfe"))
    status = model_status(teller.url, "m")
    (status_table(status) + json.dumps(status.to_json(), ensure_ascii=False)).encode()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (401, "asks for a login"),
        (403, "forbids this request, or the model reads a file"),
        (429, "batching queue"),
        (501, "no way to write this type"),
        (503, "batching queue"),
        (504, "rest_api_timeout_in_ms"),
    ],
)
def test_the_servers_own_refusals_are_told_from_a_gateways_by_their_body(teller: Teller, code: int, said: str) -> None:
    teller.answers["POST", "/v1/models/m:predict"] = (code, rb"""{ "error": "can\'t: \303\266" }""")
    with pytest.raises(
        ServerError, match=rf"The server answered \S+ with HTTP status {code} \(can't: \u00f6\)"
    ) as caught:
        predict(teller.url, "m", rows(1))
    assert said in caught.value.cause
    assert caught.value.cure
    assert [method for method, _, _ in teller.asked] == ["POST"], "it is not sent again unasked"


@pytest.mark.parametrize("answer", [(200, b'{"outputs": [1]}'), (200, b"[1]"), (400, b"<html>")])
def test_a_prediction_of_another_program_is_told(teller: Teller, answer: tuple[int, bytes]) -> None:
    teller.answers["POST", "/v1/models/m:predict"] = answer
    with pytest.raises(ServerError, match="not TensorFlow Serving"):
        predict(teller.url, "m", rows(1))

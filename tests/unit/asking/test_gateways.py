"""What a real nginx and a real haproxy answer in a model server's place, and whether the cures help."""

from __future__ import annotations

import contextlib
import getpass
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gateways import spare_ports, started

from npu_serving.asking.gateways import gateway_error
from npu_serving.asking.request import PredictRequest
from npu_serving.asking.rest_client import model_status, predict
from npu_serving.client.http_answers import HttpAnswer
from npu_serving.errors import GatewayError, RequestError, ServerError

STATUS = b'{"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {}}]}'
LARGE = PredictRequest("instances", ["x" * 4000])
SMALL = PredictRequest("instances", [1])

NGINX = """
user USER;
daemon off;
pid nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  limit_req_zone $binary_remote_addr zone=few:1m rate=1r/m;
  server {
    listen 127.0.0.1:PORT;
    location /login/ { auth_basic "models"; auth_basic_user_file users; proxy_pass http://127.0.0.1:MODEL/; }
    location /forbidden/ { deny all; }
    location /small/ { client_max_body_size 1k; proxy_pass http://127.0.0.1:MODEL/; }
    location /raised/ { client_max_body_size 100m; proxy_pass http://127.0.0.1:MODEL/; }
    location /dead/ { proxy_pass http://127.0.0.1:1/; }
    location /slow/ { proxy_read_timeout 200ms; proxy_pass http://127.0.0.1:SILENT/; }
    location /down/ { return 503; }
    location /often/ { limit_req zone=few; limit_req_status 429; proxy_pass http://127.0.0.1:MODEL/; }
    location /moved/ { rewrite ^/moved(/.*)$ $scheme://$host:PORT/raised$1 redirect; }
    location /sso/ { return 302 /oauth/login?state=SECRET; }
    location /page/ { default_type text/html; return 200 "<html><head><title>Sign in</title></head></html>"; }
  }
}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 200ms
frontend models
  bind 127.0.0.1:PORT
  http-request deny deny_status 403 if { path_beg /forbidden/ }
  http-request auth if { path_beg /login/ }
  http-request deny deny_status 429 if { path_beg /often/ }
  redirect prefix http://127.0.0.1:MODEL code 301 if { path_beg /v1/models/moved }
  use_backend down if { path_beg /down/ }
  use_backend dead if { path_beg /dead/ }
  use_backend slow if { path_beg /slow/ }
  default_backend model
backend model
  server one 127.0.0.1:MODEL
backend down
backend dead
  retries 0
  server one 127.0.0.1:NOHTTP
backend slow
  server one 127.0.0.1:SILENT
"""


class Model(http.server.BaseHTTPRequestHandler):
    """A model server behind them, whose answers differ from each gateway's."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(STATUS)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b'{"predictions": [7]}')

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, str]]:
    """MODEL answers, SILENT takes a connection and says nothing, NOHTTP says nonsense, PORT is free."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        nonsense = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=_talk, args=(nonsense,), daemon=True).start()
        names = {"MODEL": server.server_port, "SILENT": silent.getsockname()[1], "NOHTTP": nonsense.getsockname()[1]}
        yield {name: str(port) for name, port in names.items()}
        server.shutdown()


def _talk(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)  # closed with a request unread, the connection would be reset
                connection.sendall(b"\0\0\6\4\0\0\0\0\0\0\5\0\0\x40\0")  # as a gRPC port begins


@contextlib.contextmanager
def running(name: str, directory: Path, config: str, ports: dict[str, str]) -> Iterator[str]:
    (port,) = spare_ports(1)
    for key, value in {**ports, "PORT": str(port), "USER": getpass.getuser()}.items():
        config = config.replace(key, value)
    (directory / "users").write_text("me:{PLAIN}secret\n")
    with started(name, directory, config, [port]):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, str]) -> Iterator[str]:
    with running("nginx", tmp_path_factory.mktemp("nginx"), NGINX, ports) as url:
        yield url


@pytest.fixture(scope="module")
def haproxy(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, str]) -> Iterator[str]:
    with running("haproxy", tmp_path_factory.mktemp("haproxy"), HAPROXY, ports) as url:
        yield url


def refused(url: str, request: PredictRequest = SMALL) -> GatewayError:
    with pytest.raises(GatewayError, match="in the model server's place") as caught:
        predict(url, "m", request)
    return caught.value


@pytest.mark.parametrize(
    ("place", "status", "said"),
    [
        ("login", 401, "asks for a login"),
        ("forbidden", 403, "forbids"),
        ("none", 404, "has nothing at this path"),
        ("dead", 502, "got no valid answer from the model server"),
        ("down", 503, "has no model server"),
        ("slow", 504, "gave up waiting"),
    ],
)
def test_what_nginx_says_is_told_as_a_gateways_with_status_and_name(
    nginx: str, place: str, status: int, said: str
) -> None:
    for error in (refused(f"{nginx}/{place}"), _status_refused(f"{nginx}/{place}")):
        assert f"HTTP status {status} (" in error.what
        assert "Server: nginx/" in error.what
        assert f"the gateway {said}" in error.cause
        assert error.cause
        assert error.cure
        assert "not TensorFlow Serving" not in str(error)


def _status_refused(url: str) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        model_status(url, "m")
    return caught.value


@pytest.mark.parametrize(
    ("place", "status", "said"),
    [
        ("login", 401, "asks for a login"),
        ("forbidden", 403, "forbids"),
        ("often", 429, "lets through fewer requests"),
        ("dead", 502, "got no valid answer"),
        ("down", 503, "has no model server"),
        ("slow", 504, "gave up waiting"),
    ],
)
def test_what_haproxy_says_is_told_as_a_gateways_though_it_names_no_server(
    haproxy: str, place: str, status: int, said: str
) -> None:
    error = refused(f"{haproxy}/{place}")
    assert f"HTTP status {status} (" in error.what
    assert "no Server header" in error.what
    assert f"the gateway {said}" in error.cause


def test_a_request_that_a_gateway_finds_too_large_is_told_with_the_directive_that_helps(nginx: str) -> None:
    error = refused(f"{nginx}/small", LARGE)
    assert "HTTP status 413" in error.what
    assert "client_max_body_size 100m;" in error.cure
    assert "client_max_body_size 100m;" in NGINX
    assert predict(f"{nginx}/raised", "m", LARGE).outputs == [7]
    assert predict(f"{nginx}/small", "m", SMALL).outputs == [7]


def test_too_many_requests_for_a_gateway_are_not_the_servers_full_queue(nginx: str) -> None:
    with pytest.raises(GatewayError, match="HTTP status 429") as caught:
        for _ in range(3):
            predict(f"{nginx}/often", "m", SMALL)
    assert "fewer requests" in caught.value.cause
    assert "limit_req" in caught.value.cure


@pytest.mark.parametrize("ask", [model_status, lambda url, model: predict(url, model, SMALL)])
def test_a_redirection_names_where_it_leads_and_the_url_that_helps(
    nginx: str, haproxy: str, ask: Callable[[str, str], object]
) -> None:
    for url, model, status in ((f"{nginx}/moved", "m", 302), (haproxy, "moved", 301)):
        with pytest.raises(GatewayError, match=f"HTTP status {status} ") as caught:
            ask(url, model)
        base = caught.value.cure.rpartition(" ")[2]
        assert f"redirects to {base}/v1/models/{model}" in caught.value.what
        ask(base, model)


def test_a_login_page_is_told_and_its_secret_is_not_shown(nginx: str) -> None:
    error = refused(f"{nginx}/sso")
    assert "/oauth/login?..." in error.what
    assert "asks for a login first" in error.cause
    assert "SECRET" not in str(error)
    with pytest.raises(ServerError, match=r"an HTML page, 'Sign in' \(HTTP status 200 \(OK\), Server: nginx/"):
        predict(f"{nginx}/page", "m", SMALL)


# ---- without a network


def answer(status: int, body: bytes, **headers: str) -> HttpAnswer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpAnswer("http://user:word@host:8501/v1/models/m:predict", status, named, body)


def test_a_page_of_another_program_is_no_gateways() -> None:
    assert gateway_error(answer(404, b"<html>", Server="SimpleHTTP/0.6 Python/3.11"), None) is None
    assert gateway_error(answer(404, b"<html>", Server="nginx"), None) is not None
    assert gateway_error(answer(503, b'{ "error": "queue full" }', Server="nginx"), "queue full") is None


def test_a_size_limit_in_json_is_a_gateways_all_the_same() -> None:
    error = gateway_error(answer(413, b'{"error": "too large"}', Server="kong/3.4"), "too large")
    assert error is not None
    assert "refuses requests of this size" in error.cause


def test_http_sent_to_an_https_port_is_answered_with_the_url_to_write() -> None:
    page = b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>"
    error = gateway_error(answer(400, page, Server="nginx"), None)
    assert error is not None
    assert error.cure == "write https in place of http in --url"


@pytest.mark.parametrize("location", ["", "http://[::1", "https://host:port/", "\x1b[31m", "//", "?a=b"])
def test_a_location_that_makes_no_sense_is_no_traceback_and_reaches_no_terminal_as_it_is(location: str) -> None:
    error = gateway_error(answer(307, b"", Location=location), None)
    assert error is not None
    assert "HTTP status 307" in error.what
    assert "\x1b" not in str(error)
    json.dumps(error.to_json())


def test_a_location_is_a_word_of_the_command_that_helps_and_none_of_the_shells_language() -> None:
    error = gateway_error(answer(302, b"", Location="https://h/$(id);x/v1/models/m:predict"), None)
    assert error is not None
    assert error.cure == "write that one: --url 'https://h/$(id);x'"


def test_a_refusal_by_the_model_server_behind_a_gateway_stays_its_own() -> None:
    class Refuses(Model):
        def do_POST(self) -> None:
            self.send_response(400)
            self.send_header("Server", "nginx/1.22.1")
            body = rb"""{ "error": "Missing \'inputs\' or \'instances\' key" }"""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        with pytest.raises(RequestError, match="Missing 'inputs' or 'instances' key"):
            predict(f"http://127.0.0.1:{server.server_port}", "m", SMALL)
        server.shutdown()

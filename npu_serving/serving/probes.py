"""An endpoint for probes, of serve itself: /livez says whether the server runs, /readyz whether requests may be sent.

TensorFlow Serving has none: a probe of its own API has to name a model, and AVAILABLE is not yet an answer.
"""

from __future__ import annotations

import http
import http.server
import json
import socket
import threading
from collections.abc import Collection
from typing import Callable

from npu_serving.errors import RequestError, ServerError
from npu_serving.serving.preflight import check_port_free
from npu_serving.serving.readiness import Readiness

LIVE, READY = "/livez", "/readyz"


def check_probe_port(port: int, *others: int, spared: Collection[int] = ()) -> None:
    """RequestError for a port that can't be one or is the server's, ServerError for one that is in use."""
    if port not in range(1, 65536):
        raise RequestError(f"--probe-port must be from 1 to 65535, not {port}.", cure="choose another, such as 8502")
    if port in others:
        raise RequestError(
            f"--probe-port is {port}, which is a port of the server itself.", cure="choose another, such as 8502"
        )
    check_port_free(port, "the probes", spared=spared)


class ProbeEndpoint:
    """Answers probes with what `state` returns, from the moment it is made until it is closed."""

    def __init__(self, port: int, state: Callable[[], Readiness]) -> None:
        try:
            self._server = _ProbeServer(port, state)
        except OSError as error:
            raise ServerError(
                f"Could not listen on port {port} for the probes ({error.strerror}).", cure="choose another port"
            ) from error
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Answers no more."""
        self._server.shutdown()
        self._server.server_close()


class _ProbeServer(http.server.ThreadingHTTPServer):
    # A kubelet, or a load balancer, asks from another address.
    def __init__(self, port: int, state: Callable[[], Readiness]) -> None:
        dual = socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if dual else socket.AF_INET
        self.state = state
        super().__init__(("::" if dual else "0.0.0.0", port), _ProbeHandler)  # noqa: S104

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: whoever asked has left."""


class _ProbeHandler(http.server.BaseHTTPRequestHandler):
    server: _ProbeServer
    timeout = 10

    def do_GET(self) -> None:
        state = self.server.state()
        path = self.path.partition("?")[0]
        known = {LIVE: state.alive, READY: state.ready}
        if path not in known:
            self._send(http.HTTPStatus.NOT_FOUND, {"error": f"there is {LIVE} and {READY}"})
            return
        good = http.HTTPStatus.OK if known[path] else http.HTTPStatus.SERVICE_UNAVAILABLE
        self._send(good, state.to_json())

    def _send(self, status: http.HTTPStatus, document: object) -> None:
        body = json.dumps(document).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a probe comes every few seconds."""

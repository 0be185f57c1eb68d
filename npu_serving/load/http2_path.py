"""The path for high rates of gRPC: HTTP/2's frames written around ready-made requests, on sockets of our own."""

from __future__ import annotations

from npu_serving.errors import RequestError
from npu_serving.load.generator import Plan, Sink
from npu_serving.load.http2_connection import Http2Connection, Http2Request
from npu_serving.load.http2_frames import SMALLEST_MAX_FRAME, request_block
from npu_serving.load.socket_lines import target_of
from npu_serving.load.socket_loop import run_over_sockets

_CONNECTIONS = 4
_MOST_CONNECTIONS = 256
_CALLS_AT_ONCE = 100  # on one connection: what HTTP/2 wants a server to take at least, and most proxies take


def send_requests(plan: Plan, sink: Sink) -> None:
    """Sends what the plan says, see generator.py. RequestError for headers that are too long, UnreachableError."""
    target = target_of(plan.url, plan.tls, "h2")
    headers = [
        ("te", b"trailers"),
        ("content-type", b"application/grpc"),
        ("grpc-timeout", f"{max(1, round(plan.timeout_s * 1e3))}m".encode()),
        ("user-agent", b"npu-serving-load-test"),
        *((name.lower(), value.encode()) for name, value in plan.headers),
    ]
    blocks = {
        path: request_block(path, target.authority, has_tls=target.has_tls, headers=headers)
        for path in {request.path for request in plan.requests}
    }
    if max(map(len, blocks.values())) > SMALLEST_MAX_FRAME:
        raise RequestError("The headers are longer than a frame of HTTP/2.", cure="send fewer or shorter --header")
    connections = plan.connections or min(plan.concurrency or _CONNECTIONS, _CONNECTIONS)
    run_over_sockets(
        plan,
        sink,
        target,
        lambda: Http2Connection(keeps_messages=plan.compares),
        [Http2Request(blocks[request.path], request.body) for request in plan.requests],
        connections=connections,
        at_once=_CALLS_AT_ONCE,
        most_connections=plan.connections or _MOST_CONNECTIONS,
    )

"""The path for high rates of REST: ready-made HTTP/1.1 requests, one after the other on connections that are kept."""

from __future__ import annotations

import resource

from npu_serving.load.generator import Plan, Sink
from npu_serving.load.http1_connection import Http1Connection, http1_request
from npu_serving.load.socket_lines import target_of
from npu_serving.load.socket_loop import run_over_sockets

_CONNECTIONS = 4
_MOST_CONNECTIONS = 1000
_OTHER_FILES = 64  # that a process has open besides


def send_requests(plan: Plan, sink: Sink) -> None:
    """Sends what the plan says, see generator.py. UnreachableError for a host that isn't known."""
    target = target_of(plan.url, plan.tls, "http/1.1")
    most = max(_CONNECTIONS, min(_MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_FILES))
    run_over_sockets(
        plan,
        sink,
        target,
        lambda: Http1Connection(keeps_bodies=plan.compares),
        [http1_request(request.path, target.authority, request.body, plan.headers) for request in plan.requests],
        connections=min(plan.connections or plan.concurrency or _CONNECTIONS, most),
        at_once=1,
        most_connections=plan.connections or most,
    )

"""The kind of an error under load, by the status of an answer: what is counted apart from what.

What a status means is what TensorFlow Serving 1.15.0 means by it: a full queue is UNAVAILABLE or 503 and one that was
too old in it RESOURCE_EXHAUSTED or 429, which also is a message over a limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from npu_serving.load.generator import UNFINISHED

DIFFERS = "differs"
MEANINGS: Mapping[str, str] = {
    "busy": "the server's queue was full",
    "expired": "it waited too long in the server's queue",
    "timeout": "no answer within its time",
    "unreachable": "nothing answered at the address, or the connection broke",
    "too_large_for_client": "the answer is larger than this client takes",
    "too_large_for_gateway": "the request is larger than what is in front of the server takes",
    "gateway": "what is in front of the server refused it",
    "refused": "the server found the request wrong",
    "unknown_model": "the server does not have the model or version",
    "failed": "the server failed",
    "malformed": "the answer is not what was asked for",
    DIFFERS: "the answer is not that of the golden request",
    UNFINISHED: "it was given up when the run ended",
}
"""The kinds of errors, and what each means."""
KINDS = ("", *MEANINGS)
"""What became of a request, "" for an answer. Their places are what is written between processes."""
_OF_GRPC = {1: UNFINISHED, 3: "refused", 4: "timeout", 5: "unknown_model", 9: "refused", 12: "malformed"}
_OF_HTTP = {400: "refused", 404: "unknown_model", 413: "too_large_for_gateway", 429: "expired", 501: "refused"}
_NO_ANSWER = 14
_EXHAUSTED = 8
_OF_GATEWAY = re.compile(r"http2 header with status: ([0-9]{3})")
_OVER_A_LIMIT = re.compile(r"larger than max \((\d+) vs\.? (\d+)\)")


def of_grpc_status(code: int, message: str, *, own_limit: int = -1) -> str:
    """The kind for a status of gRPC (0 to 16) and its message; "" for 0. `own_limit` is this client's, in bytes."""
    if code == 0:
        return ""
    gateway = _OF_GATEWAY.search(message)
    if gateway is not None:
        return "too_large_for_gateway" if gateway[1] == "413" else "gateway"
    if code == _NO_ANSWER:
        return "busy" if "queue" in message else "unreachable"
    if code == _EXHAUSTED:
        found = _OVER_A_LIMIT.search(message)
        if found is None:
            return "expired"
        return "too_large_for_client" if int(found[2]) == own_limit else "too_large_for_gateway"
    return _OF_GRPC.get(code, "failed")


def of_http_status(status: int, body: bytes) -> str:
    """The kind for a status of HTTP and what came with it; "" for 200.

    TensorFlow Serving answers every error with {"error": ...}; another body is a gateway's.
    """
    if status == 200:
        return ""
    is_servers = body.lstrip()[:1] == b"{" and b'"error"' in body[:200]
    if status in (301, 302, 303, 307, 308, 401, 403, 502) or (status in (404, 429, 503, 504) and not is_servers):
        return "gateway"
    if status == 503:
        return "busy"
    if status == 504:
        return "timeout"
    return _OF_HTTP.get(status, "failed")

"""What to type next where the client library failed: its own cures speak to whoever calls it from Python."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from npu_serving.client.errors import ClientError

_STATUS = "./inv status MODEL says whether it runs, and how one ended that ./inv serve ran here"
_CURES: Mapping[str, str] = {
    "queue-full": "try again later, or raise max_enqueued_batches in deployment.yaml",
    "unknown-model": "choose a model and a version that ./inv status shows for the server",
    "deadline": "check the model's state with ./inv status MODEL, then try again",
    "expired": "try again later, or send fewer requests at a time",
    "answer-too-large": "send fewer instances in one request",
    "failed": "look at ./inv status MODEL and at the server's log",
    "nothing-listens": "start one with ./inv serve, or correct the address",
    "closed": _STATUS + "; with TLS, ask it so: --url {with_tls} --ca FILE",
    "tls-without-effect": "write --url {with_tls}, or leave them out",
    "tls-not-spoken": "ask without TLS: --url {plain}",
    "tls-other-host": "write a host in --url that it names: openssl x509 -in SERVER_CERT -noout -text lists them",
    "tls-not-trusted": "name the certificate of its authority, or a self-signed one itself: --ca FILE",
    "tls-handshake": "look at the server's log, and at tls in its deployment.yaml",
    "tls-client-verify": "name a certificate that its custom_ca signed, and its key: --cert FILE --key FILE",
}
"""By the reason of the error."""


@contextlib.contextmanager
def next_steps(url: str) -> Iterator[None]:
    """Errors of the library from within the block say what to type next."""
    try:
        yield
    except ClientError as error:
        cure = _CURES.get(error.reason)
        if cure is not None:
            host = (error.address or url).partition("://")[2]
            error.cure = cure.format(with_tls=f"grpcs://{host}", plain=f"grpc://{host}")
        raise

"""Answers that are not the model server's: a gateway's, a login page, a redirection; and what its own statuses mean."""

from __future__ import annotations

import urllib.parse

from npu_serving import known_failures
from npu_serving.client.http_answers import NEVER_THE_SERVERS, REDIRECTIONS, HttpAnswer, redirection_of
from npu_serving.errors import GatewayError, NpuServingError, ServerError
from npu_serving.known_failures import diagnose
from npu_serving.writers.shell import shell_word

_PAST_IT = "ask the server itself, past the gateway: --url http://HOST:8501"


def gateway_error(answer: HttpAnswer, message: str | None) -> GatewayError | None:
    """The error for an answer that a gateway gave in the model server's place, or None for the server's own.

    `message` is that of a body {"error": ...}, as TensorFlow Serving writes it, and None for any other body.
    """
    if message is not None and answer.status not in NEVER_THE_SERVERS:
        return None
    if answer.status in REDIRECTIONS:
        to = redirection_of(answer)
        there = f"write that one: --url {shell_word(to.base)}" if to.base else _PAST_IT
        return _error(answer, to.cause, to.cure or there, to.does)
    known = diagnose(known_failures.CLIENT, f"gateway: {answer.signature}; {answer.excerpt}")
    return _error(answer, known.cause, known.cure) if known is not None else None


def server_refusal(answer: HttpAnswer, message: str, *, otherwise: str) -> NpuServingError:
    """The error for TensorFlow Serving's own answer; `otherwise` is the cure where its status says no more."""
    what = f"The server answered {answer.url} with HTTP status {answer.status} ({message})."
    known = diagnose(known_failures.CLIENT, f"server: {answer.signature}")
    if known is not None:
        return ServerError(what, cause=known.cause, cure=known.cure)
    return ServerError(what, cure=otherwise)


def _error(answer: HttpAnswer, cause: str, cure: str, does: str = "") -> GatewayError:
    return GatewayError(
        f"A gateway answered {answer.url} in the model server's place{does} ({answer.signature}; {answer.excerpt}).",
        cause=with_proxy(answer, cause),
        cure=past_proxy(answer, cure),
    )


def with_proxy(answer: HttpAnswer, cause: str) -> str:
    """The cause, after the one that is as likely where the environment names a proxy: that it answered itself."""
    return f"it is the proxy of {answer.proxy}, which does not reach the server; or {cause}" if answer.proxy else cause


def past_proxy(answer: HttpAnswer, cure: str) -> str:
    """The cure, after the one that leaves such a proxy out."""
    host = urllib.parse.urlsplit(answer.url).hostname or ""
    past = f"export no_proxy={shell_word(host)} (add it to what is there), then run the same command again"
    return f"{past}; if it says the same, {cure}" if answer.proxy else cure

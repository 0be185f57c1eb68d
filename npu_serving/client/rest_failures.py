"""What went wrong where a server was asked over REST: what it refused, or why nothing of it came back."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import urllib.parse

from npu_serving.client.errors import (
    ClientError,
    DeadlineError,
    MalformedAnswerError,
    NotReachedError,
    RefusedError,
    UnknownModelError,
)
from npu_serving.client.grpc_failures import COMPILING
from npu_serving.client.http_answers import HttpAnswer, error_message, gateway_failure, server_failure
from npu_serving.client.http_route import ProxyRefusedError, Route
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.rest_paths import SAFE_IN_NAME
from npu_serving.shown_text import in_a_line

LOST = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError, http.client.RemoteDisconnected)


def refusal(answer: HttpAnswer, spec: ModelSpec, takes: str) -> ClientError:
    """The error for an answer that is not the one asked for; `takes` is what the signature takes, where it is known."""
    message = error_message(answer.body)
    if message is not None:
        message = in_a_line(" ".join(message.split()))
    found = gateway_failure(answer, message)
    if found is None and message is None:
        found = not_a_model_server(answer, f"it sent no error in JSON but {answer.excerpt}")
    elif found is None and message is not None:
        if answer.status == http.client.NOT_FOUND:
            found = _unknown_model(message, answer.url, spec)
        elif answer.status == http.client.BAD_REQUEST and takes:
            found = RefusedError(
                f"The model {spec.name!r} rejected the request ({message}).",
                cause=takes,
                cure="give each input with its type and shape",
                reason="rejected",
            )
        else:
            found = server_failure(answer, message)
        found.said = message
    assert found is not None
    found.status = str(answer.status)
    found.details["status"] = found.status
    return found


def _unknown_model(message: str, url: str, spec: ModelSpec) -> ClientError:
    version = "" if spec.version is None else f" in version {spec.version}"
    what = f"The server at {url.partition('/v1/')[0]} has no model {spec.name!r}{version} ({message})."
    if urllib.parse.quote(spec.name, safe=SAFE_IN_NAME) != spec.name:
        return UnknownModelError(
            what,
            cause="TensorFlow Serving does not decode the name in a URL, so this one can't be requested over REST",
            cure="use gRPC, or start the server with a --model_name of letters, digits, '-', '_' and '.'",
            reason="name-not-by-rest",
        )
    return UnknownModelError(
        what,
        cause="the server was started with another name or version, or the model is not loaded",
        cure="choose a model and a version that the server has: status() says those of a model",
        reason="unknown-model",
    )


def not_a_model_server(answer: HttpAnswer, what: str) -> ClientError:
    """The error for an answer of another program; `what` says by what it is known."""
    through = f"it is the proxy of {answer.proxy}, which does not reach the server; or " if answer.proxy else ""
    return MalformedAnswerError(
        f"The program at {answer.url} is not TensorFlow Serving: {what} ({answer.signature}).",
        cause=f"{through}a proxy or another program uses this port",
        cure="use the REST port of the server (--rest_api_port)",
        reason="another-program",
        status=str(answer.status),
    )


def unreachable(error: Exception, route: Route, seconds: float) -> ClientError:
    """The error for what was raised in place of an answer; the request had `seconds` in all."""
    server = route.server
    said = (getattr(error, "strerror", None) or str(error)).rstrip(".")
    through = f"the proxy that {route.variable} names is asked first; " if route.variable else ""
    if isinstance(error, (TimeoutError, socket.timeout)):
        return DeadlineError(
            f"{server} did not answer within {seconds:g} s.",
            cause=f"{through}{COMPILING}; or the host is down, or a firewall blocks that port",
            cure="ask for the model's status(), then try again, or with a longer timeout_s",
            reason="deadline",
        )
    if route.variable and isinstance(error, (ProxyRefusedError, ConnectionRefusedError, socket.gaierror)):
        return NotReachedError(
            f"The proxy that {route.variable} names could not reach {server} ({said}).",
            cause="the proxy does not run there, or does not know the server",
            cure=f"correct {route.variable}, or add {route.host} to no_proxy",
            reason="proxy",
        )
    if isinstance(error, ConnectionRefusedError):
        return NotReachedError(
            f"Nothing listens at {server}.",
            cause="the server is not running, is still loading its models, or has its REST API on another port",
            cure="start one, wait until it is ready, or correct the address",
            reason="nothing-listens",
        )
    if isinstance(error, socket.gaierror):
        return NotReachedError(
            f"The host of {server} is not known ({said}).",
            cause="a typing error",
            cure="correct the address",
            reason="unknown-host",
        )
    if isinstance(error, ssl.SSLError):
        return NotReachedError(
            f"The TLS connection to {server} failed ({said}).",
            cause="its certificate is not trusted or for another host, it wants one of the client, or speaks no TLS",
            cure="name the certificate of its authority: Tls(ca=FILE); without TLS, write http in place of https",
            reason="tls-handshake",
        )
    if isinstance(error, LOST):
        return NotReachedError(
            f"{server} closed the connection before it had answered ({said}).",
            cause="the server has ended at this request, or a gateway between here and there gave up",
            cure="see whether it runs, then try again",
            reason="closed",
        )
    if isinstance(error, http.client.IncompleteRead):
        return NotReachedError(
            f"{server} broke off its answer ({said}).",
            cause="the server has ended while it answered, or a gateway between here and there gave up",
            cure="see whether it runs, then try again",
            reason="broken-off",
        )
    if isinstance(error, (http.client.HTTPException, ValueError)):
        with contextlib.suppress(ValueError):
            said = json.dumps(said)
        return MalformedAnswerError(
            f"Got no valid answer from {server} ({said[:200]}).",
            cause="the port does not speak HTTP/1.1 (such as the gRPC port)",
            cure="use the REST port of the server (--rest_api_port, usually 8501)",
            reason="another-program",
        )
    return NotReachedError(
        f"Got no answer from {server} ({said}).",
        cause="the host is down, or there is no way to it",
        cure="use the host and the REST port of the server (--rest_api_port, usually 8501)",
        reason="no-answer",
    )

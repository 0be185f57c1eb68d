"""TensorFlow Serving's REST API: the state of a model, its signatures, predictions.

The answers are those of tensorflow_serving/model_servers/http_rest_api_handler.cc at 1.15.0.
"""

from __future__ import annotations

import contextlib
import json
import queue
import re
import threading
import time
import urllib.parse
from typing import Callable, TypeVar

import requests
import urllib3

from npu_serving import proxies
from npu_serving.asking.answers import ShownPrediction, with_bytes_as_base64
from npu_serving.asking.gateways import gateway_error, past_proxy, server_refusal, with_proxy
from npu_serving.asking.request import PredictRequest
from npu_serving.client.http_answers import HttpAnswer, error_message
from npu_serving.client.model_types import ModelMetadata, ModelStatus
from npu_serving.client.proxy_rules import is_this_machine
from npu_serving.client.rest_documents import metadata_of, status_of
from npu_serving.client.rest_paths import SAFE_IN_NAME, model_path
from npu_serving.console import amount_text
from npu_serving.errors import NpuServingError, RequestError, ServerError, UnreachableError
from npu_serving.shown_text import shown_url
from npu_serving.writers.shell import task_argument

SECONDS_TO_CONNECT = 5.0
STATUS_TIMEOUT_S = 30.0
PREDICT_TIMEOUT_S = 600.0  # the first request compiles the model for the NPU, which takes minutes
_CLOSED = ("closed connection without response", "Connection reset", "Broken pipe")
READ_BYTES = 1 << 18
MOST_STATUS_BYTES = 64 << 20
MOST_PREDICTED_BYTES = 1 << 30
Read = TypeVar("Read")


def model_status(
    base_url: str, model: str, version: int | None = None, *, timeout_s: float = STATUS_TIMEOUT_S
) -> ModelStatus:
    """The state of the model's versions, or of the requested one.

    The HTTP status says nothing of it: a model that failed to load is answered with 200 as well. Raises RequestError
    for a model the server doesn't know, ServerError when nothing or something else answers.
    """
    answer = _ask("GET", _model_url(base_url, model, version), timeout_s=timeout_s)
    _raise_for_refusal(answer, base_url, model, version)
    return _read(answer, lambda document: status_of(model, document))


def model_metadata(
    base_url: str, model: str, version: int | None = None, *, timeout_s: float = STATUS_TIMEOUT_S
) -> ModelMetadata:
    """The signatures of the model with their inputs and outputs. Raises what model_status() raises."""
    answer = _ask("GET", _model_url(base_url, model, version) + "/metadata", timeout_s=timeout_s)
    _raise_for_refusal(answer, base_url, model, version)
    return _read(answer, lambda document: metadata_of(model, document))


def predict(
    base_url: str,
    model: str,
    request: PredictRequest,
    *,
    signature_name: str = "",
    version: int | None = None,
    timeout_s: float = PREDICT_TIMEOUT_S,
) -> ShownPrediction:
    """What the model answers; `signature_name` goes before the one in the request.

    Raises RequestError for a request that the model refuses, with what its signatures take, and for a model the
    server doesn't know; ServerError when the prediction fails, and when nothing or something else answers.
    """
    body = request.body(signature_name)
    url = _model_url(base_url, model, version) + ":predict"
    begun = time.monotonic()
    answer = _ask("POST", url, body=body, timeout_s=timeout_s)
    seconds = time.monotonic() - begun
    if answer.status == requests.codes.bad_request:
        raise _refused(answer, base_url, model, version, signature_name or request.signature_name)
    _raise_for_refusal(answer, base_url, model, version)
    document, in_bytes = _document(answer)
    key = request.answer_key
    if not isinstance(document, dict) or key not in document:
        raise _not_a_model_server(answer, f"it lacks {key!r}")
    return ShownPrediction(model, version, key, document[key], seconds, in_bytes)


def _read(answer: HttpAnswer, read: Callable[[object], Read]) -> Read:
    try:
        return read(_document(answer)[0])
    except ValueError as error:
        raise _not_a_model_server(answer, str(error)) from error


def _document(answer: HttpAnswer) -> tuple[object, int]:
    """The body read as JSON, with NaN and Infinity as TensorFlow Serving writes them; ServerError if it isn't.

    The server writes a model's texts as the bytes that they are, in whatever encoding: those that are not UTF-8 become
    {"b64": BASE64}; how many there were is the second value.
    """
    try:
        parsed = json.loads(answer.body.decode("utf-8", "surrogateescape"))
        return with_bytes_as_base64(parsed) if _may_hold_bytes(answer.body) else (parsed, 0)
    except (ValueError, RecursionError) as error:
        raise _not_a_model_server(answer, f"the answer is not JSON: {answer.excerpt}") from error


def _may_hold_bytes(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return True
    return b"\\ud" in body.lower()  # half of a character, escaped


def _model_url(base_url: str, model: str, version: int | None) -> str:
    if not model:
        raise RequestError(
            "The model's name is empty.", cure="use the name that the server was started with (--model_name)"
        )
    if version is not None and version < 0:
        raise RequestError(
            f"The version must not be negative: {version}.", cure="use the number of a version directory, such as 1"
        )
    try:
        path = model_path(model)
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{model!r} is not a valid model name.", cure="use letters, digits, '-', '_' and '.'"
        ) from error
    return checked_base(base_url) + path + ("" if version is None else f"/versions/{version}")


def checked_base(base_url: str) -> str:
    """The URL of a REST API without a slash at its end. RequestError for another text."""
    try:
        parts = urllib.parse.urlsplit(base_url)
        fit = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is not a number, a bracket left open
        fit = False
    if not fit or parts.query or parts.fragment:
        raise RequestError(
            f"{shown_url(base_url)!r} is not the URL of a server.",
            cure="write it like http://HOST:8501 for its REST API, or grpc://HOST:8500",
        )
    return base_url.rstrip("/")


def _ask(method: str, url: str, *, timeout_s: float, body: str | None = None) -> HttpAnswer:
    """One request. A proxy is never used for this machine's own addresses, nor a password from .netrc."""
    headers = {"Accept": "application/json"}
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = body.encode()
    host = urllib.parse.urlsplit(url).hostname or ""
    problem = proxies.proxy_problem(url)
    if problem:
        raise RequestError(
            f"Can't ask {host} through the proxy that is set: {problem}.", cure=proxies.CURE.format(host=host)
        )
    outcome: queue.SimpleQueue[HttpAnswer | Exception] = queue.SimpleQueue()
    given_up = threading.Event()

    def ask() -> None:
        try:
            outcome.put(_answer(method, url, data, headers, timeout_s, given_up))
        except Exception as error:
            outcome.put(error)

    # requests' timeouts are between two pieces of an answer; one that comes in drops would take for ever.
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = outcome.get(timeout=SECONDS_TO_CONNECT + timeout_s)
    except queue.Empty as error:
        raise _unreachable(requests.Timeout(), url, timeout_s) from error
    finally:
        given_up.set()
    if isinstance(answer, (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError)):
        raise _unreachable(answer, url, timeout_s) from answer
    if isinstance(answer, Exception):
        raise answer
    return answer


def _answer(
    method: str,
    url: str,
    data: bytes | None,
    headers: dict[str, str],
    timeout_s: float,
    given_up: threading.Event,
) -> HttpAnswer:
    """The answer, read to its end. Raises whatever requests raises, and ServerError for one that is too long."""
    most_bytes = MOST_PREDICTED_BYTES if data is not None else MOST_STATUS_BYTES
    with _NoRedirects() as session:
        session.trust_env = not is_this_machine(urllib.parse.urlsplit(url).hostname or "")
        response = session.request(
            method,
            url,
            data=data,
            headers=headers,
            timeout=(SECONDS_TO_CONNECT, timeout_s),
            allow_redirects=False,
            auth=_no_auth,
            stream=True,
        )
        body = bytearray()
        with response:
            for piece in response.iter_content(READ_BYTES):
                body += piece
                if given_up.is_set():
                    break
                if len(body) > most_bytes:
                    raise _too_long(url, most_bytes)
        return HttpAnswer(url, response.status_code, response.headers, bytes(body), proxies.proxy_variable(url))


def _too_long(url: str, most_bytes: int) -> ServerError:
    return ServerError(
        f"The answer of {url} is longer than {amount_text(most_bytes, 'bytes')}, and was not read further.",
        cause="a program that is not TensorFlow Serving uses this port, or the model answers more than that",
        cure="use the REST port of the server (--rest_api_port), or send fewer instances in one request",
    )


class _NoRedirects(requests.Session):
    """A session that leaves redirections alone: requests reads their target even where it isn't to follow it."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: there is nothing to be followed."""
        return None


def _no_auth(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps requests from looking for a password in .netrc."""
    return prepared


def _unreachable(error: Exception, url: str, timeout_s: float) -> NpuServingError:
    server = "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(url))
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError)):
        return RequestError(f"{server!r} is not the URL of a server.", cure="write it like http://HOST:PORT")
    if isinstance(error, requests.ConnectTimeout):
        return ServerError(
            f"{server} does not answer.",
            cause="the host is down, or a firewall blocks that port",
            cure="check the host and port",
        )
    stalled = any(isinstance(argument, urllib3.exceptions.ReadTimeoutError) for argument in error.args)
    if isinstance(error, requests.Timeout) or stalled:
        return ServerError(
            f"{server} did not answer within {timeout_s:g} s.",
            cause="it is busy; the first request after a start compiles the model for the NPU, which takes minutes",
            cure="check the model's state with ./inv status MODEL, then try again",
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return ServerError(
            f"The proxy set in the environment could not reach {server}.",
            cause=_innermost(error),
            cure="add the host to the environment variable no_proxy",
        )
    if "refused" in _innermost(error):
        return UnreachableError(
            f"Nothing listens at {server}.",
            cause="the server is not running, is still loading its models, or has its REST API on another port",
            cure="start one with ./inv serve, or correct the address",
        )
    if isinstance(error, requests.ConnectionError) and any(word in _innermost(error) for word in _CLOSED):
        return UnreachableError(
            f"{server} closed the connection before it had answered ({_innermost(error)}).",
            cause="the server has ended at this request, or a gateway between here and there gave up",
            cure=f"./inv status MODEL --url {server} says whether it runs, and how one ended that ./inv serve ran here",
        )
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return UnreachableError(
            f"{server} broke off its answer ({_innermost(error)}).",
            cause="the server has ended while it answered, or a gateway between here and there gave up",
            cure=f"./inv status MODEL --url {server} says whether it runs, and how one ended that ./inv serve ran here",
        )
    return UnreachableError(
        f"Got no valid answer from {server} ({_innermost(error)}).",
        cause="the host does not exist, or the port does not speak HTTP (such as the gRPC port)",
        cure="use the host and the REST port of the server (--rest_api_port, usually 8501)",
    )


def _innermost(error: BaseException) -> str:
    """The text of the first cause: requests and urllib3 wrap it several times."""
    while True:
        inner = getattr(error, "reason", None) or error.__cause__ or error.__context__
        if not isinstance(inner, BaseException):
            break
        error = inner
    return (getattr(error, "strerror", None) or str(error)).rstrip(".")


def _not_a_model_server(answer: HttpAnswer, what: str) -> ServerError:
    return ServerError(
        f"The program at {answer.url} is not TensorFlow Serving: {what} ({answer.signature}).",
        cause=with_proxy(answer, "a proxy or another program uses this port"),
        cure=past_proxy(answer, "use the REST port of the server (--rest_api_port)"),
    )


def _raise_for_refusal(answer: HttpAnswer, base_url: str, model: str, version: int | None) -> None:
    if answer.status == requests.codes.ok:
        return
    message = _message(answer)
    if answer.status == requests.codes.not_found:
        raise _unknown_model(message, base_url, model, version)
    cure = "look at ./inv status MODEL and at the server's log"
    if answer.status == requests.codes.bad_request:
        what = f"The server answered {answer.url} with HTTP status {answer.status} ({message})."
        raise RequestError(what, cure=cure)
    raise server_refusal(answer, message, otherwise=cure)


def _message(answer: HttpAnswer) -> str:
    """What TensorFlow Serving says of an error. Raises in its place what a gateway or another program said."""
    message = error_message(answer.body)
    from_gateway = gateway_error(answer, message)
    if from_gateway is not None:
        raise from_gateway
    if message is None:
        raise _not_a_model_server(answer, f"it sent no error in JSON but {answer.excerpt}")
    return message


def _unknown_model(message: str, base_url: str, model: str, version: int | None) -> RequestError:
    wanted = f"model {model!r}" + ("" if version is None else f" in version {version}")
    what = f"The server at {base_url} has no {wanted} ({message})."
    if urllib.parse.quote(model, safe=SAFE_IN_NAME) != model:
        return RequestError(
            what,
            cause="TensorFlow Serving does not decode the name in a URL, so this one can't be requested over REST",
            cure="start the server with a --model_name of letters, digits, '-', '_' and '.'",
        )
    return RequestError(
        what,
        cause="the server was started with another name or version, or the model is not loaded",
        cure="choose one of the models that ./inv status shows for the server"
        if version is None
        else f"name with --version one that ./inv status {task_argument('--model', model)} lists",
    )


def _refused(
    answer: HttpAnswer, base_url: str, model: str, version: int | None, signature_name: str
) -> NpuServingError:
    message = _message(answer)
    takes = ""
    with contextlib.suppress(NpuServingError):
        metadata = model_metadata(base_url, model, version)
        takes = metadata.what_it_takes(signature_name)
    unknown_signature = re.search(r"signature name: .* not found in signature def", message) is not None
    return RequestError(
        f"The model {model!r} rejected the request ({message}).",
        cause=takes,
        cure="use one of its signatures" if unknown_signature else "give each input with its type and shape",
    )

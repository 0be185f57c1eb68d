"""What goes wrong between a client and a model server, as a tree; each error says what happened, why, and what helps.

    NpuServingError
      └ ClientError                  everything that this library raises; `.kind` is one of the words on the right
          ├ RefusedError             refused         the server says that the request is wrong (INVALID_ARGUMENT) ...
          │   └ NotSentError         refused         ... or it was seen here, and nothing was sent
          ├ UnknownModelError        unknown_model   the server has no such model, version or label (NOT_FOUND, 404)
          ├ BusyError                busy            the queue of requests is full (UNAVAILABLE, 503)
          │   └ ExpiredError         expired         it waited there too long (RESOURCE_EXHAUSTED, 429)
          ├ DeadlineError            timeout         no answer in time, here or in the server (DEADLINE_EXCEEDED, 504)
          ├ NotReachedError          unreachable     nothing listens, or the connection was lost
          ├ AnswerTooLargeError      too_large_for_client    the answer is over this client's own limit
          ├ FromGatewayError         gateway         a gateway or proxy answered (401, 403, 429, 502, a redirection)
          │   └ TooLargeForGatewayError  too_large_for_gateway   its limit of a request (413), not the server's
          ├ FailedError              failed          the server's own errors: the model failed ...
          └ MalformedAnswerError     malformed       another program answers here, or the answer is damaged

A `busy` or `expired` request may be sent again after a while; one that is `refused` never helps by being sent again.
"""

from __future__ import annotations

from typing import ClassVar

from npu_serving.errors import GatewayError, NpuServingError, RequestError, ServerError, UnreachableError


class ClientError(NpuServingError):
    """What this library raises. `reason` tells apart what has the same kind, for a program that has its own cures."""

    kind: ClassVar[str] = ""

    def __init__(
        self,
        what: str,
        *,
        cause: str = "",
        cure: str = "",
        reason: str = "",
        status: str = "",
        said: str = "",
    ) -> None:
        super().__init__(what, cause=cause, cure=cure)
        self.reason = reason
        self.status = status
        """The server's or gateway's own: the name of a gRPC status or the number of an HTTP status; "" without one."""
        self.said = said
        """What the server says of it."""
        self.address = ""
        self.model = ""
        self.version: int | None = None
        self.details.update({"kind": self.kind, **({"status": status} if status else {})})

    def about(self, model: str, version: int | None) -> ClientError:
        """The same error, with the model and the version that were asked."""
        self.model, self.version = model, version
        self.details.update({"model": model, **({} if version is None else {"version": version})})
        return self


class RefusedError(ClientError, RequestError):
    """The request does not fit the model, or can't be: sending it again does not help."""

    kind = "refused"


class NotSentError(RefusedError):
    """The request can't be right, so it was not sent."""


class UnknownModelError(ClientError, RequestError):
    """The server has no such model, version or label."""

    kind = "unknown_model"


class BusyError(ClientError, ServerError):
    """The server has more requests than it takes: its queue is full. It may be asked again after a while."""

    kind = "busy"


class ExpiredError(BusyError):
    """The request waited in the server's queue until its time was over. It may be sent again after a while."""

    kind = "expired"


class DeadlineError(ClientError, ServerError):
    """There was no answer in time."""

    kind = "timeout"


class NotReachedError(ClientError, UnreachableError):
    """Nothing answers at the address, or the connection was lost before the answer."""

    kind = "unreachable"


class AnswerTooLargeError(ClientError, ServerError):
    """The answer is larger than this client reads (`max_message_bytes`)."""

    kind = "too_large_for_client"


class FromGatewayError(ClientError, GatewayError):
    """A gateway or proxy before the server answered in its place."""

    kind = "gateway"


class TooLargeForGatewayError(FromGatewayError):
    """A gateway takes no request of this size; TensorFlow Serving itself takes up to 2 GiB."""

    kind = "too_large_for_gateway"


class FailedError(ClientError, ServerError):
    """The server failed at it, or has no way to do it."""

    kind = "failed"


class MalformedAnswerError(ClientError, ServerError):
    """What answers is a different program from TensorFlow Serving, or what came is not the answer."""

    kind = "malformed"

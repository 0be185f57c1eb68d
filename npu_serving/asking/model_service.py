"""TensorFlow Serving's ModelService over gRPC: a new list of models for a server that runs.

The server answers when its new models are available, or when it has given one of them up (server_core.cc,
ReloadConfig()).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from npu_serving.client.errors import (
    ClientError,
    DeadlineError,
    FromGatewayError,
    MalformedAnswerError,
    NotReachedError,
)
from npu_serving.client.grpc_client import GrpcClient
from npu_serving.client.model_messages import ListedModel
from npu_serving.errors import ServerError


def reload_models(
    url: str, models: Sequence[ListedModel], *, timeout_s: float, while_waiting: Callable[[], object]
) -> None:
    """Gives the server at `grpc://HOST:PORT` that list in place of the one it has; returns when it has loaded them.

    `while_waiting` is called again and again until then. Raises ServerError where the server refuses the list or a
    model of it, with what it says, and where something else answers; UnreachableError where nothing does.
    """
    with ThreadPoolExecutor(1) as pool, GrpcClient(url) as client:  # whose end, the first, ends the call
        served = [model.name for model in models]  # whoever calls this has the deployment's whole list
        answer = pool.submit(client.reload_config, models, served=served, timeout_s=timeout_s)
        while not answer.done():
            while_waiting()
        try:
            answer.result()
        except ClientError as error:
            raise _refused(error, timeout_s) from error


def _refused(error: ClientError, timeout_s: float) -> ServerError | ClientError:
    if isinstance(error, DeadlineError):
        return ServerError(
            f"The server at {error.address} has not loaded the new models within {timeout_s:g} s.",
            cause="it goes on loading them: they are large, or their storage is slow",
            cure="./inv status shows how far they are; --timeout waits longer",
        )
    if error.status == "UNIMPLEMENTED":
        return ServerError(
            f"The program at {error.address} has no ModelService ({error.said}).",
            cause="it is not TensorFlow Serving, or one that was made without it",
            cure="./inv restart has the server read everything again",
        )
    # The address is what serve knows of a server of its own: nobody could correct it.
    if isinstance(error, (NotReachedError, FromGatewayError, MalformedAnswerError)):
        error.cure = "./inv status says whether it runs; ./inv restart has it read everything again"
        return error
    return ServerError(
        f"The server at {error.address} did not take the list of models: {error.said}.",
        cause="it refuses the list as a whole, or could not load one of its models",
        cure="./inv status shows which models it has; correct the deployment file, then ./inv reload",
    )

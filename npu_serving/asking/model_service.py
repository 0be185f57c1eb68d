"""TensorFlow Serving's ModelService over gRPC: a new list of models for a server that runs.

The server answers when its new models are available, or when it has given one of them up (server_core.cc,
ReloadConfig()).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from npu_serving.asking.grpc_channel import (
    GrpcAddress,
    connection_error,
    grpc_address,
    import_grpc,
    open_channel,
    said_by,
)
from npu_serving.client.model_messages import ListedModel, write_reload_request
from npu_serving.errors import NpuServingError, ServerError

_RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"


def reload_models(
    url: str, models: Sequence[ListedModel], *, timeout_s: float, while_waiting: Callable[[], object]
) -> None:
    """Gives the server at `grpc://HOST:PORT` that list in place of the one it has; returns when it has loaded them.

    `while_waiting` is called again and again until then. Raises ServerError where the server refuses the list or a
    model of it, with what it says, and where something else answers; UnreachableError where nothing does.
    """
    import_grpc()
    import grpc

    address = grpc_address(url)
    with open_channel(address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_RELOAD)
        try:
            answer = call.future(write_reload_request(models), timeout=timeout_s)
            while not answer.done():
                while_waiting()
            answer.result()
        except grpc.RpcError as error:
            raise _refused(address, error, timeout_s) from error


def _refused(address: GrpcAddress, error: Any, timeout_s: float) -> NpuServingError:
    import grpc

    unreachable = connection_error(address, error)
    if unreachable is not None:  # the address is what serve knows of a server of its own: nobody could correct it
        unreachable.cure = "./inv status says whether it runs; ./inv restart has it read everything again"
        return unreachable
    code, said = error.code(), said_by(error)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServerError(
            f"The server at {address} has not loaded the new models within {timeout_s:g} s.",
            cause="it goes on loading them: they are large, or their storage is slow",
            cure="./inv status shows how far they are; --timeout waits longer",
        )
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return ServerError(
            f"The program at {address} has no ModelService ({said}).",
            cause="it is not TensorFlow Serving, or one that was made without it",
            cure="./inv restart has the server read everything again",
        )
    return ServerError(
        f"The server at {address} did not take the list of models: {said}.",
        cause="it refuses the list as a whole, or could not load one of its models",
        cure="./inv status shows which models it has; correct the deployment file, then ./inv reload",
    )

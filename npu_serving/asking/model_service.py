"""TensorFlow Serving's ModelService over gRPC: a new list of models for a server that runs.

The message is that of model_management.proto and model_server_config.proto at 1.15.0. The server answers when its new
models are available, or when it has given one of them up (server_core.cc, ReloadConfig()).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from npu_serving.asking.grpc_channel import (
    GrpcAddress,
    connection_error,
    grpc_address,
    import_grpc,
    open_channel,
    said_by,
)
from npu_serving.errors import NpuServingError, ServerError
from npu_serving.wire_bytes import bytes_field, number_field, text_field

_RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
_VERSION_POLICY, _LABELS = 7, 8
_LATEST, _ALL, _SPECIFIC = 100, 101, 102


class ListedModel(Protocol):
    """One model of the list, as a models.config has it."""

    @property
    def name(self) -> str:
        """What requests call it."""

    @property
    def base_path(self) -> str:
        """The directory of its versions, or its URL."""

    @property
    def platform(self) -> str:
        """The name of its entry in the platform config."""

    @property
    def versions(self) -> int | tuple[int, ...] | Literal["all"]:
        """All of them, some, or how many of the highest."""

    @property
    def labels(self) -> Mapping[str, int]:
        """Versions by the names that clients use."""


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


def write_reload_request(models: Sequence[ListedModel]) -> bytes:
    """The ReloadConfigRequest in wire format."""
    listed = b"".join(bytes_field(1, b"".join(_model(model))) for model in models)
    return bytes_field(1, bytes_field(1, listed))


def _model(model: ListedModel) -> Iterator[bytes]:
    yield text_field(1, model.name)
    yield text_field(2, model.base_path)
    yield text_field(4, model.platform)
    if model.versions == "all":
        yield bytes_field(_VERSION_POLICY, bytes_field(_ALL, b""))
    elif isinstance(model.versions, tuple):
        numbers = b"".join(number_field(1, version) for version in model.versions)
        yield bytes_field(_VERSION_POLICY, bytes_field(_SPECIFIC, numbers))
    elif isinstance(model.versions, int) and model.versions != 1:
        yield bytes_field(_VERSION_POLICY, bytes_field(_LATEST, number_field(1, model.versions)))
    for label, version in model.labels.items():
        yield bytes_field(_LABELS, text_field(1, label) + number_field(2, version))


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

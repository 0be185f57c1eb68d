"""A list of models for a running server, read by protobuf itself and answered over the real gRPC."""

from __future__ import annotations

import http.server
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_server import serving
from hypothesis import given
from hypothesis import strategies as some
from serving_messages import message_class, read_message

from npu_serving.asking.model_service import reload_models
from npu_serving.client.model_messages import write_reload_request
from npu_serving.deploy.platform_config import ServedModel, render_models_config
from npu_serving.errors import ServerError, UnreachableError

SERVICE = "tensorflow.serving.ModelService"
MODELS = (
    ServedModel("a", "/models/a"),
    ServedModel("b", 's3://b/é "b"', "tensorflow_2", "all"),
    ServedModel("c", "/c", "tensorflow", (3, 1 << 40), {"stable": 3, "canary": 1 << 40}),
    ServedModel("d", "/d", "tensorflow", 4),
)


def read(request: bytes) -> Any:
    return message_class("tensorflow.serving.ReloadConfigRequest").FromString(request).config


def nothing() -> None:
    time.sleep(0.01)


def test_the_request_says_what_the_models_config_says() -> None:
    assert read(write_reload_request(MODELS)) == read_message(render_models_config(MODELS), "ModelServerConfig")


@given(
    some.lists(
        some.builds(
            ServedModel,
            name=some.text("ab.-_", min_size=1).map(lambda text: f"m{text}"),
            base_path=some.text('ab/é"\n').map(lambda text: f"/{text}"),
            versions=some.one_of(
                some.just("all"), some.integers(1, 2**31), some.lists(some.integers(0, 2**62), min_size=1).map(tuple)
            ),
            labels=some.dictionaries(some.text("ab", min_size=1), some.integers(1, 2**62)),
        ),
        min_size=1,
        unique_by=lambda model: model.name,
    )
)
def test_whatever_the_models_are_protobuf_reads_the_same_from_both(models: list[ServedModel]) -> None:
    assert read(write_reload_request(models)) == read_message(render_models_config(models), "ModelServerConfig")


def test_the_server_gets_the_list_and_is_waited_for() -> None:
    seen: list[Any] = []
    waited: list[None] = []

    def answer(data: bytes, _context: grpc.ServicerContext) -> bytes:
        seen.append(read(data))
        while len(waited) < 3:
            time.sleep(0.01)
        return b""

    def look() -> None:
        waited.append(None)
        nothing()

    with serving({"HandleReloadConfigRequest": answer}, service=SERVICE) as server:
        reload_models(server.url, MODELS[:1], timeout_s=60, while_waiting=look)
    assert [model.name for model in seen[0].model_config_list.config] == ["a"]
    assert len(waited) >= 3


def test_a_list_that_the_server_refuses_is_told_with_its_reason() -> None:
    def answer(_data: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Illegal to change a model's platform.\nFor model a")
        return b""

    with (
        serving({"HandleReloadConfigRequest": answer}, service=SERVICE) as server,
        pytest.raises(ServerError, match="did not take the list of models: Illegal to change") as caught,
    ):
        reload_models(server.url, MODELS, timeout_s=60, while_waiting=nothing)
    assert "\n" not in caught.value.what
    assert "./inv reload" in caught.value.cure


def test_silence_another_program_and_nobody_are_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UnreachableError, match="Nothing listens at") as caught:
        reload_models(f"grpc://127.0.0.1:{port}", MODELS, timeout_s=60, while_waiting=nothing)
    assert "./inv restart" in caught.value.cure
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    with web, ThreadPoolExecutor() as pool:
        pool.submit(web.serve_forever, poll_interval=0.01)
        try:
            with pytest.raises(ServerError, match="not TensorFlow Serving's gRPC API"):
                reload_models(f"grpc://127.0.0.1:{web.server_port}", MODELS, timeout_s=60, while_waiting=nothing)
        finally:
            web.shutdown()
    with serving() as server, pytest.raises(ServerError, match="has no ModelService"):
        reload_models(server.url, MODELS, timeout_s=60, while_waiting=nothing)

    def silent(_data: bytes, context: grpc.ServicerContext) -> bytes:
        while context.is_active():
            time.sleep(0.01)
        return b""

    with (
        serving({"HandleReloadConfigRequest": silent}, service=SERVICE) as server,
        pytest.raises(ServerError, match="has not loaded the new models within"),
    ):
        reload_models(server.url, MODELS, timeout_s=0.2, while_waiting=nothing)

"""What can go wrong when a server is asked, through the client library: each is an error that says what helps."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from broken_servers import WRONGS, broken
from gateways import Gateway, haproxy, nginx, spare_ports
from tensorflow_server import TensorFlowServer

from npu_serving.client import AsyncGrpcClient, ClientError, GrpcClient, NotSentError, RestClient

ONE = {"x": [1.0]}


@pytest.fixture(scope="module")
def of_nginx(tensorflow_process: TensorFlowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    ports = tensorflow_process.grpc_port, tensorflow_process.rest_port
    with nginx(*ports, tmp_path_factory.mktemp("nginx")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def of_haproxy(tensorflow_process: TensorFlowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    ports = tensorflow_process.grpc_port, tensorflow_process.rest_port
    with haproxy(*ports, tmp_path_factory.mktemp("haproxy")) as gateway:
        yield gateway


def error_of(target: str, model: str = "half_plus_two", inputs: Any = None, **more: Any) -> ClientError:
    """The error of a request by whichever API the target is of; it reads well, and can be written as JSON."""
    kind = RestClient if target.startswith("http") else GrpcClient
    timeout_s = more.pop("timeout_s", 5.0)
    with kind(target, timeout_s=timeout_s) as client, pytest.raises(ClientError) as caught:
        client.predict(model, ONE if inputs is None else inputs, **more)
    error = caught.value
    assert error.what.endswith(".")
    assert error.cure, str(error)
    assert "\n" not in error.what
    json.dumps(error.to_json(), allow_nan=False)
    return error


# ---- servers that are none, or broken


@pytest.mark.parametrize("wrong", WRONGS)
def test_a_server_that_speaks_wrongly_is_an_error_in_time_by_both_clients(wrong: str) -> None:
    kinds = {"nothing": {"timeout"}, "two messages": {"timeout", "malformed", "unreachable"}}
    with broken(wrong) as port:
        begun = time.monotonic()
        error = error_of(f"127.0.0.1:{port}", timeout_s=1)
        assert time.monotonic() - begun < 10
        expected = kinds.get(wrong, {"malformed", "unreachable", "failed", "gateway"})
        assert error.kind in expected, (wrong, str(error))

        async def asked() -> ClientError:
            async with AsyncGrpcClient(f"127.0.0.1:{port}", timeout_s=1) as client:
                with pytest.raises(ClientError) as caught:
                    await client.predict("m", ONE)
                return caught.value

        assert asyncio.run(asked()).kind in expected


@pytest.mark.parametrize("wrong", ["nothing", "closes at once", "bytes of something else", "an HTTP/1 page"])
def test_a_rest_server_that_speaks_wrongly_is_an_error_in_time(wrong: str) -> None:
    with broken(wrong) as port:
        error = error_of(f"http://127.0.0.1:{port}", timeout_s=1)
    assert error.kind in ({"timeout"} if wrong == "nothing" else {"malformed", "unreachable", "gateway"}), str(error)


def test_the_rest_port_asked_by_grpc_is_told_from_a_server_that_is_not_there(
    tensorflow_server: TensorFlowServer,
) -> None:
    (nobody,) = spare_ports(1)
    other = error_of(f"127.0.0.1:{tensorflow_server.rest_port}")
    assert other.kind == "malformed"
    assert "gRPC port" in other.cure
    for target in (f"127.0.0.1:{nobody}", f"http://127.0.0.1:{nobody}"):
        assert error_of(target).kind == "unreachable"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert error_of(f"127.0.0.1:{taken.getsockname()[1]}", timeout_s=0.5).kind == "timeout"
    assert error_of("no-such-host.invalid:8500").kind == "unreachable"


@pytest.mark.parametrize("by", ["target", "rest_url"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "noise"])
def test_a_damaged_answer_is_no_answer(tensorflow_server: TensorFlowServer, by: str, damage: str) -> None:
    tensorflow_server.misbehave(answer={"half_plus_two": damage})
    error = error_of(getattr(tensorflow_server, by))
    assert error.kind == "malformed"


@pytest.mark.parametrize("damage", ["other_type", "other_shape"])
def test_an_answer_of_another_type_than_the_model_says_is_given_as_it_is_or_refused(
    tensorflow_server: TensorFlowServer, damage: str
) -> None:
    tensorflow_server.misbehave(answer={"half_plus_two": damage})
    with GrpcClient(tensorflow_server.target) as client:
        try:
            found = client.predict("half_plus_two", ONE)["y"]
        except ClientError as error:
            assert error.kind == "malformed"
        else:
            assert (found.tolist(), found.shape) in (([b"text"], (1,)), ([[[2.5]]], (1, 1, 1)))


@pytest.mark.parametrize("by", ["target", "rest_url"])
def test_a_server_that_is_slow_or_half_dead_is_not_waited_for_longer_than_said(
    tensorflow_server: TensorFlowServer, by: str
) -> None:
    target = getattr(tensorflow_server, by)
    tensorflow_server.misbehave(delay_ms={"half_plus_two": 3000})
    assert error_of(target, timeout_s=0.3).kind == "timeout"
    tensorflow_server.misbehave(silent=True)
    error = error_of(target, timeout_s=0.3)
    assert error.kind == "timeout"
    assert "0.3 s" in error.what


@pytest.mark.parametrize("by", ["target", "rest_url"])
def test_a_server_that_still_compiles_is_said_to_and_how_long_it_was_waited_for(
    tensorflow_server: TensorFlowServer, by: str
) -> None:
    target = getattr(tensorflow_server, by)
    tensorflow_server.misbehave(compile_ms={"half_plus_two": 2000})
    error = error_of(target, timeout_s=0.5)
    assert error.kind == "timeout"
    assert "compile" in str(error)
    assert "0.5 s" in error.what


@pytest.mark.parametrize("code", ["UNKNOWN", "INTERNAL", "DATA_LOSS", "ABORTED", "UNIMPLEMENTED"])
@pytest.mark.parametrize("by", ["target", "rest_url"])
def test_a_failure_of_the_model_has_the_servers_words(tensorflow_server: TensorFlowServer, by: str, code: str) -> None:
    tensorflow_server.misbehave(fail={"half_plus_two": {"code": code, "message": "kernel of \x1b[31mnode\n'y' failed"}})
    error = error_of(getattr(tensorflow_server, by))
    assert error.kind == "failed"
    assert "failed" in error.said
    assert "\x1b" not in str(error)


def test_a_status_of_the_server_is_no_gateways(tensorflow_server: TensorFlowServer) -> None:
    for code, status in (("PERMISSION_DENIED", "403"), ("UNAUTHENTICATED", "401")):
        tensorflow_server.misbehave(fail={"half_plus_two": {"code": code, "message": "denied by the model"}})
        assert error_of(tensorflow_server.target).status == code
        error = error_of(tensorflow_server.rest_url)
        assert error.status == status
        assert "denied by the model" in str(error)


# ---- gateways


@pytest.mark.parametrize(
    ("place", "status", "said"),
    [
        ("login", "401", "login"),
        ("forbidden", "403", "forbid"),
        ("dead", "50", "server"),
        ("down", "503", "server"),
        ("slow", "504", "gave up"),
    ],
)
@pytest.mark.parametrize("api", ["grpc", "rest"])
@pytest.mark.parametrize("of", ["nginx", "haproxy"])
def test_what_a_gateway_says_is_told_with_its_status_and_what_that_means(
    of_nginx: Gateway, of_haproxy: Gateway, of: str, api: str, place: str, status: str, said: str
) -> None:
    gateway = of_nginx if of == "nginx" else of_haproxy
    error = error_of(getattr(gateway, api)(place))
    if (of, api, place) == ("haproxy", "grpc", "slow"):  # it resets the stream, without a status
        assert error.kind in ("unreachable", "gateway")
        return
    assert (error.kind, error.status[: len(status)]) == ("gateway", status), str(error)
    assert said in str(error).lower()


@pytest.mark.parametrize("api", ["grpc", "rest"])
@pytest.mark.parametrize("of", ["nginx", "haproxy"])
def test_too_many_requests_for_a_gateway_are_no_full_queue(
    of_nginx: Gateway, of_haproxy: Gateway, of: str, api: str
) -> None:
    gateway = of_nginx if of == "nginx" else of_haproxy
    url = getattr(gateway, api)("often")
    errors = []
    for _ in range(3):
        with (RestClient if api == "rest" else GrpcClient)(url) as client:
            try:
                client.predict("half_plus_two", ONE)
            except ClientError as error:
                errors.append(error)
    assert errors
    assert {(error.kind, error.status) for error in errors} == {("gateway", "429")}


@pytest.mark.parametrize("api", ["grpc", "rest"])
def test_a_redirection_and_a_sign_in_page_are_no_answers(of_nginx: Gateway, api: str) -> None:
    moved, page = error_of(getattr(of_nginx, api)("moved")), error_of(getattr(of_nginx, api)("page"))
    assert (moved.kind, moved.status) == ("gateway", "302")
    assert page.kind in ("gateway", "malformed")


# ---- requests that can't be


@pytest.mark.parametrize("by", ["target", "rest_url"])
@pytest.mark.parametrize(
    ("model", "inputs", "said"),
    [
        ("half_plus_two", {}, "lacks"),
        ("half_plus_two", {"x": [1.0], "z": [1]}, "'z'"),
        ("half_plus_two", {"x": [[1.0]]}, "shape"),
        ("half_plus_two", {"x": 1.0}, "shape"),
        ("image", {"image": np.zeros((1, 8, 9, 3), "f4")}, "shape"),
        ("half_plus_two", {"x": [[1.0], [2.0, 3.0]]}, "'x'"),
        ("half_plus_two", {"x": None}, "'x'"),
        ("half_plus_two", {"x": object()}, "'x'"),
        ("half_plus_two", {"x": {"a": 1}}, "'x'"),
        ("half_plus_two", {"x": np.array(["2020-01-01"], "M8[D]")}, "'x'"),
        ("texts", {"t": [1.5]}, "'t'"),
        ("texts", {"t": ["\ud800"]}, "'t'"),
    ],
)
def test_a_request_that_does_not_fit_is_not_sent_and_the_input_is_named(
    tensorflow_server: TensorFlowServer, by: str, model: str, inputs: dict[str, Any], said: str
) -> None:
    error = error_of(getattr(tensorflow_server, by), model, inputs)
    assert isinstance(error, NotSentError), str(error)
    assert said in str(error)
    assert not {"Predict", "REST predict"} & set(tensorflow_server.counters()["requests"])


@pytest.mark.parametrize("by", ["target", "rest_url"])
@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"model": "other"}, "unknown_model"),
        ({"version": 7}, "unknown_model"),
        ({"signature": "none"}, "refused"),
        ({"model": ""}, "refused"),
        ({"model": "a\ud800"}, "refused"),
        ({"version": -1}, "refused"),
        ({"version": 1 << 63}, "refused"),
        ({"outputs": ("none",)}, "refused"),
        ({"timeout_s": 0}, "refused"),
        ({"timeout_s": float("nan")}, "refused"),
    ],
)
def test_a_name_or_a_number_that_is_wrong_is_told(
    tensorflow_server: TensorFlowServer, by: str, asked: dict[str, Any], kind: str
) -> None:
    kind_of_client = RestClient if by == "rest_url" else GrpcClient
    with kind_of_client(getattr(tensorflow_server, by)) as client, pytest.raises(ClientError) as caught:
        client.predict(asked.get("model", "half_plus_two"), ONE, **{k: v for k, v in asked.items() if k != "model"})
    assert caught.value.kind == kind, str(caught.value)
    assert caught.value.cure


@pytest.mark.parametrize("by", ["target", "rest_url"])
def test_an_empty_batch_is_answered_or_refused_and_breaks_nothing(tensorflow_server: TensorFlowServer, by: str) -> None:
    kind = RestClient if by == "rest_url" else GrpcClient
    with kind(getattr(tensorflow_server, by)) as client:
        try:
            assert client.predict("half_plus_two", {"x": np.zeros(0, "f4")})["y"].shape == (0,)
        except ClientError as error:
            assert error.kind == "refused"
        assert client.predict("half_plus_two", ONE)["y"].tolist() == [2.5]


def test_a_request_of_two_gigabytes_is_refused_without_a_copy_of_it(tensorflow_server: TensorFlowServer) -> None:
    no_memory = np.broadcast_to(np.float32(1), (1, 600_000_000))
    error = error_of(tensorflow_server.target, "sum", {"x": no_memory})
    assert error.kind == "refused"
    assert "2 GiB" in str(error)
    assert tensorflow_server.requests() == 0


@pytest.mark.parametrize(
    "target",
    ["", "grpc://", "grpc://host:x", "grpc://host:99999", "host:0", "ftp://host", "grpc://user@host", "\x00", "a b:1"],
)
def test_an_address_that_is_none_is_refused_at_once(target: str) -> None:
    with pytest.raises(ClientError) as caught:
        GrpcClient(target)
    assert caught.value.kind == "refused"
    assert caught.value.cure


def test_a_metadata_server_that_is_half_dead_does_not_outlive_the_deadline(tensorflow_server: TensorFlowServer) -> None:
    tensorflow_server.misbehave(silent=True)
    for kind, target in ((GrpcClient, tensorflow_server.target), (RestClient, tensorflow_server.rest_url)):
        with kind(target, timeout_s=0.3) as client:
            for ask in (client.metadata, client.status):
                with pytest.raises(ClientError) as caught:
                    ask("half_plus_two")
                assert caught.value.kind == "timeout"

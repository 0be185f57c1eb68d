"""What people who ask a TensorFlow Serving have reported, through the client library, against real SavedModels.

The sentences are those of public issues; each is its whole kind: types, statuses, sizes, proxies, forks.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Union

import numpy as np
import pytest
from gateways import Gateway, haproxy, nginx
from tensorflow_server import TensorFlowServer

import npu_serving
from npu_serving.client import (
    AsyncGrpcClient,
    ClientError,
    GrpcClient,
    NotSentError,
    Prediction,
    RestClient,
    Tls,
    WireArray,
)

ROOT = Path(npu_serving.__file__).resolve().parents[1]
Client = Union[GrpcClient, RestClient]
SECRET = "s3cr#t%w0rd"
PARTS = ("s3cr", "w0rd")


@pytest.fixture(scope="module")
def before(tensorflow_process: TensorFlowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """HAProxy in front of the server."""
    ports = tensorflow_process.grpc_port, tensorflow_process.rest_port
    with haproxy(*ports, tmp_path_factory.mktemp("haproxy")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def foreign(tensorflow_process: TensorFlowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """nginx in front of it, as somebody else has set it up."""
    ports = tensorflow_process.grpc_port, tensorflow_process.rest_port
    with nginx(*ports, tmp_path_factory.mktemp("nginx")) as gateway:
        yield gateway


@pytest.fixture(params=["grpc", "rest"])
def either(request: pytest.FixtureRequest, tensorflow_server: TensorFlowServer) -> Iterator[Client]:
    """The server asked by either API."""
    made: Client = (
        GrpcClient(tensorflow_server.target) if request.param == "grpc" else RestClient(tensorflow_server.rest_url)
    )
    with made:
        yield made


def failed(client: Client, model: str, inputs: Mapping[str, object], **more: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        client.predict(model, inputs, **more)
    error = caught.value
    assert error.what and error.cure, str(error)
    assert "\\" not in str(error), str(error)
    json.dumps(error.to_json(), allow_nan=False)
    return error


# ---- 14: REST errors that are no JSON


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": "classify", "inputs": {"examples": ["not an example"]}, "signature": "predict"}, "parse"),
        ({"model": "ids_mask", "inputs": {"ids": [[100]], "mask": [[1]]}}, "is not in [0, 100)"),
    ],
)
def test_an_error_of_rest_that_is_no_json_is_read_with_its_quotes(
    tensorflow_server: TensorFlowServer, asked: dict[str, Any], said: str
) -> None:
    with RestClient(tensorflow_server.rest_url) as client:
        error = failed(client, asked["model"], asked["inputs"], signature=asked.get("signature", ""))
    assert (error.kind, error.status, error.model) == ("refused", "400", asked["model"])
    assert said in error.said


def test_letters_that_the_server_escapes_as_octal_bytes_are_restored(tensorflow_server: TensorFlowServer) -> None:
    tensorflow_server.misbehave(fail={"sum": {"code": "INVALID_ARGUMENT", "message": "größe \"1\" isn't 'x' 模型"}})
    with RestClient(tensorflow_server.rest_url) as client:
        error = failed(client, "sum", {"x": [[1.0]]})
    assert error.said == "größe \"1\" isn't 'x' 模型"


# ---- 16: half precision


def test_half_precision_is_exact_by_grpc_and_refused_by_rest_before_anything_is_sent(
    tensorflow_server: TensorFlowServer,
) -> None:
    halves = np.arange(8, dtype="f2").reshape(1, 8) / 3
    with GrpcClient(tensorflow_server.target) as client:
        answer = client.predict("echo_rows", {"x": halves}, signature="half_8")
    assert (answer["y"].dtype, answer["y"].tobytes()) == (halves.dtype, halves.tobytes())
    with RestClient(tensorflow_server.rest_url) as client:
        for signature, value, name in (
            ("half", halves, "half"),
            ("complex64", np.array([[1 + 2j]], "c8"), "complex"),
            ("bfloat16", WireArray(np.array([[1]], "u2"), "DT_BFLOAT16"), "bfloat16"),
        ):
            error = failed(client, "echo_rows", {"x": value}, signature=signature)
            assert error.kind == "refused"
            assert name in str(error).lower()
            assert "'x'" in str(error)
            assert "gRPC" in error.cure
    assert tensorflow_server.requests("REST predict") == 0


# ---- 17: types that don't fit


@pytest.mark.parametrize(
    ("signature", "value", "sent"),
    [
        ("float", np.array([[1.5, 2], [3, 4]]), [[1.5, 2], [3, 4]]),
        ("int32", np.array([[1, -2]], "i8"), [[1, -2]]),
        ("float", [[16777217]], None),
        ("uint8", [[300]], None),
        ("uint8", [[-1]], None),
        ("int32", [[1.5]], None),
        ("float", [["3"]], None),
        ("float", [[True]], None),
        ("int32", np.array([[1 << 40]]), None),
        ("int64", [[0, 2.0]], [[0, 2]]),
        ("string", [[1]], None),
        ("bool", [[1]], None),
    ],
)
def test_both_apis_have_the_same_verdict_on_a_type_and_no_wrong_number_reaches_the_model(
    either: Client, tensorflow_server: TensorFlowServer, signature: str, value: object, sent: object
) -> None:
    if sent is None:
        error = failed(either, "echo_rows", {"x": value}, signature=signature)
        assert isinstance(error, NotSentError)
        assert "'x'" in str(error)
        assert not {"Predict", "REST predict"} & set(tensorflow_server.counters()["requests"])
    else:
        answer = either.predict("echo_rows", {"x": value}, signature=signature)
        assert answer["y"].tolist() == sent
        assert len(answer.notes) == 1


def test_a_lossy_cast_names_the_place_and_can_be_forced(either: Client) -> None:
    value = np.array([[1.0, 2.5], [3.0, 1e10]])
    error = failed(either, "echo_rows", {"x": value}, signature="int32")
    assert "[0, 1]" in str(error) or "[0][1]" in str(error), str(error)
    forced = either.predict("echo_rows", {"x": np.array([[1.0, 2.5]])}, signature="int32", cast=True)
    assert forced["y"].tolist() == [[1, 2]]


# ---- 19: sizes


def test_an_answer_of_twelve_megabytes_and_a_request_of_eighty_pass(tensorflow_server: TensorFlowServer) -> None:
    with GrpcClient(tensorflow_server.target) as client:
        answer = client.predict("wide", {"x": np.array([1], "f4")})
        assert answer["y"].shape == (1, 1024, 1024, 3)
        assert answer["y"][0, 5, 7].tolist() == [1, 2, 3]
        assert client.predict("sum", {"x": np.full((1, 20_000_000), 0.5, "f4")})["y"].tolist() == [10_000_000]
    with RestClient(tensorflow_server.rest_url) as client:
        assert client.predict("sum", {"x": np.ones((1, 30_000), "f4")})["y"].tolist() == [30_000]


def test_an_answer_over_the_clients_own_limit_is_neither_busy_nor_asked_for_again(
    either: Client, tensorflow_server: TensorFlowServer
) -> None:
    kind = type(either)
    target = tensorflow_server.target if kind is GrpcClient else tensorflow_server.rest_url
    model, inputs = (
        ("wide", {"x": np.array([1], "f4")})
        if kind is GrpcClient
        else (
            "echo_rows",
            {"x": np.full((1, 20_000), 0.123, "f4")},
        )
    )
    with kind(target, max_message_bytes=100_000, retries=5) as client:
        error = failed(client, model, inputs)
    assert error.kind == "too_large_for_client"
    assert "max_message_bytes" in str(error)
    assert "1" in error.what
    assert tensorflow_server.requests("Predict" if kind is GrpcClient else "REST predict") == 1


# ---- 20: too busy is not broken


def ask_many(client: Client, count: int) -> list[str]:
    def ask(number: int) -> str:
        try:
            answer = client.predict("slow", {"x": np.array([number], "f4")})
        except ClientError as error:
            return error.kind
        return "" if answer["y"].tolist() == [2.0 * number] else "wrong"

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


def test_a_full_queue_is_busy_and_one_that_expired_there_is_expired_with_counts_as_the_servers(
    either: Client, tensorflow_server: TensorFlowServer
) -> None:
    either.predict("slow", {"x": np.array([0], "f4")})
    tensorflow_server.misbehave(delay_ms={"slow": 100}, queue_timeout_ms=60)
    kinds = ask_many(either, 24)
    assert set(kinds) == {"", "busy", "expired"}
    is_grpc = isinstance(either, GrpcClient)
    counted = tensorflow_server.counters()["statuses"]["Predict" if is_grpc else "REST predict"]
    ok, busy, expired = ("0", "14", "8") if is_grpc else ("200", "503", "429")
    assert (kinds.count("busy"), kinds.count("expired")) == (counted[busy], counted[expired])
    assert kinds.count("") == counted[ok] - 1


def test_a_busy_server_is_asked_again_when_that_is_wanted(either: Client, tensorflow_server: TensorFlowServer) -> None:
    tensorflow_server.misbehave(delay_ms={"slow": 5})
    target = tensorflow_server.target if isinstance(either, GrpcClient) else tensorflow_server.rest_url
    with type(either)(target, retries=20) as client:
        assert set(ask_many(client, 24)) == {""}


def test_the_time_limit_of_rest_is_told_from_a_gateways_and_is_not_tried_again(
    tensorflow_server: TensorFlowServer, before: Gateway
) -> None:
    with RestClient(tensorflow_server.rest_url, retries=3) as client:
        client.predict("sum", {"x": [[1.0]]})
        tensorflow_server.misbehave(delay_ms={"sum": 9000}, rest_timeout_ms=100)
        asked = tensorflow_server.requests("REST predict")
        error = failed(client, "sum", {"x": [[1.0]]})
        assert tensorflow_server.requests("REST predict") == asked + 1
    assert (error.kind, error.status) == ("timeout", "504")
    assert "rest_api_timeout_in_ms" in str(error)
    with RestClient(before.rest("slow")) as client, pytest.raises(ClientError) as caught:
        client.status("sum")
    assert (caught.value.kind, caught.value.status) == ("gateway", "504")


def test_haproxy_does_not_take_a_server_out_because_its_queue_is_full(
    tensorflow_server: TensorFlowServer, before: Gateway
) -> None:
    with GrpcClient(before.grpc("through")) as client:
        kinds = ask_many(client, 40)
    assert kinds.count("busy") > 10
    assert before.statistics("status")["grpc-model/one"] == "UP"


# ---- 22: proxies in the environment


PROXIED = r"""
import json, sys
from npu_serving.client import ClientError, GrpcClient, RestClient
found = {}
for target in sys.argv[1:]:
    kind = RestClient if target.startswith("http") else GrpcClient
    try:
        with kind(target, timeout_s=5) as client:
            found[target] = client.predict("half_plus_two", {"x": [1.0]})["y"].tolist()
    except ClientError as error:
        found[target] = str(error)
print(json.dumps(found))
"""


def run_python(script: str, *words: str, **environment: str) -> str:
    """What it prints, in an environment with these variables and without what other tests need set."""
    cleared = {"GRPC_ENABLE_FORK_SUPPORT", "GRPC_VERBOSITY"}
    ran = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=ROOT,
        env={**{name: value for name, value in os.environ.items() if name not in cleared}, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert not any(part in ran.stdout + ran.stderr for part in PARTS), ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stdout


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "ALL_PROXY"])
def test_this_machine_is_never_asked_through_a_proxy_of_the_environment(
    tensorflow_server: TensorFlowServer, variable: str
) -> None:
    targets = [
        tensorflow_server.target,
        f"localhost:{tensorflow_server.grpc_port}",
        f"unix:{tensorflow_server.socket}",
        f"ipv4:127.0.0.1:{tensorflow_server.grpc_port},127.0.0.2:{tensorflow_server.grpc_port}",
        tensorflow_server.rest_url,
    ]
    scheme = "socks5" if variable.lower() == "all_proxy" else "http"
    cleared = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "")
    environment = {**cleared, "no_proxy": "", "NO_PROXY": "", variable: f"{scheme}://user:{SECRET}@127.0.0.1:1"}
    found = json.loads(run_python(PROXIED, *targets, **environment))
    assert found == {target: [2.5] for target in targets}


def test_behind_a_dead_proxy_the_variable_is_named_and_a_network_in_no_proxy_is_heeded() -> None:
    targets = ["10.255.255.1:8500", "http://10.255.255.1:8501"]
    proxy = {"http_proxy": f"http://user:{SECRET}@127.0.0.1:1", "NO_PROXY": ""}
    found = json.loads(run_python(PROXIED, *targets, **proxy, no_proxy=""))
    for target in targets:
        assert "http_proxy" in found[target], found[target]
    without = json.loads(run_python(PROXIED, *targets, **proxy, no_proxy="10.0.0.0/8"))
    for target in targets:
        assert without[target] != found[target]
        assert "refused" not in without[target], without[target]


# ---- 23: forks


def test_a_client_that_was_used_before_a_fork_answers_in_the_children_or_says_so_at_once(
    tensorflow_server: TensorFlowServer,
) -> None:
    script = textwrap.dedent(
        """
        import os, sys, time
        from npu_serving.client import ClientError, GrpcClient, RestClient
        for client in (GrpcClient(sys.argv[1]), RestClient(sys.argv[2])):
            def ask():
                return client.predict("half_plus_two", {"x": [1.0]}, timeout_s=2)["y"].tolist()
            assert ask() == [2.5]
            children = []
            for _ in range(2):
                pid = os.fork()
                if not pid:
                    found = 1
                    try:
                        found = 0 if ask() == [2.5] and ask() == [2.5] else 2
                    finally:
                        os._exit(found)
                children.append(pid)
            assert ask() == [2.5]
            end = time.monotonic() + 10
            for pid in children:
                while True:
                    done, status = os.waitpid(pid, os.WNOHANG)
                    if done:
                        break
                    assert time.monotonic() < end, "a child hangs"
                    time.sleep(0.01)
                print(os.waitstatus_to_exitcode(status))
        """
    )
    assert run_python(script, tensorflow_server.target, tensorflow_server.rest_url) == "0\n" * 4


# ---- 26: what is no number


def test_not_numbers_and_infinities_are_floats_by_both_apis_and_are_sent_as_well(either: Client) -> None:
    answer = either.predict("nan", {"x": np.array([np.nan, np.inf], "f4")})
    assert np.array_equal(answer["y"], np.array([[1, np.nan, -np.inf]] * 2, "f4"), equal_nan=True)
    assert np.array_equal(answer["echo"], np.array([np.nan, np.inf], "f4"), equal_nan=True)
    assert answer["y"].dtype == np.float32


def test_bytes_of_a_model_arrive_as_bytes_by_both_apis(either: Client) -> None:
    answer = either.predict("texts", {"t": ["größe", "b"]})
    assert answer["gbk"].tolist() == ["模型".encode("gbk")] * 2
    assert answer["png_bytes"].tolist() == [b"\x89PNG\r\n\x1a\n\x00\xff\xfe\x80"] * 2
    assert answer["echo"].tolist() == ["größe".encode(), b"b"]


# ---- 41: gateways


def test_a_gateway_that_refuses_the_size_is_told_from_one_that_reaches_no_server(
    tensorflow_server: TensorFlowServer, foreign: Gateway
) -> None:
    large = {"x": np.ones((1, 5_000_000), "f4")}
    with GrpcClient(foreign.grpc("through")) as client:
        assert client.predict("sum", large)["y"].tolist() == [5_000_000]
    with GrpcClient(foreign.grpc("default")) as client:
        error = failed(client, "sum", large)
        assert (error.kind, error.status) == ("too_large_for_gateway", "413")
        assert "client_max_body_size" in error.cure
    with GrpcClient(foreign.grpc("dead")) as client:
        error = failed(client, "sum", large)
        assert (error.kind, error.status) == ("gateway", "502")
    with RestClient(foreign.rest("default")) as client:
        error = failed(client, "sum", {"x": np.full((1, 300_000), 1.25, "f4")})
        assert (error.kind, error.status) == ("too_large_for_gateway", "413")
        assert "client_max_body_size" in error.cure


# ---- the interface of all three


def test_the_three_clients_have_one_interface(tensorflow_server: TensorFlowServer) -> None:
    async def asked() -> Prediction:
        async with AsyncGrpcClient(tensorflow_server.target) as client:
            return await client.predict("versions", {"x": [1.0, 2]}, label="stable")

    with GrpcClient(tensorflow_server.target) as by_grpc, RestClient(tensorflow_server.rest_url) as by_rest:
        answers = [asyncio.run(asked()), by_grpc.predict("versions", {"x": [1.0, 2]}, version=1)]
        answers.append(by_rest.predict("versions", {"x": [1.0, 2]}, version=1))
        assert [answer["y"].tolist() for answer in answers] == [[2.5, 3.0]] * 3
        for client in (by_grpc, by_rest):
            found = client.classify("classify", [{"x": 0.25}])
            assert [(each.label, each.score) for each in found.classes[0]] == [("cat", 0.25), ("dog", 0.75)]
            assert client.regress("classify", [{"x": 0.25}], signature="regress").values.tolist() == [2.5]
            assert [state.state for state in client.status("versions").versions] == ["AVAILABLE"] * 2
            signature = client.metadata("ids_mask").signatures[0]
            assert [item.name for item in signature.inputs] == ["ids", "mask"]


def test_encrypted_connections_are_checked_and_a_certificate_of_ones_own_is_shown(
    tensorflow_server: TensorFlowServer, foreign: Gateway, before: Gateway
) -> None:
    own = Tls(foreign.directory / "server.pem", foreign.directory / "client.pem", foreign.directory / "client.key")
    for gateway, place, tls in (
        (foreign, "tls", Tls(foreign.directory / "server.pem")),
        (before, "tls", Tls(before.directory / "server.pem")),
        (foreign, "mtls", own),
    ):
        with GrpcClient(gateway.grpc(place), tls=tls) as by_grpc, RestClient(gateway.rest(place), tls=tls) as by_rest:
            assert by_grpc.predict("half_plus_two", {"x": [1.0]})["y"].tolist() == [2.5]
            if gateway is foreign:
                assert by_rest.predict("half_plus_two", {"x": [1.0]})["y"].tolist() == [2.5]
    for client in (GrpcClient(foreign.grpc("tls")), RestClient(foreign.rest("tls"))):
        with client:
            error = failed(client, "half_plus_two", {"x": [1.0]})
            assert error.kind == "unreachable"
            assert "trust" in str(error)

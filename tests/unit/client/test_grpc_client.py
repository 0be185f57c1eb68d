"""The three clients against a real TensorFlow, and each way in which a server refuses, is busy, or is not there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import grpc
import numpy as np
import pytest
from grpc_server import ModelServer, serving
from tensorflow_server import TensorFlowServer

from npu_serving.client import (
    AsyncGrpcClient,
    GrpcClient,
    ModelEntry,
    NotSentError,
    RestClient,
    WireArray,
    async_client,
)
from npu_serving.client.casting import SignatureFit
from npu_serving.client.errors import (
    AnswerTooLargeError,
    BusyError,
    ClientError,
    DeadlineError,
    ExpiredError,
    FailedError,
    FromGatewayError,
    MalformedAnswerError,
    NotReachedError,
    RefusedError,
    TooLargeForGatewayError,
    UnknownModelError,
)
from npu_serving.client.model_types import ModelMetadata, Signature, TensorInfo

ROOT = Path(__file__).parents[3]
X = {"x": np.array([[1, 2], [0.5, 4]], np.float32)}
Ask = Callable[..., Any]


class Awaited:
    """An AsyncGrpcClient whose methods are waited for, so that one test asks all clients."""

    def __init__(self, target: str, **settings: Any) -> None:
        self._client = AsyncGrpcClient(target, **settings)
        self._loop = asyncio.new_event_loop()

    def __getattr__(self, name: str) -> Ask:
        return lambda *words, **named: self._loop.run_until_complete(getattr(self._client, name)(*words, **named))

    def __enter__(self) -> Awaited:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._loop.close()


GRPC: list[Any] = [GrpcClient, Awaited]


@pytest.fixture(params=["grpc", "asyncio", "rest"])
def real(request: pytest.FixtureRequest, tensorflow_server: TensorFlowServer) -> Iterator[Any]:
    """Each client, of a server that runs real models."""
    if request.param == "rest":
        client: Any = RestClient(tensorflow_server.rest_url)
    else:
        client = (GrpcClient if request.param == "grpc" else Awaited)(tensorflow_server.grpc_url)
    with client:
        yield client


@pytest.fixture(scope="module")
def running() -> Iterator[ModelServer]:
    with serving(max_receive_message_length=-1, max_send_message_length=-1) as server:
        yield server


@pytest.fixture
def server(running: ModelServer) -> ModelServer:
    running.answer = None
    running.requests.clear()
    return running


# ---- one interface, real models


def test_a_prediction_has_all_rows_of_all_outputs_whichever_api_carries_it(real: Any) -> None:
    found = real.predict("half_plus_two", {"x": [1.0, 2.0, 5.0]})
    assert (found.model, found["y"].dtype, list(found["y"])) == ("half_plus_two", np.float32, [2.5, 3.0, 4.5])
    assert found.version in (1, None)
    assert found.signature == "serving_default"
    assert found.seconds > 0
    assert "float64, and is sent as float32" in found.notes[0]
    two = real.predict("ids_mask", {"ids": [[1, 2], [3, 99]], "mask": np.ones((2, 2), np.int32)}, outputs=["score"])
    assert list(two.outputs) == ["score"]
    assert two["score"].shape == (2,)


def test_not_a_number_and_the_infinities_pass_both_ways(real: Any) -> None:
    found = real.predict("nan", {"x": np.array([np.nan, np.inf, -np.inf, 1], np.float32)})
    assert np.array_equal(found["y"][3], np.array([1, np.nan, -np.inf], np.float32), equal_nan=True)
    assert np.array_equal(found["echo"], np.array([np.nan, np.inf, -np.inf, 1], np.float32), equal_nan=True)


def test_bytes_that_are_not_text_arrive_as_they_are(real: Any) -> None:
    found = real.predict("texts", {"t": ["模型", b"\xff\x00"]})
    assert list(found["echo"]) == ["模型".encode(), b"\xff\x00"]
    assert list(found["gbk"]) == 2 * ["模型".encode("gbk")]
    assert found["png_bytes"][0].startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", GRPC)
def test_an_answer_of_12_megabytes_arrives(kind: Any, tensorflow_server: TensorFlowServer) -> None:
    with kind(tensorflow_server.target) as client:
        assert client.predict("wide", {"x": np.array([1], np.float32)})["y"].shape == (1, 1024, 1024, 3)


def test_examples_are_classified_and_regressed_from_plain_dicts(real: Any) -> None:
    found = real.classify("classify", [{"x": 0.25}, {}], context={"other": "text"})
    assert [[(item.label, item.score) for item in row] for row in found.classes] == [
        [("cat", 0.25), ("dog", 0.75)],
        [("cat", 0.0), ("dog", 1.0)],
    ]
    assert list(real.regress("classify", [{"x": [0.25]}], signature="regress").values) == [2.5]


def test_state_and_signatures_are_the_same_by_either_api(real: Any, tensorflow_server: TensorFlowServer) -> None:
    with GrpcClient(tensorflow_server.target) as client:
        assert real.metadata("ids_mask") == client.metadata("ids_mask")
        status = real.status("half_plus_two")
    assert status == client_status(tensorflow_server)
    assert status.available
    takes = real.metadata("ids_mask").what_it_takes("")
    assert takes == "the signature 'serving_default' takes ids: DT_INT64 [-1, -1]; mask: DT_INT64 [-1, -1]"


def client_status(server: TensorFlowServer) -> Any:
    with GrpcClient(server.target) as client:
        return client.status("half_plus_two")


@pytest.mark.parametrize(
    ("signature", "value"),
    [
        ("float", [[16777217, 2]]),
        ("uint8", [[300, 1]]),
        ("uint8", [[-1, 1]]),
        ("int32", [[1.5, 1]]),
        ("float", [["3", "4"]]),
        ("float", [[True, False]]),
        ("float", {"a": 1}),
    ],
)
def test_what_a_type_does_not_hold_reaches_no_model(
    real: Any, tensorflow_server: TensorFlowServer, signature: str, value: Any
) -> None:
    with pytest.raises(NotSentError) as caught:
        real.predict("echo_all", {"x": value}, signature=signature)
    assert caught.value.kind == "refused"
    assert caught.value.model == "echo_all"
    counters = tensorflow_server.counters()["requests"]
    assert not counters.get("Predict")
    assert not counters.get("REST predict")


@pytest.mark.parametrize(
    ("signature", "value"),
    [("float", np.array([[1.0, 2.0]])), ("int32", np.array([[1, 2]])), ("uint8", [[255, 0]]), ("bool", [[True]])],
)
def test_what_a_type_holds_comes_back_as_it_was(real: Any, signature: str, value: Any) -> None:
    assert np.array_equal(real.predict("echo_all", {"x": value}, signature=signature)["y"], np.asarray(value))


@pytest.mark.parametrize("signature", ["half", "bfloat16", "complex64"])
def test_types_that_json_lacks_go_by_grpc_to_the_bit_and_by_rest_not_at_all(
    tensorflow_server: TensorFlowServer, signature: str
) -> None:
    value: Any = np.array(
        [[0.1, -2]], {"half": np.float16, "bfloat16": np.float32, "complex64": np.complex64}[signature]
    )
    sent = WireArray(value, "DT_BFLOAT16") if signature == "bfloat16" else value
    with GrpcClient(tensorflow_server.target) as client:
        found = client.predict("echo_all", {"x": sent}, signature=signature)["y"]
    assert np.allclose(found, value, rtol=0.01)
    if signature != "bfloat16":
        assert found.tobytes() == value.tobytes()
    with (
        RestClient(tensorflow_server.rest_url) as rest,
        pytest.raises(NotSentError, match="'x' is of the type") as caught,
    ):
        rest.predict("echo_all", {"x": sent}, signature=signature)
    assert "use gRPC" in caught.value.cure
    assert not tensorflow_server.requests("REST predict")


def test_several_signatures_infer_the_same_examples(tensorflow_server: TensorFlowServer) -> None:
    tasks = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}
    with Awaited(tensorflow_server.target) as client:
        classes, values = client.multi_inference("classify", [{"x": 1.0}], tasks)
    assert classes.classes[0][0].label == "cat"
    assert list(values.values) == [10.0]


@pytest.mark.parametrize("method", ["multi_inference", "reload_config"])
def test_what_rest_lacks_is_said_before_anything_is_sent(method: str) -> None:
    with RestClient("http://127.0.0.1:9") as client, pytest.raises(NotSentError, match="use gRPC"):
        getattr(client, method)("m", [], {})


@pytest.mark.parametrize(
    ("asked", "kind", "what"),
    [
        ({"model": "nope"}, UnknownModelError, "has no model 'nope'"),
        ({"model": "half_plus_two", "version": 77}, UnknownModelError, "in version 77"),
        ({"model": "half_plus_two", "signature": "nope"}, NotSentError, "no signature 'nope'"),
        ({"model": "half_plus_two", "outputs": ["z"]}, NotSentError, "no output 'z'"),
        ({"model": ""}, NotSentError, "name is empty"),
        ({"model": "half_plus_two", "timeout_s": 0}, NotSentError, "timeout_s can't be 0"),
    ],
)
def test_a_wrong_question_is_told_by_its_own_class(real: Any, asked: Any, kind: type[ClientError], what: str) -> None:
    with pytest.raises(kind, match=what) as caught:
        real.predict(inputs={"x": [1.0]}, **asked)
    assert caught.value.to_json()["kind"] == caught.value.kind


def test_what_the_model_itself_refuses_says_what_it_takes(real: Any) -> None:
    with pytest.raises(RefusedError, match=r"indices\[0,0\] = 200 is not in") as caught:
        real.predict("ids_mask", {"ids": [[200]], "mask": [[1]]})
    assert "ids: DT_INT64 [-1, -1]" in caught.value.cause
    assert caught.value.status in ("INVALID_ARGUMENT", "400")


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("UNAVAILABLE", "The batch scheduling queue to which this task was submitted is full", BusyError),
        ("RESOURCE_EXHAUSTED", "expired in the queue", ExpiredError),
        ("INTERNAL", "GE's graph 'größe' failed", FailedError),
        ("INVALID_ARGUMENT", "no 'größe'", RefusedError),
    ],
)
def test_busy_expired_failed_and_refused_are_told_apart(
    real: Any, tensorflow_server: TensorFlowServer, code: str, message: str, kind: type[ClientError]
) -> None:
    tensorflow_server.misbehave(fail={"half_plus_two": {"code": code, "message": message}})
    with pytest.raises(kind) as caught:
        real.predict("half_plus_two", {"x": [1.0]})
    assert type(caught.value) is kind
    assert message in caught.value.what
    assert caught.value.said == message


def test_a_busy_server_is_asked_again_only_where_that_was_wanted(tensorflow_server: TensorFlowServer) -> None:
    queue = {"code": "UNAVAILABLE", "message": "the queue is full", "times": 2}
    for kind, target in (
        (GrpcClient, tensorflow_server.grpc_url),
        (Awaited, tensorflow_server.grpc_url),
        (RestClient, tensorflow_server.rest_url),
    ):
        tensorflow_server.misbehave(fail={"half_plus_two": queue})
        with kind(target) as client, pytest.raises(BusyError):
            client.predict("half_plus_two", {"x": [1.0]})
        tensorflow_server.misbehave(fail={"half_plus_two": queue})
        with kind(target, retries=2) as client:
            assert client.predict("half_plus_two", {"x": [2.0]})["y"] == [3.0]


def test_no_answer_in_time_is_a_deadline_whichever_api(real: Any, tensorflow_server: TensorFlowServer) -> None:
    real.metadata("half_plus_two")
    real.predict("half_plus_two", {"x": [1.0]})
    tensorflow_server.misbehave(silent=True)
    begun = time.monotonic()
    with pytest.raises(DeadlineError, match=r"did not answer within 0\.3 s") as caught:
        real.predict("half_plus_two", {"x": [1.0]}, timeout_s=0.3)
    assert time.monotonic() - begun < 5
    assert "compiles the model" in caught.value.cause


@pytest.mark.parametrize("wrong", ["truncated", "noise"])
def test_a_damaged_answer_is_malformed(real: Any, tensorflow_server: TensorFlowServer, wrong: str) -> None:
    tensorflow_server.misbehave(answer={"half_plus_two": wrong})
    with pytest.raises(MalformedAnswerError):
        real.predict("half_plus_two", {"x": [1.0]})


def test_a_new_version_with_other_inputs_is_noticed(real: Any, tensorflow_server: TensorFlowServer) -> None:
    """What is known of a model is asked again before a request is refused by it."""
    real.predict("half_plus_two", {"x": [2.0]})
    flows = getattr(getattr(real, "_client", real), "flows", None)
    if flows is None:
        real._known["half_plus_two", None] = ModelMetadata("half_plus_two", 0, ())
    else:
        (key,) = flows._ready
        other = Signature("serving_default", "", (TensorInfo("z", "DT_FLOAT", None),), ())
        flows._ready[key] = flows._ready[key]._replace(fitting=SignatureFit(other))
    assert real.predict("half_plus_two", {"x": [2.0]})["y"] == [3.0]


# ---- the way there


def test_sockets_lists_of_addresses_and_names_are_asked_past_any_proxy(
    tensorflow_server: TensorFlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://user:top#secret@127.0.0.1:9")
    port = tensorflow_server.grpc_port
    for target in (
        f"localhost:{port}",
        f"dns:///localhost:{port}",
        f"unix:{tensorflow_server.socket}",
        f"ipv4:127.0.0.1:{port},127.0.0.2:{port}",
    ):
        for kind in GRPC:
            with kind(target) as client:
                assert client.predict("half_plus_two", {"x": [2.0]}, timeout_s=20)["y"] == [3.0]


def test_a_proxy_that_does_not_pass_it_on_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy", "grpc_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://user:topsecret@127.0.0.1:9")
    with GrpcClient("192.0.2.1:8500") as client, pytest.raises(NotReachedError) as caught:
        client.predict("m", X, timeout_s=20)
    assert "http_proxy" in caught.value.cause
    assert "no_proxy" in caught.value.cure
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize("kind", GRPC)
def test_nobody_there_is_told_with_the_address(kind: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with (
        kind(f"127.0.0.1:{port}") as client,
        pytest.raises(NotReachedError, match=f"Nothing listens at grpc://.*{port}"),
    ):
        client.predict("m", X)


@pytest.mark.parametrize("kind", GRPC)
def test_an_answer_over_the_clients_own_limit_is_no_busy_server(kind: Any, tensorflow_server: TensorFlowServer) -> None:
    limit: Any = {"max_message_bytes": 1_000_000, "retries": 3}
    with kind(tensorflow_server.target, **limit) as client, pytest.raises(AnswerTooLargeError) as caught:
        client.predict("wide", {"x": np.array([1], np.float32)})
    assert "12.6 MB" in caught.value.what
    assert "1.0 MB" in caught.value.cause
    assert "max_message_bytes" in caught.value.cure
    assert tensorflow_server.requests("Predict") == 1


@pytest.mark.parametrize("kind", GRPC)
def test_a_gateways_limit_of_a_request_is_told_from_the_clients_own(kind: Any) -> None:
    with serving() as server, kind(server.url) as client, pytest.raises(TooLargeForGatewayError, match=r"5\.6 MB"):
        client.predict("m", {"x": np.ones((700_000, 2), np.float32)})


@pytest.mark.parametrize(
    ("code", "said", "kind"),
    [
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (9 vs. 4)", AnswerTooLargeError),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 4194304)", TooLargeForGatewayError),
        ("UNAVAILABLE", "gone", NotReachedError),
        ("UNKNOWN", "Stream removed\n\x1b[31m", FailedError),
        ("UNIMPLEMENTED", "", MalformedAnswerError),
        ("UNAVAILABLE", "Received http2 header with status: 401", FromGatewayError),
        ("UNKNOWN", "Received http2 header with status: 413", TooLargeForGatewayError),
    ],
)
def test_each_status_has_its_own_class(server: ModelServer, code: str, said: str, kind: type[ClientError]) -> None:
    def refuse(_data: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(getattr(grpc.StatusCode, code), said)
        raise AssertionError

    server.answer = refuse
    with GrpcClient(server.url) as client, pytest.raises(kind) as caught:
        client.predict("m", X)
    assert type(caught.value) is kind
    of_http = re.search(r"status: (\d+)", said)
    assert caught.value.status == (of_http[1] if of_http else code)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("kind", GRPC)
def test_metadata_and_compression_reach_the_server(kind: Any, server: ModelServer) -> None:
    seen: list[dict[str, str]] = []

    def note(data: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append({str(key): str(value) for key, value in context.invocation_metadata()})
        server.answer = None
        return server.predict(data, context)

    server.answer = note
    settings: Any = {"compression": "gzip", "metadata": [("tenant", "a")], "keepalive_s": 300}
    with kind(server.url, **settings) as client:
        assert client.predict("m", X, metadata=[("trace", "7")]).version == 2
    assert (seen[0]["tenant"], seen[0]["trace"]) == ("a", "7")


def test_many_threads_and_many_tasks_share_a_client(server: ModelServer) -> None:
    def doubled(client: GrpcClient, number: int) -> bool:
        return bool((client.predict("m", {"x": np.full((1, 2), number, np.float32)})["y"] == 2 * number).all())

    with GrpcClient(server.url) as client, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda number: doubled(client, number), range(64)))

    async def all_at_once() -> list[Any]:
        async with AsyncGrpcClient(server.url) as asking:
            return await asyncio.gather(
                *(asking.predict("m", {"x": np.full((1, 2), number, np.float32)}) for number in range(64))
            )

    assert [found["y"][0, 0] for found in asyncio.run(all_at_once())] == [2 * number for number in range(64)]


def test_an_async_client_outlives_its_event_loop(server: ModelServer) -> None:
    client = AsyncGrpcClient(server.url)
    for _ in range(2):
        assert asyncio.run(client.predict("m", X)).version == 2
    assert async_client.AsyncGrpcClient is AsyncGrpcClient


@pytest.mark.parametrize("kind", GRPC)
def test_a_closed_client_says_so(kind: Any, server: ModelServer) -> None:
    with kind(server.url) as client:
        client.close()
        with pytest.raises(NotSentError, match="is closed"):
            client.predict("m", X)


@pytest.mark.parametrize(
    "settings",
    [
        {"compression": "zip"},
        {"load_balancing": "random"},
        {"max_message_bytes": 1 << 31},
        {"keepalive_s": 0.1},
        {"timeout_s": float("inf")},
        {"timeout_s": -1},
    ],
)
def test_settings_that_can_not_be_are_refused_at_once(settings: Any) -> None:
    with pytest.raises(NotSentError, match="can't be"):
        GrpcClient("h:1", **settings)


FORKED = """
import os, sys, time
from npu_serving.client import ClientError, GrpcClient
target = sys.argv[1]
if len(sys.argv) > 2:
    import grpc  # before the library could prepare it
client = GrpcClient(target)
print(client.predict("m", {"x": [[1.0, 2.0]]}, timeout_s=5)["y"].tolist(), flush=True)
for _ in range(2):
    if not os.fork():
        begun = time.monotonic()
        try:
            said = client.predict("m", {"x": [[2.0, 3.0]]}, timeout_s=15)["y"].tolist()
        except ClientError as error:
            said = error.reason
        os.write(1, f"{said}\\n".encode())  # at once: print writes the line's end apart where Python buffers nothing
        os._exit(time.monotonic() - begun > 25)
print([os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2)])
print(client.predict("m", {"x": [[1.0, 2.0]]}, timeout_s=5)["y"].tolist(), flush=True)
"""


@pytest.mark.parametrize("early", [False, True])
def test_after_a_fork_a_client_answers_or_says_at_once_that_it_can_not(server: ModelServer, early: bool) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    words = [sys.executable, "-c", FORKED, server.url, *(["early"] if early else [])]
    ran = subprocess.run(words, cwd=ROOT, env=kept, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    mine, *children, ended, again = ran.stdout.splitlines()
    assert children == 2 * (["forked"] if early else ["[[4.0, 6.0]]"])
    assert (mine, ended, again) == ("[[2.0, 4.0]]", "[0, 0]", "[[2.0, 4.0]]")


FORKED_AMID = """
import multiprocessing, sys, threading, time
from npu_serving.client import ClientError, GrpcClient, channel
target, model, answers = sys.argv[1:]
client = GrpcClient(target)
before = client.predict(model, {"x": [1.0]}, timeout_s=5)["y"].tolist()
def child(kept):
    try:
        with GrpcClient(target) if kept == "own" else client as mine:
            mine.predict(model, {"x": [1.0]}, timeout_s=2)
    except ClientError as error:
        print(error.reason, flush=True)
waiting = threading.Thread(target=lambda: client.predict(model, {"x": [1.0]}, timeout_s=5))
waiting.start()
while not channel.CALLING:
    time.sleep(0.001)
time.sleep(0.05)
for kept in ("parents", "own"):
    process = multiprocessing.get_context("fork").Process(target=child, args=(kept,))
    process.start()
    process.join(10)
    print(process.exitcode, flush=True)
    process.kill()
waiting.join()
print(before == client.predict(model, {"x": [1.0]}, timeout_s=5)["y"].tolist())
"""


def test_a_fork_while_another_thread_waits_for_an_answer_ends_neither_process(
    tensorflow_server: TensorFlowServer,
) -> None:
    tensorflow_server.misbehave(delay_ms={"slow": 600})
    words = [sys.executable, "-c", FORKED_AMID, tensorflow_server.target, "slow", ""]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.split() == ["forked", "0", "forked", "0", "True"], ran.stderr


def test_a_client_that_is_closed_meanwhile_says_so_and_not_that_the_server_failed(
    tensorflow_server: TensorFlowServer,
) -> None:
    client = GrpcClient(tensorflow_server.target)
    client.metadata("slow")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.predict, "slow", {"x": [1.0]})
        while not tensorflow_server.requests():
            time.sleep(0.005)
        client.close()
        with pytest.raises(NotSentError, match="was closed while"):
            waiting.result(20)


@pytest.mark.parametrize("client", [GrpcClient, RestClient])
@pytest.mark.parametrize(
    "extra",
    [{"a": "b"}, [("A B", "c")], [("x", 5)], [("authorization", "Bearer SECRET\n")], [("x", "SECRET\r\nb: c")]],
)
def test_headers_that_can_not_be_sent_are_named_without_their_values(client: Any, extra: Any) -> None:
    name = "metadata" if client is GrpcClient else "headers"
    target = "h:1" if client is GrpcClient else "http://h:1"
    with pytest.raises(NotSentError) as raised:
        client(target, **{name: extra})
    assert "SECRET" not in f"{raised.value}{raised.value.cure}"
    with pytest.raises(NotSentError, match=r"name|key|pairs|can't be sent"), client(target) as made:
        made.predict("m", X, metadata=extra)


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
def test_a_header_that_says_where_a_request_ends_is_left_to_the_client(name: str) -> None:
    with pytest.raises(NotSentError, match="set by the client itself"):
        RestClient("http://h:1", headers=[(name, "5")])


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"model": 5}, "is not a name"),
        ({"version": "1"}, "version can't be '1'"),
        ({"version": 1.5}, "version can't be 1.5"),
        ({"version": True}, "version can't be True"),
        ({"timeout_s": "5"}, "timeout_s can't be '5'"),
        ({"inputs": [[1.0, 2.0]]}, "inputs have no names"),
        ({"inputs": None}, "inputs have no names"),
    ],
)
@pytest.mark.parametrize("client", [GrpcClient, RestClient])
def test_what_no_request_can_be_made_of_is_refused_with_the_clients_own_error(
    tensorflow_server: TensorFlowServer, client: Any, asked: dict[str, Any], what: str
) -> None:
    url = tensorflow_server.target if client is GrpcClient else tensorflow_server.rest_url
    with client(url) as made, pytest.raises(NotSentError, match=what):
        made.predict(**{"model": "half_plus_two", "inputs": {"x": [1.0]}, **asked})


@pytest.mark.parametrize("client", [GrpcClient, RestClient])
def test_a_version_may_be_a_number_of_numpy(tensorflow_server: TensorFlowServer, client: Any) -> None:
    url = tensorflow_server.target if client is GrpcClient else tensorflow_server.rest_url
    with client(url) as made:
        assert made.predict("half_plus_two", {"x": [1.0]}, version=np.int64(1))["y"].tolist() == [2.5]


@pytest.mark.parametrize(("client", "target"), [(GrpcClient, None), (GrpcClient, ["a:1", "b:1"]), (RestClient, None)])
def test_what_is_no_text_is_no_address(client: Any, target: Any) -> None:
    with pytest.raises(NotSentError, match=r"is not the (address|URL)"):
        client(target)


# ---- a new list of models


def test_a_list_that_may_take_a_model_away_is_refused_unless_that_is_said(running: ModelServer) -> None:
    only = [ModelEntry("c", "/models/c")]
    with GrpcClient(running.url) as client:
        with pytest.raises(NotSentError, match="unload every model but 'c'") as caught:
            client.reload_config(only)
        assert "served=" in caught.value.cure
        with pytest.raises(NotSentError, match="lacks 'a', which the server would unload"):
            client.reload_config(only, served=["a", "b"], removing=["b"])
        with pytest.raises(NotSentError, match="shall go, and is in the new list"):
            client.reload_config(only, served=["a"], removing=["a", "c"])


@pytest.mark.parametrize("kind", GRPC)
def test_a_whole_list_reaches_the_server_and_its_refusal_is_told(kind: Any) -> None:
    from serving_messages import message_class

    seen: list[Any] = []

    def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(message_class("tensorflow.serving.ReloadConfigRequest").FromString(data))
        if len(seen) > 1:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such path")
        return b""

    service = "tensorflow.serving.ModelService"
    with serving({"HandleReloadConfigRequest": answer}, service=service) as server, kind(server.url) as client:
        client.reload_config([ModelEntry("a", "/a"), ModelEntry("b", "/b", versions="all")], served=["a"])
        assert [model.name for model in seen[0].config.model_config_list.config] == ["a", "b"]
        with pytest.raises(ClientError, match="no such path"):
            client.reload_config([ModelEntry("a", "/a")], served=["b"], removing=["b"])


@contextlib.contextmanager
def _silent() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_that_accepts_and_says_nothing_is_waited_for_no_longer_than_the_limit() -> None:
    with _silent() as port, GrpcClient(f"127.0.0.1:{port}") as client:
        threads = threading.active_count()
        with pytest.raises((DeadlineError, NotReachedError)):
            client.predict("m", X, timeout_s=0.5)
        assert threading.active_count() <= threads + 1

"""The server that runs real SavedModels answers as TensorFlow Serving 1.15.0 was seen to: what other tests stand on.

Asked with grpc and protobuf alone, and with bytes over HTTP: none of our own code.
"""

from __future__ import annotations

import http.client
import json
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from serving_messages import message_class
from tensorflow_server import TensorFlowServer

Message = Any


@pytest.fixture(scope="module")
def channel(tensorflow_process: TensorFlowServer) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(tensorflow_process.target, options=options) as opened:
        yield opened


def request(model: str, dtype: int = 1, shape: tuple[int, ...] = (), content: bytes = b"", **spec: object) -> Message:
    made = message_class("tensorflow.serving.PredictRequest")()
    made.model_spec.name = model
    for name, value in spec.items():
        setattr(made.model_spec, name, value)
    tensor = made.inputs["x"]
    tensor.dtype, tensor.tensor_content = dtype, content
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return made


def floats(model: str, *values: float, **spec: object) -> Message:
    return request(model, 1, (len(values),), struct.pack(f"<{len(values)}f", *values), **spec)


def predict(channel: grpc.Channel, message: Message, timeout_s: float = 30) -> Message:
    call: Any = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    return message_class("tensorflow.serving.PredictResponse").FromString(
        call(message.SerializeToString(), timeout=timeout_s)
    )


def refused(channel: grpc.Channel, message: Message) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        predict(channel, message)
    error: Any = caught.value
    return error.code(), error.details()


def rest(server: TensorFlowServer, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    connection.request("GET" if body is None else "POST", f"/v1/models/{path}", body)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_a_saved_model_answers_in_the_typed_fields(tensorflow_server: TensorFlowServer, channel: grpc.Channel) -> None:
    answer = predict(channel, floats("half_plus_two", 1, 2, 5))
    assert list(answer.outputs["y"].float_val) == [2.5, 3, 4.5]
    assert not answer.outputs["y"].tensor_content
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("half_plus_two", 1)
    assert answer.model_spec.signature_name == "serving_default"
    assert tensorflow_server.counters()["statuses"] == {"Predict": {"0": 1}}


@pytest.mark.parametrize(
    ("signature", "dtype", "content", "field", "values"),
    [
        ("double", 2, struct.pack("<2d", 1.5, -2), "double_val", [1.5, -2]),
        ("half", 19, struct.pack("<2e", 1, -2), "half_val", [0x3C00, 0xC000]),
        ("bfloat16", 14, struct.pack("<2H", 0x3F80, 0xC000), "half_val", [0x3F80, 0xC000]),
        ("int8", 6, struct.pack("<2b", 1, -2), "int_val", [1, -2]),
        ("uint8", 4, b"\x01\xff", "int_val", [1, 255]),
        ("int64", 9, struct.pack("<2q", 1, -(1 << 63)), "int64_val", [1, -(1 << 63)]),
        ("uint64", 23, struct.pack("<2Q", 1, (1 << 64) - 1), "uint64_val", [1, (1 << 64) - 1]),
        ("bool", 10, b"\x01\x00", "bool_val", [True, False]),
        ("complex64", 8, struct.pack("<4f", 1, 2, 3, 4), "scomplex_val", [1, 2, 3, 4]),
        ("qint32", 13, struct.pack("<2i", 1, -2), "int_val", [1, -2]),
    ],
)
def test_every_type_comes_back_in_its_field(
    channel: grpc.Channel, signature: str, dtype: int, content: bytes, field: str, values: list[object]
) -> None:
    answer = predict(channel, request("echo_all", dtype, (2,), content, signature_name=signature))
    assert answer.outputs["y"].dtype == dtype
    assert list(getattr(answer.outputs["y"], field)) == values


@pytest.mark.parametrize(
    ("message", "code", "said"),
    [
        (
            request("half_plus_two", 2, (1,), bytes(8)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "Expects arg[0] to be float but double is provided",
        ),
        (floats("other", 1), grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(other)"),
        (
            floats("versions", 1, version_label="none"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "Unrecognized servable version label: none",
        ),
        (
            floats("half_plus_two", 1, signature_name="none"),
            grpc.StatusCode.FAILED_PRECONDITION,
            'Serving signature key "none" not found.',
        ),
        (
            floats("ids_mask", 1),
            grpc.StatusCode.INVALID_ARGUMENT,
            "input size does not match signature: 1!=2 len({x}) != len({ids,mask}). Sent extra: {x}. "
            "Missing but required: {ids,mask}.",
        ),
        (request("half_plus_two", 1, (2,), b"123"), grpc.StatusCode.INVALID_ARGUMENT, "tensor parsing error: x"),
    ],
)
def test_what_is_wrong_is_refused_in_the_servers_words(
    tensorflow_server: TensorFlowServer, channel: grpc.Channel, message: Message, code: grpc.StatusCode, said: str
) -> None:
    assert refused(channel, message) == (code, said)


def test_a_version_is_found_by_its_label_and_the_newest_without_one(
    tensorflow_server: TensorFlowServer, channel: grpc.Channel
) -> None:
    for spec, wanted in (({}, 3.5), ({"version_label": "stable"}, 2.5), ({"version_label": "canary"}, 3.5)):
        assert list(predict(channel, floats("versions", 1, **spec)).outputs["y"].float_val) == [wanted]


@pytest.mark.parametrize(
    ("path", "body", "status", "answer"),
    [
        ("half_plus_two:predict", b'{"instances": [1, 2]}', 200, b'"predictions": [2.5, 3.0'),
        ("half_plus_two:predict", b'{"inputs": [1, 2]}', 200, b'"outputs": [2.5, 3.0]'),
        ("half_plus_two/versions/2:predict", b'{"inputs": [1]}', 404, b"Specific(half_plus_two, 2)"),
        ("half_plus_two:predict", b"{}", 400, rb"""{ "error": "Missing \'inputs\' or \'instances\' key" }"""),
        ("half_plus_two:predict", b'{"signature_name": "\xc3\xb6", "inputs": 1}', 400, rb'\"\303\266\" not found'),
        ("echo_all:predict", b'{"signature_name": "half", "inputs": [1]}', 501, b"to type: half"),
        ("echo_all:predict", b'{"signature_name": "uint8", "inputs": [300, -1]}', 200, b"[44, 255]"),
        ("echo_all:predict", b'{"signature_name": "int8", "inputs": [200]}', 200, b"[-56]"),
        ("echo_all:predict", b'{"signature_name": "int32", "inputs": [1.5]}', 400, b"is not of expected type: int32"),
        ("echo_all:predict", b'{"signature_name": "bool", "inputs": [1]}', 400, b"is not of expected type: bool"),
        ("echo_all:predict", b'{"inputs": [1e400, NaN]}', 200, b"[Infinity, NaN]"),
        ("echo_all:predict", b'{"inputs": ["3"]}', 400, b"is not of expected type: float"),
        ("nan:predict", b'{"instances": [7]}', 200, b'"y": [1.0, NaN, -Infinity]'),
        ("texts:predict", b'{"instances": ["a"]}', 200, '模型'.encode("gbk")),
        ("scalar:predict", b'{"inputs": 2}', 200, b'"outputs": 4.0'),
        ("classify:classify", b'{"examples": [{"x": 0.25}]}', 200, b'[["cat", 0.25], ["dog", 0.75]]'),
        ("classify:regress", b'{"signature_name": "regress", "examples": [{"x": 0.25}]}', 200, b'"results": [2.5'),
        ("half_plus_two", None, 200, b'"state": "AVAILABLE"'),
        ("half_plus_two/metadata", None, 200, b'"dtype": "DT_FLOAT"'),
        ("other", None, 404, b"Could not find any versions of model other"),
        ("a:b", None, 400, b"Malformed request: GET /v1/models/a:b"),
    ],
)  # fmt: skip
def test_rest_answers_with_the_servers_statuses_and_texts(
    tensorflow_server: TensorFlowServer, path: str, body: bytes | None, status: int, answer: bytes
) -> None:
    found = rest(tensorflow_server, path, body)
    assert (found[0], answer in found[1]) == (status, True), found


def test_a_full_queue_and_one_that_expired_in_it_have_statuses_of_their_own(
    tensorflow_server: TensorFlowServer, channel: grpc.Channel
) -> None:
    tensorflow_server.misbehave(delay_ms={"slow": 100}, queue_timeout_ms=60)

    def ask(number: int) -> str:
        try:
            answer = predict(channel, floats("slow", number))
        except grpc.RpcError as error:
            failed: Any = error
            return str(failed.code().name)
        return "OK" if list(answer.outputs["y"].float_val) == [2.0 * number] else "wrong"

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    assert {"OK", "UNAVAILABLE", "RESOURCE_EXHAUSTED"} == set(answers)
    counted = tensorflow_server.counters()["statuses"]["Predict"]
    for name, number in (("OK", "0"), ("UNAVAILABLE", "14"), ("RESOURCE_EXHAUSTED", "8")):
        assert counted[number] == answers.count(name)


def test_rest_gives_up_at_its_own_time_limit_and_calls_a_full_queue_503(tensorflow_server: TensorFlowServer) -> None:
    tensorflow_server.misbehave(delay_ms={"sum": 5000}, rest_timeout_ms=50)
    status, body = rest(tensorflow_server, "sum:predict", b'{"instances": [[1]]}')
    assert (status, json.loads(body)) == (504, {"error": "Timed out waiting for notification"})
    tensorflow_server.reset()
    tensorflow_server.misbehave(fail={"sum": {"code": "UNAVAILABLE", "message": "queue is full", "times": 1}})
    assert rest(tensorflow_server, "sum:predict", b'{"instances": [[1]]}')[0] == 503
    assert rest(tensorflow_server, "sum:predict", b'{"instances": [[1]]}')[0] == 200


def test_one_that_is_half_dead_takes_a_request_and_never_answers(
    tensorflow_server: TensorFlowServer, channel: grpc.Channel
) -> None:
    tensorflow_server.misbehave(silent=True)
    with pytest.raises(grpc.RpcError) as caught:
        predict(channel, floats("half_plus_two", 1), 0.2)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    tensorflow_server.reset()
    assert predict(channel, floats("half_plus_two", 1)).outputs["y"].float_val[0] == 2.5


def test_it_is_asked_by_a_socket_as_well(tensorflow_server: TensorFlowServer) -> None:
    with grpc.insecure_channel(f"unix:{tensorflow_server.socket}") as by_socket:
        assert predict(by_socket, floats("half_plus_two", 1)).outputs["y"].float_val[0] == 2.5


def test_a_model_of_twelve_megabytes_and_a_first_request_that_compiles(
    tensorflow_server: TensorFlowServer, channel: grpc.Channel
) -> None:
    answer = predict(channel, floats("wide", 1)).outputs["y"]
    assert [dim.size for dim in answer.tensor_shape.dim] == [1, 1024, 1024, 3]
    assert list(answer.float_val[:3]) == [1, 2, 3]
    tensorflow_server.misbehave(compile_ms={"sum": 150})
    done = threading.Event()

    def ask() -> None:
        predict(channel, request("sum", 1, (1, 2), bytes(8)))
        done.set()

    waiting = threading.Thread(target=ask)
    waiting.start()
    assert not done.wait(0.1)
    waiting.join()
    predict(channel, request("sum", 1, (1, 2), bytes(8)))
    first, second = tensorflow_server.counters()["microseconds"]["Predict"][-2:]
    assert first > 140_000 > second

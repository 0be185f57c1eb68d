"""The client library's calls beside a generated stub, grpc.aio, the guide's client in TensorFlow 1.15, and bare Python.

The server is a program of its own that answers at once with a constant: what is measured is the asking. The guide's
client needs a Python 3.7 with tensorflow 1.15.0, which NPU_SERVING_TENSORFLOW_PYTHON names, or its rows are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import numpy as np
from _in_turn import medians

from npu_serving.client import AsyncGrpcClient, GrpcClient
from npu_serving.settings import PROJECT_ROOT

sys.path.insert(0, str(PROJECT_ROOT / "tests" / "support"))

import grpc
from serving_messages import message_class

SUPPORT = PROJECT_ROOT / "tests" / "support"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
SMALL, IMAGE = (1, 2), (1, 304, 304, 3)
CALLS, ROUNDS, AT_ONCE = 300, 15, 16
SERVER = """
import sys
sys.path[:0] = [{support!r}, {root!r}]
from grpc_server import serving
from serving_messages import message_class
answer = message_class("tensorflow.serving.PredictResponse")()
answer.model_spec.name, answer.model_spec.version.value = "m", 1
answer.outputs["y"].dtype = 1
answer.outputs["y"].tensor_shape.dim.add(size=1)
answer.outputs["y"].float_val.append(0.5)
data = answer.SerializeToString()
import grpc_server
grpc_server.SIGNATURES = {{"serving_default": {{"x": (1, (-1, 2))}}, "image": {{"x": (1, (-1, 304, 304, 3))}}}}
with serving(max_receive_message_length=-1) as server:
    server.answer = lambda request, context: data
    print(server.url.partition("://")[2], flush=True)
    sys.stdin.read()
"""
# The guide's class of chapter 6.5, whose times are those that it prints, in words of our own.
GUIDE = """
import sys, time
import grpc, numpy, tensorflow
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
most = 1 << 30
options = [("grpc.max_send_message_length", most), ("grpc.max_receive_message_length", most)]
stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(sys.argv[1], options))
image = numpy.random.RandomState(1).rand(*{shape}).astype(numpy.float32)
def infer():
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "m", "serving_default"
    request.inputs["x"].CopyFrom(tensorflow.make_tensor_proto(image, dtype=tensorflow.float32))
    found = stub.Predict.future(request, 1000.0).result()
    return [tensorflow.make_ndarray(found.outputs["y"])[0]]
infer()
print("ready", flush=True)
for line in sys.stdin:
    begun, taken = time.perf_counter(), time.process_time()
    for _ in range(int(line)):
        infer()
    print(time.perf_counter() - begun, time.process_time() - taken, flush=True)
"""


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The address of a server in a process of its own."""
    code = SERVER.format(support=str(SUPPORT), root=str(PROJECT_ROOT))
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


class Stub:
    """What protoc's generated class is, with the usual way of making a request and reading its answer."""

    def __init__(self, channel: Any) -> None:
        self.predict = channel.unary_unary(
            PREDICT,
            request_serializer=message_class("tensorflow.serving.PredictRequest").SerializeToString,
            response_deserializer=message_class("tensorflow.serving.PredictResponse").FromString,
        )

    @staticmethod
    def request(array: Any) -> Any:
        """As make_tensor_proto makes it."""
        request = message_class("tensorflow.serving.PredictRequest")()
        request.model_spec.name = "m"
        tensor = message_class("tensorflow.TensorProto")(dtype=1, tensor_content=array.tobytes())
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        request.inputs["x"].CopyFrom(tensor)
        return request

    @staticmethod
    def array(answer: Any) -> Any:
        """As make_ndarray reads it."""
        tensor = answer.outputs["y"]
        return np.array(tensor.float_val, np.float32).reshape([dim.size for dim in tensor.tensor_shape.dim])


def one_after_the_other(target: str) -> Mapping[str, Callable[[], object]]:
    array = np.random.default_rng(1).random(SMALL, np.float32)
    client = GrpcClient(target)
    stub = Stub(grpc.insecure_channel(target))
    inputs = {"x": array}

    def ours() -> None:
        for _ in range(CALLS):
            client.predict("m", inputs)

    def rival() -> None:
        for _ in range(CALLS):
            stub.array(stub.predict(stub.request(array), timeout=60))

    return {"ours": ours, "rival": rival}


def many_at_once(target: str) -> Mapping[str, Callable[[], object]]:
    array = np.random.default_rng(1).random(SMALL, np.float32)
    client, stub = GrpcClient(target), Stub(grpc.insecure_channel(target))
    pool = ThreadPoolExecutor(AT_ONCE)

    def by_threads(ask: Callable[[], object]) -> None:
        def share() -> None:
            for _ in range(CALLS // AT_ONCE):
                ask()

        for done in [pool.submit(share) for _ in range(AT_ONCE)]:
            done.result()

    async def in_a_loop(ask: Callable[[], Any]) -> None:
        async def share() -> None:
            for _ in range(CALLS // AT_ONCE):
                await ask()

        await asyncio.gather(*(share() for _ in range(AT_ONCE)))

    async def our_tasks() -> None:
        async with AsyncGrpcClient(target) as asking:
            await asking.metadata("m")
            await in_a_loop(lambda: asking.predict("m", {"x": array}))

    async def their_tasks() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            calls = Stub(channel)

            async def ask() -> None:
                calls.array(await calls.predict(calls.request(array), timeout=60))

            await ask()
            await in_a_loop(ask)

    return {
        "GrpcClient": lambda: by_threads(lambda: client.predict("m", {"x": array})),
        "AsyncGrpcClient": lambda: asyncio.run(our_tasks()),
        "stub": lambda: by_threads(lambda: stub.array(stub.predict(stub.request(array), timeout=60))),
        "grpc.aio": lambda: asyncio.run(their_tasks()),
    }


@contextlib.contextmanager
def guides_client(target: str) -> Iterator[Callable[[int], tuple[float, float]]]:
    """Seconds that it takes for so many requests, by the clock and of its processor."""
    python = os.environ["NPU_SERVING_TENSORFLOW_PYTHON"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    kept |= {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    words = [python, "-c", GUIDE.format(shape=IMAGE), target]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=kept, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

        def asked(count: int) -> tuple[float, float]:
            assert process.stdin is not None
            assert process.stdout is not None
            print(count, file=process.stdin, flush=True)
            wall, cpu = process.stdout.readline().split()
            return float(wall), float(cpu)

        try:
            yield asked
        finally:
            process.kill()


def started(code: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True)


def main() -> None:
    print("| what | ours | | rival | | ratio |\n| --- | --- | --- | --- | --- | --- |")
    missed = []

    def row(what: str, ours: str, our_s: float, rival: str, rival_s: float, most: float) -> None:
        ratio = our_s / rival_s
        print(
            f"| {what} | {ours} | {1e6 * our_s:.0f} µs | {rival} | {1e6 * rival_s:.0f} µs | {ratio:.2f} |", flush=True
        )
        if ratio > most:
            missed.append(f"{what}: {ours} takes {ratio:.2f} times {rival}, at most {most:.2f}.")

    with server() as target:
        found = medians(one_after_the_other(target), ROUNDS)
        row("a small request", "GrpcClient", found["ours"] / CALLS, "generated stub", found["rival"] / CALLS, 1.05)
        many = medians(many_at_once(target), ROUNDS)
        per_call = {name: seconds / (CALLS // AT_ONCE * AT_ONCE) for name, seconds in many.items()}
        ours = min(("GrpcClient", "AsyncGrpcClient"), key=lambda name: per_call[name])
        rival = min(("stub", "grpc.aio"), key=lambda name: per_call[name])
        row(f"{AT_ONCE} at once, each", ours, per_call[ours], rival, per_call[rival], 1 / 0.95)
        if os.environ.get("NPU_SERVING_TENSORFLOW_PYTHON"):
            image = np.random.default_rng(1).random(IMAGE, np.float32)
            with GrpcClient(target) as client, guides_client(target) as guide:
                client.predict("m", {"x": image}, signature="image")
                our_times, guides_times = [], []
                for _ in range(ROUNDS):
                    begun, taken = time.perf_counter(), time.process_time()
                    for _ in range(20):
                        client.predict("m", {"x": image}, signature="image")
                    our_times.append((time.perf_counter() - begun, time.process_time() - taken))
                    guides_times.append(guide(20))
            for what, at, most in (("by the clock", 0, 1.0), ("of the asker's processor", 1, 1 / 3)):
                both = (our_times, guides_times)
                ours_s, guides_s = (statistics.median(pair[at] for pair in times) / 20 for times in both)
                row(f"an image of 304 x 304 x 3, {what}", "GrpcClient", ours_s, "the guide's client", guides_s, most)
    start = medians({"ours": started("import npu_serving.client"), "rival": started("pass")}, ROUNDS)
    row("start", "import npu_serving.client", start["ours"], "bare Python", start["rival"], 4)
    print("\n".join(missed))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()

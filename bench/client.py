"""The client library beside protobuf and one copy of memory: 32 images sent, a million values of an answer read.

In seconds of the processor, because the machine may be shared.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple

import numpy as np
from _in_turn import medians

from npu_serving.client import decode_predict, encode_predict
from npu_serving.settings import PROJECT_ROOT

sys.path.insert(0, str(PROJECT_ROOT / "tests" / "support"))

from serving_messages import message_class

REQUEST, RESPONSE = "tensorflow.serving.PredictRequest", "tensorflow.serving.PredictResponse"
IMAGES = (32, 224, 224, 3)
VALUES = 1_000_000
ROUNDS = 25


class Rivalry(NamedTuple):
    """One row: what is timed, ours and the rival's work, and how many times as long ours may take (0: no limit)."""

    what: str
    ours: str
    our_work: Callable[[], object]
    rival: str
    rival_work: Callable[[], object]
    limit: float = 0


def usual_request(images: Any) -> bytes:
    """As make_tensor_proto and the generated classes have it: the array as bytes, in a tensor, in the request."""
    tensor = message_class("tensorflow.TensorProto")(dtype=1, tensor_content=images.tobytes())
    for size in images.shape:
        tensor.tensor_shape.dim.add(size=size)
    request = message_class(REQUEST)()
    request.model_spec.name = "resnet"
    request.inputs["images"].CopyFrom(tensor)
    return bytes(request.SerializeToString())


def answer_of(number: int, field: str, values: Any) -> bytes:
    """An answer with the values in the typed field, as TensorFlow Serving 1.15 has them."""
    answer = message_class(RESPONSE)()
    tensor = answer.outputs["y"]
    tensor.dtype = number
    tensor.tensor_shape.dim.add(size=len(values))
    getattr(tensor, field).extend(values.tolist())
    return bytes(answer.SerializeToString())


def requests() -> Iterator[Rivalry]:
    images = np.random.default_rng(1).random(IMAGES, np.float32)
    name, what = "encode_predict", f"request of {images.nbytes / 1e6:.1f} MB"

    def ours() -> bytes:
        return encode_predict("resnet", {"images": images})

    assert message_class(REQUEST).FromString(ours()) == message_class(REQUEST).FromString(usual_request(images))
    yield Rivalry(what, name, ours, "one copy, bytes(memoryview)", lambda: bytes(images.data), 1.3)
    yield Rivalry(what, name, ours, "protobuf's usual path", lambda: usual_request(images))


def answers() -> Iterator[Rivalry]:
    any_values = np.random.default_rng(1)
    halves = any_values.random(VALUES).astype(np.float16).view(np.uint16)
    for what, number, field, values, dtype in (
        ("floats", 1, "float_val", any_values.random(VALUES), np.float32),
        ("class ids, int64", 9, "int64_val", any_values.integers(0, 1000, VALUES), np.int64),
        ("negative int32", 3, "int_val", any_values.integers(-1000, 0, VALUES), np.int32),
        ("any int64", 9, "int64_val", any_values.integers(-(1 << 63), (1 << 63) - 1, VALUES), np.int64),
        ("halves", 19, "half_val", halves, np.uint16),
    ):
        message = answer_of(number, field, values)

        def parsed(message: bytes = message) -> Any:
            return message_class(RESPONSE).FromString(message)

        def as_array(field: str = field, dtype: Any = dtype, parsed: Callable[[], Any] = parsed) -> Any:
            return np.fromiter(getattr(parsed().outputs["y"], field), dtype, VALUES)

        def ours(message: bytes = message) -> Any:
            return decode_predict(message)[1]["y"]

        assert np.array_equal(ours().view(dtype), as_array())
        limit = 1.3 if field == "float_val" else 0
        yield Rivalry(f"answer of a million {what}", "decode_predict", ours, "protobuf's parse alone", parsed, limit)
        yield Rivalry(f"answer of a million {what}", "decode_predict", ours, "its parse and np.fromiter", as_array, 1)


def main() -> None:
    print("| what | ours | | rival | | ratio |\n| --- | --- | --- | --- | --- | --- |")
    too_slow = []
    for group in (requests, answers):
        for row in group():
            found = medians({"ours": row.our_work, "rival": row.rival_work}, ROUNDS, time.process_time)
            ratio = found["ours"] / found["rival"]
            ours, rival = (f"{1000 * found[which]:.2f} ms" for which in ("ours", "rival"))
            print(f"| {row.what} | {row.ours} | {ours} | {row.rival} | {rival} | {ratio:.2f} |", flush=True)
            if row.limit and ratio > row.limit:
                too_slow.append(f"{row.what}: {row.ours} takes {ratio:.2f} times {row.rival}, at most {row.limit}.")
    print("\n".join(too_slow))
    sys.exit(1 if too_slow else 0)


if __name__ == "__main__":
    main()

"""What the load test and its worker processes say to each other: frames of a letter, a length, and bytes.

To a worker: the plan, the time at which to begin, and, by the end of what it reads, that it is to stop. From it: that
it is ready, outcomes in batches, answers and what was said of errors (each once), its processor time, and its end.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from typing import IO, Any

from npu_serving.load.arrivals import Schedule, Stage
from npu_serving.load.generator import LoadTls, Plan, ReadyRequest
from npu_serving.load.kinds import KINDS

PLAN, BEGIN = b"P", b"G"
READY, OUTCOMES, ANSWER, SAID, CPU, FAILED, END = b"R", b"O", b"A", b"S", b"C", b"F", b"E"
OUTCOME = struct.Struct("<qqqIIB")
"""Intended, sent and done in nanoseconds, the request's place, the number of its answer (0 for none), its kind."""
ANSWERED = struct.Struct("<II")
"""Before an answer: its number and the request's place."""
TIMES = struct.Struct("<qq")
"""When, and the processor time until then, in nanoseconds."""
CODES = {kind: code for code, kind in enumerate(KINDS)}
_HEAD = struct.Struct("<cQ")


def write_frame(stream: IO[bytes], letter: bytes, *pieces: bytes | memoryview) -> None:
    """Sends one frame."""
    stream.write(_HEAD.pack(letter, sum(map(len, pieces))))
    for piece in pieces:
        stream.write(piece)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[bytes, bytes] | None:
    """The next frame, its letter and its bytes; None at the end, also where that is within a frame."""
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    letter, length = _HEAD.unpack(head)
    content = stream.read(length)
    return (letter, content) if len(content) == length else None


def pack_plan(plan: Plan) -> tuple[bytes, ...]:
    """The plan as the pieces of a frame; begin_ns is said later."""
    head: dict[str, Any] = {
        **{item.name: getattr(plan, item.name) for item in dataclasses.fields(plan)},
        "requests": [(request.path, len(request.body)) for request in plan.requests],
        "schedule": None if plan.schedule is None else dataclasses.asdict(plan.schedule),
        "tls": [part.decode("latin-1") for part in (plan.tls.ca, plan.tls.cert, plan.tls.key)],
    }
    text = json.dumps(head).encode()
    return (struct.pack("<Q", len(text)), text, *(request.body for request in plan.requests))


def unpack_plan(content: bytes) -> Plan:
    """The plan in such a frame."""
    (length,) = struct.unpack_from("<Q", content)
    at = 8 + length
    head = json.loads(content[8:at])
    requests = []
    for path, size in head["requests"]:
        requests.append(ReadyRequest(path, content[at : at + size]))
        at += size
    schedule = head["schedule"]
    if schedule is not None:
        stages = tuple(Stage(**stage) for stage in schedule["stages"])
        schedule = Schedule(**{**schedule, "stages": stages, "recorded_ns": tuple(schedule["recorded_ns"])})
    return Plan(
        **{
            **head,
            "requests": tuple(requests),
            "schedule": schedule,
            "headers": tuple((name, value) for name, value in head["headers"]),
            "tls": LoadTls(*(part.encode("latin-1") for part in head["tls"])),
        }
    )

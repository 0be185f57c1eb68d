"""What the keeper makes of the tap's messages: whole requests in the file, each other one in a count."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import hpack
import pytest

from npu_serving.asking.recorded_file import RecordingHeader, RecordingWriter, read_recording
from npu_serving.client import encode_predict
from npu_serving.recording import keeper as room
from npu_serving.recording.keeper import Keeper
from npu_serving.recording.tap import BODY, END, GONE, HEAD, LOST, OF_HTTP2, WANTED, WHOLE

PREDICT = "/tensorflow.serving.PredictionService/Predict"
MESSAGE = encode_predict("m", {"x": [1.0, 2.0]})


def framed(message: bytes, compressed: int = 0) -> bytes:
    return bytes([compressed]) + len(message).to_bytes(4, "big") + message


class World:
    """A keeper, its file, and a client's table of headers for each connection."""

    def __init__(self, path: Path, **header: Any) -> None:
        self.path = path
        made = RecordingHeader(**header)
        self.keeper = Keeper(RecordingWriter(path, made), made)
        self.encoders: dict[int, hpack.Encoder] = {}

    def ask(self, request: int, *pieces: bytes, connection: int = 1, end: int = WHOLE, **headers: str) -> None:
        named = {":method": "POST", ":path": PREDICT, "content-type": "application/grpc", "authorization": "Bearer s3"}
        named |= {name.replace("_", "-").replace("-path", ":path"): value for name, value in headers.items()}
        encoder = self.encoders.setdefault(connection, hpack.Encoder())
        block = encoder.encode(list(named.items()))
        self.keeper.take(HEAD, WANTED | OF_HTTP2, connection, request, 7, block)
        for piece in pieces:
            self.keeper.take(BODY, 0, connection, request, 0, piece)
        if end >= 0:
            self.keeper.take(END, end, connection, request, 0, b"")

    def counted(self) -> dict[str, object]:
        self.keeper.close()
        return {name: value for name, value in vars(self.keeper.counts).items() if value and name != "bytes"}

    def bodies(self) -> list[bytes]:
        return [request.body for request in read_recording(self.path).requests()]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "x.rec")


def test_a_request_is_kept_with_its_time_and_without_its_secrets(world: World) -> None:
    data = framed(MESSAGE)
    for request in (1, 3):  # the second one's headers stand in the table
        world.ask(request, data[:3], data[3:], grpc_timeout="5S", x_api_key="s3cret")
    assert world.counted() == {"seen": 2, "kept": 2}
    first = next(read_recording(world.path).requests())
    assert (first.at_ns, first.api, first.path, first.body) == (7, "grpc", PREDICT, MESSAGE)
    assert first.metadata == {"content-type": "application/grpc", "grpc-timeout": "5S"}
    assert b"s3" not in world.path.read_bytes()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_messages_are_kept_as_they_were_before(world: World, encoding: str) -> None:
    import zlib

    packed = gzip.compress(MESSAGE) if encoding == "gzip" else zlib.compress(MESSAGE)
    world.ask(1, framed(packed, 1), grpc_encoding=encoding)
    world.ask(3, framed(MESSAGE), grpc_encoding=encoding)
    world.ask(5, framed(packed[:-3], 1), grpc_encoding=encoding)
    world.ask(7, framed(packed, 1), grpc_encoding="snappy")
    assert world.counted() == {"seen": 4, "kept": 2, "not_understood": 2}
    assert world.bodies() == [MESSAGE, MESSAGE]


def test_each_way_in_which_a_request_is_not_kept_has_its_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.ask(1, framed(MESSAGE), _path="/grpc.health.v1.Health/Check")
    world.ask(3, framed(MESSAGE)[:-1])
    world.ask(5, framed(MESSAGE), end=0)
    world.ask(7, framed(MESSAGE), end=-1)
    world.keeper.take(LOST, 0, 1, 7, 0, b"")
    world.keeper.take(END, WHOLE, 1, 7, 0, b"")
    world.ask(9, framed(MESSAGE), end=-1)
    world.keeper.take(GONE, 0, 1, 0, 0, b"")
    world.ask(1, framed(MESSAGE), connection=2, end=-1)
    monkeypatch.setattr(room, "MOST_ASSEMBLED_BYTES", 10)
    world.ask(1, b"x" * 11, connection=3)
    expected = {"seen": 6, "other": 1, "not_understood": 1, "unfinished": 3, "dropped": 2}
    assert world.counted() == expected


def test_headers_that_are_not_understood_cost_the_connection_and_no_other_one(world: World) -> None:
    world.ask(1, framed(MESSAGE))
    world.keeper.take(HEAD, WANTED | OF_HTTP2, 1, 3, 0, b"\xff\xff\xff\xff\xff")
    world.ask(5, framed(MESSAGE))
    world.ask(1, framed(MESSAGE), connection=2)
    assert world.counted() == {"seen": 2, "kept": 2, "not_understood": 2}


def test_what_is_redacted_is_not_in_the_file_nor_what_can_t_be(tmp_path: Path) -> None:
    world = World(tmp_path / "x.rec", redacted=("x",))
    secret = encode_predict("m", {"x": [b"SECRET"], "y": [1.0]})
    world.ask(1, framed(secret))
    world.ask(3, framed(secret[:-20]))
    world.ask(5, framed(encode_predict("m", {"y": [1.0]})))
    found = world.counted()
    assert found == {"seen": 3, "kept": 2, "redacted": 1, "redacted_inputs": ["x"], "not_understood": 1}
    assert b"SECRET" not in world.path.read_bytes()


def test_the_file_never_becomes_larger_than_its_limit(tmp_path: Path) -> None:
    world = World(tmp_path / "x.rec", max_bytes=2000)
    for number in range(20):
        world.ask(2 * number + 1, framed(MESSAGE * 5))
    found = world.counted()
    assert found["beyond_limit"] == 20 - int(str(found["kept"]))
    assert int(str(found["kept"])) > 2
    assert world.path.stat().st_size <= 2000


def test_a_disk_that_is_full_is_said_and_ends_the_keeping(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.ask(1, framed(MESSAGE))
    monkeypatch.setattr("os.write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    world.ask(3, framed(MESSAGE))
    world.ask(5, framed(MESSAGE))
    monkeypatch.undo()
    found = world.counted()
    assert (found["kept"], found["beyond_limit"]) == (1, 2)
    assert "disk is full" in str(found["failure"])
    assert world.bodies() == [MESSAGE]

"""The process that understands requests and writes them: beside the one that passes the traffic on, never in its way.

It reads the tap's messages from standard input to its end, puts requests together, takes out what is to be redacted,
and adds them to the file. It says how far it is on standard output, a JSON document a line, the last one at the end.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from npu_serving.asking.recorded_file import GRPC, REST, RecordedRequest, RecordingHeader, RecordingWriter
from npu_serving.asking.recorded_requests import NotUnderstoodError, method_of
from npu_serving.errors import NpuServingError
from npu_serving.process import ENDING_SIGNALS
from npu_serving.recording.redaction import redacted
from npu_serving.recording.tap import BODY, END, GONE, HEAD, LOST, MESSAGE, OF_HTTP2, WANTED, WHOLE

if TYPE_CHECKING:
    from hpack import Decoder

MOST_ASSEMBLED_BYTES = 512 << 20
"""Of all requests that are not whole yet."""
MOST_BODY_BYTES = 1 << 30
SECONDS_BETWEEN_COUNTS = 0.2
_KEPT_METADATA = ("content-type", "grpc-timeout")
"""What a replay needs. Nothing else is kept: any other header may hold a secret."""
_INFLATED = {"gzip": 31, "deflate": 15}  # zlib's wbits


@dataclass
class Counts:
    """What became of the requests that a model answers, and how many `other` calls there were."""

    seen: int = 0
    kept: int = 0
    redacted: int = 0
    redacted_inputs: list[str] = field(default_factory=list)
    not_chosen: int = 0
    dropped: int = 0
    """As they came faster than they could be kept."""
    beyond_limit: int = 0
    """Not kept as the file had its size."""
    unfinished: int = 0
    not_understood: int = 0
    other: int = 0
    bytes: int = 0
    failure: str = ""
    """Why nothing is kept any more, such as a full disk."""


def keep() -> None:
    """What the process does from its start to its end; the first line of its input says how."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the end of the input is the end: what is under way is to be kept
    stream = sys.stdin.buffer
    told = json.loads(stream.readline())
    path = Path(told["path"])
    header = RecordingHeader(**{**told["header"], "redacted": tuple(told["header"]["redacted"])})
    try:
        writer = RecordingWriter(path, header)
    except NpuServingError as error:
        _say({"error": {"what": error.what, "cause": error.cause, "cure": error.cure}})
        return
    keeper = Keeper(writer, header)
    _say(asdict(keeper.counts))
    said = time.monotonic()
    while message := _next(stream):
        keeper.take(*message)
        if time.monotonic() - said > SECONDS_BETWEEN_COUNTS:
            said = time.monotonic()
            _say(asdict(keeper.counts))
    keeper.close()
    _say({**asdict(keeper.counts), "ended": True})


def _next(stream: IO[bytes]) -> tuple[int, int, int, int, int, bytes] | None:
    head = stream.read(MESSAGE.size)
    if len(head) < MESSAGE.size:
        return None
    kind, flags, connection, request, at_ns, length = MESSAGE.unpack(head)
    content = stream.read(length) if length else b""
    return (kind, flags, connection, request, at_ns, content) if len(content) == length else None


def _say(document: Mapping[str, object]) -> None:
    with contextlib.suppress(OSError):  # whoever listened was killed
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()


class Keeper:
    """Requests put together from the tap's messages, and added to the file."""

    def __init__(self, writer: RecordingWriter, header: RecordingHeader) -> None:
        self.counts = Counts(bytes=writer.size_bytes)
        self._writer = writer
        self._names = frozenset(header.redacted)
        self._max_bytes = header.max_bytes
        self._decoders: dict[int, Decoder] = {}
        self._lost: set[int] = set()
        """Connections one of whose heads was not as HPACK has it: those behind it may depend on it."""
        self._under_way: dict[int, dict[int, _UnderWay]] = {}
        self._assembled = 0

    def take(self, kind: int, flags: int, connection: int, request: int, at_ns: int, content: bytes) -> None:
        """One message of the tap."""
        of_connection = self._under_way.setdefault(connection, {})
        if kind == HEAD:
            try:
                self._head(of_connection, connection, request, flags, at_ns, content)
            except Exception:  # a head that is not as its protocol has it: nothing behind it can be relied on
                self.counts.not_understood += 1
                self._lost.add(connection)
        elif kind == BODY and request in of_connection:
            of_connection[request].parts.append(content)
            self._assembled += len(content)
            if self._assembled > MOST_ASSEMBLED_BYTES:
                self._drop(of_connection, request)
        elif kind == LOST and request in of_connection:
            self._drop(of_connection, request)
        elif kind == END and request in of_connection:
            whole = of_connection.pop(request)
            self._assembled -= sum(map(len, whole.parts))
            if flags & WHOLE:
                self._keep(whole)
            else:
                self.counts.unfinished += 1
        elif kind == GONE:
            for left in of_connection.values():
                self._assembled -= sum(map(len, left.parts))
            self.counts.unfinished += len(of_connection)
            del self._under_way[connection]
            self._decoders.pop(connection, None)
            self._lost.discard(connection)

    def close(self) -> None:
        """Has the file on the disk; what was not whole is not in it."""
        self.counts.unfinished += sum(map(len, self._under_way.values()))
        try:
            self._writer.close()
        except NpuServingError as error:
            self.counts.failure = self.counts.failure or error.what

    def _drop(self, of_connection: dict[int, _UnderWay], request: int) -> None:
        self._assembled -= sum(map(len, of_connection.pop(request).parts))
        self.counts.dropped += 1

    def _head(
        self, of_connection: dict[int, _UnderWay], connection: int, request: int, flags: int, at_ns: int, content: bytes
    ) -> None:
        if flags & OF_HTTP2:
            if connection in self._lost:
                raise NotUnderstoodError("a head before it was not understood")
            decoder = self._decoders.get(connection)
            if decoder is None:
                decoder = self._decoders[connection] = _new_decoder()
            headers = _decoded(decoder, content)
            api = GRPC if headers.get("content-type", "").startswith("application/grpc") else REST
            path = headers.get(":path", "")
        else:
            api, path, headers = REST, *_http1_head(content)
        if request in of_connection or not path:
            return  # what follows a body
        path = path.partition("?")[0]
        if not method_of(api, path):
            self.counts.other += 1
            return
        self.counts.seen += 1
        if not flags & WANTED:
            self.counts.not_chosen += 1
            return
        of_connection[request] = _UnderWay(at_ns, api, path, headers)

    def _keep(self, request: _UnderWay) -> None:
        counts = self.counts
        if counts.failure or counts.beyond_limit:
            counts.beyond_limit += 1
            return
        try:
            kept = request.recorded()
            names: frozenset[str] = frozenset()
            if self._names:
                kept, names = redacted(kept, self._names)
        except Exception:  # of what anybody may send; what is not understood may hold what is to be left out
            counts.not_understood += 1
            return
        try:
            is_kept = self._writer.add(kept, max_bytes=self._max_bytes)
        except NpuServingError as error:
            counts.failure = error.what
            counts.beyond_limit += 1
            return
        if not is_kept:
            counts.beyond_limit += 1
            return
        counts.kept += 1
        counts.redacted += bool(names)
        counts.redacted_inputs = sorted({*counts.redacted_inputs, *names})
        counts.bytes = self._writer.size_bytes


@dataclass
class _UnderWay:
    """A request whose end has not come."""

    at_ns: int
    api: str
    path: str
    headers: Mapping[str, str]
    parts: list[bytes] = field(default_factory=list)

    def recorded(self) -> RecordedRequest:
        body = b"".join(self.parts)
        encoding = self.headers.get("content-encoding", "")
        if self.api == GRPC:
            if len(body) < 5 or len(body) != 5 + int.from_bytes(body[1:5], "big"):
                raise NotUnderstoodError("it is not one message of gRPC")
            is_compressed, body = body[0], body[5:]
            encoding = self.headers.get("grpc-encoding", "identity") if is_compressed else ""
        metadata = {name: self.headers[name] for name in _KEPT_METADATA if name in self.headers}
        return RecordedRequest(self.at_ns, self.api, self.path, _inflated(body, encoding), metadata)


def _inflated(body: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding not in _INFLATED:
        raise NotUnderstoodError(f"it is compressed by {encoding}")
    inflater = zlib.decompressobj(_INFLATED[encoding])
    found = inflater.decompress(body, MOST_BODY_BYTES)
    if inflater.unconsumed_tail or not inflater.eof:
        raise NotUnderstoodError("what is compressed in it is not whole, or is too large")
    return found


def _new_decoder() -> Decoder:
    import hpack

    decoder = hpack.Decoder(max_header_list_size=1 << 20)
    decoder.max_allowed_table_size = 1 << 24  # what the server allows is not known here
    return decoder


def _decoded(decoder: Decoder, block: bytes) -> dict[str, str]:
    pairs = decoder.decode(block, raw=True)
    return {bytes(name).decode("latin-1").lower(): bytes(value).decode("latin-1") for name, value in pairs}


def _http1_head(head: bytes) -> tuple[str, dict[str, str]]:
    """The path that is asked, and the headers."""
    first, *lines = head.decode("latin-1").split("\r\n")
    path = first.split(" ")[1]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return path, {name.strip().lower(): value.strip() for name, _, value in pairs}

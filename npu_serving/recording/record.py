"""Recording: a pass-through in front of a server, a tap of what clients send, and the process that keeps it."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from npu_serving import process
from npu_serving.asking.recorded_file import RecordingHeader, already_there
from npu_serving.console import Progress, Reporter, amount_text, duration_text, table
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.process import ENDING_SIGNALS
from npu_serving.recording.keeper import Counts
from npu_serving.recording.pass_through import Address, PassedCounts, PassThrough
from npu_serving.recording.tap import Tap, TapCounts
from npu_serving.settings import PROJECT_ROOT
from npu_serving.shown_text import in_a_line, shown_url

SCHEMES = {"grpc": 8500, "http": 8501}
"""The APIs that are recorded, and the usual port of each."""
SECONDS_TO_DRAIN = 60.0
_SIZES = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031  # of Linux; Python's fcntl has it since 3.10
_START = "import sys; sys.path.insert(0, sys.argv.pop()); from npu_serving.recording.keeper import keep; keep()"


@dataclass(frozen=True)
class RecordPlan:
    """What is recorded, and where to. `duration_s` is 0 for until it is interrupted, `max_bytes` 0 for any size."""

    url: str
    host: str
    port: int
    listen_host: str
    listen_port: int
    output: Path
    share: float = 1.0
    seed: int = 0
    redact: tuple[str, ...] = ()
    max_bytes: int = 0
    duration_s: float = 0.0

    def to_json(self) -> dict[str, object]:
        """The plan as `--json` shows it."""
        return {**dataclasses.asdict(self), "output": str(self.output), "redact": list(self.redact)}

    def text(self) -> str:
        """What would be done."""
        rows: list[tuple[str, ...]] = [
            ("server", self.url),
            ("clients ask", self.listens_at),
            ("file", str(self.output)),
            ("of the requests", f"{100 * self.share:g}%"),
            ("without the values of", ", ".join(map(in_a_line, self.redact)) or "-"),
            ("up to", amount_text(self.max_bytes, "bytes") if self.max_bytes else "any size"),
            ("for", duration_text(self.duration_s) if self.duration_s else "until Ctrl-C"),
        ]
        return f"Would record:\n{table(rows)}"

    @property
    def listens_at(self) -> str:
        """The address for clients."""
        return f"{self.listen_host or '*'}:{self.listen_port}"


@dataclass(frozen=True)
class Recorded:
    """What was recorded, and what passed through meanwhile."""

    plan: RecordPlan
    seconds: float
    counts: Counts
    passed: PassedCounts
    tap: TapCounts
    cut_off: int = 0
    """Connections that were ended with a request under way."""
    failure: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """1 where recording has failed on the way; the traffic went through all the same."""
        return 1 if self.failure else 0

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {
            "file": str(self.plan.output),
            "url": self.plan.url,
            "seconds": round(self.seconds, 3),
            "requests": dataclasses.asdict(self.counts),
            "passed": dataclasses.asdict(self.passed),
            "connections_with_tls": self.tap.with_tls,
            "connections_not_followed": self.tap.not_followed,
            "connections_cut_off": self.cut_off,
            "failure": self.failure,
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """The counts, and what was left out and why."""
        counts, passed = self.counts, self.passed
        rows = [
            ("requests", counts.seen, "seen"),
            ("", counts.kept, "kept"),
            ("", counts.redacted, "of these redacted"),
            ("", counts.not_chosen, "not chosen (--share)"),
            ("", counts.beyond_limit, "after the file was full (--max-size)"),
            ("", counts.dropped, "dropped: they came faster than they could be kept"),
            ("", counts.unfinished, "given up by the client, or under way at the end"),
            ("", counts.not_understood, "not understood, and so not kept"),
            ("other calls", counts.other, "such as a model's state"),
            ("connections", passed.connections, "passed on"),
            ("", passed.refused, "for which the server was not there"),
            ("", self.tap.with_tls, "with TLS, which is not opened"),
            ("", self.tap.not_followed, "whose requests could not be followed"),
            ("", self.cut_off, "ended with a request under way"),
        ]
        shown = [(name, str(count), what) for name, count, what in rows if name or count]
        traffic = (
            f"{amount_text(passed.to_server_bytes, 'bytes')} to the server, "
            f"{amount_text(passed.to_client_bytes, 'bytes')} back"
        )
        head = f"{self.plan.output} ({amount_text(counts.bytes, 'bytes')}), {duration_text(self.seconds)}; {traffic}"
        failure = [f"Recording ended early: {self.failure}"] if self.failure else []
        return "\n".join([head, table(shown), *failure, *self.notes])


def plan_recording(
    *,
    url: str,
    listen: str,
    output: Path,
    share: str = "1",
    seed: int = 0,
    redact: Sequence[str] = (),
    max_size: str = "",
    duration_s: float = 0.0,
) -> RecordPlan:
    """What these flags mean. RequestError for what they can't mean, and for a file that is there."""
    host, port = _server(url)
    listen_host, _, listen_port = listen.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", listen_port) or not 0 < int(listen_port) < 65536:
        raise RequestError(
            f"--listen must be a port, or HOST:PORT, not {listen!r}.", cure="use one such as --listen 9500"
        )
    if int(listen_port) == port and host in ("localhost", "127.0.0.1", "::1"):
        raise RequestError(
            f"--listen and --url name the same port, {port}.",
            cause="clients ask the port of --listen, and that of --url is the server's own",
            cure="use another one, such as --listen 9500",
        )
    if any(not name for name in redact):
        raise RequestError("--redact needs the name of an input.", cure="./inv predict --help; name one")
    if os.path.lexists(output):
        raise already_there(output)
    return RecordPlan(
        url=url,
        host=host,
        port=port,
        listen_host=listen_host.strip("[]"),
        listen_port=int(listen_port),
        output=output,
        share=_share(share),
        seed=seed,
        redact=tuple(redact),
        max_bytes=_size(max_size) if max_size else 0,
        duration_s=duration_s,
    )


def record(plan: RecordPlan, reporter: Reporter) -> Recorded:
    """Passes on and records until the duration is over, or a signal comes that ends us; then what was recorded.

    RequestError where the port is taken or the file can't be made.
    """
    begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    header = RecordingHeader(begun, shown_url(plan.url), plan.share, plan.seed, plan.redact, plan.max_bytes)
    told = {"path": str(plan.output), "header": dataclasses.asdict(header)}
    addresses = _addresses(plan)
    argv = [sys.executable, "-I", "-c", _START, str(PROJECT_ROOT)]
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(contextlib.closing(_bound(plan)))
        complaints = stack.enter_context(tempfile.TemporaryFile())
        ends = stack.enter_context(_ends_wanted())
        child = stack.enter_context(process.conversing(argv, stderr=complaints))
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(told).encode() + b"\n")
        child.stdin.flush()
        keeper = _Keeper(child.stdout, complaints)
        keeper.wait_until_ready()
        pipe = child.stdin.fileno()
        os.set_blocking(pipe, False)
        with contextlib.suppress(OSError):  # of a user who may not have more
            fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_BYTES)
        tap = Tap(pipe, share=plan.share, seed=plan.seed)
        passing = PassThrough(listener, addresses, tap)
        reporter.note(f"recording {shown_url(plan.url)}: have clients ask port {plan.listen_port}; Ctrl-C ends it")
        began = time.monotonic()
        cut_off = _pass_on(plan, passing, keeper, ends, reporter)
        seconds = time.monotonic() - began
        passing.close()
        tap.finish()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        keeper.read_to_end()
    notes = tuple(
        f"None of the requests that were kept had an input {in_a_line(name)!r}, so nothing was taken out of them: "
        f"./inv show-recording {plan.output} shows the inputs"
        for name in plan.redact
        if keeper.counts.kept and name not in keeper.counts.redacted_inputs
    )
    return Recorded(plan, seconds, keeper.counts, passing.counts, tap.counts, cut_off, keeper.failure, notes)


def _pass_on(plan: RecordPlan, passing: PassThrough, keeper: _Keeper, ends: list[int], reporter: Reporter) -> int:
    began = time.monotonic()
    with reporter.progress("recording", unit="requests") as progress:

        def is_over() -> bool:
            return bool(ends) or (plan.duration_s > 0 and time.monotonic() - began >= plan.duration_s)

        def on_tick() -> None:
            keeper.look(reporter)
            _show(progress, keeper.counts)

        passing.run(is_over, on_tick)
        draining = time.monotonic()
        so_far = len(ends)

        def is_given_up() -> bool:
            return len(ends) > so_far or time.monotonic() - draining > SECONDS_TO_DRAIN

        return passing.drain(is_given_up, on_tick)


def _show(progress: Progress, counts: Counts) -> None:
    left_out = counts.dropped + counts.not_understood + counts.beyond_limit
    detail = f"{counts.kept} kept, {amount_text(counts.bytes, 'bytes')}"
    progress.update(counts.seen, detail=detail + (f", {left_out} left out" if left_out else ""))


class _Keeper:
    """What the keeper's process says."""

    def __init__(self, stream: IO[bytes], complaints: IO[bytes]) -> None:
        self.counts = Counts()
        self.failure = ""
        self._stream = stream
        self._complaints = complaints
        self._rest = b""
        self._has_ended = False
        self._told: set[str] = set()

    def wait_until_ready(self) -> None:
        """Returns when the file is there. The error that the keeper had in making it."""
        line = self._stream.readline()
        if line:
            self._take(line)
        else:
            self._over()
            raise NpuServingError(
                f"The process that keeps requests did not start: {self.failure}", cure="run the same command again"
            )
        os.set_blocking(self._stream.fileno(), False)

    def look(self, reporter: Reporter) -> None:
        """Reads what there is, and tells once what a person wants to know at once."""
        self._read()
        if self.counts.beyond_limit and not self.counts.failure:
            self._tell(reporter, "the file has its size (--max-size): requests are passed on, and not kept any more")
        if self.failure:
            self._tell(reporter, f"recording ended early, and requests are passed on all the same: {self.failure}")

    def read_to_end(self) -> None:
        """Reads all that the keeper still says."""
        os.set_blocking(self._stream.fileno(), True)
        while self._read():
            pass

    def _tell(self, reporter: Reporter, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            reporter.warn(text)

    def _read(self) -> bool:
        try:
            piece = os.read(self._stream.fileno(), 1 << 16)
        except BlockingIOError:
            return True
        if not piece:
            self._over()
            return False
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._take(line)
        return True

    def _over(self) -> None:
        if not self._has_ended and not self.failure:
            self._complaints.seek(0)
            last = self._complaints.read().decode(errors="replace").strip().rpartition("\n")[2][:300]
            self.failure = "the process that keeps requests was ended" + (f" ({in_a_line(last)})" if last else "")

    def _take(self, line: bytes) -> None:
        if not line.startswith(b"{"):
            return  # of a module that Python loads at its start and that prints
        document: Mapping[str, Any] = json.loads(line)
        if "error" in document:
            error = document["error"]
            raise RequestError(error["what"], cause=error["cause"], cure=error["cure"])
        self._has_ended = bool(document.get("ended"))
        self.counts = Counts(**{name: value for name, value in document.items() if name != "ended"})
        self.failure = self.failure or self.counts.failure


@contextlib.contextmanager
def _ends_wanted() -> Iterator[list[int]]:
    """The signals that came to end us, while the block runs; none elsewhere than in the main thread."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    former = {
        number: signal.signal(number, lambda which, _: came.append(which))
        for number in ENDING_SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN  # as under nohup
    }
    try:
        yield came
    finally:
        for number, handler in former.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _server(url: str) -> tuple[str, int]:
    scheme = url.partition("://")[0].lower()
    if scheme in ("grpcs", "https"):
        raise RequestError(
            f"{shown_url(url)!r} is asked with TLS, which is not opened here.",
            cause="what clients send is encrypted, so there is nothing to record",
            cure="record behind what ends TLS, such as a proxy: give the address that it asks",
        )
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", SCHEMES.get(scheme, 0) if parts.port is None else parts.port
    except ValueError:
        host, port = "", 0
    fits = scheme in SCHEMES and "://" in url and re.fullmatch(r"[A-Za-z0-9._:%-]+", host) and port
    if not fits or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise RequestError(
            f"{shown_url(url)!r} is not the address of a server that can be recorded.",
            cause="what passes is not changed, so that a path or a login has no place in it",
            cure="write it like grpc://HOST:8500, or http://HOST:8501 for its REST API",
        )
    return host, port


def _share(text: str) -> float:
    fits = re.fullmatch(r"[0-9]*\.?[0-9]+", text)
    if not fits or not 0 < float(text) <= 1:
        raise RequestError(f"--share must be a number above 0 and up to 1, not {text!r}.", cure="use one such as 0.1")
    return float(text)


def _size(text: str) -> int:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([kKMGT]?B)?", text)
    size = int(float(found[1]) * _SIZES[found[2] or ""]) if found else 0
    if not 0 < size < 1 << 60:
        raise RequestError(f"--max-size must be a size, not {text!r}.", cure="write it like 500MB or 1GB")
    return size


def _addresses(plan: RecordPlan) -> list[Address]:
    try:
        found = socket.getaddrinfo(plan.host, plan.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RequestError(
            f"The host of {shown_url(plan.url)} is not known ({error.strerror}).",
            cause="a typing error",
            cure="correct --url",
        ) from error
    return [(int(family), address) for family, _, _, _, address in found]


def _bound(plan: RecordPlan) -> socket.socket:
    try:
        if plan.listen_host:
            family = socket.getaddrinfo(plan.listen_host, plan.listen_port, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((plan.listen_host, plan.listen_port), family=family, backlog=1024)
        if socket.has_dualstack_ipv6():
            with contextlib.suppress(OSError):
                address = ("", plan.listen_port)
                return socket.create_server(address, family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
        return socket.create_server(("", plan.listen_port), backlog=1024)
    except OSError as error:
        raise RequestError(
            f"{plan.listens_at} can't be listened at ({error.strerror}).",
            cause="another program has that port, or this machine has no such address",
            cure="give another one: --listen PORT",
        ) from error

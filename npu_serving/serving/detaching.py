"""serve --detach: the same serve, in a process of its own that outlives the terminal; waited for until it is ready.

What that process would say in the foreground, it sends through a pipe to the one that was typed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npu_serving import errors, fsutil, process
from npu_serving.console import Console, Progress, Reporter, Silent, duration_text
from npu_serving.errors import EXIT_INTERRUPTED, NpuServingError, ServerError
from npu_serving.serving.launch import Launch
from npu_serving.serving.server import Company, Onlooker, serve_in_foreground
from npu_serving.serving.server_log import LOG, OutputLog, last_lines_since, refuse_other_than_log
from npu_serving.serving.server_plan import ServerPlan
from npu_serving.serving.server_record import known_servers, refuse_unkept, server_name
from npu_serving.supervision import in_background

SECONDS_FOR_A_READER = 1.0
_BEGAN, _NOTE, _LOOKED, _ENDED = "began", "note", "looked", "ended"


@dataclass(frozen=True)
class DetachedServer:
    """A server in the background. `pid` is 0 where it isn't known yet."""

    name: str
    pid: int
    rest_api_port: int
    grpc_port: int
    log: Path
    ready: bool
    seconds: float
    interrupted: bool = False
    """Whether whoever waited for it did so no longer."""

    @property
    def exit_code(self) -> int:
        """0, unless the waiting was interrupted."""
        return EXIT_INTERRUPTED if self.interrupted else 0

    def to_json(self) -> dict[str, object]:
        """The server as `--json` shows it."""
        return {
            "name": self.name,
            "pid": self.pid or None,
            "rest_api_port": self.rest_api_port,
            "grpc_port": self.grpc_port,
            "log": str(self.log),
            "ready": self.ready,
            "seconds": round(self.seconds, 3),
        }

    def text(self) -> str:
        """The server for a person, and what may be typed next."""
        rest = f"REST port {self.rest_api_port}, " if self.rest_api_port else ""
        where = f"process {self.pid or '?'}, {rest}gRPC port {self.grpc_port}; its output is in {self.log}"
        state = f"is ready after {duration_text(self.seconds)}" if self.ready else "is being started in the background"
        stopped_waiting = "Interrupted; it is not stopped by that. " if self.interrupted else ""
        follow = f"./inv logs {self.name}" + ("" if self.ready else " --follow")
        return (
            f"{stopped_waiting}Server {self.name} {state}: {where}\nNext: {follow}   (./inv stop {self.name} ends it)"
        )


def serve_detached(launch: Launch, reporter: Reporter, build_root: Path, *, wait: bool = True) -> DetachedServer:
    """Starts the server in the background, and returns when it is ready; without `wait` when it is started.

    An interruption ends the waiting only. Raises what serve_in_foreground() raises, and ServerError with the end of the
    output where the server has ended before it was ready.
    """
    plan, begun = launch.plan, time.monotonic()
    log = place_of_log(plan, build_root)
    size = log.stat().st_size if log.is_file() else 0
    told = in_background(lambda tell: _watch(launch, build_root, log, tell), log=log)
    server = _Started(server_name(plan.rest_api_port, plan.port), log, size)
    with (
        os.fdopen(told, "rb", buffering=0) as pipe,
        reporter.progress(f"server {server.name} starts", unit="looks") as progress,
    ):
        try:
            for event in _events(pipe):
                server.take(event, reporter, progress)
                if server.ready or (server.pid and not wait):
                    break
            else:
                server.look_up(build_root)
            interrupted = False
        except KeyboardInterrupt:
            interrupted = True
    return DetachedServer(
        name=server.name,
        pid=server.pid,
        rest_api_port=plan.rest_api_port,
        grpc_port=plan.port,
        log=log,
        ready=server.ready,
        seconds=time.monotonic() - begun,
        interrupted=interrupted,
    )


def place_of_log(plan: ServerPlan, build_root: Path) -> Path:
    """Where the output of a server in the background goes; it raises where that, or a record of it, can't be kept."""
    assert plan.directory is not None
    fsutil.make_directory(plan.directory)
    refuse_unkept(build_root)
    log = plan.directory.parent / LOG
    refuse_other_than_log(log)
    return log


class _Started:
    """What is known of a server so far."""

    def __init__(self, name: str, log: Path, size: int) -> None:
        self.name = name
        self.pid = 0
        self.ready = False
        self._log, self._size = log, size
        self._looks = 0

    def take(self, event: dict[str, Any], reporter: Reporter, progress: Progress) -> None:
        """Takes what comes next. Raises the error by which the server has ended."""
        kind = event["event"]
        if kind == _BEGAN:
            self.pid = event["pid"]
        elif kind == _NOTE:
            reporter.note(event["text"])
        elif kind == _LOOKED:
            self.ready = event["ready"]
            self._looks += 1
            progress.update(self._looks, detail="; ".join(event["reasons"]))
        elif kind == _ENDED and event["what"] is None:
            raise ServerError(
                "The server was stopped before it was ready.",
                cause="somebody else has stopped it: ./inv stop, or a signal",
                cure="run the same command again",
            )
        elif kind == _ENDED:
            error = getattr(errors, event["kind"], ServerError)
            raise self._with_output(error(event["what"], cause=event["cause"], cure=event["cure"]))

    def look_up(self, build_root: Path) -> None:
        """What became of it, by its record: nothing more comes. Raises ServerError where it does not run."""
        known = next((server for server in known_servers(build_root) if server.name == self.name), None)
        record = known.record if known is not None else None
        if known is not None and record is not None and known.is_running and record.pid == self.pid:
            self.ready = record.readiness is not None and record.readiness.ready
            return
        what = "The ./inv serve in the background has ended, and left no reason."
        raise self._with_output(ServerError(what, cause="it was killed", cure="run the same command again"))

    def _with_output(self, error: NpuServingError) -> NpuServingError:
        """The error with the end of the log, which nobody has seen."""
        with contextlib.suppress(NpuServingError):
            lines = [
                f"    {line}"
                for line in last_lines_since(self._log, process.TAIL_LINES, self._size).lines
                if line.strip()
            ]
            error.what = "\n".join([error.what, *lines, f"Its whole output is in {self._log}"])
        return error


def _events(pipe: Any) -> Iterator[dict[str, Any]]:
    rest = b""
    while piece := pipe.read(1 << 16):
        *lines, rest = (rest + piece).split(b"\n")
        yield from (json.loads(line) for line in lines)


# ---- in the background


class _Teller(Silent, Onlooker):
    """Tells whoever waits, as long as somebody does, from two threads; and prints what is said, into the log."""

    def __init__(self, tell: int) -> None:
        self._tell = tell
        self._guard = threading.Lock()
        self._console = Console()
        os.set_blocking(tell, False)

    def note(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the log can't be written to
            self._console.note(text)
        self._send(_NOTE, text=text)

    def warn(self, text: str) -> None:
        self.note(f"warning: {text}")

    def began(self, pid: int) -> None:
        self._send(_BEGAN, pid=pid)

    def looked(self, ready: bool, reasons: Sequence[str]) -> None:
        self._send(_LOOKED, ready=ready, reasons=list(reasons), last=ready)

    def ended(self, error: NpuServingError | None) -> None:
        if error is None:
            self._send(_ENDED, what=None, last=True)
        else:
            kind = type(error).__name__
            self._send(_ENDED, kind=kind, what=error.what, cause=error.cause, cure=error.cure, last=True)

    def _send(self, event: str, *, last: bool = False, **words: object) -> None:
        with self._guard:
            left = json.dumps({"event": event, **words}).encode() + b"\n"
            while self._tell >= 0 and left:
                _, writable, _ = select.select([], [self._tell], [], SECONDS_FOR_A_READER)
                try:
                    if (
                        not writable
                    ):  # whoever waits was suspended, and a server does not wait for that: its record tells
                        raise BlockingIOError
                    left = left[os.write(self._tell, left) :]
                except OSError:
                    self._close()  # nobody waits any more
            if last and self._tell >= 0:
                self._close()

    def _close(self) -> None:
        os.close(self._tell)
        self._tell = -1


def _watch(launch: Launch, build_root: Path, log: Path, tell: int) -> None:
    """Serves, as in the foreground: what is said goes to the log, and to whoever waits."""
    teller = _Teller(tell)
    try:
        with contextlib.suppress(OSError):  # the disk is full: a server is not to end for its log's sake
            Console().note(f"npu-serving: started at {time.strftime('%Y-%m-%d %H:%M:%S')}")
        serve_in_foreground(
            launch.plan,
            teller,
            build_root,
            launch.terms,
            Company(launch.request, teller, OutputLog(log)),
        )
    except NpuServingError as error:
        teller.note(str(error))
        teller.ended(error)
    except Exception as error:
        what = f"The ./inv serve in the background has failed: {type(error).__name__}: {error}."
        teller.ended(ServerError(what, cure="./inv support-bundle writes what somebody who helps has to see"))
        raise

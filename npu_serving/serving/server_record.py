"""What is kept of a server that `serve` runs, so that `status` can show what only its output says: build/servers/."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import threading
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from npu_serving import fsutil
from npu_serving.asking.npu_signs import NpuSigns
from npu_serving.console import clock_text
from npu_serving.documents import DocumentRefusal, read_document
from npu_serving.errors import NpuServingError, ServerError
from npu_serving.serving.deployed_from import DeployedFrom
from npu_serving.serving.listeners import listeners_on
from npu_serving.serving.serve_request import ServeRequest
from npu_serving.shown_text import without_login

FORMAT = 1
SERVE_AGAIN = "./inv serve --model-base-path PATH-OF-A-MODEL --platform-config-file CONFIG"
Kept = TypeVar("Kept")
_SPACE_BYTES = 1 << 16
"""What a record, its notes and the beginning of a log take."""
_NAME = re.compile(r"(grpc-)?[0-9]{1,5}$")
_REFUSAL = DocumentRefusal("not a record of a server:", ServerError, "", "")


@dataclass(frozen=True)
class SeenReadiness:
    """Whether a server was ready when it was last looked at, why not, and when (in seconds since the epoch)."""

    ready: bool
    reasons: tuple[str, ...]
    at: float


@dataclass(frozen=True)
class ServerRecord:
    """A server of this machine. `process_begin` distinguishes its process from a later one of the same number.

    What has a default isn't known of a server that an earlier version of this project has started.
    """

    pid: int
    process_begin: int
    directory: Path
    """Where it runs, and the adapter writes what no option gives another place."""
    started: float
    """When, in seconds since the epoch."""
    uses_npu: bool
    """Whether its platform config asks for the NPU."""
    compiled: int = 0
    """How many graphs were compiled for the NPU since."""
    models: tuple[str, ...] = ()
    """What its models are called, as far as that was known when it was started."""
    rest_api_port: int = 0
    """0 where it has no REST API."""
    grpc_port: int = 0
    probe_port: int = 0
    """Where `serve` answers probes; 0 for nowhere."""
    build: str = ""
    """The id of its build; "" for a server that is in none."""
    program: Path | None = None
    argv: tuple[str, ...] = ()
    """Its command line, with what is secret in it masked."""
    deployed: DeployedFrom | None = None
    """What it was deployed from, as it was then; None where flags said what is served."""
    log: Path | None = None
    """The file of its output; None where that goes to whoever typed `serve`."""
    request: ServeRequest | None = None
    """What `serve` was asked for, to start it again."""
    readiness: SeenReadiness | None = None
    watcher: int = 0
    """The process of `serve` that looks after it."""
    watcher_begin: int = 0

    @property
    def is_running(self) -> bool:
        """Whether it is still there."""
        return self.process_begin == begin_of(self.pid) != 0

    @property
    def is_watched(self) -> bool:
        """Whether the `serve` that started it is still there."""
        return self.watcher_begin == begin_of(self.watcher) != 0

    @property
    def name(self) -> str:
        """What it is called here: its REST port, or grpc-PORT where it has none."""
        return server_name(self.rest_api_port, self.grpc_port)


@dataclass(frozen=True)
class AnswerNote:
    """When the server of that process was last seen to answer a request of each model, in seconds since the epoch."""

    pid: int
    process_begin: int
    models: Mapping[str, float]


@dataclass(frozen=True)
class EndNote:
    """How a server that `serve` ran ended, when (in seconds since the epoch), and why; the latter is "" if unknown."""

    ended: float
    what: str
    cause: str = ""
    cure: str = ""


@dataclass(frozen=True)
class StopNote:
    """Which process somebody is about to stop."""

    pid: int
    process_begin: int


_KILLED_TOGETHER = EndNote(
    0.0,
    "It is gone, and the ./inv serve that ran it as well.",
    "both were killed at once (kill -9, the end of a container or of a session, memory that ran out), or the machine "
    "restarted",
    "journalctl -k | grep -i 'out of memory' shows whether memory ran out",
)


@dataclass(frozen=True)
class KnownServer:
    """A server that `serve` runs on this machine, or ran last at its ports.

    `record` is None where only its end is known; `end` is None where it runs.
    """

    name: str
    record: ServerRecord | None
    end: EndNote | None

    @property
    def is_running(self) -> bool:
        """Whether it is still there."""
        return self.record is not None and self.end is None and self.record.is_running

    def describe(self) -> str:
        """Its process, what it was started from, and since when it runs, for a person."""
        record = self.record
        if record is None:
            return self.name
        deployed = f", {record.deployed.file}" if record.deployed is not None else ""
        build = f", build {record.build}" if record.build else ""
        return f"process {record.pid}{build}{deployed}, since {clock_text(record.started)}"

    @property
    def url(self) -> str:
        """Its REST API; its gRPC API where it has none."""
        grpc_port = self.name.partition("grpc-")[2]
        return f"grpc://localhost:{grpc_port}" if grpc_port else f"http://localhost:{self.name}"


class RecordKeeper:
    """Keeps the record of one server up to date while it runs. A directory that can't be written to costs no server,
    but one in the background, which nobody could stop.

    Signs and readiness may come from two threads.
    """

    def __init__(self, build_root: Path, record: ServerRecord) -> None:
        self._path = _path_of(build_root, record.name)
        self._record = record
        self._guard = threading.Lock()

    @property
    def record(self) -> ServerRecord:
        """What is known of the server by now."""
        return self._record

    def began(self, pid: int, *, in_background: bool = False) -> None:
        """The server runs, as this process. FileAccessError where that can't be kept of one in the background."""
        for stale in (_end_beside(self._path), _stop_beside(self._path)):
            with contextlib.suppress(OSError):
                stale.unlink()
        self._write(has_to_be_kept=in_background, pid=pid, process_begin=begin_of(pid))

    def saw(self, signs: NpuSigns) -> None:
        """It has printed a sign."""
        self._write(compiled=signs.compiled)

    def is_ready(self, ready: bool, reasons: Sequence[str]) -> None:
        """It was looked at, and is ready, or is not for these reasons."""
        self._write(readiness=SeenReadiness(ready, tuple(without_login(text) for text in reasons), time.time()))

    @property
    def is_to_stop(self) -> bool:
        """Whether somebody stops it: then it has not failed, by whatever signal it ends."""
        note = read_kept(_stop_beside(self._path), StopNote)
        return note is not None and (note.pid, note.process_begin) == (self._record.pid, self._record.process_begin)

    def ended(self, error: NpuServingError | None) -> None:
        """It has ended; with an error, unless it was stopped as one stops a server. What it was is kept."""
        note = EndNote(time.time(), "It was stopped.")
        if error is not None:
            # Whoever reads it has typed another command: status.
            cure = error.cure.replace("run the same command again", f"start it again: {_again(self._record)}")
            what, cause, cure = (without_login(text) for text in (error.what, error.cause, cure))
            note = replace(note, what=what, cause=cause, cure=cure)
        keep(_end_beside(self._path), note)

    def _write(self, *, has_to_be_kept: bool = False, **changes: object) -> None:
        with self._guard:
            self._record = replace(self._record, **changes)  # type: ignore[arg-type]
            with contextlib.nullcontext() if has_to_be_kept else contextlib.suppress(OSError, NpuServingError):
                fsutil.write_file(self._path, _json_of(self._record))


def refuse_unkept(build_root: Path) -> None:
    """FileAccessError where there is no room for a record: a server in the background would be out of reach."""
    place = build_root / "servers" / ".space"
    fsutil.write_file(place, os.urandom(_SPACE_BYTES))
    fsutil.remove(place)


def server_name(rest_api_port: int, grpc_port: int) -> str:
    """What a server with these ports is called here."""
    return str(rest_api_port) if rest_api_port else f"grpc-{grpc_port}"


def known_servers(build_root: Path) -> tuple[KnownServer, ...]:
    """The servers that `serve` runs on this machine, or ran last at their ports, in the order of these."""
    try:
        files = os.listdir(build_root / "servers")
    except OSError:
        return ()
    names = {name for name in (file.partition(".")[0] for file in files if file.endswith(".json")) if _NAME.match(name)}
    ordered = sorted(names, key=lambda name: (not name.isdecimal(), int(name.rpartition("-")[2])))
    return tuple(_known(build_root, name) for name in ordered)


def note_stop(build_root: Path, record: ServerRecord) -> None:
    """Keeps that this server is about to be stopped, for the `serve` that watches it."""
    keep(_stop_beside(_path_of(build_root, record.name)), StopNote(record.pid, record.process_begin))


def note_end(build_root: Path, record: ServerRecord, what: str) -> None:
    """Keeps how a server has ended, where the `serve` that watched it may not have."""
    keep(_end_beside(_path_of(build_root, record.name)), EndNote(time.time(), what))


def record_of(build_root: Path, url: str) -> ServerRecord | None:
    """The record of the server at that URL; None where it isn't one that `serve` runs on this machine."""
    name = _name_at(url)
    server = _known(build_root, name) if name else None
    return server.record if server is not None and server.is_running else None


def end_of(build_root: Path, url: str) -> EndNote | None:
    """How the server ended that `serve` last ran at that URL; None where it runs, or where nothing is known of one."""
    name = _name_at(url)
    return _end_at(build_root, name) if name else None


def _again(record: ServerRecord | None) -> str:
    """The command that starts it again."""
    return f"./inv restart {record.name}" if record is not None and record.request is not None else SERVE_AGAIN


def _known(build_root: Path, name: str) -> KnownServer:
    return KnownServer(name, _record_at(build_root, name), _end_at(build_root, name))


def _record_at(build_root: Path, name: str) -> ServerRecord | None:
    record = read_kept(_path_of(build_root, name), ServerRecord)
    if record is not None and not (record.rest_api_port or record.grpc_port):  # of an earlier version
        record = replace(record, rest_api_port=int(name)) if name.isdecimal() else None
    return record


def _end_at(build_root: Path, name: str) -> EndNote | None:
    path = _path_of(build_root, name)
    note = read_kept(_end_beside(path), EndNote)
    if note is not None or not path.is_file():
        return note
    record = _record_at(build_root, name)
    if record is not None and record.is_running:
        return None
    return replace(_KILLED_TOGETHER, cure=f"{_KILLED_TOGETHER.cure}; start it again: {_again(record)}")


def keep(path: Path, kept: Any) -> None:
    """Keeps a record or a note there, for read_kept(); a directory that can't be written to costs no more than that."""
    with contextlib.suppress(OSError, NpuServingError):
        fsutil.write_file(path, _json_of(kept))


def read_kept(path: Path, kind: type[Kept]) -> Kept | None:
    """What is kept there; None where there is nothing, or nothing that can be read."""
    if not path.is_file():
        return None
    try:
        return read_document(path, kind, format=FORMAT, ignore_unknown=True, refusal=_REFUSAL)
    except NpuServingError:
        return None


def _json_of(kept: Any) -> str:
    return json.dumps({"format": FORMAT, **asdict(kept)}, indent=2, default=str) + "\n"


def record_at_url(build_root: Path, url: str) -> ServerRecord | None:
    """The record of the server that runs at that URL, where `serve` runs it on this machine.

    A `grpc://` or `grpcs://` URL means the server that listens on that port.
    """
    name = _name_at(url) if not url.lower().startswith(("grpc://", "grpcs://")) else _name_listening_at(build_root, url)
    record = _record_at(build_root, name) if name else None
    return record if record is not None and record.is_running else None


def note_answer(build_root: Path, url: str, model: str) -> None:
    """Keeps that the server at that URL has answered a request, where `serve` runs it on this machine."""
    record = record_at_url(build_root, url)
    if record is None:
        return
    path = _path_of(build_root, record.name)
    models = {**_answers(path, record), model: time.time()}
    keep(_answers_beside(path), AnswerNote(record.pid, record.process_begin, models))


def answered_at(build_root: Path, record: ServerRecord, model: str) -> float | None:
    """When that server was last seen to answer a request to the model; None where it wasn't."""
    return answers_of(build_root, record).get(model)


def answers_of(build_root: Path, record: ServerRecord) -> dict[str, float]:
    """When that server was last seen to answer a request, for each model that was seen to."""
    return _answers(_path_of(build_root, record.name), record)


def begin_of(pid: int) -> int:
    """When the process began, in the kernel's ticks since the machine's start; 0 where there is none.

    One that has ended stays on the list until somebody waits for it, which in a container nobody may ever do.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        # the 3rd and the 22nd, state and starttime (proc(5)), of which the first two are cut off
        return int(fields[19]) if fields[0] not in ("Z", "X") else 0
    except (OSError, IndexError, ValueError):
        return 0


def _answers(path: Path, record: ServerRecord) -> dict[str, float]:
    note = read_kept(_answers_beside(path), AnswerNote)
    same = note is not None and (note.pid, note.process_begin) == (record.pid, record.process_begin)
    return dict(note.models) if note is not None and same else {}


def _answers_beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.answered.json")


def _end_beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.ended.json")


def _stop_beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.stopping.json")


def _path_of(build_root: Path, name: str) -> Path:
    return build_root / "servers" / f"{name}.json"


def _name_at(url: str) -> str:
    """What a server of that URL is called here; "" for one of another machine."""
    port = _port_here(url)
    if not port:
        return ""
    return server_name(0, port) if url.lower().startswith(("grpc://", "grpcs://")) else server_name(port, 0)


def _name_listening_at(build_root: Path, grpc_url: str) -> str:
    """What the server is called that `serve` runs here with that gRPC port; "" where there is none."""
    port = _port_here(grpc_url)
    pids = {listener.pid for listener in listeners_on(port)} if port else set()
    running = (server for server in known_servers(build_root) if server.is_running) if pids else ()
    return next((server.name for server in running if server.record is not None and server.record.pid in pids), "")


def _port_here(url: str) -> int | None:
    """The port in a URL that leads to this machine itself; None in another one."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    is_here = host == "localhost"
    with contextlib.suppress(ValueError):
        is_here = is_here or ipaddress.ip_address(host).is_loopback
    return port if is_here and port else None

"""What is kept of a server that `serve` runs, so that `status` can show what only its output says: build/servers/."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from npu_serving import fsutil
from npu_serving.documents import DocumentRefusal, read_document
from npu_serving.errors import NpuServingError, ServerError
from npu_serving.serving.listeners import listeners_on
from npu_serving.serving.npu_signs import NpuSigns
from npu_serving.shown_text import without_login

FORMAT = 1
SERVE_AGAIN = "./inv serve --model-base-path PATH-OF-A-MODEL --platform-config-file CONFIG"
_REFUSAL = DocumentRefusal("not a record of a server:", ServerError, "", "")


@dataclass(frozen=True)
class ServerRecord:
    """A server of this machine. `process_begin` distinguishes its process from a later one of the same number."""

    pid: int
    process_begin: int
    directory: Path
    started: float
    """When, in seconds since the epoch."""
    uses_npu: bool
    """Whether its platform config asks for the NPU."""
    compiled: int = 0
    """How many graphs were compiled for the NPU since."""
    models: tuple[str, ...] = ()
    """What its models are called, as far as that was known when it was started."""

    @property
    def is_running(self) -> bool:
        """Whether it is still there."""
        return self.process_begin == _begin_of(self.pid) != 0


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


_KILLED_TOGETHER = EndNote(
    0.0,
    "It is gone, and the ./inv serve that ran it as well.",
    "both were killed at once (kill -9, the end of a container or of a session, memory that ran out), or the machine "
    "restarted",
    f"journalctl -k | grep -i 'out of memory' shows whether memory ran out; start it again: {SERVE_AGAIN}",
)


class RecordKeeper:
    """Keeps the record of one server up to date while it runs. A directory that can't be written to costs no server."""

    def __init__(self, build_root: Path, rest_api_port: int, *, uses_npu: bool, models: Sequence[str] = ()) -> None:
        self._path = _path_of(build_root, rest_api_port) if rest_api_port else None
        self._record = ServerRecord(0, 0, Path.cwd(), time.time(), uses_npu, models=tuple(models))

    def began(self, pid: int) -> None:
        """The server runs, as this process."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                _end_beside(self._path).unlink()
        self._write(replace(self._record, pid=pid, process_begin=_begin_of(pid)))

    def saw(self, signs: NpuSigns) -> None:
        """It has printed a sign."""
        self._write(replace(self._record, compiled=signs.compiled))

    def ended(self, error: NpuServingError | None) -> None:
        """It has ended; with an error, unless it was stopped as one stops a server."""
        if self._path is None:
            return
        note = EndNote(time.time(), "It was stopped.")
        if error is not None:
            # Whoever reads it has typed another command: status.
            cure = error.cure.replace("run the same command again", f"start it again: {SERVE_AGAIN}")
            what, cause, cure = (without_login(text) for text in (error.what, error.cause, cure))
            note = replace(note, what=what, cause=cause, cure=cure)
        with contextlib.suppress(OSError, NpuServingError):
            fsutil.write_file(_end_beside(self._path), json.dumps({"format": FORMAT, **asdict(note)}, indent=2) + "\n")
            self._path.unlink()

    def _write(self, record: ServerRecord) -> None:
        self._record = record
        if self._path is not None:
            written = {"format": FORMAT, **asdict(record), "directory": str(record.directory)}
            with contextlib.suppress(OSError, NpuServingError):
                fsutil.write_file(self._path, json.dumps(written, indent=2) + "\n")


def known_ports(build_root: Path) -> tuple[int, ...]:
    """The REST ports of the servers that `serve` runs on this machine, or ran last, in order."""
    try:
        names = os.listdir(build_root / "servers")
    except OSError:
        return ()
    return tuple(sorted({int(name.partition(".")[0]) for name in names if name.partition(".")[0].isdecimal()}))


def record_of(build_root: Path, url: str) -> ServerRecord | None:
    """The record of the server at that URL; None where it isn't one that `serve` runs on this machine."""
    path = _path_at(build_root, url)
    if path is None or not path.is_file():
        return None
    try:
        record = read_document(path, ServerRecord, format=FORMAT, ignore_unknown=True, refusal=_REFUSAL)
    except NpuServingError:
        return None
    return record if record.is_running else None


def end_of(build_root: Path, url: str) -> EndNote | None:
    """How the server ended that `serve` last ran at that URL; None where it runs, or where nothing is known of one."""
    path = _path_at(build_root, url)
    if path is None:
        return None
    if path.is_file():  # serve takes it away, unless it is killed itself
        return None if record_of(build_root, url) is not None else _KILLED_TOGETHER
    beside = _end_beside(path)
    if not beside.is_file():
        return None
    try:
        return read_document(beside, EndNote, format=FORMAT, ignore_unknown=True, refusal=_REFUSAL)
    except NpuServingError:
        return None


def note_answer(build_root: Path, url: str, model: str) -> None:
    """Keeps that the server at that URL has answered a request, where `serve` runs it on this machine.

    A `grpc://` URL means the server that listens on that port.
    """
    if url.lower().startswith("grpc://"):
        url = _rest_url_of(build_root, url)
    record, path = record_of(build_root, url), _path_at(build_root, url)
    if record is None or path is None:
        return
    models = {**_answers(path, record), model: time.time()}
    note = {"format": FORMAT, **asdict(AnswerNote(record.pid, record.process_begin, models))}
    with contextlib.suppress(OSError, NpuServingError):
        fsutil.write_file(_answers_beside(path), json.dumps(note, indent=2) + "\n")


def answered_at(build_root: Path, url: str, record: ServerRecord, model: str) -> float | None:
    """When that server was last seen to answer a request to the model; None where it wasn't."""
    path = _path_at(build_root, url)
    return _answers(path, record).get(model) if path is not None else None


def _answers(path: Path, record: ServerRecord) -> dict[str, float]:
    beside = _answers_beside(path)
    if not beside.is_file():
        return {}
    try:
        note = read_document(beside, AnswerNote, format=FORMAT, ignore_unknown=True, refusal=_REFUSAL)
    except NpuServingError:
        return {}
    same = (note.pid, note.process_begin) == (record.pid, record.process_begin)
    return dict(note.models) if same else {}


def _answers_beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.answered.json")


def _end_beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.ended.json")


def _path_of(build_root: Path, rest_api_port: int) -> Path:
    return build_root / "servers" / f"{rest_api_port}.json"


def _path_at(build_root: Path, url: str) -> Path | None:
    port = _port_here(url)
    return _path_of(build_root, port) if port else None


def _rest_url_of(build_root: Path, grpc_url: str) -> str:
    """The REST API of the server that `serve` runs here with that gRPC port; "" where there is none."""
    port = _port_here(grpc_url)
    pids = {listener.pid for listener in listeners_on(port)} if port else set()
    for path in sorted((build_root / "servers").glob("*.json")) if pids else []:
        url = f"http://localhost:{path.stem}"
        record = record_of(build_root, url) if path.stem.isdecimal() else None
        if record is not None and record.pid in pids:
            return url
    return ""


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


def _begin_of(pid: int) -> int:
    """When the process began, in the kernel's ticks since the machine's start; 0 where there is none.

    One that has ended stays on the list until somebody waits for it, which in a container nobody may ever do.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        # the 3rd and the 22nd, state and starttime (proc(5)), of which the first two are cut off
        return int(fields[19]) if fields[0] not in ("Z", "X") else 0
    except (OSError, IndexError, ValueError):
        return 0

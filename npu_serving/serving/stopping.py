"""stop: ends servers of serve, and no process that isn't such a server, however its number came to be."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from npu_serving.console import Reporter, duration_text
from npu_serving.errors import FileAccessError, ServerError
from npu_serving.file_access import whose
from npu_serving.serving.server_record import KnownServer, ServerRecord, begin_of, note_end, note_stop

SECONDS_BETWEEN_LOOKS = 0.05
SECONDS_TO_DIE = 30.0  # after SIGKILL: memory of the device is given back meanwhile
SECONDS_FOR_THE_WATCHER = 10.0
STOPPED, KILLED, WOULD_STOP, HAD_ENDED = "stopped", "killed", "would be stopped", "had ended"


@dataclass(frozen=True)
class StoppedServer:
    """A server, and what was done: stopped (by SIGTERM), killed (by SIGKILL), would be stopped, had ended."""

    server: KnownServer
    done: str
    seconds: float = 0.0

    def to_json(self) -> dict[str, object]:
        """As `--json` shows it."""
        record = self.server.record
        return {
            "name": self.server.name,
            "pid": record.pid if record is not None else None,
            "done": self.done,
            "seconds": round(self.seconds, 3),
        }

    def text(self) -> str:
        """For a person."""
        if self.done == HAD_ENDED:
            end = self.server.end
            return f"Server {self.server.name} has ended already. {end.what if end is not None else ''}".rstrip()
        if self.done == WOULD_STOP:
            return f"Server {self.server.name} would be stopped: {self.server.describe()}."
        how = "" if self.done == STOPPED else " by SIGKILL, since it did not heed SIGTERM"
        took = duration_text(self.seconds)
        return f"Server {self.server.name} was stopped{how}, within {took}: {self.server.describe()}."


@dataclass(frozen=True)
class StoppedServers:
    """What became of each."""

    servers: tuple[StoppedServer, ...]

    def to_json(self) -> dict[str, object]:
        """As `--json` shows them."""
        return {"servers": [server.to_json() for server in self.servers]}

    def text(self) -> str:
        """A line for each."""
        if not self.servers:
            return "Nothing to stop: no server of ./inv serve runs here."
        return "\n".join(server.text() for server in self.servers)


def stop_servers(
    build_root: Path, servers: tuple[KnownServer, ...], reporter: Reporter, *, timeout_s: float, dry_run: bool = False
) -> StoppedServers:
    """Stops each that runs, by SIGTERM, and by SIGKILL where it still runs after `timeout_s`.

    Raises FileAccessError for another user's server, and ServerError for one that can't be ended.
    """
    done = []
    for server in servers:
        if server.record is None or not server.is_running:
            done.append(StoppedServer(server, HAD_ENDED))
        elif dry_run:
            _refuse_others(server)
            done.append(StoppedServer(server, WOULD_STOP))
        else:
            done.append(stop_server(build_root, server, reporter, timeout_s=timeout_s))
    return StoppedServers(tuple(done))


def stop_server(build_root: Path, server: KnownServer, reporter: Reporter, *, timeout_s: float) -> StoppedServer:
    """Stops a server that runs; returns when it is gone, and the serve that watched it has said so."""
    record = server.record
    assert record is not None
    begun, done = time.monotonic(), STOPPED
    with _handle(server, record) as send, reporter.progress(f"stopping {server.name}", unit="looks") as progress:
        note_stop(build_root, record)

        def is_gone(seconds: float) -> bool:
            deadline, looks = time.monotonic() + seconds, 0
            while record.is_running:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(SECONDS_BETWEEN_LOOKS)
                looks += 1
                progress.update(looks, detail=f"process {record.pid} has not ended yet")
            return True

        try:
            send(signal.SIGTERM)
            if not is_gone(timeout_s):
                done = KILLED
                send(signal.SIGKILL)
            has_ended = done == STOPPED or is_gone(SECONDS_TO_DIE)
        except KeyboardInterrupt as error:
            # cli.py's words for it are about what was started
            raise KeyboardInterrupt(
                f"server {server.name} was told to stop, and may run for a while yet: ./inv status shows it."
            ) from error
        if not has_ended:
            raise ServerError(
                f"Process {record.pid} of server {server.name} does not end, not even by SIGKILL.",
                cause="it waits within the kernel, often for a device that does not answer (npu-smi info)",
                cure=f"cat /proc/{record.pid}/wchan shows for what; dmesg may say more; then restart the machine",
            )
    until = time.monotonic() + SECONDS_FOR_THE_WATCHER
    while record.is_watched and record.watcher != os.getpid() and time.monotonic() < until:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    how = "It was stopped by ./inv stop."
    note_end(build_root, record, how if done == STOPPED else f"{how[:-1]}, with SIGKILL: it did not heed SIGTERM.")
    return StoppedServer(server, done, time.monotonic() - begun)


def _refuse_others(server: KnownServer) -> None:
    if server.record is not None:
        with _handle(server, server.record):
            pass


@contextlib.contextmanager
def _handle(server: KnownServer, record: ServerRecord) -> Iterator[Callable[[int], None]]:
    """What sends signals to that very process: by a file descriptor, since its number may become another's.

    Raises FileAccessError where this user may not; a process that is gone gets none.
    """
    descriptor = -1
    with contextlib.suppress(OSError, AttributeError):  # before Linux 5.3, or forbidden in a container
        descriptor = os.pidfd_open(record.pid)

    def send(number: int) -> None:
        if begin_of(record.pid) != record.process_begin:  # looked at while the descriptor holds the process
            return
        try:
            if descriptor >= 0:
                signal.pidfd_send_signal(descriptor, number)
            else:
                os.kill(record.pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise FileAccessError(
                f"Server {server.name} is another user's: process {record.pid} ({whose(Path(f'/proc/{record.pid}'))}).",
                cure=f"as that user, or by sudo: ./inv stop {server.name}",
            ) from error

    try:
        send(0)
        yield send
    finally:
        if descriptor >= 0:
            os.close(descriptor)

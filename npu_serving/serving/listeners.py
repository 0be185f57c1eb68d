"""Who listens on a port of this machine: found in /proc, without any program."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_serving.console import clock_text

PROC = Path("/proc")
_LISTENING = "0A"  # TCP_LISTEN of include/net/tcp_states.h


@dataclass(frozen=True)
class Listener:
    """A process that listens, the program that it runs, and since when, in seconds of Unix time."""

    pid: int
    program: str
    since: float

    def describe(self) -> str:
        """The program and since when it runs, for a person."""
        return f"{self.program or 'another user has it'}, since {clock_text(self.since)}"


def listeners_on(port: int, proc: Path = PROC) -> tuple[Listener, ...]:
    """The processes that listen on that TCP port, the oldest first; none where another user's may not be looked at."""
    sockets = set(_sockets_on(port, proc))
    if not sockets:
        return ()
    found = (_listener(process, proc) for process in _processes(proc) if _has_one_of(sockets, process))
    return tuple(sorted((each for each in found if each is not None), key=lambda each: (each.since, each.pid)))


def has_listener(port: int, proc: Path = PROC) -> bool:
    """Whether anybody listens on that TCP port, be it another user's process."""
    return any(True for _ in _sockets_on(port, proc))


def _sockets_on(port: int, proc: Path) -> Iterator[str]:
    """What a link of /proc/PID/fd to each of the listening sockets reads."""
    for name in ("net/tcp", "net/tcp6"):
        for line in _text(proc / name).splitlines()[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == _LISTENING and words[1].rpartition(":")[2] == f"{port:04X}":
                yield f"socket:[{words[9]}]"


def _processes(proc: Path) -> Iterator[Path]:
    return (proc / name for name in os.listdir(proc) if name.isdecimal())


def _has_one_of(sockets: set[str], process: Path) -> bool:
    """Whether the process has one of these open; not where it ended meanwhile, or is another user's."""
    try:
        with os.scandir(process / "fd") as entries:
            return any(_link(entry.path) in sockets for entry in entries)
    except OSError:
        return False


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _listener(process: Path, proc: Path) -> Listener | None:
    status = _text(process / "stat").rpartition(")")[2].split()
    booted = re.search(r"^btime (\d+)$", _text(proc / "stat"), re.MULTILINE)
    if len(status) < 20 or booted is None:
        return None  # it ended meanwhile
    since = int(booted[1]) + int(status[19]) / os.sysconf("SC_CLK_TCK")
    return Listener(int(process.name), _link(str(process / "exe")), since)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except OSError:
        return ""

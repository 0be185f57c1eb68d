"""How a server ended, and why: its exit status or signal, what the kernel knows of it, and its own last words."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving import known_failures
from npu_serving.errors import ServerError
from npu_serving.known_failures import Diagnosis, diagnose

# A process that one of these ends has no say in it: what it had printed before is not the reason.
WITHOUT_A_WORD = (signal.SIGKILL, signal.SIGILL, signal.SIGBUS)
SHELL_ADDS = 128  # what a shell, or an entry point, adds to the number of the signal that ended its program
_MB = 1 << 20
_COMM_LENGTH = 15  # what the kernel keeps of a program's name
_SECONDS_OF_SLACK = 1.0
# What builds for newer processors use, in the words of /proc/cpuinfo.
_EXTENSIONS = {
    "x86_64": ("sse4_2", "avx", "avx2", "fma", "avx512f"),
    "aarch64": ("asimd", "atomics", "asimdrdm", "fphp", "asimddp", "sve"),
}
_KILLED = re.compile(r"out of memory: Killed process (\d+) \(([^)\n]*)\)([^\n]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Ending:
    """The exit status of a server, negative for a signal, and a line for each thing that the machine knows of it."""

    returncode: int
    evidence: tuple[str, ...] = ()

    @property
    def signal(self) -> signal.Signals | None:
        """The signal that ended it, through a shell or an entry point as well; None where it ended by itself."""
        number = -self.returncode if self.returncode < 0 else self.returncode - SHELL_ADDS
        with contextlib.suppress(ValueError):
            return signal.Signals(number)
        return None

    def text(self) -> str:
        """For a person: `killed by SIGKILL (9)`, `exit status 3`."""
        if self.signal is None:
            return f"exit status {self.returncode}"
        killed = f"killed by {self.signal.name} ({self.signal.value})"
        return killed if self.returncode < 0 else f"{killed}, exit status {self.returncode}"

    def diagnosis(self, output: str) -> Diagnosis | None:
        """Why it ended, by what it had printed and by what the machine knows; None where neither is known."""
        told = "\n".join([self.text(), *self.evidence])
        by_its_end = diagnose(known_failures.ENDINGS, told) if self.signal is not None else None
        if self.signal in WITHOUT_A_WORD:
            return by_its_end
        return last_words("\n".join([output, *self.evidence])) or by_its_end


class EndWatch:
    """What has to be known of the machine when a server starts, to tell afterwards how it ended.

    `root` is where the machine's files are, for tests that have their own.
    """

    def __init__(self, argv: Sequence[str], root: Path = Path("/")) -> None:
        self._argv = tuple(argv)
        self._root = root
        self._began = time.clock_gettime(time.CLOCK_MONOTONIC)
        self._group = _memory_group(root)
        self._killed_before = self._group.killed if self._group is not None else 0

    def ending(self, returncode: int) -> Ending:
        """The ending of the server that has just ended like that."""
        ending = Ending(returncode)
        evidence = {
            signal.SIGKILL: self._memory,
            signal.SIGILL: self._processor,
            signal.SIGBUS: self._shared_memory,
        }
        told = (evidence[ending.signal]() if ending.signal in evidence else "", self._tls_file())
        return Ending(returncode, tuple(line for line in told if line))

    def _memory(self) -> str:
        """What the kernel says, in its log or by its count, of processes killed since the start as memory ran out."""
        for record in _kernel_log(self._root / "dev" / "kmsg"):
            found = _KILLED.search(record)
            if found is not None and self._is_ours(found[2]) and _is_since(record, self._began):
                what = "its control group's limit" if "cgroup" in record else "the machine's memory was used up"
                used = _resident_mb(found[3])
                return f"memory: {what}" + (f", the server had {used} MB" if used else "")
        after = _memory_group(self._root)
        if after is not None and after.killed > self._killed_before:
            limit = f" is {after.limit_mb} MB" if after.limit_mb else ""
            return f"memory: the limit of its control group {after.name}{limit}, and processes were killed there"
        return ""

    def _is_ours(self, comm: str) -> bool:
        return comm == Path(self._argv[0]).name[:_COMM_LENGTH]

    def _processor(self) -> str:
        fields: dict[str, str] = {}
        with contextlib.suppress(OSError):
            for line in (self._root / "proc" / "cpuinfo").read_text(errors="replace").splitlines():
                key, _, value = line.partition(":")
                fields.setdefault(key.strip(), value.strip())
        name = fields.get("model name") or platform.machine()
        has = (fields.get("flags") or fields.get("Features") or "").split()
        lacks = [item for item in _EXTENSIONS.get(platform.machine(), ()) if item not in has] if has else []
        return f"processor: {name}" + (f", without {', '.join(lacks)}" if lacks else "")

    def _shared_memory(self) -> str:
        place = self._root / "dev" / "shm"
        try:
            found = os.statvfs(place)
        except OSError:
            return f"shared memory: no {place}"
        whole, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
        return f"shared memory: {(whole - free) // _MB} of {whole // _MB} MB of {place} are used"

    def _tls_file(self) -> str:
        files = [word.partition("=")[2] for word in self._argv if word.startswith("--ssl_config_file=")]
        return f"TLS file: {files[-1]}" if files else ""


def adapter_words(output: str) -> Diagnosis | None:
    """The cause that the adapter, or the graph engine below it, printed."""
    return diagnose(known_failures.OPTIONS, output) or diagnose(known_failures.CANN, output)


def last_words(output: str) -> Diagnosis | None:
    """The cause that a server printed: the adapter's own words go before those that follow from them."""
    return adapter_words(output) or diagnose(known_failures.SERVING, output)


def server_failure(what: str, output: str, ending: Ending | None = None, *, otherwise: str = "") -> ServerError:
    """The error for a server that failed and printed this; `otherwise` is the cure where no cause is known.

    Without an `ending` it is still running.
    """
    known = ending.diagnosis(output) if ending is not None else last_words(output)
    if known is not None:
        return ServerError(what, cause=known.cause, cure=known.cure)
    return ServerError(what, cure=otherwise or "correct what it printed last, then run the same command again")


@dataclass(frozen=True)
class _MemoryGroup:
    """A control group: how many processes were killed in it because memory ran out, and its limit (0 for none)."""

    name: str
    killed: int
    limit_mb: int


def _memory_group(root: Path) -> _MemoryGroup | None:
    """The control group of this process, of version 2 or 1; None where it can't be read."""
    mounted = root / "sys" / "fs" / "cgroup"
    for line in _lines(root / "proc" / "self" / "cgroup"):
        number, controllers, name = [*line.split(":", 2), "", "", ""][:3]
        if number == "0":
            base, events, limit = mounted, "memory.events", "memory.max"
        elif "memory" in controllers.split(","):
            base, events, limit = mounted / "memory", "memory.oom_control", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may be the host's, and what is mounted is the container's own group.
        for directory in (base / name.lstrip("/"), base):
            counts = dict(row.split(maxsplit=1) for row in _lines(directory / events) if " " in row)
            if counts.get("oom_kill", "").isdecimal():
                return _MemoryGroup(name, int(counts["oom_kill"]), _limit_mb(directory, base, limit))
    return None


def _limit_mb(directory: Path, base: Path, name: str) -> int:
    """The lowest limit of the group and of those above it; 0 where there is none."""
    within = [directory, *(parent for parent in directory.parents if base in (parent, *parent.parents))]
    texts = [line for place in within for line in _lines(place / name)[:1]]
    limits = [int(text) for text in texts if text.isdecimal() and int(text) < 1 << 60]
    return min(limits) // _MB if limits else 0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _kernel_log(path: Path) -> list[str]:
    """The kernel's log, a record a line: `level,number,microseconds,flags;text`; empty where it can't be read."""
    pieces: list[bytes] = []
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return []
    try:
        while piece := _next_record(descriptor):
            pieces.append(piece)
    except OSError:  # EAGAIN is its end
        pass
    finally:
        os.close(descriptor)
    return b"".join(pieces).decode(errors="replace").splitlines()


def _next_record(descriptor: int) -> bytes:
    while True:
        with contextlib.suppress(BrokenPipeError):  # this record was overwritten meanwhile: the next one
            return os.read(descriptor, 1 << 14)


def _is_since(record: str, began: float) -> bool:
    fields = record.partition(";")[0].split(",")
    return len(fields) > 2 and fields[2].isdecimal() and int(fields[2]) / 1e6 >= began - _SECONDS_OF_SLACK


def _resident_mb(text: str) -> int:
    found = re.search(r"anon-rss:(\d+)kB", text)
    return int(found[1]) // 1024 if found is not None else 0

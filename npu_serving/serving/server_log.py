"""The file that the output of a server in the background goes to: bounded in size, read from its end, followed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Callable

from npu_serving import fsutil
from npu_serving.errors import RequestError
from npu_serving.serving.server_record import KnownServer
from npu_serving.writers.shell import command_line

LOG = "server.log"
MOST_BYTES = 64 << 20  # of a file; the one before it is kept beside it, so a server's logs take twice as much
SECONDS_BETWEEN_LOOKS = 0.2
_PIECE = 1 << 16


def former(log: Path) -> Path:
    """The file that held what came before what `log` holds."""
    return log.with_name(f"{log.name}.1")


def log_of(server: KnownServer) -> Path:
    """The file of the server's output; RequestError where that isn't kept."""
    record = server.record
    if record is None or record.log is None:
        raise RequestError(
            f"The output of server {server.name} is not kept.",
            cause="it was started in the foreground, so its output went to that terminal",
            cure=f"./inv restart {server.name} starts it in the background, and keeps its output",
        )
    return record.log


def refuse_other_than_log(log: Path) -> None:
    """RequestError where something else is in the place of a log, which nobody can give another name."""
    fsutil.refuse_other_than_file(log, cure=f"remove it: {command_line(['rm', '-r', log])}")


class OutputLog:
    """Our own standard output and error, which go to a file: once it is full, to a new one of the same name."""

    def __init__(self, log: Path, most_bytes: int = MOST_BYTES) -> None:
        self.path = log
        self._most_bytes = most_bytes

    def turn_if_full(self) -> None:
        """Keeps the file as the former one and begins a new one where it is time to; goes on where that fails."""
        with contextlib.suppress(OSError):
            if os.fstat(1).st_size < self._most_bytes:
                return
            os.replace(self.path, former(self.path))
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            for ours in (1, 2):
                os.dup2(descriptor, ours)
            os.close(descriptor)


@dataclass(frozen=True)
class LogLines:
    """Lines of a log, as they are."""

    log: Path
    lines: tuple[str, ...]
    is_data = True

    def to_json(self) -> dict[str, object]:
        """The file and the lines."""
        return {"log": str(self.log), "lines": list(self.lines)}

    def text(self) -> str:
        """The lines."""
        return "\n".join(self.lines)


def last_lines(log: Path, count: int, *, before: int | None = None) -> LogLines:
    """The last lines of a log, from the former file too where the present one has too few.

    `before` is the byte of the present one to look at no further. Raises FileAccessError where it can't be read.
    """
    refuse_other_than_log(log)
    lines = _lines_at_the_end(log, count, before=before)
    if len(lines) < count and former(log).is_file():
        lines = [*_lines_at_the_end(former(log), count - len(lines)), *lines]
    return LogLines(log, tuple(lines))


def followed(log: Path, count: int, *, is_over: Callable[[], bool]) -> Iterator[LogLines]:
    """The last lines, then further ones as they are written, also into a file that takes this one's place.

    It ends when `is_over` says that nothing more will come, and all has been read; and where it is interrupted.
    """
    refuse_other_than_log(log)
    with fsutil.explained(log, doing="read"), contextlib.ExitStack() as opened:
        file = opened.enter_context(log.open("rb"))
        first = last_lines(log, count, before=file.seek(0, os.SEEK_END))
        if first.lines:
            yield first
        while True:
            over = is_over()  # before reading: what was written until then is read now
            yield from _further(log, file)
            if _is_another(file, log):
                yield from _further(log, file)  # what was written between the two looks
                file = opened.enter_context(log.open("rb"))
                continue
            if over:
                return
            try:
                time.sleep(SECONDS_BETWEEN_LOOKS)
            except KeyboardInterrupt:
                return


def _further(log: Path, file: IO[bytes]) -> Iterator[LogLines]:
    """The whole lines that have come; a line's beginning is left for the next time."""
    while True:
        begin = file.tell()
        piece = file.read(_PIECE)
        whole, line_end, _rest = piece.rpartition(b"\n")
        if not line_end and len(piece) < _PIECE:
            file.seek(begin)
            return
        taken = whole if line_end else piece
        file.seek(begin + len(taken) + len(line_end))
        yield LogLines(log, tuple(taken.decode(errors="replace").split("\n")))


def _is_another(file: IO[bytes], log: Path) -> bool:
    with contextlib.suppress(OSError):
        return not os.path.samestat(os.fstat(file.fileno()), log.stat())
    return False


def last_lines_since(log: Path, count: int, begin: int) -> LogLines:
    """The last lines of what was added since the log had that size."""
    began_again = log.stat().st_size < begin if log.is_file() else False
    return LogLines(log, tuple(_lines_at_the_end(log, count, begin=0 if began_again else begin)))


def _lines_at_the_end(path: Path, count: int, *, begin: int = 0, before: int | None = None) -> list[str]:
    """At most so many lines, read backwards: a log may be large."""
    with fsutil.explained(path, doing="read"), path.open("rb") as file:
        position = file.seek(0, os.SEEK_END) if before is None else before
        kept = b""
        while position > begin and kept.count(b"\n") <= count:
            step = min(_PIECE, position - begin)
            position -= step
            file.seek(position)
            kept = file.read(step) + kept
    lines = kept.decode(errors="replace").removesuffix("\n").split("\n") if kept else []
    return lines[-count:] if count else []

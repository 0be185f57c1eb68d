"""A terminal for tests: what a person sees on it."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from typing import IO

import pyte

COLUMNS, ROWS = 40, 12


class Terminal:
    """A pseudo-terminal, and what a person sees on it: pyte draws whatever is written to it."""

    def __init__(self, columns: int = COLUMNS, rows: int = ROWS) -> None:
        self._master, slave = os.openpty()
        self.screen = pyte.Screen(columns, rows)
        self._stream_of_pyte = pyte.Stream(self.screen)
        self.stream: IO[str] = os.fdopen(slave, "w", encoding="utf-8", newline="")
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.shown()
        self.screen.resize(rows, columns)

    def written(self) -> str:
        """What was written since the last look."""
        self.stream.write("\0")  # the kernel takes its time: what comes before this has come when this has
        self.stream.flush()
        data = b""
        while not data.endswith(b"\0"):
            data += os.read(self._master, 1 << 16)
        text = data[:-1].decode()
        self._stream_of_pyte.feed(text)
        return text

    def shown(self) -> list[str]:
        """The lines on the screen, without the empty ones below."""
        self.written()
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip("\n").split("\n")

    def close(self) -> None:
        self.stream.close()
        os.close(self._master)

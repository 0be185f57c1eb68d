"""What a person sees while work is going on: notes, warnings, progress. Results are printed by tasks.py.

Rooms take a Reporter and say what happens; they never print. Everything here goes to standard error.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from typing import IO, Callable, Protocol

SECONDS_BETWEEN_LINES = 5.0  # without a terminal
SECONDS_BETWEEN_MOVES = 0.1  # on one
COLUMNS_OF_A_TERMINAL = 80  # where it doesn't tell


class Progress(Protocol):
    """One piece of work that is under way."""

    def update(self, done: float, *, total: float | None = None, detail: str = "") -> None:
        """`done` of `total` units are finished; `detail` is what goes on right now."""


class Reporter(Protocol):
    """Where a room says what happens."""

    def note(self, text: str) -> None:
        """Something the person wants to know, once."""

    def warn(self, text: str) -> None:
        """Something the person should act on, though the work goes on."""

    def progress(
        self, title: str, *, total: float | None = None, unit: str = ""
    ) -> contextlib.AbstractContextManager[Progress]:
        """Work that takes a while: `unit` is "bytes" or the name of what is counted."""


class SilentProgress:
    """Progress that nobody looks at."""

    def update(self, done: float, *, total: float | None = None, detail: str = "") -> None:
        """Takes note of nothing."""


class Silent:
    """A Reporter that says nothing, for tests and for work inside other work."""

    def note(self, text: str) -> None:
        """Says nothing."""

    def warn(self, text: str) -> None:
        """Says nothing."""

    @contextlib.contextmanager
    def progress(self, title: str, *, total: float | None = None, unit: str = "") -> Iterator[Progress]:
        """Shows nothing."""
        yield SilentProgress()


class Console:
    """A Reporter for standard error: one line that moves on a terminal, a line every few seconds elsewhere."""

    def __init__(self, stream: IO[str] | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock
        self._guard = threading.Lock()
        self._line: _ProgressLine | None = None

    def note(self, text: str) -> None:
        """Prints a line, whole, whichever thread it comes from."""
        with self._guard:
            if self._line is not None:
                self._line.erase()
            self._stream.write(text + "\n")
            self._stream.flush()

    def warn(self, text: str) -> None:
        """Prints a line that begins with 'warning:'."""
        self.note(f"warning: {text}")

    @contextlib.contextmanager
    def progress(self, title: str, *, total: float | None = None, unit: str = "") -> Iterator[Progress]:
        """A line that is kept up to date while the block runs."""
        line = _ProgressLine(self._stream, self._clock, title, total, unit)
        outer, self._line = self._line, line
        try:
            yield line
        finally:
            line.erase()
            self._line = outer


class _ProgressLine:
    def __init__(self, stream: IO[str], clock: Callable[[], float], title: str, total: float | None, unit: str) -> None:
        self._stream = stream
        self._clock = clock
        self._title = title
        self._total = total
        self._unit = unit
        self._terminal = stream.isatty()
        self._started = clock()
        self._shown = self._started
        self._text = ""
        self._width_shown = 0

    def update(self, done: float, *, total: float | None = None, detail: str = "") -> None:
        if total is not None:
            self._total = total
        now = self._clock()
        pause = SECONDS_BETWEEN_MOVES if self._terminal else SECONDS_BETWEEN_LINES
        self._text = self._line(done, now - self._started, detail)
        if now - self._shown >= pause:
            self._shown = now
            self._show()

    def erase(self) -> None:
        if self._width_shown:
            self._stream.write("\r" + " " * self._width_shown + "\r")
            self._stream.flush()
            self._width_shown = 0

    def _show(self) -> None:
        if not self._terminal:
            print(self._text, file=self._stream, flush=True)
            return
        text, width = _fitted(self._text, _columns(self._stream) - 1)
        self._stream.write("\r" + text + " " * max(0, self._width_shown - width))
        self._stream.flush()
        self._width_shown = width

    def _line(self, done: float, elapsed_s: float, detail: str) -> str:
        amount = amount_text(done, self._unit)
        if self._total:
            amount += f" of {amount_text(self._total, self._unit)} ({100 * done / self._total:.0f}%)"
        parts = [f"{self._title}: {amount}", duration_text(elapsed_s)]
        if self._unit == "bytes" and elapsed_s > 1:
            parts.append(f"{amount_text(done / elapsed_s, 'bytes')}/s")
            if self._total and done:
                parts.append(f"{duration_text(elapsed_s * (self._total - done) / done)} left")
        line = "  ".join(part for part in [*parts, detail.strip()] if part)
        return "".join(" " if unicodedata.category(character) == "Cc" else character for character in line)


def amount_text(amount: float, unit: str) -> str:
    """An amount for a person: bytes in decimal multiples, anything else as a count."""
    if unit != "bytes":
        return f"{amount:,.0f} {unit}".strip()
    for name, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if amount >= size:
            return f"{amount / size:.1f} {name}"
    return f"{amount:.0f} B"


def duration_text(seconds: float) -> str:
    """A duration for a person: 0.4 s, 12 s, 3 min 20 s, 1 h 12 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def table(rows: Sequence[tuple[str, ...]], *, header: tuple[str, ...] = ()) -> str:
    """Columns aligned by blanks, for a person to read."""
    lines = [*([header] if header else []), *rows]
    if not lines:
        return ""
    widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in lines)


def _columns(stream: IO[str]) -> int:
    """The width of the terminal that the stream is; COLUMNS and standard output may tell another one's."""
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or COLUMNS_OF_A_TERMINAL
    return COLUMNS_OF_A_TERMINAL


def _fitted(text: str, columns: int) -> tuple[str, int]:
    """As much of the text as fits into the columns, and how many of them it takes: two for a Chinese character."""
    width = 0
    for position, character in enumerate(text):
        takes = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if width + takes > columns:
            return text[:position], width
        width += takes
    return text, width

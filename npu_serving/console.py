"""What a person sees while work is going on: notes, warnings, progress. Results are printed by tasks.py.

Rooms take a Reporter and say what happens; they never print. Everything here goes to standard error.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import IO, Protocol

SECONDS_BETWEEN_LINES = 5.0  # without a terminal


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

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr

    def note(self, text: str) -> None:
        """Prints a line."""
        print(text, file=self._stream, flush=True)

    def warn(self, text: str) -> None:
        """Prints a line that begins with 'warning:'."""
        print(f"warning: {text}", file=self._stream, flush=True)

    @contextlib.contextmanager
    def progress(self, title: str, *, total: float | None = None, unit: str = "") -> Iterator[Progress]:
        """A line that is kept up to date while the block runs."""
        line = _ProgressLine(self._stream, title, total, unit)
        try:
            yield line
        finally:
            line.close()


class _ProgressLine:
    def __init__(self, stream: IO[str], title: str, total: float | None, unit: str) -> None:
        self._stream = stream
        self._title = title
        self._total = total
        self._unit = unit
        self._terminal = stream.isatty()
        self._started = time.monotonic()
        self._shown = self._started
        self._text = ""
        self._width_shown = 0

    def update(self, done: float, *, total: float | None = None, detail: str = "") -> None:
        if total is not None:
            self._total = total
        now = time.monotonic()
        pause = 0.1 if self._terminal else SECONDS_BETWEEN_LINES
        self._text = self._line(done, now - self._started, detail)
        if now - self._shown >= pause:
            self._shown = now
            self._show()

    def close(self) -> None:
        if self._terminal and self._width_shown:
            self._stream.write("\r" + " " * self._width_shown + "\r")
            self._stream.flush()

    def _show(self) -> None:
        if not self._terminal:
            print(self._text, file=self._stream, flush=True)
            return
        text = self._text[: _columns() - 1]
        self._stream.write("\r" + text + " " * max(0, self._width_shown - len(text)))
        self._stream.flush()
        self._width_shown = len(text)

    def _line(self, done: float, elapsed_s: float, detail: str) -> str:
        amount = amount_text(done, self._unit)
        if self._total:
            amount += f" of {amount_text(self._total, self._unit)} ({100 * done / self._total:.0f}%)"
        parts = [f"{self._title}: {amount}", duration_text(elapsed_s)]
        if self._unit == "bytes" and elapsed_s > 1:
            parts.append(f"{amount_text(done / elapsed_s, 'bytes')}/s")
            if self._total and done:
                parts.append(f"{duration_text(elapsed_s * (self._total - done) / done)} left")
        return "  ".join(part for part in [*parts, detail] if part)


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


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns

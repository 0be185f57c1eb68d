"""What a person sees while work is going on: notes, warnings, progress. cli.py prints the results.

Everything else takes a Reporter and never prints. Everything here goes to standard error.
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

from npu_serving.shown_text import fit_to_show

SECONDS_BETWEEN_LINES = 5.0  # without a terminal, at first
MOST_SECONDS_BETWEEN_LINES = 30.0  # later on, so that hours of building do not fill a log
SECONDS_BETWEEN_MOVES = 0.1  # on one
SECONDS_OF_THE_RATE = 10.0  # the latest ones: what is left is judged by how it goes now
SECONDS_BEFORE_A_FORECAST = 30.0
SIZE_OF_A_TERMINAL = (80, 24)  # where its size is unknown


class Progress(Protocol):
    """One piece of work that is under way."""

    def update(
        self, done: float, *, total: float | None = None, detail: str = "", under_way: Sequence[str] = ()
    ) -> None:
        """`done` of `total` units are finished; `detail` is what goes on right now, and `under_way` the pieces of work
        that go on at once, a line each on a terminal.
        """


class Reporter(Protocol):
    """Receives notes, warnings and progress."""

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

    def update(
        self, done: float, *, total: float | None = None, detail: str = "", under_way: Sequence[str] = ()
    ) -> None:
        """Ignores it."""


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
    """A Reporter for standard error: lines that are redrawn in place on a terminal, one every few seconds elsewhere."""

    def __init__(self, stream: IO[str] | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock
        self._guard = threading.RLock()
        self._block: _ProgressBlock | None = None

    def note(self, text: str) -> None:
        """Prints a line, whole, whichever thread it comes from; above the progress that is shown."""
        with self._guard:
            if self._block is not None:
                self._block.erase()
            self._stream.write(fit_to_show(text) + "\n")
            self._stream.flush()

    def warn(self, text: str) -> None:
        """Prints a line that begins with 'warning:'."""
        self.note(f"warning: {text}")

    @contextlib.contextmanager
    def progress(self, title: str, *, total: float | None = None, unit: str = "") -> Iterator[Progress]:
        """Lines that are kept up to date while the block runs."""
        state = _State(title, unit, total, self._clock())
        block = _ProgressBlock(self._stream, self._guard, self._clock, state)
        outer, self._block = self._block, block
        if outer is not None:
            outer.erase()
        try:
            yield block
        finally:
            block.erase()
            self._block = outer


class _State:
    """How far a piece of work is, and the lines that show it."""

    def __init__(self, title: str, unit: str, total: float | None, started_s: float) -> None:
        self._title = title
        self._unit = unit
        self._total = total
        self._started_s = started_s
        self._recent: list[tuple[float, float]] = [(started_s, 0.0)]
        self._done = 0.0
        self._first: tuple[float, float] | None = None
        self._detail = ""
        self.under_way: tuple[str, ...] = ()

    def set(self, now_s: float, done: float, total: float | None, detail: str, under_way: Sequence[str]) -> None:
        if self._first is None or done == self._first[1]:
            self._first = (now_s, done)  # what comes before the first piece, such as loading, says nothing of the pace
        self._done, self._detail, self.under_way = done, detail, tuple(under_way)
        if total is not None:
            self._total = total
        if now_s - self._recent[-1][0] >= SECONDS_OF_THE_RATE / 20:
            self._recent.append((now_s, done))
        while len(self._recent) > 2 and now_s - self._recent[1][0] > SECONDS_OF_THE_RATE:
            del self._recent[0]

    def line(self, now_s: float) -> str:
        """The title with amount, time, rate, time left and detail, as far as they are known."""
        counts = self._unit != "bytes" and bool(self._total)
        amount = f"{self._done:,.0f}" if counts else amount_text(self._done, self._unit)
        if self._total:
            amount += f" of {amount_text(self._total, self._unit)} ({100 * self._done / self._total:.0f}%)"
        elapsed_s = now_s - self._started_s
        parts = [f"{self._title}: {amount}", duration_text(elapsed_s)]
        since_s, before = self._recent[0]
        rate = (self._done - before) / (now_s - since_s) if now_s > since_s else 0.0
        if self._unit == "bytes" and elapsed_s > 1:
            parts.append(f"{amount_text(max(rate, 0.0), 'bytes')}/s")
            if self._total and rate > 0:
                parts.append(f"{duration_text(max(self._total - self._done, 0) / rate)} left")
        elif self._total and elapsed_s > SECONDS_BEFORE_A_FORECAST and self._first and self._done > self._first[1]:
            since_s, before = self._first  # pieces differ in size: judged by all of them
            left_s = (now_s - since_s) * max(self._total - self._done, 0) / (self._done - before)
            parts.append(f"about {duration_text(left_s)} left")
        return "  ".join(part for part in [*parts, self._detail.strip()] if part)


class _ProgressBlock:
    """The lines on the screen: what is under way, a line each, then the line of the whole."""

    def __init__(self, stream: IO[str], guard: threading.RLock, clock: Callable[[], float], state: _State) -> None:
        self._stream = stream
        self._guard = guard
        self._clock = clock
        self._state = state
        self._terminal = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._shown_s = self._begun_s = clock()
        self._lines_shown = 0

    def update(
        self, done: float, *, total: float | None = None, detail: str = "", under_way: Sequence[str] = ()
    ) -> None:
        now_s = self._clock()
        self._state.set(now_s, done, total, detail, under_way)
        if now_s - self._shown_s < (SECONDS_BETWEEN_MOVES if self._terminal else self._between_lines(now_s)):
            return
        self._shown_s = now_s
        if self._terminal:
            self._draw(now_s)
            return
        named = [*self._state.under_way[:3], *(["..."] if len(self._state.under_way) > 3 else [])]
        with self._guard:
            self._stream.write(_printable("  ".join([self._state.line(now_s), *named])) + "\n")
            self._stream.flush()

    def _between_lines(self, now_s: float) -> float:
        """The longer it takes, the rarer is a line in a log; at least two a minute."""
        return min(MOST_SECONDS_BETWEEN_LINES, max(SECONDS_BETWEEN_LINES, (now_s - self._begun_s) / 20))

    def erase(self) -> None:
        """Takes the lines off the screen; the cursor is where the first of them began."""
        with self._guard:
            if self._lines_shown:
                self._stream.write(self._back_to_the_first() + "\x1b[J")
                self._stream.flush()
                self._lines_shown = 0

    def _draw(self, now_s: float) -> None:
        size = _size(self._stream)
        lines = [*(f"  {text}" for text in self._state.under_way), self._state.line(now_s)]
        lines = lines[-max(1, size.lines - 1) :]  # a block higher than the screen could not be redrawn
        shown = "\x1b[K\r\n".join(_fitted(_printable(line), size.columns - 1) for line in lines)
        with self._guard:
            self._stream.write(f"{self._back_to_the_first()}{shown}\x1b[J")
            self._stream.flush()
            self._lines_shown = len(lines)

    def _back_to_the_first(self) -> str:
        """Where a terminal has been made narrower and wraps the old lines, some of these stay; nothing that was
        above them is ever written over.
        """
        return "\r" + (f"\x1b[{self._lines_shown - 1}A" if self._lines_shown > 1 else "")


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


def clock_text(seconds: float) -> str:
    """A time, given in seconds since the epoch, in this machine's own zone: 2026-11-29 17:00:00; "?" for none."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, OSError, ValueError):  # it comes from a file, in which anything may stand
        return "?"


def table(rows: Sequence[tuple[str, ...]], *, header: tuple[str, ...] = ()) -> str:
    """Columns aligned by blanks, for a person to read."""
    lines = [*([header] if header else []), *rows]
    if not lines:
        return ""
    widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in lines)


def _size(stream: IO[str]) -> os.terminal_size:
    """The size of the terminal that the stream is; COLUMNS and standard output may give another one's."""
    columns, lines = 0, 0
    with contextlib.suppress(OSError, ValueError):
        columns, lines = os.get_terminal_size(stream.fileno())
    return os.terminal_size((columns or SIZE_OF_A_TERMINAL[0], lines or SIZE_OF_A_TERMINAL[1]))


def _printable(text: str) -> str:
    """The text in one line, without what a terminal would obey."""
    return fit_to_show(text.replace("\n", " ").replace("\t", " "))


def _fitted(text: str, columns: int) -> str:
    """As much of the text as fits into the columns; a Chinese character takes two."""
    width = 0
    for position, character in enumerate(text):
        width += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if width > columns:
            return text[:position]
    return text

"""Progress is one line that moves on a terminal, and a line every few seconds without one."""

from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.console import Console, amount_text, duration_text, table

COLUMNS = 40


class Clock:
    """A clock that goes only when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Terminal:
    """A pseudo-terminal of COLUMNS columns; `shown()` is what was written to it since the last call."""

    def __init__(self) -> None:
        self._master, slave = os.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.OPOST  # the bytes as they were written
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        self.stream: IO[str] = os.fdopen(slave, "w", encoding="utf-8", newline="")

    def shown(self) -> str:
        self.stream.write("\0")  # the kernel takes its time: what comes before this has come when this has
        self.stream.flush()
        data = b""
        while not data.endswith(b"\0"):
            data += os.read(self._master, 1 << 16)
        return data[:-1].decode()

    def close(self) -> None:
        self.stream.close()
        os.close(self._master)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """One, in an environment that tells another width."""
    monkeypatch.setenv("COLUMNS", "200")
    made = Terminal()
    yield made
    made.close()


def _screen(text: str) -> list[str]:
    """The lines that a terminal shows after `text`, as far as carriage returns and line ends go."""
    lines = [""]
    column = 0
    for character in text:
        if character == "\n":
            lines.append("")
            column = 0
        elif character == "\r":
            column = 0
        else:
            lines[-1] = lines[-1][:column].ljust(column) + character + lines[-1][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def test_progress_on_a_terminal_is_one_line_that_moves_and_is_gone_at_the_end(terminal: Terminal) -> None:
    clock = Clock()
    everything = ""
    with Console(terminal.stream, clock=clock).progress("fetching", total=30, unit="files") as progress:
        for done, detail in enumerate(["a long name", "b", "\nhostile\r\n\tname\x1b[2J\n", "d"]):
            clock.now_s += 1
            progress.update(done, detail=detail)
            piece = terminal.shown()
            assert piece.startswith("\r")
            everything += piece
            (line,) = _screen(everything)
            assert line.startswith(f"fetching: {done} files of 30 files")
        assert "\n" not in everything
        assert "\x1b" not in everything
    assert _screen(everything + terminal.shown()) == [""]


def test_a_shorter_line_leaves_nothing_of_the_longer_one(terminal: Terminal) -> None:
    clock = Clock()
    with Console(terminal.stream, clock=clock).progress("x") as progress:
        for detail in ("longlonglong", "z"):
            clock.now_s += 1
            progress.update(1, detail=detail)
        assert _screen(terminal.shown()) == ["x: 1  2.0 s  z"]


@pytest.mark.parametrize("detail", ["x" * 500, "漢字" * 100, "e\u0301" * 100])
def test_the_line_is_never_wider_than_the_terminal(terminal: Terminal, detail: str) -> None:
    clock = Clock()
    with Console(terminal.stream, clock=clock).progress("fetching", total=9, unit="bytes") as progress:
        clock.now_s += 2
        progress.update(3, detail=detail)
        shown = terminal.shown().replace("\r", "").rstrip()
        width = sum(2 if character in "漢字" else 1 for character in shown)
        assert COLUMNS // 2 < width < COLUMNS
    rest = terminal.shown()
    assert len(rest.strip("\r")) < COLUMNS
    assert rest.strip() == ""


def test_a_terminal_is_not_written_to_more_than_ten_times_a_second(terminal: Terminal) -> None:
    clock = Clock()
    with Console(terminal.stream, clock=clock).progress("x") as progress:
        for number in range(1000):
            clock.now_s += 0.001
            progress.update(number)
        assert terminal.shown().count("\r") <= 10


def test_a_note_takes_a_line_of_its_own_and_the_progress_goes_on_below(terminal: Terminal) -> None:
    clock = Clock()
    console = Console(terminal.stream, clock=clock)
    with console.progress("working, and that for a while") as progress:
        for text in ("note", "other"):
            clock.now_s += 1
            progress.update(1)
            console.note(text)
        clock.now_s += 1
        progress.update(2)
        assert _screen(terminal.shown()) == ["note", "other", "working, and that for a while: 2  3.0 s"[: COLUMNS - 1]]
    console.warn("mind")
    assert _screen(terminal.shown())[-2:] == ["warning: mind", ""]


def test_without_a_terminal_there_is_a_line_every_few_seconds_and_no_carriage_return() -> None:
    clock = Clock()
    stream = io.StringIO()
    with Console(stream, clock=clock).progress("fetching", total=100, unit="files") as progress:
        for done in range(1, 61):
            clock.now_s += 0.25
            progress.update(done, detail="x" * 200)
    lines = stream.getvalue().splitlines()
    assert [re.sub(r" of .*", "", line) for line in lines] == [
        "fetching: 20 files",
        "fetching: 40 files",
        "fetching: 60 files",
    ]
    assert "\r" not in stream.getvalue()
    assert lines[0].endswith("x" * 200), "a file has no width"


def test_work_that_is_done_at_once_shows_nothing(tmp_path: Path, terminal: Terminal) -> None:
    for stream in (terminal.stream, io.StringIO()):
        with Console(stream, clock=Clock()).progress("x") as progress:
            progress.update(1)
        assert terminal.shown() == ""
        assert not isinstance(stream, io.StringIO) or stream.getvalue() == ""


def test_bytes_are_shown_with_their_rate_and_the_time_that_is_left() -> None:
    clock = Clock()
    stream = io.StringIO()
    with Console(stream, clock=clock).progress("fetching", unit="bytes") as progress:
        clock.now_s += 10
        progress.update(50e6, total=200e6)
    assert stream.getvalue() == "fetching: 50.0 MB of 200.0 MB (25%)  10 s  5.0 MB/s  30 s left\n"


@given(seconds=st.floats(0, 1e6))
def test_a_duration_never_shows_sixty_seconds_or_minutes(seconds: float) -> None:
    assert not re.search(r"\b60 (s|min)", duration_text(seconds))


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [(0, "bytes", "0 B"), (1500, "bytes", "1.5 kB"), (2.5e9, "bytes", "2.5 GB"), (12345, "files", "12,345 files")],
)
def test_amounts_read_as_people_write_them(amount: float, unit: str, text: str) -> None:
    assert amount_text(amount, unit) == text


def test_a_table_has_aligned_columns_and_no_blanks_at_the_end() -> None:
    assert table([("a", "1"), ("long", "22")], header=("x", "y")) == "x     y\na     1\nlong  22"
    assert table([]) == ""

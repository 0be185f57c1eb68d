"""Progress is redrawn in place on a terminal, and is a line every few seconds without one."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from terminal import COLUMNS, ROWS, Terminal

from npu_serving.console import Console, amount_text, clock_text, duration_text, table


class Clock:
    """A clock that goes only when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """One, in an environment that tells another width."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm-256color")
    made = Terminal()
    yield made
    made.close()


def test_progress_on_a_terminal_is_one_line_that_moves_and_is_gone_at_the_end(terminal: Terminal) -> None:
    clock = Clock()
    with Console(terminal.stream, clock=clock).progress("fetching", total=30, unit="files") as progress:
        for done, detail in enumerate(["a long name", "b", "\nhostile\r\n\tname\x1b[2J\n", "d"]):
            clock.now_s += 1
            progress.update(done, detail=detail)
            (line,) = terminal.shown()
            assert line.startswith(f"fetching: {done} of 30 files")
    assert terminal.shown() == [""]
    assert (terminal.screen.cursor.x, terminal.screen.cursor.y) == (0, 0)


def test_each_file_in_flight_has_a_line_above_that_of_the_whole(terminal: Terminal) -> None:
    clock = Clock()
    terminal.stream.write("$ ./inv fetch-deps\n")
    with Console(terminal.stream, clock=clock).progress("fetching", unit="files") as progress:
        for under_way in (["llvm.tar.gz  1 MB", "absl.zip  2 MB"], ["llvm.tar.gz  3 MB", "a", "b"], ["b"], []):
            clock.now_s += 1
            progress.update(1, under_way=under_way)
            *files, whole = terminal.shown()
            assert files == ["$ ./inv fetch-deps", *(f"  {text}" for text in under_way)]
            assert whole.startswith("fetching: 1 files")
    assert terminal.shown() == ["$ ./inv fetch-deps"]


def test_lines_are_redrawn_in_place_at_the_bottom_of_a_full_screen(terminal: Terminal) -> None:
    clock = Clock()
    console = Console(terminal.stream, clock=clock)
    for number in range(ROWS + 5):
        console.note(f"line {number}")
    with console.progress("x") as progress:
        for count in (1, 4, 2, 5):
            clock.now_s += 1
            progress.update(1, under_way=[f"file {number}" for number in range(count)])
            shown = terminal.shown()
            assert shown[-1 - count : -1] == [f"  file {number}" for number in range(count)]
            assert shown[-1].startswith("x: 1")
            assert sum(line.startswith("x: 1") for line in shown) == 1
    last = [line for line in terminal.shown() if line]
    assert last == [f"line {number}" for number in range(ROWS + 5 - len(last), ROWS + 5)]


def test_more_files_than_the_terminal_has_lines_leave_the_whole_visible(terminal: Terminal) -> None:
    clock = Clock()
    with Console(terminal.stream, clock=clock).progress("x") as progress:
        for _ in range(3):
            clock.now_s += 1
            progress.update(1, under_way=[f"file {number}" for number in range(40)])
            shown = terminal.shown()
            assert (shown[0], shown[-2]) == ("  file 30", "  file 39")
            assert shown[-1].startswith("x: 1")
    assert terminal.shown() == [""]


@pytest.mark.parametrize("text", ["x" * 500, "漢字" * 100, "e\u0301" * 100, "tab\t\x1b[5C" * 60])
@pytest.mark.parametrize("columns", [4, 39, 40, 200])
def test_no_line_is_wider_than_the_terminal(terminal: Terminal, text: str, columns: int) -> None:
    clock = Clock()
    terminal.resize(columns, ROWS)
    with Console(terminal.stream, clock=clock).progress("fetching", total=9, unit="bytes") as progress:
        for _ in range(2):
            clock.now_s += 2
            progress.update(3, detail=text, under_way=[text, text])
            assert len(terminal.shown()) == 3
            assert terminal.screen.cursor.y == 2
    assert terminal.shown() == [""]


@pytest.mark.parametrize("columns", [10, 25, 80])
def test_a_terminal_that_is_resized_shows_each_line_once_in_its_new_width(terminal: Terminal, columns: int) -> None:
    clock = Clock()
    console = Console(terminal.stream, clock=clock)
    console.note("before")
    with console.progress("x") as progress:
        for size in (COLUMNS, columns, COLUMNS):
            terminal.resize(size, ROWS)
            clock.now_s += 1
            progress.update(1, detail="y" * 100, under_way=["file one " + "z" * 100, "file two " + "z" * 100])
            shown = terminal.shown()
            assert [line[:6] for line in shown] == ["before", "  file", "  file", "x: 1  "]
            assert {len(line) for line in shown[1:]} == {size - 1}
    assert terminal.shown() == ["before"]


def test_a_terminal_is_not_written_to_more_than_ten_times_a_second(terminal: Terminal) -> None:
    clock = Clock()
    with Console(terminal.stream, clock=clock).progress("x") as progress:
        for number in range(1000):
            clock.now_s += 0.001
            progress.update(number)
        assert terminal.written().count("\r") <= 10


def test_a_note_stands_above_the_progress_which_goes_on_below(terminal: Terminal) -> None:
    clock = Clock()
    console = Console(terminal.stream, clock=clock)
    with console.progress("working, and that for a while") as progress:
        for text in ("note", "other"):
            clock.now_s += 1
            progress.update(1, under_way=["file"])
            console.note(text)
        clock.now_s += 1
        progress.update(2, under_way=["file"])
        whole = "working, and that for a while: 2  3.0 s"[: COLUMNS - 1]
        assert terminal.shown() == ["note", "other", "  file", whole]
    console.warn("mind")
    assert terminal.shown() == ["note", "other", "warning: mind"]


def test_work_within_work_is_shown_in_place_of_it(terminal: Terminal) -> None:
    clock = Clock()
    console = Console(terminal.stream, clock=clock)
    with console.progress("outer") as outer:
        clock.now_s += 1
        outer.update(1, under_way=["file"])
        with console.progress("inner") as inner:
            clock.now_s += 1
            inner.update(1)
            assert terminal.shown() == ["inner: 1  1.0 s"]
        clock.now_s += 1
        outer.update(2)
        assert terminal.shown() == ["outer: 2  3.0 s"]


def test_notes_of_many_threads_are_whole_lines(terminal: Terminal) -> None:
    console = Console(terminal.stream)
    threads = [threading.Thread(target=console.note, args=(f"note {number}",)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(terminal.shown()) == [f"note {number}" for number in range(10)]


@pytest.mark.parametrize("term", ["dumb", None])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines_instead(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, term: str | None
) -> None:
    monkeypatch.setenv("TERM", term) if term else monkeypatch.delenv("TERM")
    clock = Clock()
    with Console(terminal.stream, clock=clock).progress("x") as progress:
        for _ in range(2):
            clock.now_s += 6
            progress.update(1, under_way=["file"])
    assert "\x1b" not in terminal.written()
    assert terminal.shown() == ["x: 1  6.0 s  file", "x: 1  12 s  file"]


def test_without_a_terminal_a_few_files_in_flight_are_named() -> None:
    clock = Clock()
    stream = io.StringIO()
    with Console(stream, clock=clock).progress("x") as progress:
        for count in (0, 3, 16):
            clock.now_s += 6
            progress.update(1, under_way=[f"f{number}" for number in range(count)])
    assert stream.getvalue().splitlines() == ["x: 1  6.0 s", "x: 1  12 s  f0  f1  f2", "x: 1  18 s  f0  f1  f2  ..."]


def test_without_a_terminal_there_is_a_line_every_few_seconds_and_no_carriage_return() -> None:
    clock = Clock()
    stream = io.StringIO()
    with Console(stream, clock=clock).progress("fetching", total=100, unit="files") as progress:
        for done in range(1, 61):
            clock.now_s += 0.25
            progress.update(done, detail="x" * 200)
    lines = stream.getvalue().splitlines()
    assert [re.sub(r" of .*", "", line) for line in lines] == [
        "fetching: 20",
        "fetching: 40",
        "fetching: 60",
    ]
    assert "\r" not in stream.getvalue()
    assert lines[0].endswith("x" * 200), "a file has no width"


def test_work_that_is_done_at_once_shows_nothing(tmp_path: Path, terminal: Terminal) -> None:
    for stream in (terminal.stream, io.StringIO()):
        with Console(stream, clock=Clock()).progress("x") as progress:
            progress.update(1)
        assert terminal.written() == ""
        assert not isinstance(stream, io.StringIO) or stream.getvalue() == ""


def test_bytes_are_shown_with_their_rate_and_the_time_that_is_left() -> None:
    clock = Clock()
    stream = io.StringIO()
    with Console(stream, clock=clock).progress("fetching", unit="bytes") as progress:
        clock.now_s += 10
        progress.update(50e6, total=200e6)
    assert stream.getvalue() == "fetching: 50.0 MB of 200.0 MB (25%)  10 s  5.0 MB/s  30 s left\n"


def test_rate_and_time_left_are_those_of_the_last_seconds() -> None:
    clock = Clock()
    stream = io.StringIO()
    with Console(stream, clock=clock).progress("fetching", total=200e6, unit="bytes") as progress:
        done = 0.0
        for second in range(60):
            clock.now_s += 1
            done += 1e6 if second < 30 else 5e6
            progress.update(done)
    assert stream.getvalue().splitlines()[-1] == "fetching: 180.0 MB of 200.0 MB (90%)  1 min 0 s  5.0 MB/s  4.0 s left"


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


@pytest.mark.parametrize("seconds", [1e18, -1e18, 2.0**63, float("nan"), float("inf")])
def test_a_time_that_there_is_not_is_shown_as_unknown(seconds: float) -> None:
    assert clock_text(seconds) == "?"

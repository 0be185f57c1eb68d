"""The log of a server in the background: bounded, read from its end, followed into the file that takes its place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.errors import FileAccessError, RequestError
from npu_serving.serving.server_log import LogLines, followed, former, last_lines, last_lines_since
from npu_serving.settings import PROJECT_ROOT

LINES = st.lists(st.text(st.characters(blacklist_characters="\n\r", blacklist_categories=["Cs"]), max_size=9))


@given(LINES, LINES, st.integers(0, 12))
def test_the_last_lines_are_those_of_both_files_as_one(
    tmp_path_factory: pytest.TempPathFactory, old: list[str], new: list[str], count: int
) -> None:
    log = tmp_path_factory.mktemp("log") / "server.log"
    former(log).write_bytes("".join(f"{line}\n" for line in old).encode())
    log.write_bytes("".join(f"{line}\n" for line in new).encode())
    whole = [*old, *new]
    assert list(last_lines(log, count).lines) == (whole[-count:] if count else [])


def test_a_large_log_is_read_from_its_end_and_a_line_that_is_not_complete_counts(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"x" * 79 + b"\n" + b"line \xff\n" * 100_000 + b"the end")
    found = last_lines(log, 2)
    assert found.text() == "line \ufffd\nthe end"
    assert found.to_json() == {"log": str(log), "lines": ["line \ufffd", "the end"]}
    assert len(last_lines(log, 10**6).lines) == 100_002


def test_what_was_added_since_is_found_also_in_a_file_that_was_begun_again(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("before\n")
    size = log.stat().st_size
    with log.open("a") as file:
        file.write("a\nb\n")
    assert last_lines_since(log, 9, size).lines == ("a", "b")
    log.write_text("c\n")
    assert last_lines_since(log, 9, size).lines == ("c",)


def test_following_gives_what_is_written_into_either_file_and_ends_when_nothing_more_comes(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("0\n1\n2\n")
    looks = 0

    def is_over() -> bool:
        nonlocal looks
        looks += 1
        if looks == 1:
            with log.open("a") as file:
                file.write("3\npart")
        elif looks == 2:
            with log.open("a") as file:
                file.write("ly\n")
            os.replace(log, former(log))
            log.write_text("4\n")
        return looks == 4

    shown = [line for lines in followed(log, 2, is_over=is_over) for line in lines.lines]
    assert shown == ["1", "2", "3", "partly", "4"]


def test_a_log_that_is_gone_is_an_error_and_not_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError):
        last_lines(tmp_path / "none", 1)
    with pytest.raises(FileAccessError):
        next(followed(tmp_path / "none", 1, is_over=lambda: True))


WRITES = """
import os, sys
from pathlib import Path
from npu_serving.serving.server_log import OutputLog
log = OutputLog(Path(sys.argv[1]), most_bytes=1000)
for number in range(300):
    os.write(1 if number % 2 else 2, b"line %03d\\n" % number)
    log.turn_if_full()
"""


def test_a_log_that_is_full_becomes_the_former_one_and_no_line_is_lost_in_between(tmp_path: Path) -> None:
    path = tmp_path / "here" / "server.log"
    path.parent.mkdir()
    with path.open("ab") as file:
        argv = [sys.executable, "-c", WRITES, str(path)]
        subprocess.run(argv, stdout=file, stderr=file, check=True, env={"PYTHONPATH": str(PROJECT_ROOT)})
    assert {file.name for file in path.parent.iterdir()} == {"server.log", "server.log.1"}
    assert all(file.stat().st_size <= 1010 for file in path.parent.iterdir())
    kept = former(path).read_text() + path.read_text()
    first = int(kept[5:8])
    assert kept == "".join(f"line {number:03}\n" for number in range(first, 300))
    assert first > 0
    assert isinstance(last_lines(path, 5), LogLines)


def test_a_place_that_can_not_be_written_to_costs_no_output(tmp_path: Path) -> None:
    path = tmp_path / "there" / "server.log"
    path.parent.mkdir()
    with path.open("ab") as file:
        former(path).mkdir()  # which no file can replace
        argv = [sys.executable, "-c", WRITES, str(path)]
        subprocess.run(argv, stdout=file, stderr=file, check=True, env={"PYTHONPATH": str(PROJECT_ROOT)})
    assert path.read_text().count("\n") == 300


def test_a_pipe_is_no_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "server.log")
    with pytest.raises(RequestError, match="a pipe"):
        last_lines(tmp_path / "server.log", 5)
    with pytest.raises(RequestError, match="a pipe"):
        next(followed(tmp_path / "server.log", 5, is_over=lambda: True))

"""Lists of processors: read as the kernel writes them, written as taskset and systemd read them."""

from __future__ import annotations

import contextlib
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.deploy.processor_lists import MOST, processors_text, read_processors


@pytest.mark.parametrize(
    ("text", "processors"),
    [
        ("0", (0,)),
        ("0-3", (0, 1, 2, 3)),
        ("0-1,16-17", (0, 1, 16, 17)),
        ("3, 1,1-2", (1, 2, 3)),
        ("5-5", (5,)),
        (str(MOST), (MOST,)),
    ],
)
def test_numbers_and_ranges_are_read_in_order(text: str, processors: tuple[int, ...]) -> None:
    assert read_processors(text) == processors


@pytest.mark.parametrize(
    "text", ["", ",", "0-", "-1", "a", "3-1", "0-7:2", "0;1", "0 1", "8192", "0-99999", "٣", "0-1\n;rm", "999999999"]
)
def test_anything_else_is_refused_with_what_is_wrong(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be|range|kernel"):
        read_processors(text)


@given(st.sets(st.integers(0, MOST), max_size=40))
def test_what_is_written_is_read_back_and_is_the_shortest(processors: set[int]) -> None:
    text = processors_text(processors)
    assert processors == (set(read_processors(text)) if text else set())
    ends = [tuple(map(int, part.split("-"))) for part in text.split(",") if part]
    assert all(before[-1] + 1 < after[0] for before, after in zip(ends, ends[1:]))


@given(st.text(alphabet="0123456789-,: \n", max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert read_processors(text)


def test_taskset_reads_what_is_written() -> None:
    text = processors_text([0])
    printed = subprocess.run(
        ["taskset", "-c", text, "sh", "-c", "grep Cpus_allowed_list /proc/self/status"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert printed.stdout.split()[1] == text

"""Command lines are read back by the real bash as they were."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from npu_serving.writers.shell import command_line, task_argument

WORDS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=8)


@given(WORDS)
def test_a_command_line_is_read_back_as_its_words(words: list[str]) -> None:
    printed = command_line(["printf", "%s\\0", "", *words])
    done = subprocess.run(["bash", "-c", printed], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[1:-1] == words


def test_the_directory_is_part_of_the_command(tmp_path: Path) -> None:
    place = tmp_path / "it's $here"
    place.mkdir()
    done = subprocess.run(["bash", "-c", command_line(["pwd"], cwd=place)], capture_output=True, check=True, text=True)
    assert done.stdout == f"{place}\n"


def test_a_name_that_looks_like_a_flag_is_given_with_its_own() -> None:
    assert [task_argument("--model", name) for name in ("resnet", "a b", "-h")] == ["resnet", "'a b'", "--model=-h"]

"""The check of words sees each place where a person reads something, and the project's own texts are clean."""

import subprocess
import sys
from pathlib import Path

import pytest

from npu_serving.plain_words import PROJECT_ROOT, Word, check_project, check_text, words

PLACES = {
    "a string": ("x.py", 'x = "make it anew"\n', 1),
    "an f-string": ("x.py", 'y = 1\nx = f"{y} anew"\n', 2),
    "an f-string around a value": ("x.py", 'x = f"--port is {y!r}."\n', 1),
    "a docstring": ("x.py", '"""First line.\n\nMade anew.\n"""\n', 3),
    "a comment": ("x.py", "x = 1\ny = 2  # anew\n", 2),
    "a function's name": ("x.py", "def deflate_anew():\n    pass\n", 1),
    "a page": ("docs/x.md", "One.\n\nTwo anew.\n", 3),
    "a table": ("x.yaml", "- cause: a\n  cure: do it anew\n", 2),
    "a script": ("inv", "#!/bin/sh\ndie 'do it anew'\n", 2),
    "over a line's end": ("x.md", "The files are not to be\nhad.\n", 1),
    "joined strings": ("x.py", 'x = (\n    "not to "\n    "be had"\n)\n', 2),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_refused_word_is_seen_with_its_line(place: str) -> None:
    path, text, line = PLACES[place]
    (found,) = check_text(path, text)
    assert (found.path, found.line) == (path, line)
    assert found.text().startswith(f"{path}:{line}: '{found.word}' → {found.instead}")


def test_code_is_not_read_as_words() -> None:
    assert check_text("x.py", "anew = brings = papers = 1\n") == []


@pytest.mark.parametrize("word", words(), ids=lambda word: word.pattern[:30])
def test_each_entry_of_the_list_does_what_its_examples_say(word: Word) -> None:
    assert word.regex.search(word.refuses)
    assert not (word.allows and word.regex.search(word.allows))


def test_what_a_person_reads_is_plain() -> None:
    assert [found.text() for found in check_project()] == []


def test_a_refused_word_makes_the_check_fail(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("Make it anew.\n", encoding="utf-8")
    assert [found.path for found in check_project(tmp_path)] == ["README.md"]


def test_the_command_that_lint_runs_leaves_with_0_for_plain_words() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "npu_serving.plain_words"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout

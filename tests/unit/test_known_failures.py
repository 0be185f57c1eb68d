"""The tables of known failures: each row is right, is found, and is on the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from npu_serving import known_failures
from npu_serving.errors import DocumentError
from npu_serving.known_failures import BUILDING, SECTIONS, KnownFailure, diagnose, read_known_failures
from npu_serving.repeated_flags import RepeatedFlags

ROWS = [(table, failure) for table, _, _ in SECTIONS for failure in read_known_failures(table)]


@pytest.mark.parametrize(("table", "failure"), ROWS, ids=lambda item: getattr(item, "id", ""))
def test_each_known_failure_is_found_by_what_the_program_prints(table: Path, failure: KnownFailure) -> None:
    found = diagnose(table, f"INFO: before\n{failure.example}\nafter")
    assert found is not None
    assert found.id == failure.id, "a row before it takes its example"
    assert re.search(r"{\d}", found.cause + found.cure) is None
    assert found.cause
    assert found.cure


def test_no_two_rows_of_a_table_have_one_name() -> None:
    for table, _, _ in SECTIONS:
        names = [failure.id for failure in read_known_failures(table)]
        assert len(set(names)) == len(names)


def test_a_refusal_by_the_loader_sends_on_to_more_than_the_check_that_may_have_passed() -> None:
    words = ("symbol lookup error", "relocation error", "error while loading shared libraries", "version `")
    of_the_loader = [
        item for item in read_known_failures(known_failures.SERVING) if any(word in item.example for word in words)
    ]
    assert len(of_the_loader) > 10
    for failure in of_the_loader:
        steps = re.split(r"[;:,] ", failure.cure)
        assert [step for step in steps if not re.search(r"verify-serving|cann-info", step)], failure.id


def test_what_no_row_knows_is_not_explained_away() -> None:
    for table, _, _ in SECTIONS:
        assert diagnose(table, "something new\n") is None


@pytest.mark.parametrize(
    "word", ["x" * 300_000, "/a" * 150_000, "E0" * 150_000, "a: " * 100_000], ids=lambda it: it[:3]
)
@pytest.mark.parametrize("table", [table for table, _, _ in SECTIONS], ids=lambda table: table.parent.name)
def test_a_word_without_an_end_is_looked_through_once(table: Path, word: str) -> None:
    """It would not come back from a pattern that is tried again at each letter."""
    assert diagnose(table, word) is None


def test_a_group_that_matched_nothing_is_no_empty_place_in_the_sentence() -> None:
    output = "s: version `GLIBC_2.34' not found"
    found = diagnose(known_failures.SERVING, output)
    assert found is not None
    assert found.cause.startswith("it was built where")


def test_the_page_of_troubleshooting_says_what_the_tables_say() -> None:
    assert known_failures.page_is_current(), "./inv lint --fix writes it"
    page = known_failures.PAGE.read_text()
    rows = [re.split(r"(?<!\\)\|", line) for line in page.splitlines() if line.startswith(("| `", "| ``"))]
    assert len(rows) == len(ROWS)
    for row, (_, failure) in zip(rows, ROWS):
        _, printed, cause, cure, rest = (cell.replace("\\|", "|") for cell in row)
        assert all(line.strip() in printed for line in failure.example.splitlines()), failure.id
        assert cause.strip()
        assert cure.strip()
        assert not rest


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{id: a, pattern: '(', example: x, cause: y, cure: z}", "pattern: must be a regular expression of Python's"),
        ("{id: a, pattern: a, example: x, cause: y, cure: z}", "example: does not match the pattern"),
        ("{id: a, pattern: a, example: a, cause: 'not {1}', cure: z}", "cause: {1} is not a group of the pattern"),
        ("{id: a, pattern: a, example: a, cause: y}", "cure: is missing"),
        ("{id: a, pattern: a, example: a, cause: y, cure: z, cures: z}", "cures: unknown key"),
    ],
)
def test_a_row_that_could_not_work_is_refused_with_its_place(tmp_path: Path, row: str, said: str) -> None:
    table = tmp_path / "known_failures.yaml"
    table.write_text(f"- {row}\n")
    with pytest.raises(DocumentError, match=r"known_failures\.yaml:1:\d+: \[0\]") as caught:
        read_known_failures(table)
    assert said in caught.value.what


def test_an_archive_that_was_left_out_leads_to_the_question_what_this_very_tree_needs() -> None:
    found = diagnose(BUILDING, "Error downloading [https://a.example/x.zip] to /build/x.zip")
    assert found is not None
    typed = RepeatedFlags({"source": "/fork"}, {"fetch-deps": ("source",), "lock-deps": ("source",)})
    cure = typed.in_step(found.cure)
    assert "./inv lock-deps --source /fork --needed" in cure
    assert cure.startswith("./inv fetch-deps --source /fork")

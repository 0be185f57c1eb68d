"""Version numbers: what is taken of a program's answer, and how two are compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.version_numbers import leading_version, version_of


@pytest.mark.parametrize(
    ("text", "leading"),
    [("0.24.1- (@non-git)", "0.24.1"), (" v3.14.0-rc2", "3.14.0"), ("13", "13"), ("gcc 13", ""), ("", ""), ("٣.١", "")],
)
def test_a_version_is_the_ascii_numbers_that_a_text_begins_with(text: str, leading: str) -> None:
    assert leading_version(text) == leading
    assert version_of(text) == version_of(leading)


@pytest.mark.parametrize(("older", "newer"), [("2.9", "2.17"), ("8.4", "8.4.1"), ("", "0.1"), ("3.13.9", "3.14")])
def test_numbers_count_not_letters(older: str, newer: str) -> None:
    assert version_of(older) < version_of(newer)


def test_zeros_at_the_end_make_no_difference() -> None:
    assert version_of("3.14") == version_of("3.14.0")


@given(st.text())
def test_any_text_has_a_version(text: str) -> None:
    assert version_of(text) >= version_of("0")

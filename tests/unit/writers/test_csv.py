"""Rows of CSV."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from npu_serving.writers.csv import csv_text

FIELD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))


@given(st.lists(st.lists(FIELD, min_size=2, max_size=4), max_size=5))
def test_every_row_is_read_back(rows: list[list[str]]) -> None:
    assert list(csv.reader(io.StringIO(csv_text(rows), newline=""))) == rows


def test_no_value_is_an_empty_field() -> None:
    assert csv_text([(1, None, "a,b")]) == '1,,"a,b"\n'

"""docs/options.md: everything on one page, and nothing of it taken for a mark of Markdown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from npu_serving.options import options_page
from npu_serving.options.explaining import all_explanations
from npu_serving.options.options_page import page_is_current, render_page, write_page


def test_the_page_has_a_heading_for_each_entry_and_is_current() -> None:
    headings = re.findall(r"^####? (\S+)$", render_page(), re.MULTILINE)
    names = [each.name for each in all_explanations()]
    assert [heading for heading in headings if heading in names] == names
    assert page_is_current()


def test_a_page_that_is_not_what_the_tables_say_is_noticed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options_page, "PAGE", tmp_path / "options.md")
    assert not page_is_current()
    assert write_page()
    assert page_is_current()
    assert not write_page()


def test_marks_are_escaped_outside_of_the_examples() -> None:
    text = re.sub(r"^```.*?^```", "", render_page(), flags=re.MULTILINE | re.DOTALL)
    listed = text.partition("\n## ")[2]
    assert re.findall(r"(?<!\\)[*<~]", re.sub(r"`[^`]*`", "", listed)) == []
    assert "such as 0|3-5|10" in listed

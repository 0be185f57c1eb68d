"""Values in a page of HTML."""

from __future__ import annotations

import html.parser
import json

from hypothesis import given
from hypothesis import strategies as st

from npu_serving.writers.html import chart_text, html_text, script_json

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]))
PLAIN = st.none() | st.booleans() | st.integers() | st.text()
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


class Parsed(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.attribute, self.elements = "", "", 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements += 1
        self.attribute += dict(attrs).get("title") or ""

    def handle_data(self, data: str) -> None:
        self.text += data


@given(TEXT)
def test_a_text_is_read_back_as_a_text_and_as_an_attribute(text: str) -> None:
    page = Parsed(f'<p title="{html_text(text)}">{html_text(text)}</p>')
    assert (page.elements, page.text, page.attribute) == (1, text, text)


@given(st.text())
def test_what_html_has_no_place_for_is_shown_as_such(text: str) -> None:
    shown = html_text(text)
    assert not set(shown) & {"\x00", "\x08", "\x7f", "\ud800"}
    shown.encode("utf-8")


@given(TEXT)
def test_a_text_of_a_chart_has_no_tag_and_no_entity_of_its_own(text: str) -> None:
    page = Parsed(chart_text(text))
    assert (page.elements, page.text) == (0, text)


@given(JSON)
def test_data_of_a_script_is_read_back_and_can_not_end_the_element(value: object) -> None:
    text = script_json(value)
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029")

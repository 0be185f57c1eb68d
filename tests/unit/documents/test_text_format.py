"""Protobuf's text format without a schema."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.documents.text_format import TextField, TextFormatError, last_text, read_text_format
from npu_serving.writers.text_proto import textproto_string


def plain(fields: tuple[TextField, ...]) -> list[object]:
    return [[field.name, plain(field.fields) if isinstance(field.value, tuple) else field.value] for field in fields]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", []),
        ("a: 1 # and so on\nb: 'x' \"y\"", [["a", "1"], ["b", "xy"]]),
        ("a { b: -1.5e3f; c: t, } d <e: inf>", [["a", [["b", "-1.5e3f"], ["c", "t"]]], ["d", [["e", "inf"]]]]),
        (
            "a: [1, 0x2]  m: [{x: 1}, <y: 2>] n: []",
            [["a", "1"], ["a", "0x2"], ["m", [["x", "1"]]], ["m", [["y", "2"]]]],
        ),
        ("[type.googleapis.com / a.B] { c: 1 }", [["[type.googleapis.com/a.B]", [["c", "1"]]]]),
        ("a:{b:1}c:2", [["a", [["b", "1"]]], ["c", "2"]]),
        (r"a: '\"\x41\101\n'", [["a", '"AA\n']]),
        (r"a: '\303\251\xe4\xbd' '\xa0'", [["a", "é你"]]),  # as protobuf itself writes them
        (r"a: 'b\377\351c'", [["a", "b\udcff\udce9c"]]),
    ],
)
def test_a_message_is_read_as_its_fields_in_their_order(text: str, fields: object) -> None:
    assert plain(read_text_format(text)) == fields


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")))
def test_every_string_that_this_project_writes_is_read_back(text: str) -> None:
    (field,) = read_text_format(f"a {{ name: {textproto_string(text)} }}")
    assert last_text(field.fields, "name") == text


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a", "1:2"),
        ("a {", "1:4"),
        ("a: 1\n}", "2:1"),
        ("a: 'x", "1:4"),
        ("a: [1 2]", "1:7"),
        ("[a", "1:3"),
        ("a: [", "1:5"),
        ("a:", "1:3"),
        ("a {" * 200, "1:304"),
        (r"a: 'b\q'", "1:4"),
        (r"a: '\U00110000'", "1:4"),
    ],
)
def test_what_is_no_text_format_is_refused_with_its_place(text: str, place: str) -> None:
    with pytest.raises(TextFormatError) as caught:
        read_text_format(text)
    assert str(caught.value).startswith(f"{place}: ")


@given(st.text(alphabet="a:{}<>[]\"'\\\n 1-,;#"))
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    with contextlib.suppress(TextFormatError):
        read_text_format(text)


def test_what_is_wrong_at_the_beginning_is_said_without_reading_on() -> None:
    """A text of a million braces took a minute, and fifty times its size of memory."""
    texts = (("a {" * 1_000_000, "nested too deeply"), ("a: 'b" + "\\0" * 1_000_000, "has no value"))
    tracemalloc.start()
    try:
        for text, said in texts:
            tracemalloc.reset_peak()
            with pytest.raises(TextFormatError, match=said):
                read_text_format(text)
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_string_of_many_escapes_is_read_whole() -> None:
    (field,) = read_text_format("a: '" + "\\377" * 10_000 + "'")
    assert field.text == "\udcff" * 10_000

"""What is read a line at a time is what the parser reads, and nothing else is taken."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.documents import plain_lines, syntax
from npu_serving.documents.plain_lines import NOT_PLAIN, read_plain_lines


def quick(text: str) -> Any:
    return read_plain_lines(text, syntax._resolved)


def agrees(text: str) -> bool:
    """Whether the text was taken; if it was, the parser has to read the same, and to have nothing against it."""
    found = quick(text)
    if found is NOT_PLAIN:
        return False
    builder = syntax._YamlBuilder(None)
    assert repr(builder.built(text)) == repr(found)  # 1 is not true, and nan is nan
    assert builder.troubles == []
    return True


WORDS = "a b key 1 -1 0x1f ~ true yes null 1.5e3 .inf a:b s3://b/c /p a: b: - -- : # 'x' \"x\" ' \" '' \"\" --- ... <<"
MARKS = "[1] {a: &a *a !t | > % @ ? , = + . \\ é"
PARTS = st.sampled_from([*WORDS.split(), *MARKS.split(), " ", "  ", "- ", "key: ", "? ", "x y", "\t", "\r", "\x85"])
LINES = st.lists(PARTS, max_size=6).map("".join)


@given(lines=st.lists(LINES, max_size=8))
def test_any_text_is_left_alone_or_read_as_the_parser_reads_it(lines: list[str]) -> None:
    agrees("\n".join(lines))


PLAIN_LINE = st.tuples(
    st.integers(0, 5).map(lambda count: " " * count),
    st.sampled_from(["", "", "- ", "-   "]),
    st.sampled_from(["", "a:", "b:", "c:", "d:"]),
    st.sampled_from(["", "", " 1", " x", " 'y'", ' ""', " a b", "  -1", " # said", " ~ "]),
).map("".join)


@given(lines=st.lists(PLAIN_LINE, max_size=10))
def test_lines_of_its_own_style_in_any_order_are_read_as_the_parser_reads_them(lines: list[str]) -> None:
    agrees("\n".join(lines))


KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True).filter(
    lambda key: yaml.safe_load(key) == key  # PyYAML writes ON and null in quotes, which is another style
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10_000, 10_000),
    st.from_regex(r"[A-Za-z0-9_/.][A-Za-z0-9_/.~+=@^-]{0,8}", fullmatch=True),
    st.text("ab.12", max_size=6),
)
DOCUMENTS = st.dictionaries(
    KEYS,
    st.recursive(
        VALUES,
        lambda inner: (
            st.dictionaries(KEYS, inner, min_size=1, max_size=3)
            | st.lists(VALUES | st.dictionaries(KEYS, inner, min_size=1, max_size=3), min_size=1, max_size=3)
        ),
        max_leaves=8,
    ),
    min_size=1,
    max_size=4,
)


@given(document=DOCUMENTS)
def test_what_yaml_dump_writes_is_taken_and_read_rightly(document: dict[str, Any]) -> None:
    text = yaml.safe_dump(document, default_flow_style=False, sort_keys=False, width=1000)
    assert agrees(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb:\n- x: 1\n  y: 'two words'\n- z\nc:\n  d:\n    e: \"\"\n",
        "# a comment\n\na: 1 # and another\n\n  # one more\nb: s3://bucket/model\n",
        "- a\n- b: ~\n  c: -1\n",
        "a:\n  - 1\n  - 2\nb: plain words",
        "  a: 1\n  b: 2\n",
    ],
)
def test_such_texts_are_taken(text: str) -> None:
    assert agrees(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "a: 1\na: 2\n",
        "a: &x 1\n",
        "a: *x\n",
        "a: !t 1\n",
        "<<: 1\n",
        "a:\tb\n",
        "a: 1\r\nb: 2\r\n",
        "a: é\n",
        "a: 1\n  b: 2\n",
        "a: b\n  c\n",
        "- a\n - b\n",
        "- - a\n",
        "-\n  a: 1\n",
        "a: [1, 2]\n",
        "a: |\n  x\n",
        "a: 'x\n",
        "a: x: y\n",
        "a: b#c\n... \n",
        "---\na: 1\n",
        "a: 1\n---\nb: 2\n",
        "x",
        "a: 1\nb\n",
    ],
)
def test_another_style_or_a_mistake_is_left_to_the_parser(text: str) -> None:
    assert quick(text) is NOT_PLAIN


def test_what_would_take_much_memory_is_left_to_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "\n".join(f"{'  ' * depth}a:" for depth in range(200))
    assert quick(deep) is NOT_PLAIN
    monkeypatch.setattr(plain_lines, "_MOST_LINES", 3)
    assert quick("a: 1\nb: 2\n") == {"a": 1, "b": 2}
    assert quick("a: 1\nb: 2\nc: 3\n") is NOT_PLAIN


@pytest.mark.parametrize("piece", [" ", "a", "a: ", "- ", "'", '"', "#", "a:b", " #", "- a ", "x "])
def test_a_long_line_takes_time_in_proportion(piece: str) -> None:
    # A pattern that goes back and forth over a line of a megabyte would not come to an end.
    quick("a: " + piece * 300_000)
    quick(piece * 300_000 + "\x01")

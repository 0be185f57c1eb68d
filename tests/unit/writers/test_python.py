"""Python's own parser reads back what was written, and a comment stays one."""

from __future__ import annotations

import ast
import io
import tokenize

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npu_serving.errors import UnwritableValueError
from npu_serving.writers.python import python_comment, python_string, python_value

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    TEXT | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(TEXT)
@example('quo"te \\ \n \r \t \0 é \U0001f600 \u2028')
def test_a_literal_is_read_back_as_it_was_and_is_ascii(value: str) -> None:
    literal = python_string(value)
    assert literal.isascii()
    assert ast.literal_eval(literal) == value


@given(VALUES)
@example(())
@example({"a": (1,), "b": [()]})
def test_values_of_any_depth_are_read_back_as_they_were(value: object) -> None:
    assert ast.literal_eval(python_value(value)) == value


@given(TEXT)
@example("a\nprint(1)\r\x0c\u2028")
def test_a_comment_is_one_comment_whatever_is_in_it(value: str) -> None:
    tokens = list(tokenize.generate_tokens(io.StringIO(f"# {python_comment(value)}\n").readline))
    assert [token.type for token in tokens] == [tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER]


@pytest.mark.parametrize("value", ["\ud800", {"a": ["\udfff"]}, object()])
def test_what_no_script_can_hold_is_refused(value: object) -> None:
    with pytest.raises(UnwritableValueError):
        python_value(value)

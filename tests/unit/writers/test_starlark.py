"""String literals are read back by a real Starlark interpreter as they were."""

from __future__ import annotations

import pytest
import starlark
from hypothesis import example, given
from hypothesis import strategies as st

from npu_serving.errors import UnwritableValueError
from npu_serving.writers.starlark import starlark_string


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
@example('quo"te $(location x) %s \\')
def test_a_literal_is_read_back_as_it_was(value: str) -> None:
    parsed = starlark.parse("f", starlark_string(value))
    assert starlark.eval(starlark.Module(), parsed, starlark.Globals.standard()) == value


@pytest.mark.parametrize("value", ["a\nb", "a\0", "é", "\x7f", "\ud800"])
def test_what_bazel_would_not_read_back_is_refused(value: str) -> None:
    with pytest.raises(UnwritableValueError, match="BUILD file"):
        starlark_string(value)

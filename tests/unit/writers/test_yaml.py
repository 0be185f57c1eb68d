"""Scalars are read back by a real YAML reader as they were."""

from __future__ import annotations

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from npu_serving.writers.yaml import yaml_string


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("yes")
@example("a: b # c")
@example("\x85\u2028\x7f\0")
def test_a_scalar_is_read_back_as_it_was(value: str) -> None:
    assert yaml.safe_load(f"- {yaml_string(value)}") == [value]

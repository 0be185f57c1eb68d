"""Scalars are read back by a real YAML reader as they were."""

from __future__ import annotations

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from npu_serving.documents.syntax import YAML, parse
from npu_serving.writers.yaml import yaml_block, yaml_string


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("yes")
@example("a: b # c")
@example("\x85\u2028\x7f\0")
def test_a_scalar_is_read_back_as_it_was(value: str) -> None:
    assert yaml.safe_load(f"- {yaml_string(value)}") == [value]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
documents = st.recursive(
    texts | st.booleans() | st.integers(),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(texts, documents, min_size=1, max_size=4))
@example({"a": {}, "null": "1e3", "b": [[1, {"c": True}], "0o7"], "<<": "~", "": "=", "k: #": {"x.y": [{"z": ""}]}})
def test_a_block_is_read_back_by_the_reader_of_documents_as_it_was(value: dict[str, object]) -> None:
    assert parse(yaml_block(value), YAML) == (value, ())

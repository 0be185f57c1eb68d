"""Values set in a YAML text that a person has written."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.documents.yaml_edit import UneditableError, edited

DEPLOYMENT = """\
# what we serve
version: 1
models:
  - name: resnet  # the large one
    base_path: /srv/models/resnet
    npu:
      input_shape: "x:-1"   # in rows
      dynamic_dims: '1;4;8'
  - {name: other, base_path: /srv/models/other}
server:
  port: 8500 # gRPC
  batching:
    max_batch_size: 4  # measured in spring

    # nobody waits for others
    batch_timeout_micros: 0
# the end
"""


def test_a_value_is_replaced_and_everything_else_stays_as_it_is_written():
    text = edited(DEPLOYMENT, {("server", "batching", "max_batch_size"): 32})
    assert text == DEPLOYMENT.replace("max_batch_size: 4  #", "max_batch_size: 32  #")


def test_a_key_that_is_missing_is_added_below_the_last_of_its_mapping():
    text = edited(DEPLOYMENT, {("server", "batching", "num_batch_threads"): 2})
    assert text == DEPLOYMENT.replace(
        "    batch_timeout_micros: 0\n", "    batch_timeout_micros: 0\n    num_batch_threads: 2\n"
    )


def test_a_mapping_that_is_missing_is_made():
    text = edited(DEPLOYMENT, {("models", 0, "batching", "max_batch_size"): 8, ("npu", "a"): "b: c"})
    assert "      dynamic_dims: '1;4;8'\n    batching:\n      max_batch_size: 8\n  - {name" in text
    assert text.endswith("# the end\n") or text.rstrip().endswith('a: "b: c"')
    assert yaml.safe_load(text)["npu"] == {"a": "b: c"}


def test_a_mapping_in_braces_gets_its_key_in_braces():
    text = edited(DEPLOYMENT, {("models", 1, "batching"): False, ("models", 1, "npu", "x"): [1, 2]})
    assert "  - {name: other, base_path: /srv/models/other, batching: false, npu: {x: [1, 2]}}\n" in text


def test_a_value_left_out_is_filled_in():
    assert edited("server:\nversion: 1\n", {("server", "port"): 1}) == "server: {port: 1}\nversion: 1\n"
    assert edited("server: ~ # none\nversion: 1", {("server", "port"): 1}) == "server: {port: 1} # none\nversion: 1"
    assert edited("version: 1", {("server", "port"): 1}) == "version: 1\nserver:\n  port: 1"


def test_a_block_is_replaced_by_one_value():
    text = edited(DEPLOYMENT, {("server", "batching"): None})
    assert yaml.safe_load(text)["server"] == {"port": 8500, "batching": None}
    assert "# the end\n" in text


def test_lines_that_end_as_windows_writes_them_go_on_so():
    text = edited("a: 1\r\nb:\r\n  c: 2\r\n", {("b", "d"): 3})
    assert text == "a: 1\r\nb:\r\n  c: 2\r\n  d: 3\r\n"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a: &x {b: 1}\nc: *x\n", ("c", "b")),  # would change a as well
        ("- 1\n", ("a",)),
        ("a: [\n", ("a",)),
        ("a: 1\na: 2\n", ("a",)),
        ("a: [1]\n", ("a", 3, "b")),
        ("a: text\n", ("a", "b")),
        ("a: [1]\n", ("a", "b")),
    ],
)
def test_what_can_not_be_edited_alone_is_refused(text, path):
    with pytest.raises(UneditableError):
        edited(text, {path: 5})


KEYS = st.sampled_from(["a", "b", "c d", "e:f", "é", "#g"])
SCALARS = st.one_of(st.integers(), st.booleans(), st.text(alphabet="ab:#'\"\\ é{}[],&*!|>%@`\n", max_size=6), st.none())
DOCUMENTS = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
    ),
    min_size=1,
    max_size=4,
)


def _paths(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = []
    if isinstance(document, dict):
        found.append((*path, "new"))
        for key, item in document.items():
            found += [(*path, key), *_paths(item, (*path, key))]
    if isinstance(document, list):
        for number, item in enumerate(document):
            found += _paths(item, (*path, number))
    return found


@given(st.data(), DOCUMENTS, st.sampled_from([None, True, False]), st.integers(2, 6), SCALARS)
def test_any_document_says_afterwards_what_was_meant_or_is_refused(data, document, style, indent, value):
    text = yaml.safe_dump(document, default_flow_style=style, indent=indent, allow_unicode=True, sort_keys=False)
    path = data.draw(st.sampled_from(_paths(document)))
    wanted = copy.deepcopy(document)
    place: Any = wanted
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    try:
        text = edited(text, {path: value})
    except UneditableError:
        return
    assert yaml.safe_load(text) == wanted

"""The value of in_out_pair, read as the adapter reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_serving.errors import UnwritableValueError
from npu_serving.options.in_out_pair import InOutPair, pairs_text, read_pairs

FACTS = Path(__file__).parent / "facts" / "adapter_runs.yaml"


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("[[['a'],['b']]]", [InOutPair(("a",), ("b",))]),
        ("[[[a, c],[b]],[['x'] , ['y','z']]]", [InOutPair(("a", "c"), ("b",)), InOutPair(("x",), ("y", "z"))]),
        ("[[['a'],['b'],['more']]]", [InOutPair(("a",), ("b",))]),
        ("[[['a']]]", []),
        ("[['a'],['b']]", []),
        ('[[["a"],["b"]]]', [InOutPair(('"a"',), ('"b"',))]),
        ("", []),
        ("]]]][[[", []),
    ],
)
def test_a_value_is_read_as_the_adapter_reads_it(text: str, pairs: list[InOutPair]) -> None:
    assert [*read_pairs(text)] == pairs


def test_what_the_adapter_refused_when_it_ran_has_no_pair_and_what_it_took_has_one() -> None:
    seen = set()
    for case in yaml.safe_load(FACTS.read_text()):
        options = {name: value for name, _, value in case["options"]}
        if "in_out_pair" not in options or options.get("mix_compile_mode") is not True:
            continue
        # The one with the flag false was read as well: it failed later, in the stand-in for the compiler.
        is_read = case["outcomes"][0] == "runs" or "flag" in case["name"]
        seen.add(is_read)
        assert bool(read_pairs(options["in_out_pair"])) == is_read, case["name"]
    assert seen == {True, False}


NAMES = st.lists(st.from_regex(r"[A-Za-z0-9.][A-Za-z0-9_./\\>-]{0,8}", fullmatch=True), min_size=1, unique=True)


@settings(max_examples=40)
@given(pairs=st.lists(st.builds(InOutPair, NAMES.map(tuple), NAMES.map(tuple)), min_size=1, max_size=4))
def test_what_is_written_is_read_back(pairs: list[InOutPair]) -> None:
    assert [*read_pairs(pairs_text(pairs))] == pairs


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a]", "a'", "a\t"])
def test_a_name_that_the_adapter_would_read_otherwise_is_refused(name: str) -> None:
    with pytest.raises(UnwritableValueError, match="in_out_pair"):
        pairs_text([InOutPair((name,), ("b",))])


@given(text=st.text("[],' ab\"", max_size=40))
def test_no_text_of_the_value_ends_in_a_traceback(text: str) -> None:
    for pair in read_pairs(text):
        assert pair.firsts
        assert pair.lasts

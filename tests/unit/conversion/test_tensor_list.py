"""Lists of tensors as a person types them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.conversion.tensor_list import NamedTensor, named_tensors, shape_text
from npu_serving.errors import RequestError

names = st.from_regex(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]{0,9}", fullmatch=True)
shapes = st.lists(st.integers(-1, 2**63 - 1), max_size=4).map(tuple)


@pytest.mark.parametrize("separator", [";", ",", " ; "])
def test_several_names_are_separated_by_semicolons_as_in_the_guide_or_by_commas(separator: str) -> None:
    assert named_tensors([separator.join(["a", "b/c:1", "k=d:0[1,-1, ?]"])], "--inputs") == (
        NamedTensor("a", "a:0"),
        NamedTensor("b/c:1", "b/c:1"),
        NamedTensor("k", "d:0", (1, -1, -1), has_shape=True),
    )


def test_a_separator_at_the_end_and_flags_given_twice_are_fine() -> None:
    assert [each.key for each in named_tensors(["a;b;", "c"], "--inputs")] == ["a", "b", "c"]
    assert named_tensors([""], "--inputs") == ()


@given(st.lists(st.tuples(names, st.integers(0, 99), st.none() | shapes, st.booleans()), max_size=5))
def test_what_is_written_is_what_is_read(items: list[tuple[str, int, tuple[int, ...] | None, bool]]) -> None:
    written, expected = [], []
    for place, (name, number, shape, has_key) in enumerate(items):
        key = f"key{place}" if has_key else f"{name}{place}:{number}"
        typed = f"key{place}={name}{place}:{number}" if has_key else key
        written.append(typed + (shape_text(shape) if shape is not None else ""))
        expected.append(NamedTensor(key, f"{name}{place}:{number}", shape, shape is not None))
    assert named_tensors([";".join(written)], "--inputs") == tuple(expected)


@given(st.text(";,[]=:-01ab? ", max_size=20))
def test_anything_else_is_read_or_refused_with_an_example(text: str) -> None:
    try:
        found = named_tensors([text], "--outputs")
    except RequestError as error:
        assert "--outputs" in error.what and "--outputs" in error.cure
    else:
        assert all(each.key and each.tensor for each in found)


@pytest.mark.parametrize(
    "text", ["x:0[1", "x:0[a]", "x:0[-2]", "=x", "x:y", "a b=c=d", "x:0[1][2]", "x:0[99999999999999999999]"]
)
def test_what_is_not_a_tensor_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="--inputs has"):
        named_tensors([text], "--inputs")


def test_a_key_that_stands_there_twice_is_refused_with_another_one() -> None:
    with pytest.raises(RequestError, match="--inputs has a twice") as refused:
        named_tensors(["a;a=b"], "--inputs")
    assert refused.value.cure == '--inputs "a=a:0;other=b:0"' or "other=" in refused.value.cure

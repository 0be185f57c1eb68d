"""Strings of protobuf's text format are read back as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from text_proto_reader import read_string

from npu_serving.errors import UnwritableValueError
from npu_serving.writers.text_proto import textproto_string

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(texts)
def test_a_string_is_read_back_as_it_was(value: str) -> None:
    assert read_string(textproto_string(value)) == value.encode()


@given(st.binary().filter(lambda data: b"\0" not in data))
def test_the_bytes_of_an_undecodable_path_are_read_back_as_they_were(data: bytes) -> None:
    assert read_string(textproto_string(data.decode(errors="surrogateescape"))) == data


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_a_nul_and_half_a_character_are_refused(value: str) -> None:
    with pytest.raises(UnwritableValueError):
        textproto_string(value)

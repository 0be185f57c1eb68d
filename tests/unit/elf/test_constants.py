"""The section in which a program's texts stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from elf_samples import library, needs_gcc, without_sections
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.elf.constants import constants_of
from npu_serving.errors import ElfError

pytestmark = needs_gcc
SOURCE = 'const char *text(void) { return "MatMul"; } char written[] = "NotHere";'


def test_the_texts_of_the_code_are_there_and_what_can_be_written_is_not(tmp_path: Path) -> None:
    data = constants_of(library(tmp_path, "liba.so", SOURCE))
    assert b"MatMul\0" in data
    assert b"NotHere" not in data


def test_a_file_without_a_table_of_sections_has_none(tmp_path: Path) -> None:
    assert constants_of(without_sections(library(tmp_path, "liba.so", SOURCE), tmp_path / "stripped.so")) == b""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return library(tmp_path_factory.mktemp("elf"), "liba.so", SOURCE).read_bytes()


@given(at=st.integers(0, 100_000), value=st.integers(0, 255))
def test_a_damaged_file_is_read_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, at: int, value: int
) -> None:
    data = bytearray(whole)
    table = int.from_bytes(data[40:48], "little")
    places = [*range(40, 64), *range(table, len(data))]  # the header's end, and the table of sections
    data[places[at % len(places)]] = value
    path = tmp_path_factory.mktemp("damaged") / "liba.so"
    path.write_bytes(bytes(data))
    try:
        constants_of(path)
    except ElfError as error:
        assert error.cure

"""The table of requirements, and how versions are compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.doctor.requirements import USES, first_version_in, load_requirements, parse_requirements
from npu_serving.errors import RequestError
from npu_serving.version_numbers import leading_version, version_of

# Table 6-1 of the guide (section 6.2), by our ids: (x86_64, aarch64).
TABLE_6_1 = {
    "gcc": ("8.4 or newer", "8.4 or newer"),
    "g++": ("8.4 or newer", "8.4 or newer"),
    "zip": ("any version", "any version"),
    "unzip": ("any version", "any version"),
    "libtool": ("any version", "any version"),
    "automake": ("any version", "any version"),
    "python": ("3.7.5", "3.7.5"),
    "tensorflow": ("1.15.0", "1.15.0"),
    "tensorflow-serving-api": ("1.15.0", "1.15.0"),
    "cmake": ("3.14.0 or newer", "3.14.0 or newer"),
    "swig": ("4.0.1 or newer", "3.0.12 or newer"),
}


@pytest.mark.parametrize("name", TABLE_6_1)
def test_every_row_of_the_guides_table_is_there_with_its_rule_for_each_architecture(name: str) -> None:
    row = load_requirements()[name]
    assert (row.required_text("x86_64"), row.required_text("aarch64")) == TABLE_6_1[name]


def test_the_rest_of_table_6_1_is_there_with_rules_of_its_own() -> None:
    table = load_requirements()
    assert table["bazel"].minimum("aarch64") == "0.24.1"
    assert table["bazel"].maximum("aarch64") == "0.26.1"
    assert "future" in table


def test_every_row_is_needed_by_some_use_and_says_why() -> None:
    for row in load_requirements().values():
        assert any(row.needed_for(use) for use in USES), row.id
        assert row.why and row.title and row.section


numbers = st.lists(st.integers(0, 99), min_size=2, max_size=4)


@given(numbers, st.sampled_from(["", "-rc2", "- (@non-git)", "~ubuntu1", " (Debian 1.2-3)"]))
def test_a_version_is_the_numbers_that_it_begins_with(parts: list[int], tail: str) -> None:
    assert version_of(".".join(map(str, parts)) + tail).release == tuple(parts)


@given(numbers, st.sampled_from(["cmake version ", "SWIG Version ", "gcc (Debian) ", "\n\nx "]))
def test_the_first_version_of_an_output_is_found(parts: list[int], before: str) -> None:
    text = ".".join(map(str, parts))
    assert first_version_in(f"{before}{text}\nand 9.9.9") == text


@given(st.text())
def test_any_text_has_a_version_or_none_and_breaks_nothing(text: str) -> None:
    assert version_of(text) >= version_of("")
    assert leading_version(first_version_in(text)) == first_version_in(text)


def test_missing_numbers_count_as_zero() -> None:
    cmake = load_requirements()["cmake"]
    assert cmake.accepts("3.14", "x86_64")
    assert cmake.accepts("3.14.0.1", "x86_64")
    assert not cmake.accepts("3.13.99", "x86_64")


ROW = "requirements:\n  - {id: a, title: A, section: '1', why: so%s}\n"


@pytest.mark.parametrize(
    "text",
    [
        "requirements: [",
        "- a",
        "requirements: {}",
        "requirements:\n  - {title: A}",
        "requirements:\n  - {id: a, title: A, section: '1'}",
        ROW % ", at_least: {any: 3.14}",
        ROW % ", at_last: {any: '3.14'}",
        ROW % ", missing: {host: fatal}",
        ROW % ", missing: {windows: problem}",
        ROW % ", program: gcc",
        ROW % "" + "  - {id: a, title: A, section: '1', why: so}\n",
    ],
)
def test_a_table_with_a_mistake_is_refused_with_the_place_of_it(text: str) -> None:
    with pytest.raises(RequestError, match="table"):
        parse_requirements(text, "table.yaml")


def test_a_version_that_yaml_would_take_for_a_number_is_refused_by_name() -> None:
    with pytest.raises(
        RequestError, match=r"table\.yaml:2:\d+: requirements\[0\]\.at_least\.any: must be a text, not 2\.3"
    ):
        parse_requirements(ROW % ", at_least: {any: 2.30}", "table.yaml")

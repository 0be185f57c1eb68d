"""Sources of packages: what is one, and that none becomes anything else in apt's file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.errors import SettingsError
from npu_serving.images.apt_sources import all_on_this_machine, render_sources

SOURCES = [
    "http://mirror.example.org/debian bookworm main",
    "https://mirror.example.org:8443/archive/debian/20250520T000000Z bookworm-updates main non-free-firmware",
    "http://localhost:8281/ubuntu bionic main universe",
    "http://[::1]:8281/ bookworm/updates main",
]
NOT_SOURCES = [
    "",
    "http://mirror.example.org/debian",
    "http://mirror.example.org/debian bookworm",
    "deb http://mirror.example.org/debian bookworm main",
    "[trusted=yes] http://mirror.example.org/debian bookworm main",
    "http://mirror.example.org/debian bookworm main\ndeb http://other/ x y",
    "http://user:secret@mirror.example.org/debian bookworm main",
    "file:///srv/mirror bookworm main",
    "http://mirror.example.org/$(id) bookworm main",
    "http://mirror.example.org/debian bookworm main # x",
    "http://mirror.example.org/debian  bookworm main",
]


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_is_a_url_a_suite_and_components(source: str) -> None:
    assert render_sources([source]) == f"deb [check-valid-until=no] {source}\n"


@pytest.mark.parametrize("source", NOT_SOURCES)
def test_what_is_no_source_is_refused_with_an_example(source: str) -> None:
    with pytest.raises(SettingsError, match="apt_sources must be URL SUITE COMPONENT") as caught:
        render_sources([source])
    assert "bookworm main" in caught.value.cure


@given(st.lists(st.text(alphabet="htps:/. abz[]=#@\n\t$`'\"\\-0", max_size=60), max_size=3))
def test_no_source_adds_a_line_or_an_option(sources: list[str]) -> None:
    try:
        lines = render_sources(sources).splitlines()
    except SettingsError:
        return
    assert [line.removeprefix("deb [check-valid-until=no] ") for line in lines] == sources
    assert not any("trusted" in line for line in lines)


def test_packages_come_without_a_network_where_every_source_is_this_machine() -> None:
    assert all_on_this_machine(["http://localhost:1/a x y", "http://127.0.0.1/b x y", "http://[::1]:8/c x y"])
    assert not all_on_this_machine(["http://localhost:1/a x y", SOURCES[0]])
    assert not all_on_this_machine([])

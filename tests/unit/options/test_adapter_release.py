"""Which adapter a CANN has, and what of it is known."""

from __future__ import annotations

import pytest

from npu_serving.options.adapter_release import LOOKED_INTO, candidates, is_within, kind_in
from npu_serving.options.catalogue import session_options


@pytest.mark.parametrize(
    ("cann", "found"),
    [
        ("6.3.RC2.alpha003", [("6.3.RC2.alpha003", "6.3.RC2.alpha003")]),
        ("6.3.RC2", [("6.3.RC2", "6.3.RC2")]),
        ("6.3.RC1", [("6.3.RC1", "6.3.RC2.alpha003")]),
        ("5.1.RC2", [("r1.11.0", "6.3.RC2.alpha003")]),
        ("7.0.0", [("7.0.0", "6.3.RC2"), ("7.0.0", "9.0.0")]),
        ("8.0.RC1", [("7.0.0.alpha003", "6.3.RC2"), ("9.0.0", "9.0.0")]),
        ("8.5.0", [("7.0.0.alpha003", "6.3.RC2"), ("9.0.0", "9.0.0")]),
        ("9.0.0", [("9.0.0", "9.0.0")]),
        ("9.1.RC1", [("9.0.0", "9.0.0")]),
        ("", [(name, name) for name in LOOKED_INTO]),
    ],
)
def test_a_cann_between_two_releases_may_be_as_either_of_them(cann: str, found: list[tuple[str, str]]) -> None:
    assert list(candidates(cann)) == found


def test_bounds_include_both_ends() -> None:
    assert is_within("6.3.RC2", "6.3.RC2", "6.3.RC2")
    assert is_within("6.3.RC2")
    assert not is_within("6.3.RC2.alpha003", since="6.3.RC2")
    assert not is_within("9.0.0", until="6.3.RC2")


def test_the_kind_is_that_of_the_release() -> None:
    option = session_options()["jit_compile"]
    assert [kind_in(option, release) for release in ("r1.9.0", "r1.10.0", "6.3.RC1", "6.3.RC2.alpha003", "9.0.0")] == [
        "none",
        "b",
        "none",
        "b",
        "s",
    ]

"""Groovy's strings."""

from __future__ import annotations

from npu_serving.writers.groovy import groovy_string


def test_groovy_fills_nothing_in() -> None:
    assert groovy_string("a 'b' $c \\") == "'a \\'b\\' $c \\\\'"

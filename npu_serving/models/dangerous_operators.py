"""Operators that make a model more than arithmetic: they reach files, or need a Python (dangerous_operators.yaml)."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving.documents import read_document

TABLE = Path(__file__).with_name("dangerous_operators.yaml")


@dataclass(frozen=True)
class DangerousOperators:
    """dangerous_operators.yaml, or the part of it that a graph has."""

    files: Mapping[str, str]
    python: Mapping[str, str]


@functools.cache
def dangerous_operators() -> DangerousOperators:
    """The whole table."""
    return read_document(TABLE, DangerousOperators)


def dangerous_among(operators: Iterable[str]) -> DangerousOperators:
    """Those among these operators."""
    table, there = dangerous_operators(), set(operators)
    files, python = (
        {name: what for name, what in known.items() if name in there} for known in (table.files, table.python)
    )
    return DangerousOperators(files, python)

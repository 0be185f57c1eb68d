"""What a build needs and what a server needs, as typed tables, and how versions are compared.

Looking at the machine is examination.py's work and that of its checks.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from npu_serving import fsutil
from npu_serving.documents import Rule, parse_document
from npu_serving.findings import NOTE, PROBLEM, WARNING
from npu_serving.version_numbers import version_of

TABLE = Path(__file__).with_name("requirements.yaml")
SERVING_TABLE = Path(__file__).with_name("serving_requirements.yaml")

HOST = "host"
DOCKER = "docker"
SAMPLE = "sample"
SERVING = "serving"
USES = (HOST, DOCKER, SAMPLE, SERVING)

Use = Annotated[str, Rule(pattern="|".join(USES), expected=f"one of {', '.join(USES)}")]
Verdict = Annotated[str, Rule(pattern=f"{NOTE}|{WARNING}|{PROBLEM}", expected=f"{NOTE}, {WARNING} or {PROBLEM}")]
Filled = Annotated[str, Rule(pattern=".+", expected="a text that says something")]


@dataclass(frozen=True)
class Requirement:
    """A row of a table; the head of requirements.yaml says what the columns mean."""

    id: Filled
    title: Filled
    section: Filled
    why: Filled
    required: str = ""
    program: tuple[str, ...] = ()
    for_actions: bool = False
    arguments: tuple[str, ...] = ()
    at_least: Mapping[str, str] = field(default_factory=dict)
    at_most: Mapping[str, str] = field(default_factory=dict)
    exactly: str = ""
    missing: Mapping[Use, Verdict] = field(default_factory=dict)
    unfit: Mapping[Use, Verdict] = field(default_factory=dict)
    packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cure: Mapping[str, str] = field(default_factory=dict)
    cure_unfit: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)

    def needed_for(self, use: str) -> bool:
        """Whether that use needs it at all."""
        return use in self.missing or use in self.unfit

    def minimum(self, architecture: str) -> str:
        """The lowest version that works on that architecture, or ""."""
        return _for_architecture(self.at_least, architecture)

    def maximum(self, architecture: str) -> str:
        """The highest version that works on that architecture, or ""."""
        return _for_architecture(self.at_most, architecture)

    def required_text(self, architecture: str) -> str:
        """What is required, for a person."""
        if self.required:
            return self.required
        if self.exactly:
            return self.exactly
        minimum = self.minimum(architecture)
        return f"{minimum} or newer" if minimum else "any version"

    def accepts(self, version: str, architecture: str) -> bool:
        """Whether that version keeps every rule of this row."""
        found = version_of(version)
        minimum, maximum = self.minimum(architecture), self.maximum(architecture)
        return not (
            (minimum and found < version_of(minimum))
            or (maximum and found > version_of(maximum))
            or (self.exactly and found != version_of(self.exactly))
        )


@dataclass(frozen=True)
class _RequirementTable:
    """The file."""

    requirements: tuple[Requirement, ...]

    def problems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Rows of one name."""
        names = [row.id for row in self.requirements]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield ("requirements", index, "id"), f"{name!r} is there twice"


def first_version_in(text: str) -> str:
    """The first thing in a program's output that looks like a version, or ""."""
    match = re.search(r"(?<![\w.])\d{1,6}(?:\.\d{1,6})+", text, re.ASCII)
    return match.group(0) if match else ""


@functools.lru_cache(maxsize=1)
def load_requirements() -> Mapping[str, Requirement]:
    """The table of what a build needs, by id, in the order of the file."""
    return parse_requirements(fsutil.read_text(TABLE), str(TABLE))


@functools.lru_cache(maxsize=1)
def load_serving_requirements() -> Mapping[str, Requirement]:
    """The same of what a server needs."""
    return parse_requirements(fsutil.read_text(SERVING_TABLE), str(SERVING_TABLE))


def parse_requirements(text: str, where: str) -> Mapping[str, Requirement]:
    """The rows of such a table; DocumentError names each row and column that is wrong."""
    table = parse_document(text, _RequirementTable, where=where)
    return {row.id: row for row in table.requirements}


def _for_architecture(versions: Mapping[str, str], architecture: str) -> str:
    return versions.get(architecture, versions.get("any", ""))

"""What a build needs, as a typed table read from requirements.yaml, and how versions are compared.

Looking at the machine is doctor.py's work and that of its checks.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from npu_serving import fsutil
from npu_serving.errors import RequestError
from npu_serving.version_numbers import version_of

TABLE = Path(__file__).with_name("requirements.yaml")

OK = "ok"
WARNING = "warning"
PROBLEM = "problem"
NOT_NEEDED = "not-needed"

HOST = "host"
DOCKER = "docker"
SAMPLE = "sample"
USES = (HOST, DOCKER, SAMPLE)


@dataclass(frozen=True)
class Requirement:
    """A row of requirements.yaml, whose head says what the columns mean."""

    id: str
    title: str
    section: str
    why: str
    required: str = ""
    program: tuple[str, ...] = ()
    for_actions: bool = False
    arguments: tuple[str, ...] = ()
    at_least: Mapping[str, str] = field(default_factory=dict)
    at_most: Mapping[str, str] = field(default_factory=dict)
    exactly: str = ""
    since: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cure: Mapping[str, str] = field(default_factory=dict)
    cure_unfit: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)

    def needed_for(self, use: str) -> bool:
        """Whether that use needs it at all."""
        return use in self.missing or use in self.unfit

    def minimum(self, architecture: str) -> str:
        """The lowest version that serves on that architecture, or ""."""
        return _for_architecture(self.at_least, architecture)

    def maximum(self, architecture: str) -> str:
        """The highest version that serves on that architecture, or ""."""
        return _for_architecture(self.at_most, architecture)

    def required_text(self, architecture: str) -> str:
        """What is required, for a person."""
        if self.required:
            return self.required
        if self.exactly:
            return self.exactly
        minimum = self.minimum(architecture)
        return f"{minimum} or newer" if minimum else "any version"

    def serves(self, version: str, architecture: str) -> bool:
        """Whether that version keeps every rule of this row."""
        found = version_of(version)
        minimum, maximum = self.minimum(architecture), self.maximum(architecture)
        return not (
            (minimum and found < version_of(minimum))
            or (maximum and found > version_of(maximum))
            or (self.exactly and found != version_of(self.exactly))
        )


def first_version_in(text: str) -> str:
    """The first thing in a program's output that looks like a version, or ""."""
    match = re.search(r"(?<![\w.])\d{1,6}(?:\.\d{1,6})+", text, re.ASCII)
    return match.group(0) if match else ""


@functools.lru_cache(maxsize=1)
def load_requirements() -> Mapping[str, Requirement]:
    """The table, by id, in the order of the file."""
    return parse_requirements(fsutil.read_text(TABLE), str(TABLE))


def parse_requirements(text: str, where: str) -> Mapping[str, Requirement]:
    """The rows of such a table; RequestError names the row and the column that are wrong."""
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RequestError(f"{where} is not valid YAML: {error}", cure=f"correct {where}") from error
    rows = document.get("requirements") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise RequestError(f"{where} has no list named 'requirements'.", cure=f"correct {where}")
    requirements: dict[str, Requirement] = {}
    for row in rows:
        requirement = _requirement(row, where)
        if requirement.id in requirements:
            raise RequestError(f"{where}: {requirement.id!r} is there twice.", cure=f"correct {where}")
        requirements[requirement.id] = requirement
    return requirements


def _requirement(row: Any, where: str) -> Requirement:
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise RequestError(f"{where}: a row has no id: {row!r}", cure=f"correct {where}")
    place = f"{where}: {row['id']}"
    columns = {item.name: str(item.type) for item in dataclasses.fields(Requirement)}
    values: dict[str, Any] = {}
    for name, value in row.items():
        if name not in columns:
            raise RequestError(f"{place}: unknown column {name!r}.", cure=f"correct {where}")
        values[name] = _column(columns[name], value, f"{place}.{name}")
    for name in ("title", "section", "why"):
        if not values.get(name):
            raise RequestError(f"{place}: {name} is missing.", cure=f"correct {where}")
    for name in ("missing", "unfit"):
        for use, verdict in values.get(name, {}).items():
            if use not in USES or verdict not in (WARNING, PROBLEM):
                raise RequestError(f"{place}.{name}: {use}: {verdict} is not known.", cure=f"correct {where}")
    return Requirement(**values)


def _column(kind: str, value: Any, place: str) -> Any:
    """The value as the column's type; a version that YAML would read as a number has to be quoted."""
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "tuple[str, ...]" and _texts(value):
        return tuple(value)
    if kind.startswith("Mapping") and isinstance(value, dict) and _texts(list(value)):
        if kind.endswith("tuple[str, ...]]") and all(_texts(item) for item in value.values()):
            return {key: tuple(item) for key, item in value.items()}
        if kind.endswith("float]") and all(isinstance(item, (int, float)) for item in value.values()):
            return {key: float(item) for key, item in value.items()}
        if kind.endswith("str, str]") and _texts(list(value.values())):
            return value
    raise RequestError(f"{place} is {value!r}, which is no {kind}.", cure=f"correct {TABLE.name}")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _for_architecture(versions: Mapping[str, str], architecture: str) -> str:
    return versions.get(architecture, versions.get("any", ""))

"""What may be set for the NPU, as data: session options, keys of profiling, environment variables, presets.

The heads of session_options.yaml, profiling_keys.yaml, environment_variables.yaml and presets.yaml say what the fields
mean. The server's own flags: server_flags.py.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Union

from npu_serving import fsutil
from npu_serving.documents import parse_document, read_document

SESSION_OPTIONS = Path(__file__).with_name("session_options.yaml")
PROFILING_KEYS = Path(__file__).with_name("profiling_keys.yaml")
ENVIRONMENT_VARIABLES = Path(__file__).with_name("environment_variables.yaml")
PRESETS = Path(__file__).with_name("presets.yaml")

OptionValue = Union[bool, int, str]
"""What an option may be set to; its type decides the kind: b, i or s."""
KINDS: Mapping[str, tuple[str, str]] = {
    "b": ("true or false", "false"),
    "i": ("a whole number", "0"),
    "s": ("a text", "an empty text"),
}
"""The kinds, for people: what a value is, and what one of another kind silently reads as."""
NOT_READ = "none"
PLACEHOLDER = re.compile(r"\{(cann|models|names)\}")
"""What stands in a preset's text until files are written: a release of CANN, a digest of the models or their names."""


@dataclass(frozen=True)
class AdapterRelease:
    """A release of TF Adapter whose source was read, named by the CANN that it belongs to as far as that is known."""

    name: str
    source: str
    date: str


@dataclass(frozen=True)
class OptionGroup:
    """What several session options are about."""

    title: str
    terms: tuple[str, ...]


@dataclass(frozen=True)
class EnforcedRule:
    """What the adapter refuses: when, how that ends, what it prints, and in which releases, both ends included."""

    ends: Literal["process", "session"]
    when: str
    says: str
    since: str = ""
    until: str = ""
    listed: bool = False
    lowest: int | None = None
    highest: int | None = None
    pattern: str = ""
    of_another_kind: bool = False
    only_while: str = ""


@dataclass(frozen=True)
class SessionOption:
    """An option of NpuOptimizer."""

    group: str
    meaning: str
    kinds: Mapping[str, Literal["b", "i", "s", "none"]]
    reach: Mapping[str, tuple[Literal["process", "session", "graph", "adapter"], ...]]
    guides: tuple[Literal["6.3", "9.0"], ...] = ()
    section: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    form: str = ""
    values_since: Mapping[str, str] = field(default_factory=dict)
    values_until: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    default: bool | int | str | None = None
    defaults: Mapping[str, bool | int | str] = field(default_factory=dict)
    older: str = ""
    counterparts: Mapping[str, str] = field(default_factory=dict)
    always: bool | int | str | None = None
    written: bool | int | str | None = None
    scenes: tuple[Literal["training", "online inference"], ...] = ("training", "online inference")
    needs: Mapping[str, str] = field(default_factory=dict)
    conflicts: Mapping[str, str] = field(default_factory=dict)
    beats: Mapping[str, str] = field(default_factory=dict)
    kind_checked: bool = False
    accepted: str = ""
    enforced: tuple[EnforcedRule, ...] = ()
    adapter: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    without_effect: bool = False
    deprecated: bool = False
    successor: str = ""
    terms: tuple[str, ...] = ()
    example: Mapping[str, bool | int | str] = field(default_factory=dict)
    name: str = ""
    """The key under which it stands."""


@dataclass(frozen=True)
class ProfilingKey:
    """A key of profiling's JSON."""

    meaning: str
    values: Mapping[str, str] = field(default_factory=dict)
    form: str = ""
    lowest: int | None = None
    highest: int | None = None
    unit: str = ""
    default: int | str | None = None
    chips: str = ""
    online_inference: str = ""
    conflicts: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    example: str = ""
    name: str = ""
    """The key under which it stands."""
    section: str = ""
    """That of the table."""


@dataclass(frozen=True)
class EnvironmentVariable:
    """A variable that CANN, the adapter or a step of the guide reads."""

    meaning: str
    section: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    form: str = ""
    pattern: str = ""
    lowest: int | None = None
    highest: int | None = None
    unit: str = ""
    default: str | None = None
    successor: str = ""
    needs: Mapping[str, str] = field(default_factory=dict)
    conflicts: Mapping[str, str] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    example: str = ""
    name: str = ""
    """The key under which it stands."""


@dataclass(frozen=True)
class Preset:
    """Session options under one name."""

    meaning: str
    options: Mapping[str, bool | int | str]
    section: str = ""
    needs: tuple[str, ...] = ()
    conflicts: Mapping[str, str] = field(default_factory=dict)
    new_versions: bool = False
    advice: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    name: str = ""
    """The key under which it stands."""


@dataclass(frozen=True)
class _SessionOptionTable:
    """session_options.yaml."""

    releases: tuple[AdapterRelease, ...]
    groups: Mapping[str, OptionGroup]
    options: Mapping[str, SessionOption] = field(default_factory=dict)

    def problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """What the reader of documents asks: whether groups and releases are those of the table."""
        names = {release.name for release in self.releases}
        for name, option in self.options.items():
            if option.group not in self.groups:
                yield ("options", name, "group"), f"there is no group {option.group}"
            of_rules = {release for rule in option.enforced for release in (rule.since, rule.until) if release}
            of_values = {*option.values_since.values(), *option.values_until.values()}
            for release in sorted({*option.kinds, *option.reach, *of_rules, *of_values} - names):
                yield ("options", name), f"there is no release {release}"


@dataclass(frozen=True)
class _ProfilingKeyTable:
    """profiling_keys.yaml."""

    section: str
    keys: Mapping[str, ProfilingKey]


@dataclass(frozen=True)
class _EnvironmentVariableTable:
    """environment_variables.yaml."""

    variables: Mapping[str, EnvironmentVariable]


def option_names() -> tuple[str, ...]:
    """The names of all session options; nothing more of the table is read, as for the two functions below."""
    return tuple(_option_blocks())


@dataclass(frozen=True)
class _PresetTable:
    """presets.yaml."""

    presets: Mapping[str, Preset]


def session_option(name: str) -> SessionOption | None:
    """The option of that name. The others are not read: that would take most of the time of `explain`."""
    block = _option_blocks().get(name)
    if block is None:
        return None
    found = parse_document(block, dict[str, SessionOption], where=str(SESSION_OPTIONS))
    return dataclasses.replace(found[name], name=name)


def options_that_mention(word: str) -> list[SessionOption]:
    """The options in whose entries or groups that word stands, in small letters whatever it is there."""
    groups = [name for name, group in option_groups().items() if any(word in term.casefold() for term in group.terms)]
    marks = (word, *(f"    group: {name}\n" for name in groups))
    found = [name for name, block in _option_blocks().items() if any(mark in block.casefold() for mark in marks)]
    return [option for option in map(session_option, found) if option is not None]


@functools.cache
def session_options() -> Mapping[str, SessionOption]:
    """Every session option by its name, a group at a time."""
    table = read_document(SESSION_OPTIONS, _SessionOptionTable)
    return {name: dataclasses.replace(option, name=name) for name, option in table.options.items()}


def option_groups() -> Mapping[str, OptionGroup]:
    """What session options are about, by the word that stands as their group."""
    return _head_of_options().groups


def adapter_releases() -> tuple[AdapterRelease, ...]:
    """The releases of TF Adapter that the options are known of, oldest first."""
    return _head_of_options().releases


@functools.cache
def profiling_keys() -> Mapping[str, ProfilingKey]:
    """Every key of profiling's JSON by its name."""
    table = read_document(PROFILING_KEYS, _ProfilingKeyTable)
    return {name: dataclasses.replace(key, name=name, section=table.section) for name, key in table.keys.items()}


@functools.cache
def environment_variables() -> Mapping[str, EnvironmentVariable]:
    """Every variable whose meaning is known, by its name."""
    variables = read_document(ENVIRONMENT_VARIABLES, _EnvironmentVariableTable).variables
    return {name: dataclasses.replace(variable, name=name) for name, variable in variables.items()}


@functools.cache
def presets() -> Mapping[str, Preset]:
    """Every preset by its name."""
    found = read_document(PRESETS, _PresetTable).presets
    return {name: dataclasses.replace(preset, name=name) for name, preset in found.items()}


@functools.cache
def _head_of_options() -> _SessionOptionTable:
    """session_options.yaml but for its options."""
    return parse_document(_parts_of_options()[0], _SessionOptionTable, where=str(SESSION_OPTIONS))


@functools.cache
def _option_blocks() -> dict[str, str]:
    """The lines of each option in session_options.yaml, by its name."""
    blocks = re.finditer(r"^  (\w+):\n(?:    .*\n)+", _parts_of_options()[1], re.MULTILINE)
    return {block[1]: block[0] for block in blocks}


@functools.cache
def _parts_of_options() -> tuple[str, str]:
    """The text of session_options.yaml: its head, and its options."""
    head, _, options = fsutil.read_text(SESSION_OPTIONS).partition("\noptions:\n")
    return head, options

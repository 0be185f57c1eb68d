"""Session options as one release of TF Adapter reads them, which is what rules judge, and the kinds of findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Union

from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.options.adapter_release import is_within, kind_in
from npu_serving.options.catalogue import NOT_READ, SessionOption, session_options

ENDS_THE_PROCESS, FAILS_THE_RUN, RUNS_ON_THE_CPU = "ends-the-process", "fails-the-run", "runs-on-the-cpu"
EFFECT = {
    ENDS_THE_PROCESS: "the adapter would end the whole server",
    FAILS_THE_RUN: "the adapter would refuse it, and the model would not load",
    RUNS_ON_THE_CPU: "every model would silently be served by the CPU",
}
"""How an option that the adapter does not take ends, by the kind of its finding."""
GUIDE_FORBIDS = "guide-forbids"
UNKNOWN, NOT_READ_HERE, WRONG_KIND = "unknown-option", "option-not-read", "option-of-another-kind"
DEPRECATED, WITHOUT_EFFECT = "deprecated-option", "option-without-effect"

GEARS = ("input_shape", "dynamic_dims", "dynamic_node_type")
"""The three options that say which shapes a graph is compiled for; they go together."""

AskedValue = Union[bool, int, str, None]
"""A value; None for one in a field that no option is read from (f, list, type), or in none."""


@dataclass(frozen=True)
class AskedOptions:
    """The options that were asked for, the release that reads them, and what a server's environment has."""

    options: Mapping[str, AskedValue]
    release: str
    """The adapter's, as session_options.yaml names it."""
    looked_into: str
    """The one of those in which it was looked up what is refused."""
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    """What relative paths are relative to: the server's working directory. None looks at no directory."""

    def has(self, *names: str) -> bool:
        """Whether any of these is there, whatever its value."""
        return any(name in self.options for name in names)

    def is_on(self, name: str, *, otherwise: bool = False) -> bool:
        """How the adapter reads a bool: a value of another kind is false."""
        return self.options[name] is True if name in self.options else otherwise

    def text(self, name: str, otherwise: str = "") -> str:
        """How the adapter reads a text: a value of another kind is empty."""
        value = self.options.get(name, otherwise)
        return value if isinstance(value, str) else ""

    def number(self, name: str, otherwise: int = 0) -> int:
        """How the adapter reads a number: a value of another kind is 0."""
        value = self.options.get(name, otherwise)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0

    def is_in(self, *, since: str = "", until: str = "") -> bool:
        """Whether the release is within these bounds, both included."""
        return is_within(self.looked_into, since, until)

    def is_read(self, option: SessionOption) -> bool:
        """Whether the release knows the option."""
        return kind_in(option, self.release) != NOT_READ

    @property
    def has_gears(self) -> bool:
        """Whether any of the three options of gears is there."""
        return self.has(*GEARS)


def known_options(asked: AskedOptions) -> Iterator[tuple[SessionOption, AskedValue]]:
    """Those that the tables have, each with its value."""
    for name, value in asked.options.items():
        option = session_options().get(name)
        if option is not None:
            yield option, value


def refused(kind: str, name: str, what: str, cure: str) -> Finding:
    """What the adapter does not take of an option or a variable; `kind` is one of EFFECT."""
    return Finding(f"{what}: {EFFECT[kind]}", cure, PROBLEM, kind, name)


def forbidden(option: SessionOption, what: str, cure: str, severity: str = WARNING) -> Finding:
    """What the guide forbids of an option, and the adapter does not check."""
    section = f" (section {option.section})" if option.section else ""
    return Finding(
        f"{what}: the guide forbids it{section}, this adapter does not check it",
        cure,
        severity,
        GUIDE_FORBIDS,
        option.name,
    )

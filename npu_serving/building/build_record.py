"""What one run of Bazel did; light, for it is also the record of an upgrade that ran none."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

COMPILE_ACTIONS = ("CppCompile",)
LINK_ACTIONS = ("CppLink",)


@dataclass(frozen=True)
class LinkEvent:
    """The link of the target as the event log has it: arguments, and the execroot that they are relative to, inside."""

    listed: tuple[str, ...]
    directory: Path


@dataclass(frozen=True)
class BuildRecord:
    """What Bazel did, from its own event log and profile: actions by kind, and the target's file (path outside)."""

    actions: dict[str, int] = field(default_factory=dict)
    """Everything that had to be done, wherever the result came from."""
    ran: dict[str, int] = field(default_factory=dict)
    """Those of them for which a program was run on this machine: not what a cache or an executor gave."""
    cached: int = 0
    """How many results a disk cache or a remote cache gave."""
    output: Path | None = None
    link: LinkEvent | None = None
    """The final link, where this run of Bazel did it, or had it from a cache."""
    seconds: float = 0.0
    summary: str = ""
    """What Bazel said of the analysis: how many packages it loaded and targets it configured."""

    @property
    def compiled(self) -> int:
        """How many sources were compiled."""
        return sum(self.ran.get(kind, 0) for kind in COMPILE_ACTIONS)

    @property
    def linked(self) -> int:
        """How many programs and libraries were linked."""
        return sum(self.ran.get(kind, 0) for kind in LINK_ACTIONS)

"""What a check found: one form for doctor, cann-info, verify-serving and whatever else looks at something.

How findings are printed, and under which names --json shows them, is the task's own affair.
"""

from __future__ import annotations

from dataclasses import dataclass

from npu_serving.errors import NpuServingError

OK = "ok"
NOT_NEEDED = "not-needed"  # and so not looked at
NOTE = "note"  # worth knowing; nothing has to be done
WARNING = "warning"  # it will go on, perhaps not as meant
PROBLEM = "problem"  # something has to be done first


@dataclass(frozen=True)
class Finding:
    """One thing that was found, right or wrong."""

    what: str
    """What is wrong, in a sentence; where there is a requirement, its title."""
    cure: str = ""
    """What to type next."""
    severity: str = PROBLEM
    kind: str = ""
    """Which check found it, such as undefined-symbol: the same word whatever file it is found in."""
    where: str = ""
    """The file, or the place in one, that it is about."""
    found: str = ""
    required: str = ""
    details: tuple[str, ...] = ()
    """All symbols, versions or paths of it."""
    symbols: tuple[str, ...] = ()
    """The symbols among the details as the files have them, where it is about those: mangled."""

    @property
    def needs_action(self) -> bool:
        """Whether something has to be done."""
        return self.severity == PROBLEM


def as_finding(error: NpuServingError, kind: str, where: str) -> Finding:
    """What an error says, its likely cause as a sentence more."""
    cause = f" {error.cause[:1].upper()}{error.cause[1:]}." if error.cause else ""
    return Finding(error.what + cause, error.cure, PROBLEM, kind, where)

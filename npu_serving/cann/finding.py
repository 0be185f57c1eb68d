"""What there is to say about a CANN installation, with what to type next."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One sentence about what is wrong, or worth knowing where `needs_action` is False, and its cure."""

    what: str
    cure: str = ""
    needs_action: bool = True

    def to_json(self) -> dict[str, object]:
        """The finding as `--json` shows it."""
        return {"what": self.what, "cure": self.cure, "needs_action": self.needs_action}

    def text(self) -> str:
        """The sentence, and the cure in a line of its own."""
        mark = "problem" if self.needs_action else "note"
        return f"{mark}: {self.what}" + (f"\n  Next: {self.cure}" if self.cure else "")

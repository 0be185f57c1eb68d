"""What was found out about a server before it is started, for a person and for `--json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.errors import EXIT_ACTION_NEEDED

ERROR = "error"
WARNING = "warning"

ADAPTER_NOT_LINKED = "adapter-not-linked"
UNDEFINED_SYMBOL = "undefined-symbol"
CANNOT_TELL = "cannot-tell"
TOO_NEW = "too-new"
LIBRARY_NOT_FOUND = "library-not-found"
LIBRARY_UNUSABLE = "library-unusable"
OTHER_MACHINE = "other-machine"
SECOND_TENSORFLOW = "second-tensorflow"
STRAY_STUB = "stray-stub"
ABI_MIXTURE = "abi-mixture"
SIZE_CHANGED = "size-changed"

_DETAILS_SHOWN = 20


@dataclass(frozen=True)
class Finding:
    """One thing that speaks against a server. `subject` is a file's name; `details` are symbols, versions or paths."""

    kind: str
    severity: str
    subject: str
    explanation: str
    cure: str
    details: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The finding as `--json` shows it."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "subject": self.subject,
            "explanation": self.explanation,
            "details": list(self.details),
            "cure": self.cure,
        }

    def text(self) -> str:
        """What, why, and what to type next."""
        lines = [f"{self.severity}: {self.kind}: {self.subject}", f"  {self.explanation}"]
        lines += [f"    {detail}" for detail in self.details[:_DETAILS_SHOWN]]
        if len(self.details) > _DETAILS_SHOWN:
            lines.append(f"    and {len(self.details) - _DETAILS_SHOWN} more (--json lists them all)")
        return "\n".join([*lines, f"  Next: {self.cure}"])


@dataclass(frozen=True)
class CompatReport:
    """All findings about one server on this machine, and the files that the loader would take, in its order."""

    server: Path
    adapter: Path | None
    libraries: tuple[Path, ...]
    findings: tuple[Finding, ...]
    definers: Mapping[str, str] = field(default_factory=dict)
    """Who defines the symbols that the adapter needs: symbol -> the library's name, "" for the server."""

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.severity != ERROR for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0, or 3 where something has to be done before the server is started."""
        return 0 if self.ok else EXIT_ACTION_NEEDED

    def kinds(self, severity: str = ERROR) -> tuple[str, ...]:
        """The kinds of the findings of that severity, in their order."""
        return tuple(finding.kind for finding in self.findings if finding.severity == severity)

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        if not self.ok:
            return "this server will not start here with its adapter"
        if {LIBRARY_NOT_FOUND, CANNOT_TELL} & set(self.kinds(WARNING)):
            return (
                "nothing speaks against this server, but only where CANN is installed can it be told whether it starts"
            )
        return "this server will start here with its adapter"

    def to_json(self) -> dict[str, object]:
        """The report as `--json` shows it."""
        return {
            "server": str(self.server),
            "adapter": str(self.adapter) if self.adapter is not None else None,
            "ok": self.ok,
            "verdict": self.verdict,
            "findings": [finding.to_json() for finding in self.findings],
            "libraries": [str(path) for path in self.libraries],
        }

    def text(self) -> str:
        """The findings, each with its cure, and the verdict."""
        return "\n".join([*(finding.text() for finding in self.findings), f"verdict: {self.verdict}"])

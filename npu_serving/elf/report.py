"""What was found about a server before it is started, for a person and for `--json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from npu_serving.errors import EXIT_ACTION_NEEDED
from npu_serving.findings import PROBLEM, WARNING, Finding

ADAPTER_NOT_LINKED = "adapter-not-linked"
UNDEFINED_SYMBOL = "undefined-symbol"
SYMBOL_OF_CANN = "symbol-of-cann"
SYMBOL_OF_DRIVER = "symbol-of-driver"
SYMBOL_OF_PYTHON = "symbol-of-python"
SYMBOL_OF_SYSTEM = "symbol-of-system"
SYMBOLS_OF_OTHERS = (SYMBOL_OF_CANN, SYMBOL_OF_DRIVER, SYMBOL_OF_PYTHON, SYMBOL_OF_SYSTEM)
"""Undefined symbols that no server is built with: what a rebuild does not change."""
CANNOT_TELL = "cannot-tell"
TOO_NEW = "too-new"
LIBRARY_NOT_FOUND = "library-not-found"
DRIVER_NOT_FOUND = "driver-not-found"
LIBRARY_UNUSABLE = "library-unusable"
OTHER_MACHINE = "other-machine"
OTHER_PROCESSOR = "other-processor"
PAGE_SIZE = "page-size"
NO_INTERPRETER = "no-interpreter"
SECOND_TENSORFLOW = "second-tensorflow"
STRAY_STUB = "stray-stub"
ABI_MIXTURE = "abi-mixture"
COPY_LOST = "copy-lost"
SIZE_CHANGED = "size-changed"

NOT_FOUND = (LIBRARY_NOT_FOUND, DRIVER_NOT_FOUND)
NEEDS_IT = " needs it, "
"""How a finding about a missing library says who needs it."""
_DETAILS_SHOWN = 20
_SEVERITIES = {PROBLEM: "error"}  # as this report has always called it


@dataclass(frozen=True)
class CompatReport:
    """All findings about one server on this machine, and the files that the loader would take, in its order."""

    server: Path
    adapter: Path | None
    libraries: tuple[Path, ...]
    findings: tuple[Finding, ...]
    definers: Mapping[str, str] = field(default_factory=dict)
    """Who defines the symbols that the adapter needs: symbol -> the library's name, "" for the server."""
    without_adapter: bool = False
    """Whether the server was linked without an adapter, to be tried on the CPU."""

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.severity != PROBLEM for finding in self.findings)

    @property
    def fits_where_a_driver_is(self) -> bool:
        """Whether no finding but a missing driver is an error: a machine that builds has none."""
        return all(kind == DRIVER_NOT_FOUND for kind in self.kinds())

    @property
    def exit_code(self) -> int:
        """0, or 3 where something has to be done before the server is started."""
        return 0 if self.ok else EXIT_ACTION_NEEDED

    def kinds(self, severity: str = PROBLEM) -> tuple[str, ...]:
        """The kinds of the findings of that severity, in their order."""
        return tuple(finding.kind for finding in self.findings if finding.severity == severity)

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        if self.without_adapter:
            starts = "will start" if self.ok else "will not start"
            return f"this server {starts} here; it has no adapter, runs every model on the CPU, and is for trying only"
        if not self.ok:
            return "this server will not start here with its adapter"
        if {LIBRARY_NOT_FOUND, CANNOT_TELL} & set(self.kinds(WARNING)):
            return (
                "nothing is wrong with this server so far, but whether it starts can only be checked on a "
                "machine with CANN"
            )
        return "this server will start here with its adapter"

    def to_json(self) -> dict[str, object]:
        """The report as `--json` shows it."""
        return {
            "server": str(self.server),
            "adapter": str(self.adapter) if self.adapter is not None else None,
            "ok": self.ok,
            "verdict": self.verdict,
            "findings": [finding_json(finding) for finding in one_for_each_cause(self.findings)],
            "libraries": [str(path) for path in self.libraries],
        }

    def text(self) -> str:
        """The findings, each with its cure, and the verdict."""
        return "\n".join([*map(finding_text, one_for_each_cause(self.findings)), f"verdict: {self.verdict}"])


def one_for_each_cause(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings, those about libraries that are missing for one reason in one: their names on one line, and each
    directory that was searched once.
    """
    groups: dict[object, list[Finding]] = {}
    for number, finding in enumerate(findings):
        _, is_needed, rest = finding.what.partition(NEEDS_IT)
        mergeable = is_needed and finding.kind in NOT_FOUND
        key = (finding.kind, finding.severity, finding.cure, rest) if mergeable else number
        groups.setdefault(key, []).append(finding)
    return tuple(group[0] if len(group) == 1 else _merged(group) for group in groups.values())


def _merged(group: Sequence[Finding]) -> Finding:
    needing = list(dict.fromkeys(finding.what.partition(NEEDS_IT)[0] for finding in group))
    rest = group[0].what.partition(NEEDS_IT)[2]
    by = needing[0] if len(needing) == 1 else f"{', '.join(needing[:-1])} and {needing[-1]}"
    return replace(
        group[0],
        where=", ".join(dict.fromkeys(finding.where for finding in group)),
        what=f"{by} need{'s' if len(needing) == 1 else ''} them, {rest}",
        details=tuple(dict.fromkeys(detail for finding in group for detail in finding.details)),
    )


def finding_json(finding: Finding) -> dict[str, object]:
    """A finding about a server as `--json` shows it."""
    return {
        "kind": finding.kind,
        "severity": _SEVERITIES.get(finding.severity, finding.severity),
        "subject": finding.where,
        "explanation": finding.what,
        "details": list(finding.details),
        "cure": finding.cure,
    }


def finding_text(finding: Finding) -> str:
    """What, why, and what to type next."""
    severity = _SEVERITIES.get(finding.severity, finding.severity)
    lines = [f"{severity}: {finding.kind}: {finding.where}", f"  {finding.what}"]
    lines += [f"    {detail}" for detail in finding.details[:_DETAILS_SHOWN]]
    if len(finding.details) > _DETAILS_SHOWN:
        lines.append(f"    and {len(finding.details) - _DETAILS_SHOWN} more (--json lists them all)")
    return "\n".join([*lines, f"  Next: {finding.cure}"])

"""cann-info: what of CANN is installed here, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

from npu_serving.cann.adapter import Adapter
from npu_serving.cann.install import CannInstallation, adapter_command, cann_of, looked_at
from npu_serving.cann.layout import packages
from npu_serving.cann.library_changes import library_findings
from npu_serving.cann.operator_list import OPP, OperatorLists, list_of
from npu_serving.errors import EXIT_ACTION_NEEDED, AdapterError
from npu_serving.findings import NOTE, Finding
from npu_serving.sample.sample_settings import with_sample
from npu_serving.settings import WITHOUT_ADAPTER, Settings


@dataclass(frozen=True)
class CannInfo:
    """The installation, None where there is none; the adapter, where it is one that can be linked; the findings."""

    installation: CannInstallation | None
    adapter: Adapter | None
    looked_at: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """0, or 3 where a finding calls for something to be done."""
        return EXIT_ACTION_NEEDED if any(finding.needs_action for finding in self.findings) else 0

    @property
    def operator_list(self) -> OperatorLists | None:
        """CANN's own list of operators, where it is of use: what is wrong with one is a finding."""
        runtime = self.installation.runtime if self.installation is not None else None
        listed = list_of(runtime) if runtime is not None else None
        return listed if listed is not None and not listed.trouble else None

    def to_json(self) -> dict[str, object]:
        """All of it."""
        listed = self.operator_list
        return {
            "installation": self.installation.to_json() if self.installation is not None else None,
            "adapter": self.adapter.describe() if self.adapter is not None else None,
            "operator_list": {"path": str(listed.path), "operators": listed.operators} if listed is not None else None,
            "looked_at": list(self.looked_at),
            "findings": [_to_json(finding) for finding in self.findings],
            "exit_code": self.exit_code,
        }

    def text(self) -> str:
        """The components, then the findings, the problems first."""
        lines = [self.installation.text()] if self.installation is not None else []
        listed = self.operator_list
        if listed is not None:
            lines.append(f"  operators that the adapter may give to the NPU: {listed.operators}, in {listed.path}")
        installed = self.installation.adapter if self.installation is not None else None
        if self.adapter is not None and self.adapter.path != installed:
            lines.append(f"  named: {self.adapter.wheel or self.adapter.path} ({self.adapter.machine})")
        ordered = sorted(self.findings, key=lambda finding: not finding.needs_action)
        return "\n".join([*lines, *(_text(finding) for finding in ordered)])


def cann_info(settings: Settings) -> CannInfo:
    """What is installed below cann_root, or in the usual places where that isn't set, and the adapter that is named.

    Raises RequestError for a cann_root that doesn't exist or has no CANN in it, AdapterError for a named adapter that
    can't be one.
    """
    places = tuple(looked_at(settings.cann_root, os.environ))
    if settings.adapter == "sample":
        settings = with_sample(settings)
    cann = cann_of(settings)
    installation = cann.installation
    if installation is None:
        none = Finding(
            f"CANN is not installed here: nothing found in {', '.join(places)}.",
            f"{packages()['toolkit'].install_command()}, then {adapter_command(None)}; "
            "or ./inv cann-info --cann-root DIRECTORY",
        )
        if cann.setting == WITHOUT_ADAPTER:
            none = dataclasses.replace(none, severity=NOTE)
        named = cann.adapter if cann.is_named else None
        return CannInfo(None, named, places, (none,))
    runtime = installation.runtime
    findings = (*cann.findings, *(library_findings(runtime.path / OPP) if runtime is not None else ()))
    if cann.setting == WITHOUT_ADAPTER:
        return CannInfo(installation, None, places, (*findings, _without_adapter(installation)))
    if cann.setting == "auto" and (installation.adapter is None or not os.access(installation.adapter, os.R_OK)):
        return CannInfo(installation, None, places, findings)
    try:
        adapter, misfit = cann.adapter, cann.misfit()
    except AdapterError as error:
        if cann.setting != "auto":
            raise
        damaged = Finding(error.what, error.cure)
        return CannInfo(installation, None, places, (*findings, damaged))
    findings = (*findings, misfit) if misfit is not None else findings
    return CannInfo(installation, adapter, places, findings)


def _without_adapter(installation: CannInstallation) -> Finding:
    """What it means here that the settings name none."""
    there = "" if installation.adapter is None else f", so {installation.adapter} is not looked at"
    return Finding(f"`adapter: none` is set{there}: builds need no CANN.", severity=NOTE)


def _to_json(finding: Finding) -> dict[str, object]:
    return {"what": finding.what, "cure": finding.cure, "needs_action": finding.needs_action}


def _text(finding: Finding) -> str:
    """The sentence, and the cure in a line of its own."""
    return f"{finding.severity}: {finding.what}" + (f"\n  Next: {finding.cure}" if finding.cure else "")

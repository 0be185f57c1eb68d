"""What is wrong with the session options of a server: all rules over them, and all that they find at once.

A rule gets the options as one release of TF Adapter reads them, and yields a Finding for each thing that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from npu_serving.findings import Finding
from npu_serving.options.adapter_release import candidates
from npu_serving.options.adapter_rules import ADAPTER_RULES
from npu_serving.options.asked_options import EFFECT, AskedOptions, AskedValue
from npu_serving.options.guide_rules import GUIDE_RULES

_RULES = (*ADAPTER_RULES, *GUIDE_RULES)


def check_options(
    options: Mapping[str, AskedValue],
    release: str = "",
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = Path(),
) -> list[Finding]:
    """What is wrong with them for a server whose adapter is of that release of CANN; `where` is the option's name.

    Where it is not certain how that release behaves, or which one it is, what holds whichever it is. The `kind` says
    how it would end: one of EFFECT for what the adapter does not take; GUIDE_FORBIDS for what the guide forbids and
    this adapter does not check, which is a problem where models would be slow or wrong by it, else a warning. Relative
    paths are relative to `directory`; without one, no directory is looked at.
    """
    read = [AskedOptions(options, *each, environment or {}, directory) for each in candidates(release)]
    of_each = [_found(asked) for asked in read]
    certain = set.intersection(*({(each.kind, each.where) for each in found} for found in of_each))
    return [finding for finding in of_each[0] if (finding.kind, finding.where) in certain]


def _found(asked: AskedOptions) -> list[Finding]:
    found = [finding for rule in _RULES for finding in rule(asked)]
    # An option that the adapter refuses need not be reported for what the guide has against it as well.
    refused = {finding.where for finding in found if finding.kind in EFFECT}
    return [finding for finding in found if finding.kind in EFFECT or finding.where not in refused]

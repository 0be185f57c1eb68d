"""Whether this machine's memory would hold the models, and a new version of one beside the old one.

A server loads a new version before it unloads the old one. What a model needs beyond its files is not known here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from npu_serving.console import amount_text
from npu_serving.deploy.model_checks import CheckedModel, CheckedVersion
from npu_serving.findings import WARNING, Finding

KIND = "memory"
PROC_MEMINFO = Path("/proc/meminfo")


def check_memory(models: Sequence[CheckedModel], meminfo: Path = PROC_MEMINFO) -> list[Finding]:
    """What the models' files say of the memory that they need, where that is more than there is."""
    sizes = {model.name: [_size(version) for version in model.versions] for model in models}
    whole = sum(sum(of_model) for of_model in sizes.values())
    largest = max((size for of_model in sizes.values() for size in of_model), default=0)
    available = available_bytes(meminfo)
    if available is None or whole + largest <= available:
        return []
    name = next(name for name, of_model in sizes.items() if largest in of_model)
    of_files, of_memory, of_largest = (amount_text(size, "bytes") for size in (whole, available, largest))
    if whole > available:
        what = f"The models have {of_files} of files, and {of_memory} of memory are available"
        cure = "serve fewer models or versions here, or give the machine more memory"
    else:
        what = (
            f"The models take {of_files} of the {of_memory} of memory that are available, and a new "
            f"version of {name}, {of_largest}, would not fit beside the old one, which is unloaded only afterwards"
        )
        cure = "publish it by ./inv publish-model --unload-first, which has the old one unloaded before"
    return [Finding(f"{what}.", cure, WARNING, KIND, name)]


def bytes_of(model: CheckedModel) -> int:
    """The bytes of all of its versions' files."""
    return sum(_size(version) for version in model.versions)


def _size(version: CheckedVersion) -> int:
    """The bytes of the graph and the variables; 0 where they can't be looked at, which is found elsewhere."""
    total = 0
    for directory in (version.path, version.path / "variables"):
        try:
            with os.scandir(directory) as entries:
                total += sum(entry.stat().st_size for entry in entries if entry.is_file())
        except OSError:
            continue
    return total


def available_bytes(meminfo: Path = PROC_MEMINFO) -> int | None:
    """How much memory programs may still take; None where that is not known."""
    try:
        found = re.search(r"^MemAvailable:\s+([0-9]+) kB$", meminfo.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found is not None else None

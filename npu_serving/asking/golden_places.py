"""Where golden requests are, and what to type for one; without what it takes to read them."""

from __future__ import annotations

from pathlib import Path

DIRECTORY = "golden"
"""Beside the builds, where it outlives them."""
FORMER = "golden-request.json"
"""The only one that there was before the directory; it is still read."""
RECORD = "./inv smoke --record --model-base-path PATH --request REQUEST --platform-config-file CONFIG"
"""Without the platform config it would prove nothing about the NPU."""
NONE_RECORDED = f"no golden request is recorded, so the new server was not tried. To have it tried next time: {RECORD}"


def golden_directory(dist_root: Path) -> Path:
    """Where the golden requests of the builds there are."""
    return dist_root / DIRECTORY


def may_have_golden_requests(dist_root: Path) -> bool:
    """Whether there is anything that a golden request could be read from."""
    return golden_directory(dist_root).exists() or (dist_root / FORMER).exists()

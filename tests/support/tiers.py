"""How much is tried: what a person waits for, or, in `./inv test --long`, what a night allows."""

from __future__ import annotations

import os

LONG = os.environ.get("NPU_SERVING_TEST_TIER") == "long"


def examples(short: int, long: int) -> int:
    """How many examples hypothesis makes up."""
    return long if LONG else short

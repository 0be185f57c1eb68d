"""The embedded sample: its archives and its CANN install, made from the plain files in examples/sample."""

from __future__ import annotations

from pathlib import Path

SAMPLE_DIRECTORY = Path(__file__).resolve().parents[2] / "examples" / "sample"

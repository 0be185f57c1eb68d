"""What examples may be asked for, and a class that one may be of. NumPy is not needed here."""

from __future__ import annotations

from dataclasses import dataclass

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
"""What a task of a multi-inference does."""


@dataclass(frozen=True)
class ScoredLabel:
    """A class that an example may be of. Bytes of a label that are not UTF-8 are in it as PEP 383 says."""

    label: str
    score: float

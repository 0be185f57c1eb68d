"""The signatures of a model: whether requests can name its inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from npu_serving.findings import WARNING, Finding
from npu_serving.model_checks.naming import SIGNATURES
from npu_serving.models.saved_model import MetaGraph


def check_signatures(graph: MetaGraph, directory: Path) -> Iterator[Finding]:
    """What is wrong with them."""
    if not any(signature.is_for_requests for signature in graph.signatures.values()):
        what = f"{directory} has no signature, so no request can name its inputs and outputs."
        yield Finding(what, "export it again with a signature", WARNING, SIGNATURES, str(directory))

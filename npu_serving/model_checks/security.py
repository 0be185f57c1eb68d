"""What a graph does besides arithmetic: operators that reach files, or need a Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from npu_serving.findings import NOTE, WARNING, Finding
from npu_serving.model_checks.naming import SECURITY, listed
from npu_serving.models.dangerous_operators import dangerous_among
from npu_serving.models.saved_model import MetaGraph
from npu_serving.shown_text import in_a_line


def check_dangerous_operators(graph: MetaGraph, directory: Path) -> Iterator[Finding]:
    """Each of them with the signatures whose requests run it."""
    run_by = {name: graph.graph.run_by(signature) for name, signature in graph.signatures.items()}
    found = dangerous_among(graph.graph.operators)
    for operator, does in {**found.files, **found.python}.items():
        signatures = sorted(in_a_line(name) for name, operators in run_by.items() if operator in operators)
        asked = f"requests of {listed(signatures)} run it" if signatures else "no signature reaches it"
        needs = ", and a server has no Python: they would fail" if operator in found.python and signatures else ""
        yield Finding(
            f"The model in {directory} has the operator {operator}, which {does}; {asked}{needs}.",
            "serve it only if you know who made it, or export it without the operator" if signatures else "",
            WARNING if signatures else NOTE,
            SECURITY,
            str(directory),
        )

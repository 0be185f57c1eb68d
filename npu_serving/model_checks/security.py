"""What a graph does besides arithmetic: operators that reach files or need a Python, and paths outside of the model."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from npu_serving.findings import NOTE, WARNING, Finding
from npu_serving.model_checks.constants import constant_source, constant_texts, nodes_within
from npu_serving.model_checks.examined import ExaminedGraph, named
from npu_serving.model_checks.naming import SECURITY, listed
from npu_serving.models.dangerous_operators import dangerous_among
from npu_serving.models.graph_def import NodeDef, node_of
from npu_serving.shown_text import in_a_line

_PATHS = {
    "InitializeTableFromTextFile": 1,
    "InitializeTableFromTextFileV2": 1,
    "ReadFile": 0,
    "WriteFile": 0,
    "MatchingFiles": 0,
    "TextLineDataset": 0,
    "FixedLengthRecordDataset": 0,
    "FixedLengthRecordDatasetV2": 0,
    "TFRecordDataset": 0,
    "Restore": 0,
    "RestoreSlice": 0,
    "RestoreV2": 0,
}
"""Operators that open files, and which of their inputs has the paths (TensorFlow 1.15.0's registry)."""
_MEMORY = ("ImmutableConst", "memory_region_name")


def check_dangerous_operators(model: ExaminedGraph) -> Iterator[Finding]:
    """Each of them with the signatures whose requests run it."""
    graph, directory = model.content, model.directory
    found = dangerous_among(graph.graph.operators)
    if not found.files and not found.python:
        return
    run_by = {name: graph.graph.run_by(signature) for name, signature in graph.signatures.items()}
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


def check_outside_files(model: ExaminedGraph) -> Iterator[Finding]:
    """Nodes that open a file by a path that is fixed in the graph and is not an asset of the model.

    It was there when the model was made. One that is here too may be another file.
    """
    inside = {node_of(tensor) for tensor in (*model.assets, model.steps.file_name) if tensor}
    bodies = [("", model.graph.by_name), *((name, nodes_within(each)) for name, each in model.graph.functions.items())]
    for where, among in bodies:
        for node in (node for node in among.values() if node.op in _PATHS or node.op == _MEMORY[0]):
            for path in _paths(model, node, among, () if where else inside):
                yield _outside(model, where, node, path)


def _paths(model: ExaminedGraph, node: NodeDef, among: dict[str, NodeDef], inside: Collection[str]) -> Iterator[str]:
    """The constant paths that a node opens, but for those that the loader sets to files of the model."""
    if node.op == _MEMORY[0]:
        name = node.value(_MEMORY[1])
        if name is not None and name.kind == "string" and name.value:
            yield name.value.decode("utf-8", "surrogateescape")
        return
    at = _PATHS.get(node.op)
    if at is None or at >= len(node.inputs):
        return
    source = constant_source(node.inputs[at], among, inside)
    if source is None:
        return
    for text in constant_texts(model.graph, source) or ():
        if text:
            yield text.decode("utf-8", "surrogateescape")


def _outside(model: ExaminedGraph, where: str, node: NodeDef, path: str) -> Finding:
    severity, effect = model.effect(functions=[where]) if where else model.effect([node.name])
    is_there = os.path.exists(path)  # noqa: PTH110 - Path.exists() raises where it is shut
    shown = f"{named([(where, node)])[0]} ({in_a_line(node.op)})"
    what = f"The node {shown} opens a file outside of the model, {in_a_line(path)}"
    if severity == NOTE:
        return model.finding(f"{what}; {effect}.", "", NOTE, SECURITY)
    if is_there or node.op == "WriteFile":
        severity, effect = WARNING, "that file is on this machine, and may not be the one that the model was made with"
        effect = "it would be written" if node.op == "WriteFile" else effect
    else:
        effect = f"it is not on this machine, so {effect}"
    cure = f"export the model again with {in_a_line(Path(path).name)} as an asset"
    return model.finding(f"{what}: {effect}.", cure, severity, SECURITY)

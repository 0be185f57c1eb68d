"""One file of a model, apart from any version directory: what it is, and what a server would say of its graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from npu_serving.errors import NpuServingError
from npu_serving.findings import PROBLEM, Finding, as_finding
from npu_serving.model_checks.devices import check_devices
from npu_serving.model_checks.examined import ExaminedGraph
from npu_serving.model_checks.naming import MODEL_FILE, damaged, listed
from npu_serving.model_checks.operators import check_attributes, check_operators
from npu_serving.model_checks.structure import check_structure
from npu_serving.models.graph_def import GraphDef, read_graph_def_file
from npu_serving.models.model_kinds import kind_of_file
from npu_serving.models.saved_model import (
    PLACEHOLDERS,
    SavedGraph,
    read_meta_graph_file,
    read_saved_model_graphs,
)
from npu_serving.shown_text import in_a_line
from npu_serving.wire_bytes import MalformedMessageError


def check_file(path: Path) -> Iterator[Finding]:
    """What the file is, what to type for a model to be served, and what is wrong with its graph."""
    try:
        kind = kind_of_file(path)
        if not kind.message:
            yield Finding(f"{path} is {kind.what}.", kind.cure_for(path), PROBLEM, MODEL_FILE, str(path))
            return
        if kind.message == "SavedModel":
            graphs = read_saved_model_graphs(path)
        elif kind.message == "MetaGraphDef":
            graphs = [read_meta_graph_file(path)]
        else:
            graphs = [SavedGraph(read_graph_def_file(path))]
        yield Finding(_about(path, kind.what, graphs[0].graph), kind.cure_for(path), PROBLEM, MODEL_FILE, str(path))
        for graph in graphs:
            model = ExaminedGraph(path.parent, path, graph)
            for rule in (check_operators, check_attributes, check_structure, check_devices):
                yield from rule(model)
    except NpuServingError as error:
        yield as_finding(error, MODEL_FILE, str(path))
    except MalformedMessageError as error:
        yield damaged(path, error)


def _about(path: Path, what: str, graph: GraphDef) -> str:
    """A file that a server can't load as it is, with what a person needs for the conversion."""
    inputs = [in_a_line(node.name) for node in graph.nodes if node.op in PLACEHOLDERS]
    return (
        f"{path} is {what} ({len(graph.nodes)} nodes, inputs: {listed(inputs) or 'none'}), which a server does not "
        "load by itself."
    )

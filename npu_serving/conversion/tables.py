"""The tables of a graph: what fills them has to run when a server loads the model, and no output needs it.

Freezing drops it for that reason, and each request then fails with "Table not initialized".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.conversion.needed_nodes import AGAIN, input_node, needed_names
from npu_serving.errors import ModelFileError, RequestError
from npu_serving.models.graph_def import GraphDef, NodeDef
from npu_serving.models.small_constants import texts

_FILLED = ("HashTable", "HashTableV2")
_BY_FILE = ("InitializeTableFromTextFile", "InitializeTableFromTextFileV2")
_FILLING = ("InitializeTable", "InitializeTableV2", "LookupTableImport", "LookupTableImportV2", *_BY_FILE)
START_NODE = "fill_tables_when_loaded"


@dataclass(frozen=True)
class TableFilling:
    """The nodes that fill tables, and the files that they read, by the tensor that has the path."""

    nodes: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)


def table_filling(graph: GraphDef, needed: set[str], given: Mapping[str, Path], beside: Path) -> TableFilling:
    """What fills the tables among the `needed` nodes.

    A file is looked for where the graph says, and beside the model; `given` has others by node. RequestError where a
    table is filled by nothing, or a file is not there.
    """
    tables = {name for name in needed if graph.by_name[name].op in _FILLED}
    if not tables:
        return TableFilling()
    filling = {input_node(node.inputs[0]): node for node in graph.nodes if node.op in _FILLING and node.inputs}
    unfilled = sorted(tables - set(filling))
    if unfilled:
        raise RequestError(
            f"The table {unfilled[0]} would be empty: nothing in the graph fills it.",
            cause="the node that fills it was dropped when the graph was frozen, as no output needs it",
            cure="convert the SavedModel, or the .meta of the checkpoint, that the graph was frozen from",
        )
    nodes = [filling[name] for name in sorted(tables)]
    needed_names(graph, [node.name for node in nodes])  # says which input the graph lacks
    files = dict(_file(graph, node, given, beside) for node in nodes if node.op in _BY_FILE)
    return TableFilling(tuple(node.name for node in nodes), files)


def _file(graph: GraphDef, node: NodeDef, given: Mapping[str, Path], beside: Path) -> tuple[str, Path]:
    name = _origin(graph, node)
    value = graph.by_name[name].attributes.get("value")
    written = texts(value) if isinstance(value, bytes) else []
    path = Path(written[0].decode("utf-8", "surrogateescape")) if written else Path()
    places = [given[name]] if name in given else [path, beside / path.name] if path.name else []
    for place in places:
        if place.is_file():
            return f"{name}:0", place
    missing = str(places[0]) if places else "A file"
    raise RequestError(
        f"{missing} is not there, from which the table {input_node(node.inputs[0])} is filled.",
        cause="the graph has the path of the machine that it was made on",
        cure=f"--asset {name}=FILE, with the place where the file is here",
    )


def _origin(graph: GraphDef, node: NodeDef) -> str:
    """The node that the path of a table's file comes from. ModelFileError where it comes from nowhere."""
    at, inputs, passed = node, node.inputs[1:2], {node.name}
    while inputs:
        at = graph.by_name[input_node(inputs[0])]
        if at.op != "Identity":
            return at.name
        inputs = at.inputs[:1] if at.name not in passed else ()
        passed.add(at.name)
    raise ModelFileError(
        f"The path of the file that fills a table comes from nowhere: {node.name} ({node.op}) gets it from {at.name}.",
        cause="the graph was changed by hand",
        cure=AGAIN,
    )

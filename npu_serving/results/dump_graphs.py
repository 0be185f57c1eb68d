"""GE's graphs beside the dumps: which directory of dumps is of which graph, and the real names of the operators."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.console import Reporter
from npu_serving.errors import NpuServingError
from npu_serving.models.ge_graph import GeGraph, graph_files, read_ge_graphs
from npu_serving.results.dump_tree import dump_layout, without_slice
from npu_serving.shown_text import in_a_line


@dataclass(frozen=True)
class DumpedGraph:
    """A graph that operators were dumped of. `names` are its operators' real names by those in file names; `holders`
    are, by the name of an operator of the model, those that it became part of, all as they stand in file names.
    """

    file: Path
    names: dict[str, str] = field(repr=False)
    holders: dict[str, set[str]] = field(repr=False)

    def real_name(self, name: str) -> str:
        """The operator's own name; `name` itself where the graph has no such operator."""
        return self.names.get(without_slice(name), name)


@dataclass(frozen=True)
class FoundGraphs:
    """The graphs that were found, by how the directory of their dumps is called, and what could not be read."""

    by_model: dict[str, DumpedGraph]
    looked_in: tuple[Path, ...]
    troubles: tuple[str, ...]


def graphs_near(directory: Path, named: Path | None, servers: Iterable[Path], reporter: Reporter) -> FoundGraphs:
    """The graphs in `named`; without that those in the directory, above it, where we are, and where servers run."""
    near = (directory.absolute(), directory.absolute().parent, Path.cwd(), *servers)
    places = (named,) if named is not None else tuple(dict.fromkeys(near))
    found: dict[str, DumpedGraph] = {}
    troubles = []
    files = list(dict.fromkeys(file for place in places for file in graph_files(place)))
    with reporter.progress("Reading graphs", total=len(files), unit="files") as progress:
        for done, file in enumerate(files):
            progress.update(done, detail=in_a_line(file.name))
            try:
                graphs = read_ge_graphs(file)
            except NpuServingError as error:
                troubles.append(error.what)
                continue
            if not graphs:
                troubles.append(f"{in_a_line(str(file))} has no graph: it is empty, or was cut off.")
            found.update(_by_model(graphs))
    return FoundGraphs(found, places, tuple(troubles))


def _by_model(graphs: Iterable[GeGraph]) -> dict[str, DumpedGraph]:
    layout, found = dump_layout(), {}
    for graph in graphs:
        names: dict[str, list[str]] = {}
        holders: dict[str, set[str]] = {}
        for operator, originals in graph.operators.items():
            name = layout.in_file_names(operator)
            names.setdefault(name, []).append(operator)
            for original in originals:
                holders.setdefault(layout.in_file_names(original), set()).add(name)
        real = {name: " or ".join(operators) for name, operators in names.items()}
        found[layout.in_file_names(graph.name)] = DumpedGraph(graph.file, real, holders)
    return found

"""show-dump: the dumps of a directory by start, device, model, step and operator, and what compares them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving.cann.analysis_tools import how_to_get, tool_command
from npu_serving.cann.install import CannInstallation
from npu_serving.console import Reporter, amount_text, table
from npu_serving.errors import EXIT_FAILED, RequestError
from npu_serving.results.dump_graphs import DumpedGraph, FoundGraphs, graphs_near
from npu_serving.results.dump_selection import DumpFilter, selected
from npu_serving.results.dump_tree import DumpStep, DumpTree, read_dump_tree
from npu_serving.shown_text import in_a_line
from npu_serving.writers.shell import Word, command_line

MOST_FILES_SHOWN = 30
GOLDEN, RESULTS = "GOLDEN-NPY-FILES", "RESULTS"
"""What a person puts into the command: the files that a CPU's run has written, and where the comparison goes."""
_HEADER = ("time", "device", "model", "model id", "step", "operators", "size", "graph")


@dataclass(frozen=True)
class DumpReport:
    """The dumps that were asked for, the graphs near them, and the commands that compare the newest step of a model
    that has its graph.
    """

    tree: DumpTree
    steps: tuple[DumpStep, ...]
    graphs: Mapping[str, DumpedGraph]
    commands: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0, or 1 where not all could be read."""
        return EXIT_FAILED if self.tree.troubles else 0

    @property
    def _files(self) -> int:
        return sum(len(step.files) for step in self.steps)

    @property
    def _size_bytes(self) -> int:
        return sum(step.size_bytes for step in self.steps)

    def to_json(self) -> dict[str, object]:
        """All of it, with every file."""
        return {
            "directory": str(self.tree.directory),
            "steps": [self._step_to_json(step) for step in self.steps],
            "files": self._files,
            "size_bytes": self._size_bytes,
            "graph_files": sorted({str(graph.file) for graph in self.graphs.values()}),
            "commands": list(self.commands),
            "notes": list(self.notes),
            "others": self.tree.others,
            "troubles": self.tree.troubles,
            "exit_code": self.exit_code,
        }

    def text(self) -> str:
        """A line for each step, the files where there are few, the total, and what compares them."""
        total = amount_text(self._size_bytes, "bytes")
        parts = [
            table([self._row(step) for step in self.steps], header=_HEADER),
            self._operators(),
            f"{_counted(self._files, 'file')}, {total}, in {in_a_line(str(self.tree.directory))}",
            "\n".join([*self.notes, *self._others(), *self._empty(), *self.tree.troubles]),
            "\n".join(["To compare it with what a CPU computes:", *(f"  {line}" for line in self.commands)]),
        ]
        return "\n\n".join(part for part in parts if part)

    def _row(self, step: DumpStep) -> tuple[str, ...]:
        place, graph = step.place, self.graphs.get(step.place.model)
        return (
            place.time,
            place.device,
            in_a_line(place.model) or "(no graph)",
            place.model_id,
            place.step,
            f"{len({file.name for file in step.files}):,}",
            amount_text(step.size_bytes, "bytes"),
            in_a_line(graph.file.name) if graph is not None else "",
        )

    def _operators(self) -> str:
        if self._files > MOST_FILES_SHOWN:
            return (
                f"--operator NAME shows the files of an operator, by its name in the model; --json all {self._files:,}"
            )
        rows = []
        for step in self.steps:
            for file in step.files:
                empty = "" if file.size_bytes else " (empty)"
                name = in_a_line(self._real_name(step, file.name))
                size = amount_text(file.size_bytes, "bytes") + empty
                rows.append((name, in_a_line(file.type), size, in_a_line(self._below(file.path))))
        return table(rows, header=("operator", "type", "size", "file"))

    def _others(self) -> list[str]:
        if not self.tree.others:
            return []
        return [
            f"{_counted(self.tree.others, 'other file')} there, such as {in_a_line(self._below(self.tree.foreign[0]))}"
        ]

    def _empty(self) -> list[str]:
        empty = sum(not file.size_bytes for step in self.steps for file in step.files)
        return [f"{_counted(empty, 'empty file')}: the disk was full, or the server was killed"] if empty else []

    def _below(self, path: Path) -> str:
        return str(path.relative_to(self.tree.directory.absolute()))

    def _real_name(self, step: DumpStep, name: str) -> str:
        graph = self.graphs.get(step.place.model)
        return graph.real_name(name) if graph is not None else name

    def _step_to_json(self, step: DumpStep) -> dict[str, object]:
        graph = self.graphs.get(step.place.model)
        return {
            "directory": str(step.directory),
            **step.place.__dict__,
            "graph_file": str(graph.file) if graph is not None else None,
            "size_bytes": step.size_bytes,
            "files": [{**file.to_json(), "name": self._real_name(step, file.name)} for file in step.files],
        }


def show_dump(
    directory: Path,
    wanted: DumpFilter,
    graphs_in: Path | None,
    installation: CannInstallation | None,
    reporter: Reporter,
    servers: Iterable[Path] = (),
) -> DumpReport:
    """The dumps below `directory` that are asked for; GE's graphs are looked for in `graphs_in`, else near the dumps
    and in the directories that servers run in.

    Raises RequestError where there are no dumps, where a filter leaves none, and where `graphs_in` has no graph.
    """
    with reporter.progress(f"Reading {in_a_line(str(directory))}", unit="files") as progress:
        tree = read_dump_tree(directory, progress)
    found = graphs_near(directory, graphs_in, servers, reporter)
    if graphs_in is not None and not found.by_model:
        raise RequestError(
            "\n".join([f"There is no graph in {graphs_in}, in no file ge_proto_*_Build.txt.", *found.troubles]),
            cause="GE writes its graphs only with DUMP_GE_GRAPH, where the server runs or DUMP_GRAPH_PATH says",
            cure="./inv explain DUMP_GE_GRAPH",
        )
    steps = selected(tree.steps, wanted, found.by_model)
    marked = [step for step in steps if step.place.model in found.by_model]
    commands = _commands((marked or steps)[-1], found.by_model, installation)
    notes = (*found.troubles, *_about_the_graph(found, has_one=bool(marked)))
    return DumpReport(tree, tuple(steps), found.by_model, commands, notes)


def _about_the_graph(found: FoundGraphs, *, has_one: bool) -> tuple[str, ...]:
    if has_one:
        return ()
    if found.by_model:
        return ("No model here is called like a graph of the files that were found: they are of another run.",)
    places = ", ".join(in_a_line(str(place)) for place in found.looked_in)
    return (
        f"Which model is the computation graph is not known: no ge_proto_*_Build.txt is in {places}. GE writes it with "
        "DUMP_GE_GRAPH=2 where the server runs; --graphs DIRECTORY names that.",
    )


def _commands(
    step: DumpStep, graphs: Mapping[str, DumpedGraph], installation: CannInstallation | None
) -> tuple[str, ...]:
    """The graph as JSON, and the comparison by it; where the program is not installed, how to get it."""
    graph = graphs.get(step.place.model)
    file = str(graph.file) if graph is not None else "GRAPH"
    compare: list[Word] = ["compare", "-m", step.directory, "-g", GOLDEN, "-f", f"{file}.json", "-out", RESULTS]
    convert = ["--mode=5", f"--om={file}", f"--json={file}.json"]
    compared = tool_command("msaccucmp", compare, installation)
    if not compared:
        return (how_to_get("msaccucmp", installation),)
    return (tool_command("atc", convert, installation) or command_line(["atc", *convert]), compared)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"

"""A graph of a version directory as the rules look at it: what a server runs at the load, and for each signature."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from npu_serving.findings import NOTE, PROBLEM, Finding
from npu_serving.model_checks.naming import listed
from npu_serving.models.graph_def import GraphDef, NodeDef, by_operator, node_of
from npu_serving.models.saved_model import MetaGraph, ModelSignature, SavedGraph
from npu_serving.shown_text import in_a_line
from npu_serving.wire_bytes import BYTES, fields, tag, text_of

INIT_SIGNATURE = "__saved_model_init_op"
"""The signature, and its output, by which TensorFlow 2 names the operation that the loader runs (constants.h)."""
_MAIN_OPS = ("saved_model_main_op", "legacy_init_op")
_ASSETS = "saved_model_assets"
_MOST_DETAILS = 100


@dataclass(frozen=True)
class Reached:
    """The nodes and the functions that something runs."""

    nodes: frozenset[str]
    functions: frozenset[str]


@dataclass(frozen=True)
class LoadSteps:
    """What the server's loader runs: restoring the variables, its file name's tensor, and the operations after it."""

    restore: str = ""
    file_name: str = ""
    main: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExaminedGraph:
    """One graph of a SavedModel, in the directory of its version."""

    directory: Path
    file: Path
    saved: SavedGraph

    @property
    def graph(self) -> GraphDef:
        """Its nodes and functions."""
        return self.saved.graph

    @cached_property
    def content(self) -> MetaGraph:
        """The graph by its operators."""
        return self.saved.content()

    @cached_property
    def signatures(self) -> Mapping[str, ModelSignature]:
        """Those that a request can ask for, in the order of their names."""
        return {name: each for name, each in sorted(self.saved.signatures.items()) if name != INIT_SIGNATURE}

    @cached_property
    def steps(self) -> LoadSteps:
        """What is run at the load, by SaverDef, the signature of TensorFlow 2 or the collection of TensorFlow 1."""
        restore = file_name = ""
        with self.graph.opened() as file:
            if self.saved.saver is not None:
                for key, first, last in file.fields(self.saved.saver.start, self.saved.saver.end):
                    if key == tag(1, BYTES):
                        file_name = file.text(first, last)
                    elif key == tag(3, BYTES):
                        restore = file.text(first, last)
            main: tuple[str, ...] = ()
            named = self.saved.signatures.get(INIT_SIGNATURE)
            if named is not None:
                main = tuple(spec.name for key, spec in named.outputs.items() if key == INIT_SIGNATURE)
            else:
                place = next((self.saved.collections[key] for key in _MAIN_OPS if key in self.saved.collections), None)
                if place is not None:
                    main = tuple(
                        file.text(at, until)
                        for key, first, last in file.fields(place.start, place.end)
                        if key == tag(1, BYTES)
                        for inner, at, until in file.fields(first, last)
                        if inner == tag(1, BYTES)
                    )
        return LoadSteps(restore, file_name, main)

    @cached_property
    def assets(self) -> Mapping[str, str]:
        """The names of files in assets/ by the tensors that get their paths when the model is loaded."""
        place = self.saved.collections.get(_ASSETS)
        if self.saved.assets or place is None:
            return self.saved.assets
        found: dict[str, str] = {}
        with self.graph.opened() as file:
            data = file.read(place.start, place.end)
        for value in _messages(memoryview(data), 5, 1, 2):
            tensor, name = "", ""
            for key, _, inner in fields(value):
                if key == tag(2, BYTES):
                    name = text_of(inner)
                elif key == tag(1, BYTES):
                    tensor = "".join(text_of(each) for each in _messages(inner, 1))
            found[tensor] = name
        return found

    @cached_property
    def at_load(self) -> Reached:
        """What the loader runs: to restore the variables, and its operations after that."""
        fed = {node_of(self.steps.file_name), *map(node_of, self.assets)}
        return self.reached([name for name in (self.steps.restore, *self.steps.main) if name], fed)

    @cached_property
    def by_signature(self) -> Mapping[str, Reached]:
        """What a request of each signature runs."""
        return {
            name: self.reached(
                (tensor for spec in each.outputs.values() for tensor in (spec.name, *spec.others)),
                {node_of(tensor) for spec in each.inputs.values() for tensor in (spec.name, *spec.others)},
            )
            for name, each in self.signatures.items()
        }

    def reached(self, tensors: Iterable[str], fed: Collection[str] = ()) -> Reached:
        """What is run for these tensors where the values of the nodes `fed` are given."""
        sources, functions = self.graph.sources, self.graph.functions
        waiting = list(tensors)
        nodes: set[str] = set()
        called: list[str] = []
        while waiting:
            node = sources[waiting.pop()]
            if node is None or node.name in nodes or node.name in fed:
                continue
            nodes.add(node.name)
            waiting += node.inputs
            if functions:
                called += (node.op, *node.calls)
        return Reached(frozenset(nodes), self._called(called))

    def _called(self, names: list[str]) -> frozenset[str]:
        found: set[str] = set()
        while names:
            function = self.graph.functions.get(names.pop())
            if function is not None and function.name not in found:
                found.add(function.name)
                for node in function.nodes:
                    names += (node.op, *node.calls)
        return frozenset(found)

    def effect(self, nodes: Iterable[str] = (), functions: Iterable[str] = ()) -> tuple[str, str]:
        """How much it matters that one of these can't run, and who would fail."""
        names, of_functions = set(nodes), set(functions)

        def runs(reached: Reached) -> bool:
            return bool(names & reached.nodes or of_functions & reached.functions)

        if runs(self.at_load):
            return PROBLEM, "the server could not load the model"
        asked = [in_a_line(name) for name, reached in self.by_signature.items() if runs(reached)]
        if asked:
            return PROBLEM, f"the server would load the model, and requests of {listed(asked)} would fail"
        return NOTE, "no request reaches it"

    def finding(
        self, what: str, cure: str = "", severity: str = PROBLEM, kind: str = "", details: Iterable[str] = ()
    ) -> Finding:
        """A finding about the graph's file."""
        names = [in_a_line(each) for each in details]
        shown = tuple(names[:_MOST_DETAILS]) if names[1:] else ()  # of one alone the sentence speaks
        return Finding(what, cure, severity, kind, str(self.file), details=shown)

    def all_operators(self) -> Iterator[tuple[str, dict[str, list[NodeDef]]]]:
        """The nodes by their operators, those of each function with its name, and before them the others with ""."""
        yield "", self.graph.by_operator
        yield from ((name, by_operator(function.nodes)) for name, function in self.graph.functions.items())

    def all_nodes(self) -> Iterator[tuple[str, NodeDef]]:
        """Each node with the function that it stands in, "" for none."""
        yield from (("", node) for node in self.graph.nodes)
        for name, function in self.graph.functions.items():
            yield from ((name, node) for node in function.nodes)


def named(nodes: Iterable[tuple[str, NodeDef]]) -> list[str]:
    """The nodes as a person finds them: with the function that they stand in."""
    return [
        in_a_line(node.name) + (f" (in the function {in_a_line(function)})" if function else "")
        for function, node in nodes
    ]


def _messages(message: memoryview, *path: int) -> Iterator[memoryview]:
    """The contents of the fields at the end of that path of numbers. MalformedMessageError."""
    for key, _, inner in fields(message):
        if key == tag(path[0], BYTES):
            if len(path) == 1:
                yield inner
            else:
                yield from _messages(inner, *path[1:])

"""The reader of SavedModels and frozen graphs: tags, signatures, and the operators that their graphs are made of.

Neither TensorFlow nor protobuf is needed. The numbers of the fields are those of TensorFlow 1.15's .proto files; of
the constants in a graph, which may be gigabytes, nothing is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from npu_serving.errors import ModelFileError
from npu_serving.models.attribute_values import MOST_DIMENSIONS, Extent, type_name
from npu_serving.models.graph_def import GraphDef, GraphScan, NodeDef, node_of, read_graph_def_file
from npu_serving.models.model_kinds import as_wire, recognised
from npu_serving.models.wire_format import WireFile, open_wire_file
from npu_serving.wire_bytes import BYTES, VARINT, signed, tag
from npu_serving.writers.shell import command_line

SAVED_MODEL, SAVED_MODEL_TEXT = "saved_model.pb", "saved_model.pbtxt"

_ASSETS = "saved_model_assets"  # the collection
_REFERENCE = "_ref"  # is at the end of the type of what refers to a variable

# More than any model has: what is kept of a file is bounded, whatever is in it.
_MOST_GRAPHS = 100
_MOST_NAMES = 50_000  # of operators, functions, placeholders, signatures and their tensors
_SPARSE = (tag(1, BYTES), tag(2, BYTES), tag(3, BYTES))  # the tensors of the values, the indices, the shape
PLACEHOLDERS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a graph, such as x:0, its type, and its shape: -1 for each unknown size, None for an unknown rank."""

    name: str
    data_type: str
    shape: tuple[int, ...] | None
    others: tuple[str, ...] = ()
    """Of a sparse tensor, whose values are `name`: the tensors of its indices and its shape."""

    @property
    def node(self) -> str:
        """The node that it comes from."""
        return node_of(self.name)

    def to_json(self) -> dict[str, object]:
        """The tensor, its type and its shape."""
        return {"tensor": self.name, "dtype": self.data_type, "shape": None if self.shape is None else list(self.shape)}

    def describe(self) -> str:
        """Its type and shape, such as `float32 [?, 224]`."""
        if self.shape is None:
            return f"{self.data_type} of any shape"
        return f"{self.data_type} [{', '.join('?' if size < 0 else str(size) for size in self.shape)}]"


@dataclass(frozen=True)
class ModelSignature:
    """What a model is asked with, and what it answers, by the names that clients use."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str

    @property
    def is_for_requests(self) -> bool:
        """Whether a request can ask for it, unlike what TensorFlow 2 has for the initialisation."""
        return bool(self.outputs and self.method_name)

    def to_json(self) -> dict[str, object]:
        """The tensors by their names, and the method."""
        inputs, outputs = (
            {name: spec.to_json() for name, spec in sorted(specs.items())} for specs in (self.inputs, self.outputs)
        )
        return {"inputs": inputs, "outputs": outputs, "method_name": self.method_name}


@dataclass(frozen=True)
class GraphNode:
    """A node: its operator, the names of the nodes that it needs, and of the functions that its attributes name."""

    operator: str
    inputs: tuple[str, ...]
    calls: tuple[str, ...] = ()


@dataclass(frozen=True)
class FunctionBody:
    """What a function of a graph runs: nodes by their operators, and the functions that their attributes name."""

    operators: Mapping[str, int]
    calls: frozenset[str] = frozenset()


@dataclass(frozen=True)
class GraphContent:
    """How many nodes of each operator a graph has, those in its functions included, and which functions it has."""

    operators: Mapping[str, int]
    placeholders: Mapping[str, TensorSpec]
    functions: Mapping[str, FunctionBody] = field(default_factory=dict)
    graph: GraphDef | None = field(default=None, repr=False, compare=False)

    @cached_property
    def by_name(self) -> Mapping[str, GraphNode]:
        """The nodes that are in no function."""
        texts: dict[str, str] = {}
        found: dict[str, GraphNode] = {}
        for node in self.graph.nodes if self.graph is not None else ():
            inputs = tuple(texts.get(tensor) or texts.setdefault(tensor, node_of(tensor)) for tensor in node.inputs)
            found[node.name] = GraphNode(node.op, inputs, node.calls if self.functions else ())
        return found

    @property
    def nodes(self) -> int:
        """How many there are in all."""
        return sum(self.operators.values())

    def registered_operators(self) -> dict[str, int]:
        """Those that a server has to know: a node may also call a function of the graph by its name."""
        return {name: count for name, count in self.operators.items() if name not in self.functions}

    def run_by(self, signature: ModelSignature) -> dict[str, int]:
        """The operators that a request of that signature runs, and how often: not those that only save or train.

        What the inputs were computed from does not run. A function that is reached is counted once.
        """
        if self.graph is None:
            return {}
        sources = self.graph.sources
        seen = {node_of(tensor) for spec in signature.inputs.values() for tensor in (spec.name, *spec.others)}
        waiting = [tensor for spec in signature.outputs.values() for tensor in (spec.name, *spec.others)]
        found: Counter[str] = Counter()
        called: list[str] = []
        while waiting:
            node = sources[waiting.pop()]
            if node is None or node.name in seen:
                continue
            seen.add(node.name)
            found[node.op] += 1
            if self.functions:
                called += [*node.calls, node.op]
            waiting += node.inputs
        reached: set[str] = set()
        while called:
            name = called.pop()
            body = self.functions.get(name)
            if body is not None and name not in reached:
                reached.add(name)
                found.update(body.operators)
                called += [*body.calls, *body.operators]
        return {name: count for name, count in sorted(found.items()) if name not in self.functions}


@dataclass(frozen=True)
class MetaGraph:
    """One graph of a SavedModel, with the tags that it is chosen by."""

    tags: frozenset[str]
    tensorflow_version: str
    signatures: Mapping[str, ModelSignature]
    graph: GraphContent

    def signatures_json(self) -> dict[str, object]:
        """The signatures as `--json` shows them."""
        return {name: signature.to_json() for name, signature in sorted(self.signatures.items())}


@dataclass
class SavedGraph:
    """One graph of a SavedModel, a MetaGraphDef, with what stands beside it in its file.

    `assets` has the names of files in assets/ by the tensors that get their paths; `collections` has the places of
    CollectionDef by name, `saver` of a SaverDef, `object_graph` of TensorFlow 2's SavedObjectGraph: places in the bytes
    that graph.opened() gives.
    """

    graph: GraphDef
    tags: frozenset[str] = frozenset()
    tensorflow_version: str = ""
    signatures: dict[str, ModelSignature] = field(default_factory=dict)
    assets: dict[str, str] = field(default_factory=dict)
    collections: dict[str, Extent] = field(default_factory=dict)
    saver: Extent | None = None
    object_graph: Extent | None = None
    start: int = 0
    end: int = 0

    def content(self) -> MetaGraph:
        """The graph by its operators."""
        return MetaGraph(self.tags, self.tensorflow_version, self.signatures, _content(self.graph))


def tag_flags(tags: Iterable[str]) -> str:
    """The flags that choose the graph with these tags, as every task that reads a SavedModel takes them."""
    return command_line([word for each in sorted(tags) for word in ("--tag", each)])


def read_saved_model(path: Path) -> tuple[MetaGraph, ...]:
    """The graphs of a saved_model.pb. ModelFileError for another file, or a damaged one; FileAccessError."""
    return tuple(graph.content() for graph in read_saved_model_graphs(path))


def read_saved_model_graphs(path: Path) -> list[SavedGraph]:
    """The graphs of a saved_model.pb or .pbtxt, with their nodes. The errors are those of read_saved_model()."""
    with open_wire_file(path) as opened:
        _refuse_wrong_name(opened)
        file, _ = as_wire(opened, "SavedModel")
        graphs: list[SavedGraph] = []
        for key, start, end in file.fields(0, file.size):
            if key == tag(2, BYTES):
                graphs.append(_saved_graph(file, start, end))
                if len(graphs) > _MOST_GRAPHS:
                    raise file.damaged(start, f"there are more than {_MOST_GRAPHS} graphs, each with tags of its own")
    if not graphs:
        raise ModelFileError(
            f"{path} contains no graph.", cause="it is not a SavedModel", cure="copy or export the model again"
        )
    return graphs


def read_meta_graph_file(path: Path) -> SavedGraph:
    """The graph of the .meta file of a checkpoint. ModelFileError for another file, or a damaged one."""
    with open_wire_file(path) as opened:
        file, _ = as_wire(opened, "MetaGraphDef")
        return _saved_graph(file, 0, file.size)


def read_graph_def(path: Path) -> GraphContent:
    """What is in a frozen graph, a GraphDef. ModelFileError for another file, or a damaged one; FileAccessError."""
    return _content(read_graph_def_file(path))


def _refuse_wrong_name(file: WireFile) -> None:
    """ModelFileError for a text under the name of a binary file, or the other way: the server goes by the name."""
    kind = recognised(file)
    is_text_name = file.path.name == SAVED_MODEL_TEXT
    if kind.message == "SavedModel" and file.path.name in (SAVED_MODEL, SAVED_MODEL_TEXT):
        if kind.is_text and not is_text_name:
            raise ModelFileError(f"{file.path} is a SavedModel as text.", cure=f"name it {SAVED_MODEL_TEXT}")
        if is_text_name and not kind.is_text:
            raise ModelFileError(f"{file.path} is a SavedModel, but not as text.", cure=f"name it {SAVED_MODEL}")


def _content(graph: GraphDef) -> GraphContent:
    """A graph by its operators."""
    operators = Counter({operator: len(nodes) for operator, nodes in graph.by_operator.items()})
    open_nodes = [node for operator in PLACEHOLDERS for node in graph.by_operator.get(operator, ())]
    placeholders = {node.name: _placeholder(node) for node in sorted(open_nodes, key=lambda node: node.start)}
    functions = {}
    for name, function in graph.functions.items():
        inner = Counter(node.op for node in function.nodes)
        operators.update(inner)
        calls = frozenset(call for node in function.nodes for call in node.calls)
        functions[name] = FunctionBody(dict(sorted(inner.items())), calls)
    return GraphContent(dict(sorted(operators.items())), placeholders, functions, graph)


def _placeholder(node: NodeDef) -> TensorSpec:
    data_type, shape = node.value("dtype"), node.value("shape")
    return TensorSpec(
        f"{node.name}:0",
        _data_type(data_type.value) if data_type is not None and data_type.kind == "type" else type_name(0),
        shape.value if shape is not None and shape.kind == "shape" else None,
    )


def _saved_graph(file: WireFile, start: int, end: int) -> SavedGraph:
    found = SavedGraph(GraphDef([], {}, b"", file.path), start=start, end=end)
    scan = GraphScan(file)
    tags: set[str] = set()
    for key, first, last in file.fields(start, end):
        if key == tag(1, BYTES):
            for of_info, at, until in file.fields(first, last):
                if of_info == tag(4, BYTES):
                    tags.add(file.text(at, until))
                elif of_info == tag(5, BYTES):
                    found.tensorflow_version = file.text(at, until)
        elif key == tag(2, BYTES):
            scan.add(first, last)
        else:
            _add_what_is_beside(found, file, key, first, last)
        if len(tags) + len(found.signatures) + len(found.collections) + len(found.assets) >= _MOST_NAMES:
            raise file.damaged(first, "there are more tags and signatures up to here than any model has")
    found.tags, found.graph = frozenset(tags), scan.graph()
    return found


def _add_what_is_beside(found: SavedGraph, file: WireFile, key: int, start: int, end: int) -> None:
    """Adds a field of a MetaGraphDef that is not of the graph itself."""
    if key == tag(3, BYTES):
        found.saver = Extent(start, end)
    elif key == tag(4, BYTES):
        name, value = _entry(file, start, end)
        found.collections[name] = Extent(*value)
        if name == _ASSETS:
            found.assets.update(_collected_assets(file, *value))
    elif key == tag(5, BYTES):
        name, value = _entry(file, start, end)
        found.signatures[name] = _signature(file, *value)
    elif key == tag(6, BYTES):
        tensor, name = _asset(file, start, end)
        found.assets[tensor] = name
    elif key == tag(7, BYTES):
        found.object_graph = Extent(start, end)


def _collected_assets(file: WireFile, start: int, end: int) -> Iterator[tuple[str, str]]:
    """The assets of a collection, where TensorFlow 1 has them: a list of messages of any type, each with its bytes."""
    for key, first, last in file.fields(start, end):
        if key == tag(5, BYTES):
            for of_list, at, until in file.fields(first, last):
                if of_list == tag(1, BYTES):
                    for of_any, begin, finish in file.fields(at, until):
                        if of_any == tag(2, BYTES):
                            yield _asset(file, begin, finish)


def _asset(file: WireFile, start: int, end: int) -> tuple[str, str]:
    """The tensor that gets the path of an asset, and the name of its file in assets/."""
    tensor = name = ""
    for key, first, last in file.fields(start, end):
        if key == tag(1, BYTES):
            for of_info, at, until in file.fields(first, last):
                if of_info == tag(1, BYTES):
                    tensor = file.text(at, until)
        elif key == tag(2, BYTES):
            name = file.text(first, last)
    return tensor, name


def _signature(file: WireFile, start: int, end: int) -> ModelSignature:
    tensors: tuple[dict[str, TensorSpec], dict[str, TensorSpec]] = ({}, {})
    method = ""
    for key, first, last in file.fields(start, end):
        if key in (tag(1, BYTES), tag(2, BYTES)):
            name, value = _entry(file, first, last)
            of_these = tensors[0 if key == tag(1, BYTES) else 1]
            of_these[name] = _tensor(file, *value)
            if len(of_these) >= _MOST_NAMES:
                raise file.damaged(first, "there are more tensors up to here than any signature has")
        elif key == tag(3, BYTES):
            method = file.text(first, last)
    return ModelSignature(*tensors, method)


def _tensor(file: WireFile, start: int, end: int) -> TensorSpec:
    name, data_type = "", 0
    others: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = ()
    for key, first, last in file.fields(start, end):
        if key == tag(1, BYTES):
            name = file.text(first, last)
        elif key == tag(2, VARINT):
            data_type = first
        elif key == tag(3, BYTES):
            shape = _shape(file, first, last)
        elif key == tag(4, BYTES):  # a sparse tensor
            parts = {part: file.text(at, until) for part, at, until in file.fields(first, last) if part in _SPARSE}
            name, others = parts.pop(_SPARSE[0], name), tuple(parts.values())
    return TensorSpec(name, _data_type(type_name(data_type)), shape, others)


def _shape(file: WireFile, start: int, end: int) -> tuple[int, ...] | None:
    sizes: list[int] = []
    for key, first, last in file.fields(start, end):
        if key == tag(3, VARINT) and first:
            return None
        if key == tag(2, BYTES):
            size = 0
            for of_size, number, _ in file.fields(first, last):
                if of_size == tag(1, VARINT):
                    size = signed(number)
            sizes.append(size)
            if len(sizes) > MOST_DIMENSIONS:
                raise file.damaged(first, f"a shape has more than {MOST_DIMENSIONS} dimensions")
    return tuple(sizes)


def _entry(file: WireFile, start: int, end: int) -> tuple[str, tuple[int, int]]:
    """The key of a map's entry, and where its value is."""
    name, value = "", (start, start)
    for key, first, last in file.fields(start, end):
        if key == tag(1, BYTES):
            name = file.text(first, last)
        elif key == tag(2, BYTES):
            value = (first, last)
    return name, value


def _data_type(name: str) -> str:
    """The type of a tensor whose type may be that of a reference to a variable."""
    return name[: -len(_REFERENCE)] if name.endswith(_REFERENCE) else name

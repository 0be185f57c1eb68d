"""The reader of SavedModels and frozen graphs: tags, signatures, and the operators that their graphs are made of.

Neither TensorFlow nor protobuf is needed. The numbers of the fields are those of TensorFlow 1.15's .proto files; of
the constants in a graph, which may be gigabytes, nothing is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.errors import ModelFileError
from npu_serving.models.wire_format import WireFile, open_wire_file
from npu_serving.wire_bytes import BYTES, VARINT, signed, tag

SAVED_MODEL, SAVED_MODEL_TEXT = "saved_model.pb", "saved_model.pbtxt"

DATA_TYPES: Mapping[int, str] = dict(
    enumerate(
        [
            "float32",
            "float64",
            "int32",
            "uint8",
            "int16",
            "int8",
            "string",
            "complex64",
            "int64",
            "bool",
            "qint8",
            "quint8",
            "qint32",
            "bfloat16",
            "qint16",
            "quint16",
            "uint16",
            "complex128",
            "float16",
            "resource",
            "variant",
            "uint32",
            "uint64",
        ],
        start=1,
    )
)
"""DataType of types.proto, by the names that TensorFlow prints."""
_REFERENCE = 100  # is added to the type of what refers to a variable

# More than any model has: what is kept of a file is bounded, whatever is in it.
_MOST_NODES = 1_000_000
_MOST_GRAPHS = 100
_MOST_NAMES = 50_000  # of operators, functions, placeholders, signatures and their tensors

_MOST_DIMENSIONS = 254  # TensorShape::MaxDimensions()

_NODE_NAME, _NODE_OP, _NODE_INPUT = tag(1, BYTES), tag(2, BYTES), tag(3, BYTES)
_SPARSE = (tag(1, BYTES), tag(2, BYTES), tag(3, BYTES))  # the tensors of the values, the indices, the shape
_PLACEHOLDERS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")
_BEGINNINGS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the model itself", "git lfs pull"),
    (b"\x1f\x8b", "packed with gzip", "unpack it with gunzip"),
    (b"PK\x03\x04", "a zip file", "unpack it with unzip"),
    (b"saved_model_schema_version", "a SavedModel as text", f"name it {SAVED_MODEL_TEXT}"),
)


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
        return _node_of(self.name)

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
    by_name: Mapping[str, GraphNode] = field(default_factory=dict, repr=False)
    """The nodes that are in no function."""

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
        fed = {_node_of(tensor) for spec in signature.inputs.values() for tensor in (spec.name, *spec.others)}
        waiting = [_node_of(tensor) for spec in signature.outputs.values() for tensor in (spec.name, *spec.others)]
        seen = set(waiting)
        found: Counter[str] = Counter()
        called: list[str] = []
        while waiting:
            name = waiting.pop()
            node = self.by_name.get(name)
            if node is None or name in fed:
                continue
            found[node.operator] += 1
            called += [*node.calls, node.operator]
            new = [needed for needed in node.inputs if needed not in seen]
            seen.update(new)
            waiting += new
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


def read_saved_model(path: Path) -> tuple[MetaGraph, ...]:
    """The graphs of a saved_model.pb. ModelFileError for another file, or a damaged one; FileAccessError."""
    with open_wire_file(path) as file:
        _refuse_others(file)
        graphs, has_nodes = [], False
        for key, start, end in file.fields(0, file.size):
            if key == tag(2, BYTES):
                if has_nodes:
                    break
                graphs.append(_meta_graph(file, start, end))
                if len(graphs) > _MOST_GRAPHS:
                    raise file.damaged(start, f"there are more than {_MOST_GRAPHS} graphs, each with tags of its own")
            elif key == tag(1, BYTES):  # which is a number in a SavedModel, and a node in a graph
                has_nodes = True
                break
    if has_nodes:
        graph = read_graph_def(path)
        inputs = ", ".join(sorted(graph.placeholders)[:5]) or "no placeholder"
        raise ModelFileError(
            f"{path} is a graph alone ({graph.nodes} nodes, inputs: {inputs}), not a SavedModel.",
            cause="a frozen graph was renamed: it has no signature, by which a server could ask it",
            cure="export it with tf.saved_model.simple_save, with its inputs and outputs",
        )
    if not graphs:
        raise ModelFileError(
            f"{path} contains no graph.",
            cause="it is empty" if not file.size else "it is not a SavedModel",
            cure="copy or export the model again",
        )
    return tuple(graphs)


def read_graph_def(path: Path) -> GraphContent:
    """What is in a frozen graph, a GraphDef. ModelFileError for another file, or a damaged one; FileAccessError."""
    with open_wire_file(path) as file:
        _refuse_others(file)
        reading = _GraphReading(file)
        reading.add(0, file.size)
        return reading.content()


class _GraphReading:
    """A graph on the way to its content. With `with_calls` it is also read which functions the attributes name."""

    def __init__(self, file: WireFile, *, with_calls: bool = False) -> None:
        self._file = file
        self._with_calls = with_calls
        self._spans: list[tuple[int, int]] = []
        self._operators: Counter[str] = Counter()
        self._by_name: dict[str, GraphNode] = {}
        self._texts: dict[bytes, str] = {}
        self._functions: dict[str, FunctionBody] = {}
        self._placeholders: dict[str, TensorSpec] = {}
        self._nodes = 0

    def add(self, start: int, end: int) -> None:
        """A GraphDef."""
        self._spans.append((start, end))
        for key, first, last in self._file.fields(start, end):
            if key == tag(1, BYTES):
                self._add_node(first, last)
            elif key == tag(2, BYTES):
                for of_library, at, until in self._file.fields(first, last):
                    if of_library == tag(1, BYTES):
                        self._add_function(at, until)

    def content(self) -> GraphContent:
        """All that was added."""
        if self._functions and not self._with_calls:  # most graphs have none, and need not be read so closely
            again = _GraphReading(self._file, with_calls=True)
            for span in self._spans:
                again.add(*span)
            return again.content()
        return GraphContent(dict(sorted(self._operators.items())), self._placeholders, self._functions, self._by_name)

    def _add_function(self, start: int, end: int) -> None:
        name = ""
        operators: Counter[str] = Counter()
        calls: set[str] = set()
        for key, first, last in self._file.fields(start, end):
            if key == tag(1, BYTES):
                for of_signature, at, until in self._file.fields(first, last):
                    if of_signature == tag(1, BYTES):
                        name = self._file.text(at, until)
            elif key == tag(3, BYTES):
                _, node = self._read_node(first, last)
                operators[node.operator] += 1
                calls.update(node.calls)
        self._functions[name] = FunctionBody(dict(sorted(operators.items())), frozenset(calls))
        self._refuse_too_many(start)

    def _add_node(self, start: int, end: int) -> None:
        name, node = self._read_node(start, end)
        self._by_name[name] = node
        if node.operator in _PLACEHOLDERS:
            self._placeholders[name] = self._placeholder(name, start, end)

    def _read_node(self, start: int, end: int) -> tuple[str, GraphNode]:
        """The name of a node, and the node, which is counted."""
        file = self._file
        operator, name = b"", b""
        inputs: list[str] = []
        for key, first, last in file.fields(start, end):
            if key == _NODE_INPUT:
                inputs.append(self._node_of(file.name(first, last)))
            elif key == _NODE_OP:
                operator = file.name(first, last)
            elif key == _NODE_NAME:
                name = file.name(first, last)
        kind = self._texts.get(operator)
        if kind is None or not kind or kind not in self._operators:
            kind = operator.decode("ascii", "replace")
            if not kind or not operator.isascii() or not kind.isprintable():
                raise file.damaged(start, "a node is of no operator that could be")
            self._refuse_too_many(start)
            self._texts[operator] = kind
        self._operators[kind] += 1
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            self._refuse_too_many(start)
        try:
            text = name.decode()
        except UnicodeDecodeError:
            raise file.damaged(start, "the name of a node is not UTF-8") from None
        return text, GraphNode(kind, tuple(inputs), self._calls(start, end) if self._with_calls else ())

    def _calls(self, start: int, end: int) -> tuple[str, ...]:
        """The functions that the attributes of a node name, alone or in lists."""
        file = self._file
        found: list[tuple[int, int]] = []
        for key, first, last in file.fields(start, end):
            if key != tag(5, BYTES):
                continue
            for of_value, at, until in file.fields(*_entry(file, first, last)[1]):
                if of_value == tag(10, BYTES):
                    found.append((at, until))
                elif of_value == tag(1, BYTES):
                    items = file.fields(at, until)
                    found += [(begin, finish) for of_list, begin, finish in items if of_list == tag(9, BYTES)]
        return tuple(
            file.text(at, until)
            for span in found
            for of_function, at, until in file.fields(*span)
            if of_function == tag(1, BYTES)
        )

    def _node_of(self, tensor: bytes) -> str:
        """The node that an input names: NODE, NODE:OUTPUT, or ^NODE, which is only to run first."""
        text = self._texts.get(tensor)
        if text is None:
            text = tensor.decode("utf-8", "replace").lstrip("^").partition(":")[0]
            self._texts[tensor] = text
        return text

    def _placeholder(self, name: str, start: int, end: int) -> TensorSpec:
        data_type, shape = 0, None
        for key, first, last in self._file.fields(start, end):
            if key != tag(5, BYTES):
                continue
            attribute, value = _entry(self._file, first, last)
            for of_value, at, until in self._file.fields(*value):
                if attribute == "dtype" and of_value == tag(6, VARINT):
                    data_type = at
                elif attribute == "shape" and of_value == tag(7, BYTES):
                    shape = _shape(self._file, at, until)
        return TensorSpec(f"{name}:0", _data_type(data_type), shape)

    def _refuse_too_many(self, offset: int) -> None:
        names = len(self._operators) + len(self._functions) + len(self._placeholders)
        if names >= _MOST_NAMES or self._nodes > _MOST_NODES:
            raise self._file.damaged(offset, "there are more nodes or names up to here than any model has")


def _meta_graph(file: WireFile, start: int, end: int) -> MetaGraph:
    tags: set[str] = set()
    version = ""
    signatures: dict[str, ModelSignature] = {}
    graph = _GraphReading(file)
    for key, first, last in file.fields(start, end):
        if key == tag(1, BYTES):
            for of_info, at, until in file.fields(first, last):
                if of_info == tag(4, BYTES):
                    tags.add(file.text(at, until))
                elif of_info == tag(5, BYTES):
                    version = file.text(at, until)
        elif key == tag(2, BYTES):
            graph.add(first, last)
        elif key == tag(5, BYTES):
            name, value = _entry(file, first, last)
            signatures[name] = _signature(file, *value)
        if len(tags) + len(signatures) >= _MOST_NAMES:
            raise file.damaged(first, "there are more tags and signatures up to here than any model has")
    return MetaGraph(frozenset(tags), version, signatures, graph.content())


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
    return TensorSpec(name, _data_type(data_type), shape, others)


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
            if len(sizes) > _MOST_DIMENSIONS:
                raise file.damaged(first, f"a shape has more than {_MOST_DIMENSIONS} dimensions")
    return tuple(sizes)


def _node_of(tensor: str) -> str:
    """The node of a tensor NODE:OUTPUT."""
    return tensor.partition(":")[0]


def _entry(file: WireFile, start: int, end: int) -> tuple[str, tuple[int, int]]:
    """The key of a map's entry, and where its value is."""
    name, value = "", (start, start)
    for key, first, last in file.fields(start, end):
        if key == tag(1, BYTES):
            name = file.text(first, last)
        elif key == tag(2, BYTES):
            value = (first, last)
    return name, value


def _data_type(number: int) -> str:
    base = number - _REFERENCE if number > _REFERENCE else number
    return DATA_TYPES.get(base, f"type {number}")


def _refuse_others(file: WireFile) -> None:
    """ModelFileError where the first bytes tell that the file is of another kind."""
    beginning = file.read(0, min(file.size, 64))
    for start, kind, cure in _BEGINNINGS:
        if beginning.startswith(start):
            raise ModelFileError(f"{file.path} is {kind}.", cure=cure)
    # A graph alone begins with the byte of a line feed.
    if beginning[:1] != b"\n" and beginning and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in beginning):
        raise ModelFileError(
            f"{file.path} is text, not a model.",
            cause="a page with an error, or another file, was saved under its name",
            cure="copy or export the model again",
        )

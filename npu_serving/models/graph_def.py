"""Graphs as TensorFlow writes them: nodes with inputs and attributes, and functions, read without TensorFlow.

A file is read once from front to back, in windows; large attributes, the constants of a frozen graph, are stepped over
and their places kept. The numbers of the fields are those of TensorFlow 1.15's .proto files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from npu_serving.errors import ModelFileError
from npu_serving.models.attribute_values import (
    AttributeBytes,
    AttributeValue,
    Extent,
    TensorHeader,
    decode,
    decoded_shape,
    functions_in,
    type_name,
)
from npu_serving.models.model_kinds import as_wire
from npu_serving.models.wire_format import WireBytes, WireFile, open_wire_file
from npu_serving.wire_bytes import BYTES, VARINT, MalformedMessageError, signed, tag, varint_at

LARGEST_KEPT = 4096
"""Bytes of an attribute that is kept in memory; larger ones stay in the file."""

# More than any model has: what is kept of a file is bounded, whatever is in it.
_MOST_NODES = 1_000_000
_MOST_FUNCTIONS = 50_000
_MOST_ITEMS = 8_000_000  # inputs and attributes
_MOST_KEPT_BYTES = 256 << 20
_MANY_KEPT_BYTES, _LARGEST_KEPT_THEN = 64 << 20, 128

_SMALL_NODE = 1 << 15  # bytes, of a node that is read as a whole
_SHARED_REGION, _SHARED_ENTRY, _MOST_SHARED = 160, 64, 50_000
_NAME, _OP, _INPUT, _DEVICE, _ATTRIBUTE = (tag(number, BYTES) for number in range(1, 6))
_TEXTS = (_NAME, _OP, _DEVICE)
_NONE: Mapping[str, AttributeBytes] = {}
_Entries = dict[bytes, "tuple[str, AttributeBytes]"]


class NodeDef:
    """A node: `inputs` as they are written (NODE, NODE:OUTPUT or ^NODE), and its attributes' bytes, not to be changed.

    `start` and `end` are where it stands in the file that its graph was read from.
    """

    __slots__ = ("attributes", "device", "end", "inputs", "name", "op", "start")

    def __init__(
        self,
        name: str,
        op: str,
        inputs: tuple[str, ...] = (),
        device: str = "",
        attributes: Mapping[str, AttributeBytes] = _NONE,
        start: int = 0,
        end: int = 0,
    ) -> None:
        self.name, self.op, self.inputs, self.device = name, op, inputs, device
        self.attributes, self.start, self.end = attributes, start, end

    def __repr__(self) -> str:
        return f"NodeDef({self.name!r}, {self.op!r}, {self.inputs!r})"

    def value(self, attribute: str) -> AttributeValue | None:
        """The attribute of that name; None where the node has none, or it is so large that it was left in the file."""
        found = self.attributes.get(attribute)
        return decode(found) if isinstance(found, bytes) else None

    @property
    def calls(self) -> tuple[str, ...]:
        """The functions that its attributes name."""
        return tuple(
            call.name
            for value in self.attributes.values()
            if isinstance(value, bytes) and (b"R" in value or b"\x0a" in value)  # the tags of a function, and of a list
            for call in functions_in(decode(value))
        )


@dataclass(frozen=True)
class FunctionDef:
    """A function of a graph: its arguments with their types (or the attributes that have them), and its nodes.

    Within it an input is an argument, or NODE:ARGUMENT:NUMBER; `returns` has what its outputs are, by their names.
    """

    name: str
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    nodes: list[NodeDef]
    returns: Mapping[str, str]
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class BoundFunction(FunctionDef):
    """A function that takes values where it took handles of variables: its signature is not that of the file.

    `start` and `end` are where the function stands that it was made from.
    """


class TensorSources(dict[str, "NodeDef | None"]):
    """The node of each tensor, NODE, NODE:OUTPUT or ^NODE, looked up once for each that is written in another way."""

    def __init__(self, by_name: Mapping[str, NodeDef]) -> None:
        super().__init__(by_name)
        self._by_name = by_name
        names = "\n".join(by_name)
        is_plain = ":" not in names and "^" not in names
        self.misnamed = frozenset(() if is_plain else (name for name in by_name if name != node_of(name)))
        """Names that TensorFlow refuses, and that no input can mean."""
        for name in self.misnamed:
            del self[name]

    def __missing__(self, tensor: str) -> NodeDef | None:
        found = self[tensor] = self._by_name.get(node_of(tensor))
        return found


def by_operator(nodes: Iterable[NodeDef]) -> dict[str, list[NodeDef]]:
    """The nodes by their operators, in their order."""
    found: dict[str, list[NodeDef]] = {}
    for node in nodes:
        if node.op in found:
            found[node.op].append(node)
        else:
            found[node.op] = [node]
    return found


def node_of(tensor: str) -> str:
    """The node of a tensor: NODE, NODE:OUTPUT, in a function NODE:ARGUMENT:NUMBER, or ^NODE, which only runs before."""
    return tensor.lstrip("^").partition(":")[0]


class GraphDef:
    """A graph: its nodes in their order, its functions, the bytes of its VersionDef, and the file it was read from."""

    def __init__(
        self,
        nodes: list[NodeDef],
        functions: dict[str, FunctionDef],
        versions: bytes,
        file: Path,
        *,
        identity: tuple[int, ...] = (),
        text_as_bytes: bytes | None = None,
    ) -> None:
        self.nodes, self.functions, self.versions, self.file = nodes, functions, versions, file
        self._identity, self._bytes = identity, text_as_bytes

    @cached_property
    def by_name(self) -> dict[str, NodeDef]:
        """The nodes by their names; of several with one name, which TensorFlow refuses, the last."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def by_operator(self) -> dict[str, list[NodeDef]]:
        """The nodes by their operators, in their order; those in functions aside."""
        return by_operator(self.nodes)

    @cached_property
    def sources(self) -> TensorSources:
        """The nodes by the tensors that come from them; None for a tensor of a node that is not there."""
        return TensorSources(self.by_name)

    def with_nodes(self, nodes: list[NodeDef], functions: dict[str, FunctionDef]) -> GraphDef:
        """A graph of other nodes and functions; places in them are still counted in the file of this one."""
        return GraphDef(nodes, functions, self.versions, self.file, identity=self._identity, text_as_bytes=self._bytes)

    @contextmanager
    def opened(self) -> Iterator[WireFile]:
        """The bytes that the places of nodes and of large attributes are counted in.

        ModelFileError where the file was replaced or changed since it was read, FileAccessError.
        """
        if self._bytes is not None:
            yield WireBytes(self.file, self._bytes)
            return
        with open_wire_file(self.file) as file:
            if self._identity and file.identity != self._identity:
                raise ModelFileError(
                    f"{self.file} was replaced or changed while it was read.",
                    cause="a new version of the model was written to the same place meanwhile",
                    cure="run the same command again",
                )
            yield file


def read_graph_def_file(path: Path) -> GraphDef:
    """The graph of a file that holds a GraphDef, or a MetaGraphDef (.meta), each in binary form or as text.

    ModelFileError for a file of another kind, or a damaged one, with the byte; FileAccessError.
    """
    with open_wire_file(path) as opened:
        file, message = as_wire(opened, "GraphDef", "MetaGraphDef")
        scan = GraphScan(file)
        if message == "GraphDef":
            scan.add(0, file.size)
        else:
            for key, first, last in file.fields(0, file.size):
                if key == tag(2, BYTES):
                    scan.add(first, last)
        return scan.graph()


class GraphScan:
    """A graph on the way from a file to its nodes."""

    def __init__(self, file: WireFile) -> None:
        self._file = file
        self._texts: dict[bytes, str] = {}
        self._regions: dict[bytes, Mapping[str, AttributeBytes]] = {}
        self._entries: _Entries = {}
        self._operators: set[str] = set()
        self._nodes: list[NodeDef] = []
        self._functions: dict[str, FunctionDef] = {}
        self._versions = b""
        self._count = self._items = self._kept = 0

    def add(self, start: int, end: int) -> None:
        """The GraphDef from byte `start` to `end`. ModelFileError where it is damaged, with the byte."""
        read, nodes = self._node, self._nodes
        for key, first, last in self._file.fields(start, end):
            if key == tag(1, BYTES):
                nodes.append(read(first, last))
            elif key == tag(2, BYTES):
                for of_library, at, until in self._file.fields(first, last):
                    if of_library == tag(1, BYTES):
                        self._add_function(at, until)
            elif key == tag(4, BYTES):
                self._versions += self._file.name(first, last)

    def graph(self) -> GraphDef:
        """All that was added."""
        data = self._file.read(0, self._file.size) if isinstance(self._file, WireBytes) else None
        return GraphDef(
            self._nodes,
            self._functions,
            self._versions,
            self._file.path,
            identity=self._file.identity,
            text_as_bytes=data,
        )

    def _add_function(self, start: int, end: int) -> None:
        file = self._file
        name = ""
        sides: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
        nodes: list[NodeDef] = []
        returns: dict[str, str] = {}
        for key, first, last in file.fields(start, end):
            if key == tag(1, BYTES):
                for of_signature, at, until in file.fields(first, last):
                    if of_signature == tag(1, BYTES):
                        name = file.text(at, until)
                    elif of_signature in (tag(2, BYTES), tag(3, BYTES)):
                        sides[0 if of_signature == tag(2, BYTES) else 1].append(self._argument(at, until))
            elif key == tag(3, BYTES):
                nodes.append(self._node(first, last))
            elif key == tag(4, BYTES):
                texts = ["", ""]
                for of_entry, at, until in file.fields(first, last):
                    if of_entry in (tag(1, BYTES), tag(2, BYTES)):
                        texts[0 if of_entry == tag(1, BYTES) else 1] = file.text(at, until)
                returns[texts[0]] = texts[1]
                self._keep(last - first, start)
        self._functions[name] = FunctionDef(name, tuple(sides[0]), tuple(sides[1]), nodes, returns, start, end)
        if len(self._functions) > _MOST_FUNCTIONS:
            raise self._too_many(start)

    def _argument(self, start: int, end: int) -> tuple[str, str]:
        """The name and the type of an argument; of a list, the attribute with its length or its types."""
        file = self._file
        name, data_type, times = "", "", ""
        for key, first, last in file.fields(start, end):
            if key == tag(1, BYTES):
                name = file.text(first, last)
            elif key == tag(3, VARINT):
                data_type = type_name(signed(first)) if first else data_type
            elif key == tag(4, BYTES):
                data_type = file.text(first, last)
            elif key == tag(5, BYTES):
                times = file.text(first, last) + "*"
            elif key == tag(6, BYTES):
                times, data_type = "*", file.text(first, last)
        self._keep(end - start, start)
        return name, times + data_type

    def _node(self, start: int, end: int) -> NodeDef:
        self._count += 1
        if self._count > _MOST_NODES:
            raise self._too_many(start)
        node = self._small_node(start, end) if end - start <= _SMALL_NODE else None
        return node if node is not None else self._node_by_fields(start, end)

    def _small_node(self, start: int, end: int) -> NodeDef | None:
        """A node as TensorFlow writes it: fields in order, attributes last. None for what has to be read closely.

        That is also what is damaged: this is where the time goes for a graph of many nodes.
        """
        data = self._file.read(start, end)
        texts = self._texts
        parts: dict[int, str] = {}
        inputs: list[str] = []
        attributes: Mapping[str, AttributeBytes] | None = _NONE
        index, stop = 0, end - start
        try:
            while index < stop:
                key = data[index]
                if key == _ATTRIBUTE:
                    region = data[index:]
                    attributes = self._regions.get(region) or self._attributes(region, start + index)
                    break
                length, index = data[index + 1], index + 2
                if length >= 0x80:
                    length, index = varint_at(data, index - 1)
                raw = data[index : index + length]
                index += length
                text = texts.get(raw)
                if text is None:
                    text = self._text(raw)
                if key == _INPUT:
                    inputs.append(text)
                elif key in _TEXTS:
                    parts[key] = text
                else:
                    return None
        except (IndexError, UnicodeDecodeError, MalformedMessageError):
            return None
        if attributes is None or (attributes is _NONE and index > stop):
            return None
        op = parts.get(_OP, "")
        if op not in self._operators:
            self._check_operator(op, start)
        self._items += len(inputs)
        if self._kept > _MOST_KEPT_BYTES or self._items > _MOST_ITEMS:
            raise self._too_many(start)
        return NodeDef(parts.get(_NAME, ""), op, tuple(inputs), parts.get(_DEVICE, ""), attributes, start, end)

    def _attributes(self, region: bytes, offset: int) -> Mapping[str, AttributeBytes] | None:
        """The attributes that stand after each other up to the end of a node; None for what is in another form."""
        found: dict[str, AttributeBytes] = {}
        entries, index, stop = self._entries, 0, len(region)
        largest = self._largest_kept
        while index < stop:
            key, length, index = region[index], region[index + 1], index + 2
            if length >= 0x80:
                length, index = varint_at(region, index - 1)
            after = index + length
            if key != _ATTRIBUTE or after > stop:
                return None
            entry = region[index:after]
            pair = entries.get(entry)
            if pair is None:
                pair = self._entry(entry, offset + index, largest)
                if pair is None:
                    return None
                if length <= _SHARED_ENTRY and len(entries) < _MOST_SHARED:
                    entries[entry] = pair
            found[pair[0]] = pair[1]
            index = after
        self._items += len(found)
        self._kept += stop
        if stop <= _SHARED_REGION and len(self._regions) < _MOST_SHARED:
            self._regions[region] = found
        return found

    def _entry(self, entry: bytes, offset: int, largest: int) -> tuple[str, AttributeBytes] | None:
        """An attribute's name and value, the two fields in their order; None for what is in another form."""
        if not entry or entry[0] != tag(1, BYTES) or entry[1] >= 0x80:
            return None
        at = 2 + entry[1]
        if at >= len(entry) or entry[at] != tag(2, BYTES):
            return None
        length, begin = varint_at(entry, at + 1)
        if begin + length != len(entry):
            return None
        raw = entry[2:at]
        name = self._texts.get(raw)
        if name is None:
            name = self._text(raw)
        if length > largest:
            return name, self._extent(offset + begin, offset + len(entry))
        value = entry[begin:]
        decode(value)
        return name, value

    def _node_by_fields(self, start: int, end: int) -> NodeDef:
        """A node whose fields stand in any order, or which is large, or damaged: the error has the byte."""
        file = self._file
        texts = dict.fromkeys(_TEXTS, "")
        inputs: list[str] = []
        attributes: dict[str, AttributeBytes] = {}
        for key, first, last in file.fields(start, end):
            if key == _INPUT:
                inputs.append(file.text(first, last))
                self._keep(last - first, first)
            elif key == _ATTRIBUTE:
                name, value = self._entry_by_fields(first, last)
                attributes[name] = value
            elif key in texts:
                texts[key] = file.text(first, last)
        if texts[_OP] not in self._operators:
            self._check_operator(texts[_OP], start)
        self._keep(sum(map(len, texts.values())), start)
        return NodeDef(texts[_NAME], texts[_OP], tuple(inputs), texts[_DEVICE], attributes, start, end)

    def _entry_by_fields(self, start: int, end: int) -> tuple[str, AttributeBytes]:
        file = self._file
        name, pieces = "", []
        for key, first, last in file.fields(start, end):
            if key == tag(1, BYTES):
                name = file.text(first, last)
            elif key == tag(2, BYTES):
                pieces.append((first, last))
        size = sum(last - first for first, last in pieces)
        self._keep(len(name) + (size if size <= self._largest_kept else 0), start)
        if size > self._largest_kept:
            if len(pieces) > 1:
                raise file.damaged(start, "a large attribute stands there in several pieces")
            return name, self._extent(*pieces[0])
        value = b"".join(file.read(first, last) for first, last in pieces)
        try:
            decode(value)
        except MalformedMessageError as error:
            raise file.damaged(pieces[0][0], f"in the attribute {name}, {error}") from None
        return name, value

    def _extent(self, start: int, end: int) -> Extent:
        """A large attribute, looked over without its contents."""
        file = self._file
        header = None
        for key, first, last in file.fields(start, end):
            if key == tag(8, BYTES):
                header = self._tensor_header(first, last)
            elif key & 7 == BYTES and key != tag(2, BYTES):
                header = None
        return Extent(start, end, header)

    def _tensor_header(self, start: int, end: int) -> TensorHeader:
        file = self._file
        data_type, shape = 0, b""
        content: AttributeBytes = b""
        for key, first, last in file.fields(start, end):
            if key == tag(1, VARINT):
                data_type = signed(first)
            elif key == tag(2, BYTES):
                shape += file.name(first, last)
            elif key == tag(4, BYTES):
                content = Extent(first, last)
        try:
            return TensorHeader(type_name(data_type), decoded_shape(memoryview(shape)), content)
        except MalformedMessageError as error:
            raise file.damaged(start, f"in the shape of a tensor, {error}") from None

    @property
    def _largest_kept(self) -> int:
        return LARGEST_KEPT if self._kept < _MANY_KEPT_BYTES else _LARGEST_KEPT_THEN

    def _text(self, raw: bytes) -> str:
        """A name, of which each is kept once. UnicodeDecodeError, MalformedMessageError."""
        if len(raw) > LARGEST_KEPT:
            raise MalformedMessageError("a name is too long")
        self._kept += len(raw)
        text = self._texts[raw] = raw.decode()
        return text

    def _check_operator(self, name: str, offset: int) -> None:
        if not name or not name.isascii() or not name.isprintable():
            raise self._file.damaged(offset, "a node is of no operator that could be")
        self._operators.add(name)

    def _keep(self, size_bytes: int, offset: int) -> None:
        self._kept += size_bytes
        self._items += 1
        if self._kept > _MOST_KEPT_BYTES or self._items > _MOST_ITEMS:
            raise self._too_many(offset)

    def _too_many(self, offset: int) -> ModelFileError:
        return self._file.damaged(offset, "there are more nodes or names up to here than any model has")

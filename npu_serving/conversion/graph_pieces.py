"""A graph's nodes as the pieces of a GraphDef: unchanged ones as stretches of the file that they were read from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from npu_serving.models.attribute_values import (
    DATA_TYPES,
    AttributeBytes,
    ElsewhereExtent,
    Extent,
    type_number,
)
from npu_serving.models.graph_def import BoundFunction, FunctionDef, GraphDef, NodeDef
from npu_serving.models.pieces import FileExtent, Piece
from npu_serving.models.saved_model_writer import message_field, node_pieces
from npu_serving.models.wire_format import WireBytes, WireFile
from npu_serving.wire_bytes import BYTES, VARINT, bytes_field, entry_field, number_field, tag, varint

_NODE = varint(tag(1, BYTES))
_SIGNATURE, _FUNCTION_NODE = tag(1, BYTES), tag(3, BYTES)
_OF_FUNCTION = (tag(4, BYTES), tag(7, BYTES), tag(8, BYTES))
"""What a function says of its results, of the shapes of its arguments, and of which handles are the same."""
Contents = Mapping[str, Mapping[str, Sequence[Piece]]]
"""Attributes that come from elsewhere, by the node's name and their own: the values of a checkpoint's variables."""


class GraphPieces:
    """The parts of one graph's file. What they are of has to be as it was when the graph was read: see opened()."""

    def __init__(self, graph: GraphDef, file: WireFile) -> None:
        self._path, self._file = graph.file, file

    def at(self, start: int, end: int) -> Piece:
        """The bytes from `start` to `end`."""
        if isinstance(self._file, WireBytes):
            return self._file.read(start, end)
        return FileExtent(self._path, start, end)

    def nodes(self, nodes: Iterable[NodeDef], contents: Contents | None = None) -> Iterator[Piece]:
        """The nodes as fields of a GraphDef; those that follow each other in the file as one piece."""
        begin = last = 0
        for node in nodes:
            if node.end and not (contents and node.name in contents):
                head = _NODE + varint(node.end - node.start)
                if last and node.start - len(head) == last:
                    last = node.end
                    continue
                if last:
                    yield self.at(begin, last)
                yield head
                begin, last = node.start, node.end
            else:
                if last:
                    yield self.at(begin, last)
                    last = 0
                yield from self.node(node, (contents or {}).get(node.name))
        if last:
            yield self.at(begin, last)

    def node(self, node: NodeDef, contents: Mapping[str, Sequence[Piece]] | None = None) -> list[Piece]:
        """A node that is not copied, as a field of a GraphDef."""
        attributes: dict[str, Sequence[Piece]] = {name: self.value(value) for name, value in node.attributes.items()}
        return node_pieces(node.name, node.op, node.inputs, {**attributes, **(contents or {})}, node.device)

    def functions(self, functions: Iterable[FunctionDef], read: Mapping[str, FunctionDef]) -> list[Piece]:
        """The library as a field of a GraphDef; `read` has the functions as they were read."""
        out: list[Piece] = []
        for function in functions:
            if function is read.get(function.name) and not isinstance(function, BoundFunction):
                out += message_field(1, [self.at(function.start, function.end)])
            else:
                out += message_field(1, self._function(function))
        return message_field(2, out) if out else []

    def _function(self, function: FunctionDef) -> list[Piece]:
        """A function of which nodes were changed, or the signature; all else as it was."""
        out: list[Piece] = []
        is_bound = isinstance(function, BoundFunction)
        for key, first, last in self._file.fields(function.start, function.end):
            if key == _SIGNATURE and is_bound:
                out += message_field(1, self._signature(function, first, last))
            elif key & 7 == BYTES and key != _FUNCTION_NODE and not (is_bound and key in _OF_FUNCTION):
                out += message_field(key >> 3, [self.at(first, last)])
        for node in function.nodes:
            if node.end:
                out += message_field(3, [self.at(node.start, node.end)])
            else:
                # As a field of a GraphDef a node has the number 1, in a function 3; the length is the same.
                field = self.node(node)
                head = field[0]
                assert isinstance(head, bytes)
                out += [varint(_FUNCTION_NODE) + head[1:], *field[1:]]
        if is_bound:
            out += [entry_field(4, name, result.encode()) for name, result in function.returns.items()]
        return out

    def _signature(self, function: FunctionDef, start: int, end: int) -> list[Piece]:
        """The OpDef of a function whose name and types are other ones than in the file."""
        out: list[Piece] = [bytes_field(1, function.name.encode())]
        sides = {tag(2, BYTES): iter(function.inputs), tag(3, BYTES): iter(function.outputs)}
        for key, first, last in self._file.fields(start, end):
            if key in sides:
                name, data_type = next(sides[key])
                out.append(bytes_field(key >> 3, self._argument(name, data_type, first, last)))
            elif key & 7 == BYTES and key != tag(1, BYTES):
                out += message_field(key >> 3, [self.at(first, last)])
            elif key & 7 == VARINT:
                out.append(number_field(key >> 3, first))
        return out

    def _argument(self, name: str, data_type: str, start: int, end: int) -> bytes:
        """An argument with its type: a handle's becomes that of the value, what attributes say stays."""
        if data_type in DATA_TYPES.values():
            return bytes_field(1, name.encode()) + number_field(3, type_number(data_type))
        return self._file.read(start, end)

    def value(self, value: AttributeBytes) -> Sequence[Piece]:
        """An AttrValue: itself, or where it stands in the file, or in those of a checkpoint."""
        if isinstance(value, ElsewhereExtent):
            return value.pieces
        return [self.at(value.start, value.end) if isinstance(value, Extent) else value]


@contextmanager
def pieces_of(graph: GraphDef) -> Iterator[GraphPieces]:
    """The parts of a graph's file. ModelFileError where the file was changed since it was read, or is in the block."""
    with graph.opened() as file:
        yield GraphPieces(graph, file)
    with graph.opened():
        pass


def graph_message(pieces: Iterable[Piece], versions: bytes) -> list[Piece]:
    """A GraphDef of these fields, with the version of who wrote the nodes: what that could not know yet is read so."""
    return [*pieces, bytes_field(4, versions)]

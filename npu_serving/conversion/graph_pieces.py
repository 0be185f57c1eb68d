"""A graph's nodes as the pieces of a GraphDef: unchanged ones as stretches of the file that they were read from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from npu_serving.models.attribute_values import AttributeBytes, Extent
from npu_serving.models.graph_def import FunctionDef, GraphDef, NodeDef
from npu_serving.models.pieces import FileExtent, Piece
from npu_serving.models.saved_model_writer import message_field, node_pieces
from npu_serving.models.wire_format import WireBytes, WireFile
from npu_serving.wire_bytes import BYTES, bytes_field, tag, varint

_NODE = varint(tag(1, BYTES))
_FUNCTION_NODE = tag(3, BYTES)
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
        attributes: dict[str, Sequence[Piece]] = {name: [self._value(value)] for name, value in node.attributes.items()}
        return node_pieces(node.name, node.op, node.inputs, {**attributes, **(contents or {})}, node.device)

    def functions(self, functions: Iterable[FunctionDef], read: Mapping[str, FunctionDef]) -> list[Piece]:
        """The library as a field of a GraphDef; `read` has the functions as they were read."""
        out: list[Piece] = []
        for function in functions:
            if function is read.get(function.name):
                out += message_field(1, [self.at(function.start, function.end)])
            else:
                out += message_field(1, self._function(function, read[function.name]))
        return message_field(2, out) if out else []

    def _function(self, function: FunctionDef, read: FunctionDef) -> list[Piece]:
        """A function of which some nodes were changed; all else as it was."""
        out: list[Piece] = []
        number = 0
        for key, first, last in self._file.fields(function.start, function.end):
            if key != _FUNCTION_NODE:
                if key & 7 == BYTES:
                    out += message_field(key >> 3, [self.at(first, last)])
                continue
            node, before = function.nodes[number], read.nodes[number]
            number += 1
            if node is before:
                out += message_field(3, [self.at(first, last)])
            else:
                # As a field of a GraphDef a node has the number 1, in a function 3; the length is the same.
                field = self.node(node)
                head = field[0]
                assert isinstance(head, bytes)
                out += [varint(_FUNCTION_NODE) + head[1:], *field[1:]]
        return out

    def _value(self, value: AttributeBytes) -> Piece:
        return self.at(value.start, value.end) if isinstance(value, Extent) else value


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

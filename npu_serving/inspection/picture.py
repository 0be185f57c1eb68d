"""The picture of a graph by its scopes: one SVG, or a page with search and zoom; neither asks for anything else."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import RequestError
from npu_serving.inspection.folded_graph import MOST_BOXES, Box, FoldedEdge, FoldedGraph, PictureNode, folded
from npu_serving.inspection.picture_layout import PictureLayout, Point, laid_out
from npu_serving.templating import render
from npu_serving.writers.html import html_text, script_json
from npu_serving.writers.shell import shell_word

SVG, HTML = ".svg", ".html"
_TEMPLATES = {SVG: "templates/graph-picture.svg.j2", HTML: "templates/graph-picture.html.j2"}
_MOST_COLUMNS = 34  # of a line of text in a box
_COLUMN, _LINE, _EDGE = 6.65, 15.0, 9.0  # points: a column and a line of the font of 11, and what is around them
_OPERATORS_SHOWN = 3
_BAR = 5.0  # points: the height of the bar that shows the shares of several kinds


@dataclass(frozen=True)
class NodeKind:
    """What a colour says: the key that nodes have, a label for people, and the fill on a light and a dark ground."""

    key: str
    label: str
    light: str
    dark: str


@dataclass(frozen=True)
class Legend:
    """The kinds of a picture; scopes that hold only the `quiet` one stay closed.

    With `in_words` each box also says its kinds: where the colour is what it is about.
    """

    kinds: tuple[NodeKind, ...]
    quiet: str
    in_words: bool = False

    def kind_of(self, kinds: Mapping[str, int]) -> str:
        """The colour of a box with so many nodes of these kinds: of the sides that of most, else the most telling."""
        telling = {key: count for key, count in kinds.items() if key != self.quiet} or kinds
        if self.in_words:
            return max(telling, key=lambda key: telling[key])
        return next(kind.key for kind in self.kinds if kind.key in telling)

    def label(self, key: str) -> str:
        """The label of a kind."""
        return next(kind.label for kind in self.kinds if kind.key == key)


NPU, CPU, GREY, NOTHING, UNKNOWN = "npu", "cpu", "grey", "nothing", "unknown"
SIDES = Legend(
    (
        NodeKind(NPU, "NPU", "#bfe3cd", "#1d4a33"),
        NodeKind(CPU, "CPU", "#f6c9bd", "#5c2a1e"),
        NodeKind(GREY, "CPU, grey", "#f3dfa8", "#51430f"),
        NodeKind(NOTHING, "either", "#dfe4ea", "#333d47"),
        NodeKind(UNKNOWN, "not known", "#ffffff", "#1b2128"),
    ),
    quiet=NOTHING,
    in_words=True,
)
"""Where operators run. Grey ones could run on the NPU, and mixed computing leaves them to the CPU."""

INPUT, WEIGHTS, MATRIX, FLOW, TEXT, OTHER = "input", "weights", "matrix", "flow", "text", "other"
OPERATOR_KINDS = Legend(
    (
        NodeKind(INPUT, "inputs", "#cfe0fb", "#213a63"),
        NodeKind(MATRIX, "matrices, convolutions", "#bfe3cd", "#1d4a33"),
        NodeKind(FLOW, "control flow, functions", "#f3dfa8", "#51430f"),
        NodeKind(TEXT, "texts, tables, files", "#e6d3f5", "#43295a"),
        NodeKind(OTHER, "other", "#ffffff", "#1b2128"),
        NodeKind(WEIGHTS, "constants, variables", "#dfe4ea", "#333d47"),
    ),
    quiet=WEIGHTS,
)
_PARTS = (
    (INPUT, ("Placeholder", "Iterator", "QueueDequeue")),
    (WEIGHTS, ("Const", "Variable", "VarHandle", "ReadVariable", "Assign", "Restore", "Save", "VarIsInit")),
    (MATRIX, ("MatMul", "Conv", "Einsum", "RNN", "LSTM", "GRU")),
    (FLOW, ("Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond", "While", "If", "PartitionedCall", "Case")),
    (TEXT, ("String", "Lookup", "HashTable", "Parse", "Decode", "ReadFile", "Regex", "InitializeTable", "PyFunc")),
)


def operator_kind(operator: str) -> str:
    """Which of OPERATOR_KINDS an operator is of, by its name."""
    return next((kind for kind, parts in _PARTS if any(part in operator for part in parts)), OTHER)


@dataclass(frozen=True)
class Picture:
    """A graph that is laid out, and what its colours say."""

    title: str
    graph: FoldedGraph
    layout: PictureLayout
    sizes: tuple[Point, ...]
    legend: Legend

    def text(self, suffix: str) -> str:
        """The file: .svg, or .html."""
        counts = [(kind, sum(box.kinds.get(kind.key, 0) for box in self.graph.boxes)) for kind in self.legend.kinds]
        legend = [(kind, count) for kind, count in counts if count]
        is_page = suffix == HTML
        top = 20 if is_page else 70  # points above the graph; a page has the title and the legend elsewhere
        return render(
            _TEMPLATES[suffix],
            {"html": html_text, "script_json": script_json},
            picture=self,
            boxes=[_drawn_box(self, number) for number in range(len(self.graph.boxes))],
            edges=[_drawn_edge(*pair) for pair in zip(self.graph.edges, self.layout.curves)],
            legend=legend,
            is_page=is_page,
            width=round(max(self.layout.width + 40, 0 if is_page else 40 + 230 * len(legend))),
            height=round(self.layout.height + 20 + top),
            top=-top,
            summary=_summary(self.graph),
        )


def check_picture_path(path: Path) -> Path:
    """The path, if its suffix is one that a picture can have; RequestError for another."""
    if path.suffix.lower() not in _TEMPLATES:
        raise RequestError(
            f"--picture can't be {str(path)!r}.",
            cause="the end of the name says what is drawn: .svg, or .html for a page with search and zoom",
            cure=f"use --picture {shell_word(path.with_suffix(HTML))}",
        )
    return path


def draw_overview(
    nodes: Iterable[PictureNode], *, title: str, legend: Legend = OPERATOR_KINDS, most_boxes: int = MOST_BOXES
) -> Picture:
    """The picture of these nodes, whose kinds are among the legend's. MissingToolError where Graphviz is missing."""
    graph = folded(nodes, most_boxes=most_boxes, quiet=(legend.quiet,))
    sizes = tuple(_size(box, legend) for box in graph.boxes)
    return Picture(title, graph, laid_out(graph, sizes), sizes, legend)


def write_picture(picture: Picture, path: Path) -> None:
    """Writes the file that the path's suffix says. RequestError for another suffix; FileAccessError, DiskFullError."""
    fsutil.write_file(check_picture_path(path), picture.text(path.suffix.lower()))


@dataclass(frozen=True)
class DrawnBox:
    """A box for the templates: its corner, size and lines, and the pieces of its bar as (kind, left, width)."""

    left: float
    top: float
    width: float
    height: float
    kind: str
    lines: tuple[str, ...]
    bar: tuple[tuple[str, float, float], ...]
    name: str
    hint: str
    words: str
    """What a search finds it by."""


@dataclass(frozen=True)
class DrawnEdge:
    """An edge for the templates: the path of its curve, the arrow's three corners, and how wide it is."""

    path: str
    arrow: str
    width: float
    is_control: bool
    hint: str
    source: int
    target: int


def _summary(graph: FoldedGraph) -> str:
    boxes = len(graph.boxes)
    return f"{graph.nodes:,} nodes" + (f" in {boxes:,} boxes" if boxes < graph.nodes else "")


def _lines(box: Box, legend: Legend) -> tuple[str, ...]:
    within = box.name[len(box.scope) + 1 :] if box.scope else box.name
    within = within or box.name.rpartition("/")[2]  # a variable, which stands in the scope of its own name
    shown = ", ".join(f"{name} {count:,}" for name, count in [*box.operators.items()][:_OPERATORS_SHOWN])
    second = shown if box.nodes > 1 else next(iter(box.operators))
    lines = [_shortened(within), _shortened(f"{box.nodes:,} nodes: {second}" if box.nodes > 1 else second)]
    if legend.in_words:
        kinds = [(kind.label, box.kinds[kind.key]) for kind in legend.kinds if kind.key in box.kinds]
        several = len(kinds) > 1
        lines.append(_shortened(" · ".join(f"{label} {count:,}" if several else label for label, count in kinds)))
    return tuple(lines)


def _size(box: Box, legend: Legend) -> Point:
    lines = _lines(box, legend)
    return max(70.0, max(map(_columns, lines)) * _COLUMN + 2 * _EDGE), len(lines) * _LINE + _EDGE + _BAR


def _drawn_box(picture: Picture, number: int) -> DrawnBox:
    box, (width, height) = picture.graph.boxes[number], picture.sizes[number]
    x, y = picture.layout.middles[number]
    left, top = x - width / 2, y - height / 2
    bar, at = [], left
    for kind in picture.legend.kinds:
        share = box.kinds.get(kind.key, 0) / box.nodes
        if 0 < share < 1:
            bar.append((kind.key, at, share * width))
            at += share * width
    operators = ", ".join(f"{name} {count:,}" for name, count in [*box.operators.items()][:20])
    kinds = ", ".join(f"{picture.legend.label(kind)} {count:,}" for kind, count in box.kinds.items())
    hint = f"{box.name}\n{box.nodes:,} nodes\n{operators}\n{kinds}"
    words = " ".join([box.name, *box.operators]).lower()
    return DrawnBox(
        left,
        top,
        width,
        height,
        picture.legend.kind_of(box.kinds),
        _lines(box, picture.legend),
        tuple(bar),
        box.name,
        hint,
        words,
    )


def _drawn_edge(edge: FoldedEdge, curve: Sequence[Point]) -> DrawnEdge:
    *points, tip = curve
    (x, y), pieces = points[0], points[1:]
    path = f"M{x:.1f},{y:.1f}"
    for first in range(0, len(pieces) - 2, 3):
        path += "C" + " ".join(f"{x:.1f},{y:.1f}" for x, y in pieces[first : first + 3])
    (end_x, end_y), (tip_x, tip_y) = points[-1], tip
    half_x, half_y = (tip_y - end_y) * 0.35, (end_x - tip_x) * 0.35
    arrow = " ".join(
        f"{x:.1f},{y:.1f}" for x, y in ((end_x + half_x, end_y + half_y), tip, (end_x - half_x, end_y - half_y))
    )
    hint = "runs after" if edge.is_control else f"{edge.inputs:,} tensor{'s' if edge.inputs != 1 else ''}"
    width = 1.0 + min(edge.inputs, 16) / 8
    return DrawnEdge(path, arrow, width, edge.is_control, hint, edge.source, edge.target)


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def _shortened(text: str) -> str:
    """The text with its middle left out where it is too long for a box."""
    if _columns(text) <= _MOST_COLUMNS:
        return text
    half = (_MOST_COLUMNS - 1) // 2
    first, last = text[:half], text[-half:]
    while _columns(first) > half:
        first = first[:-1]
    while _columns(last) > half:
        last = last[1:]
    return f"{first}…{last}"

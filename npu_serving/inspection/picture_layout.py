"""Where the boxes of a picture stand: laid out by Graphviz, which gets numbers and sizes, and no name of anybody's."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npu_serving import process
from npu_serving.errors import ProgramError
from npu_serving.inspection.folded_graph import FoldedGraph

_POINTS_AN_INCH = 72.0
_LONGEST_S = 60.0
_CURVES_UP_TO = 600  # edges; curves around the boxes cost Graphviz far more than lines
CURE = "apt-get install graphviz (on other systems the package has the same name), then run the same command again"

Point = tuple[float, float]


@dataclass(frozen=True)
class PlacedScope:
    """The frame of a scope: its name, and left, top, width and height in points."""

    name: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class PictureLayout:
    """Where everything is, in points from the upper left corner: the boxes' middles, the edges' Bezier curves."""

    width: float
    height: float
    middles: tuple[Point, ...]
    curves: tuple[tuple[Point, ...], ...]
    """For each edge its start, and three points for each piece of the curve; the last is where the arrow's tip is."""
    scopes: tuple[PlacedScope, ...]


def laid_out(graph: FoldedGraph, sizes: Sequence[Point]) -> PictureLayout:
    """The layout, from top to bottom, of boxes with these widths and heights in points.

    MissingToolError where Graphviz is not installed, ProgramError where it fails, with frames and without.
    """
    program = process.require_program("dot", cure=CURE)
    scopes = sorted({box.scope for box in graph.boxes if box.scope})
    try:
        return _run(program, graph, sizes, scopes)
    except ProgramError:
        if not scopes:
            raise
        return _run(program, graph, sizes, [])  # it is known to stumble over frames, not over boxes


def _run(program: Path, graph: FoldedGraph, sizes: Sequence[Point], scopes: Sequence[str]) -> PictureLayout:
    with tempfile.TemporaryDirectory(prefix="npu-serving-") as place:
        file = Path(place) / "graph.dot"
        file.write_text(_dot(graph, sizes, scopes), encoding="ascii")
        finished = process.run([program, "-Tjson0", file], timeout_s=_LONGEST_S, cure="name fewer nodes, or --nodes")
    return _read(json.loads(finished.stdout), graph, scopes)


def _dot(graph: FoldedGraph, sizes: Sequence[Point], scopes: Sequence[str]) -> str:
    """The graph in Graphviz's language, by numbers alone."""
    shape = "true" if len(graph.edges) <= _CURVES_UP_TO else "line"
    lines = [f"digraph {{ rankdir=TB; nodesep=0.25; ranksep=0.45; splines={shape}; node [shape=box fixedsize=true];"]
    members: dict[str, list[int]] = {scope: [] for scope in ["", *scopes]}
    for number, box in enumerate(graph.boxes):
        members[box.scope if box.scope in members else ""].append(number)
    number_of = {scope: number for number, scope in enumerate(scopes)}
    below: dict[str, list[str]] = {scope: [] for scope in ["", *scopes]}
    for scope in scopes:
        below[_frame_around(scope, number_of)].append(scope)
    # Frames within frames, opened and closed without recursion: scopes may be nested deeply.
    waiting: list[tuple[str, bool]] = [("", True)]
    while waiting:
        scope, opens = waiting.pop()
        if not opens:
            lines.append("}")
            continue
        if scope:
            lines.append(f"subgraph cluster_{number_of[scope]} {{ margin=14;")
            waiting.append((scope, False))
        for number in members[scope]:
            width, height = (size / _POINTS_AN_INCH for size in sizes[number])
            lines.append(f"b{number} [width={width:.3f} height={height:.3f}];")
        waiting += [(child, True) for child in below[scope]]
    for number, edge in enumerate(graph.edges):
        weight = 1 if edge.is_control else min(1 + edge.inputs, 8)
        lines.append(f"b{edge.source} -> b{edge.target} [id=e{number} weight={weight}];")
    return "\n".join([*lines, "}"])


def _frame_around(scope: str, frames: Mapping[str, int]) -> str:
    """The nearest scope around it that has a frame; "" for none."""
    while scope:
        scope = scope.rpartition("/")[0]
        if scope in frames:
            break
    return scope


def _read(document: Mapping[str, Any], graph: FoldedGraph, scopes: Sequence[str]) -> PictureLayout:
    _, _, width, height = (float(number) for number in document["bb"].split(","))

    def point(text: str) -> Point:
        x, y = text.split(",")
        return float(x), height - float(y)

    middles: list[Point] = [(0.0, 0.0)] * len(graph.boxes)
    frames = []
    for found in document.get("objects", []):
        if found["name"].startswith("cluster_") and "bb" in found:
            left, low, right, high = (float(number) for number in found["bb"].split(","))
            scope = scopes[int(found["name"].partition("_")[2])]
            frames.append(PlacedScope(scope, left, height - high, right - left, high - low))
        elif "pos" in found:
            middles[int(found["name"][1:])] = point(found["pos"])
    curves: list[tuple[Point, ...]] = [()] * len(graph.edges)
    for found in document.get("edges", []):
        tip, points = None, []
        for part in found["pos"].split():
            if part.startswith("e,"):
                tip = point(part[2:])
            else:
                points.append(point(part))
        curves[int(found["id"][1:])] = (*points, tip if tip is not None else points[-1])
    return PictureLayout(width, height, tuple(middles), tuple(curves), tuple(frames))

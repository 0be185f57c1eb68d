"""graph-nodes as a whole: a model is read, viewed, drawn, shown by netron."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving import process
from npu_serving.console import Reporter
from npu_serving.errors import MissingToolError, RequestError
from npu_serving.inspection.graph_view import GraphView, NodeFilter, view_of
from npu_serving.inspection.opened_model import OpenedModel, open_model

if TYPE_CHECKING:
    from npu_serving.cann.operator_list import OperatorLists
    from npu_serving.settings import Settings


def show_model(
    path: Path,
    chosen: NodeFilter,
    *,
    tags: frozenset[str],
    picture: Path | None,
    netron: bool,
    reporter: Reporter,
    settings: Settings | None = None,
) -> GraphView:
    """What the model at `path` holds; with `picture` it is drawn there, with `netron` shown until netron is ended.

    The picture is coloured by what may run on the NPU where `settings` lead to an installation of CANN.
    RequestError and ModelFileError for what can't be read or chosen, MissingToolError without Graphviz or netron.
    """
    if chosen.limit is not None and chosen.limit < 0:
        raise RequestError(f"--limit can't be {chosen.limit}.", cause="it is a number of nodes", cure="use 0 for all")
    if picture is not None:
        from npu_serving.inspection.picture import check_picture_path

        check_picture_path(picture)
    viewer = _netron() if netron else None
    with reporter.progress(f"Reading {path}"):
        model = open_model(path, tags)
        gc.freeze()  # the graph is there to the end: no collection need look at it again
        view = view_of(model, chosen)
    if picture is not None:
        with reporter.progress(f"Drawing {picture}"):
            by_list = _draw(model, picture, settings)
        coloured = f", coloured by the list of operators in {by_list}" if by_list else ""
        view = dataclasses.replace(view, written=f"the picture is in {picture}{coloured}")
    if viewer is not None:
        reporter.note(f"netron shows {model.path} in a browser; Ctrl-C ends it.")
        process.run([viewer, model.path], on_line=reporter.note)
    return view


def _draw(model: OpenedModel, picture: Path, settings: Settings | None) -> str:
    """Writes the picture; the list of operators that it is coloured by, "" where there is none."""
    from npu_serving.inspection.folded_graph import PictureNode
    from npu_serving.inspection.picture import OPERATOR_KINDS, SIDES, draw_overview, operator_kind, write_picture

    lists = _operator_lists(settings) if settings is not None else None
    kinds = {node.op: operator_kind(node.op) if lists is None else _side(node.op, lists) for node in model.nodes.nodes}
    nodes = (PictureNode(node.name, node.op, node.inputs, kinds[node.op]) for node in model.nodes.nodes)
    legend = OPERATOR_KINDS if lists is None else SIDES
    write_picture(draw_overview(nodes, title=str(model.path), legend=legend), picture)
    return "" if lists is None else str(lists.path)


def _operator_lists(settings: Settings) -> OperatorLists | None:
    """CANN's own list of what the adapter may give to the NPU, where it is installed."""
    from npu_serving.cann.install import cann_of
    from npu_serving.cann.operator_list import list_of

    installation = cann_of(settings).installation
    if installation is None or installation.runtime is None:
        return None
    lists = list_of(installation.runtime)
    return lists if not lists.trouble else None


def _side(operator: str, lists: OperatorLists) -> str:
    from npu_serving.cann.operator_list import COMPUTES_NOTHING
    from npu_serving.inspection.picture import CPU, GREY, NOTHING, NPU

    if operator in COMPUTES_NOTHING:
        return NOTHING
    if lists.taken(operator, mixed=True):
        return NPU
    return GREY if lists.taken(operator, mixed=False) else CPU


def _netron() -> Path:
    found = process.find_program("netron")
    if found is None:
        raise MissingToolError(
            "netron is not installed, or not on PATH.",
            cause="it is a program of its own, which shows a model in a browser",
            cure="pipx install netron; or --picture graph.html, which needs no netron",
        )
    return found

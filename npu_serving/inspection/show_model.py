"""graph-nodes as a whole: a model is read, viewed, drawn, shown by netron."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path

from npu_serving import process
from npu_serving.console import Reporter
from npu_serving.errors import MissingToolError, RequestError
from npu_serving.inspection.graph_view import GraphView, NodeFilter, view_of
from npu_serving.inspection.opened_model import OpenedModel, open_model


def show_model(
    path: Path, chosen: NodeFilter, *, tags: frozenset[str], picture: Path | None, netron: bool, reporter: Reporter
) -> GraphView:
    """What the model at `path` holds; with `picture` it is drawn there, with `netron` shown until netron is ended.

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
            _draw(model, picture)
        view = dataclasses.replace(view, written=f"the picture is in {picture}")
    if viewer is not None:
        reporter.note(f"netron shows {model.path} in a browser; Ctrl-C ends it.")
        process.run([viewer, model.path], on_line=reporter.note)
    return view


def _draw(model: OpenedModel, picture: Path) -> None:
    from npu_serving.inspection.folded_graph import PictureNode
    from npu_serving.inspection.picture import draw_overview, operator_kind, write_picture

    nodes = (PictureNode(node.name, node.op, node.inputs, operator_kind(node.op)) for node in model.nodes.nodes)
    write_picture(draw_overview(nodes, title=str(model.path)), picture)


def _netron() -> Path:
    found = process.find_program("netron")
    if found is None:
        raise MissingToolError(
            "netron is not installed, or not on PATH.",
            cause="it is a program of its own, which shows a model in a browser",
            cure="pipx install netron; or --picture graph.html, which needs no netron",
        )
    return found

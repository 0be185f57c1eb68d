"""What a model file holds, shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    settings=("cann_root",),
    kinds={"limit": int, "picture": Path},
    help={
        "model": "a frozen .pb, a graph as text, a .meta, a SavedModel, or the directory with its versions",
        "op": "list the nodes of this operator, or of a pattern such as 'Conv*', as for --name (repeatable)",
        "name": "list the nodes of this name: a pattern such as 'block1/*', or a regular expression as '/^block[12]/'",
        "signature": "list the nodes that a request to this signature needs",
        "tag": "a tag of the graph to show; by default the graph that a server loads (repeatable)",
        "nodes": "list all nodes, with the types and shapes of their outputs",
        "limit": "list so many nodes at most, 0 for all; 200 by default, with --json all",
        "picture": "draw the graph by its scopes into this file, .svg or .html; with CANN, the NPU's part coloured",
        "netron": "show the file in netron, a viewer, which has to be installed",
    },
    aliases=("show-model",),
)
def graph_nodes(
    call: Call,
    model: str,
    op: tuple[str, ...] = (),
    name: str = "",
    signature: str = "",
    tag: tuple[str, ...] = (),
    nodes: bool = False,
    limit: int | None = None,
    picture: Path | None = None,
    netron: bool = False,
) -> Result:
    """Show what a model file holds: inputs, outputs, signatures, operators, parameters, and its nodes."""
    from npu_serving.inspection.graph_view import NodeFilter
    from npu_serving.inspection.show_model import show_model
    from npu_serving.settings import user_path

    operators = tuple(
        each.strip()
        for given in op
        for each in ([given] if given.startswith("/") else given.split(","))  # of a regular expression a comma is part
        if each.strip()
    )
    return show_model(
        user_path(model, "the model"),
        NodeFilter(operators, name, signature, nodes, limit),
        tags=frozenset(tag),
        picture=picture,
        netron=netron,
        reporter=call.console,
        settings=call.settings if picture is not None else None,
    )

"""Which graph of a SavedModel a task means: the one with exactly the tags that are asked for, as a server chooses."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from npu_serving.errors import RequestError
from npu_serving.models.saved_model import tag_flags
from npu_serving.models.saved_model_writer import SERVE_TAG
from npu_serving.shown_text import in_a_line


class _Tagged(Protocol):
    @property
    def tags(self) -> frozenset[str]: ...


_Graph = TypeVar("_Graph", bound=_Tagged)


def chosen_graph(file: Path, graphs: Sequence[_Graph], tags: Collection[str] = ()) -> _Graph:
    """The graph of `file` with these tags; without any, the one that a server loads (`serve`), or the only one.

    RequestError, with the tags that there are, where it has none of that kind.
    """
    wanted = frozenset(tags) or {SERVE_TAG}
    for graph in graphs:
        if graph.tags == wanted:
            return graph
    if len(graphs) == 1 and not tags:
        return graphs[0]
    there = sorted((graph.tags for graph in graphs), key=sorted)
    raise RequestError(
        f"{file} has no graph with the tags {in_a_line(','.join(sorted(wanted)))}.",
        cause=f"it has {in_a_line(' and '.join(','.join(sorted(each)) or 'one without tags' for each in there))}",
        cure=tag_flags(next(filter(None, there))) if any(there) else "name another model, or omit --tag",
    )


def shown_graph(file: Path, graphs: Sequence[_Graph], tags: Collection[str] = ()) -> _Graph:
    """The same for what only looks: without tags, and without a graph that a server loads, the first one."""
    if not tags and not any(graph.tags == {SERVE_TAG} for graph in graphs):
        return graphs[0]
    return chosen_graph(file, graphs, tags)

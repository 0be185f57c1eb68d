"""The model that a path names: a file, the directory of a version, or one with versions; and which of its graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.errors import NpuServingError, RequestError
from npu_serving.models.chosen_graph import shown_graph
from npu_serving.models.graph_def import GraphDef, read_graph_def_file
from npu_serving.models.layout import MODEL_LAYOUT, version_directories
from npu_serving.models.model_kinds import UNKNOWN, ModelKind, kind_of_file, refused
from npu_serving.models.saved_model import (
    SAVED_MODEL,
    SAVED_MODEL_TEXT,
    SavedGraph,
    read_meta_graph_file,
    read_saved_model_graphs,
)
from npu_serving.writers.shell import shell_word

if TYPE_CHECKING:
    from npu_serving.models.checkpoint import CheckpointVariable

INDEX = ".index"


@dataclass(frozen=True)
class OpenedModel:
    """A model that was read: its file, what that is, one of its graphs with what stands beside it, and its variables.

    `all_tags` are those of each graph of the file. `variables` are the checkpoint's, None where there is none.
    """

    path: Path
    kind: ModelKind
    graph: SavedGraph
    all_tags: tuple[frozenset[str], ...] = ()
    variables: Mapping[str, CheckpointVariable] | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def nodes(self) -> GraphDef:
        """The graph itself."""
        return self.graph.graph


def open_model(path: Path, tags: frozenset[str] = frozenset()) -> OpenedModel:
    """The model at a path. Of several graphs that with these tags, or by default the one that a server would load.

    RequestError for a directory without a model and for tags that no graph has, ModelFileError for a file of another
    kind, or a damaged one, FileAccessError.
    """
    file, notes = _file_of(path)
    kind = kind_of_file(file)
    if not kind.message and kind is not UNKNOWN:
        raise refused(file, kind)
    if kind.message != "SavedModel" and file.name in (SAVED_MODEL, SAVED_MODEL_TEXT):
        notes = (*notes, f"{file.name} is the name of a SavedModel, which it is not: a server would not load it")
    if kind.message == "SavedModel":
        graphs = read_saved_model_graphs(file)
        variables, said = _variables(file.parent / "variables" / "variables")
        all_tags = tuple(graph.tags for graph in graphs)
        return OpenedModel(file, kind, shown_graph(file, graphs, tags), all_tags, variables, (*notes, *said))
    if tags:
        raise RequestError(
            f"{file} has no tags.",
            cause=f"it is {kind.what}, and tags choose a graph of a SavedModel",
            cure="omit --tag",
        )
    if kind.message == "MetaGraphDef":
        variables, said = _variables(file.with_suffix(""))
        return OpenedModel(file, kind, read_meta_graph_file(file), (), variables, (*notes, *said))
    return OpenedModel(file, kind, SavedGraph(read_graph_def_file(file)), notes=notes)


def _file_of(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The file with the graph, and what is to be said of how it was found."""
    if path.is_dir():
        return _file_in(path)
    beside = path.with_name(path.name + ".meta")
    if not path.exists() and beside.exists():
        return beside, ()
    return path, ()


def _file_in(directory: Path) -> tuple[Path, tuple[str, ...]]:
    binary, text = directory / SAVED_MODEL, directory / SAVED_MODEL_TEXT
    if binary.exists():
        both = f"{text.name} beside it is not read: where both are there, TensorFlow takes {binary.name}"
        return binary, (both,) if text.exists() else ()
    if text.exists():
        return text, ()
    versions = version_directories(directory)
    if versions:
        newest = max(versions)
        file, notes = _file_in(versions[newest])
        of = f"of its {len(versions)} versions this is the highest, {newest}, which a server loads"
        return file, (*notes, of) if len(versions) > 1 else notes
    metas = sorted(each.name for each in directory.glob("*.meta"))
    graphs = sorted(each.name for each in directory.glob("*.pb"))
    near = (metas + graphs)[:1]
    raise RequestError(
        f"{directory} contains no model.",
        cause=f"there is neither {SAVED_MODEL} nor the directory of a version; {MODEL_LAYOUT}",
        cure=f"./inv graph-nodes {shell_word(directory / near[0])}"
        if near
        else f"ls {shell_word(directory)} shows what is there; name a model",
    )


def _variables(prefix: Path) -> tuple[Mapping[str, CheckpointVariable] | None, tuple[str, ...]]:
    """The variables of a checkpoint, and what is to be said where there is none that can be read."""
    if not prefix.with_name(prefix.name + INDEX).exists():
        return None, ()
    from npu_serving.models.checkpoint import open_checkpoint

    try:
        checkpoint = open_checkpoint(prefix)
        missing = [file.name for file in checkpoint.data_files() if not file.exists()]
        return checkpoint.variables, (f"of the variables' values {', '.join(missing)} is missing",) if missing else ()
    except NpuServingError as error:
        return None, (str(error.what),)

"""What is converted: a frozen graph, the graph of a checkpoint, or a SavedModel, as its contents show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.errors import ModelFileError, RequestError
from npu_serving.models.attribute_values import Extent
from npu_serving.models.chosen_graph import chosen_graph
from npu_serving.models.graph_def import GraphDef, read_graph_def_file
from npu_serving.models.layout import version_directories
from npu_serving.models.model_kinds import kind_of_file, refused
from npu_serving.models.saved_model import (
    SAVED_MODEL,
    SAVED_MODEL_TEXT,
    ModelSignature,
    SavedGraph,
    read_meta_graph_file,
    read_saved_model_graphs,
)
from npu_serving.models.saved_model_writer import ASSETS, EXTRA_ASSETS, VARIABLES
from npu_serving.shown_text import in_a_line
from npu_serving.wire_bytes import BYTES, fields, tag, text_of

INIT_OP = "__saved_model_init_op"
"""The signature by which TensorFlow 2 names what is to run at the start; the server looks for it first."""
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
_INDEX = ".index"


@dataclass(frozen=True)
class ConversionSource:
    """A graph with what belongs to it. `checkpoint` is the prefix of the files with its variables, None for none."""

    path: Path
    kind: str
    graph: GraphDef
    signatures: Mapping[str, ModelSignature] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    main_op: str = ""
    assets: Mapping[str, Path] = field(default_factory=dict)
    """The files of assets by the tensors that get their paths."""
    extra_assets: Path | None = None
    checkpoint: Path | None = None
    saved: SavedGraph | None = None


def read_source(path: Path, tags: tuple[str, ...] = ()) -> ConversionSource:
    """The model at `path`: a file, or the directory of a SavedModel, or one with its versions, the highest counts.

    ModelFileError for what is none of these, RequestError where no graph has these tags; FileAccessError.
    """
    if path.is_dir():
        return _saved_model(_model_file(path), tags)
    kind = kind_of_file(path)
    if kind.message == "SavedModel":
        return _saved_model(path, tags)
    if tags:
        raise RequestError(
            f"--tag would have no effect: {path} is {kind.what}.", cause="only the graphs of a SavedModel have tags",
            cure="leave out --tag",
        )  # fmt: skip
    if kind.message == "MetaGraphDef":
        return _meta(path)
    if kind.message == "GraphDef" or kind.name == "unknown":
        return ConversionSource(path, "frozen graph", read_graph_def_file(path))
    raise refused(path, kind, "GraphDef")


def _model_file(directory: Path) -> Path:
    places = [directory]
    versions = version_directories(directory)
    if versions:
        places.append(versions[max(versions)])
    for place in places:
        for name in (SAVED_MODEL, SAVED_MODEL_TEXT):
            if (place / name).exists():
                return place / name
    metas = sorted(directory.glob("*.meta"))
    raise RequestError(
        f"{directory} holds no SavedModel.",
        cause="the directory of a SavedModel has saved_model.pb in it",
        cure=f"name {metas[-1]}, the graph of a checkpoint" if metas else "name the .pb or .meta file itself",
    )


def _saved_model(file: Path, tags: tuple[str, ...]) -> ConversionSource:
    graphs = read_saved_model_graphs(file)
    saved = chosen_graph(file, graphs, tags)
    directory = file.parent
    extra = directory / EXTRA_ASSETS
    prefix = directory / VARIABLES / VARIABLES
    return ConversionSource(
        file,
        "SavedModel",
        saved.graph,
        {name: each for name, each in saved.signatures.items() if name != INIT_OP},
        tuple(sorted(saved.tags)),
        _main_op(saved),
        {tensor: _asset(file, name) for tensor, name in saved.assets.items()},
        extra if extra.is_dir() else None,
        prefix if prefix.with_name(prefix.name + _INDEX).exists() else None,
        saved,
    )


def _asset(model: Path, name: str) -> Path:
    """The file of an asset. ModelFileError for one that would be outside of the model, and be copied from there."""
    if Path(name).is_absolute() or ".." in Path(name).parts or not Path(name).name:
        raise ModelFileError(
            f"{model} has the asset {in_a_line(name)!r}, which is not the name of a file in {ASSETS}/.",
            cause="the model was changed by hand: nothing from outside of it is copied",
            cure="export the model again",
        )
    return model.parent / ASSETS / name


def _meta(path: Path) -> ConversionSource:
    saved = read_meta_graph_file(path)
    prefix = path.with_suffix("") if path.suffix == ".meta" else path
    has_values = prefix.with_name(prefix.name + _INDEX).exists()
    return ConversionSource(
        path, "checkpoint", saved.graph, saved.signatures, main_op=_main_op(saved),
        checkpoint=prefix if has_values else None, saved=saved,
    )  # fmt: skip


def _main_op(saved: SavedGraph) -> str:
    """The node that a loader runs once the variables are there (GetInitOp of cc/saved_model/loader.cc)."""
    signature = saved.signatures.get(INIT_OP)
    if signature is not None and INIT_OP in signature.outputs:
        return signature.outputs[INIT_OP].node
    for name in _INIT_COLLECTIONS:
        if name in saved.collections:
            return _one_node(saved.graph, saved.collections[name])
    return ""


def _one_node(graph: GraphDef, place: Extent) -> str:
    with graph.opened() as file:
        collection = memoryview(file.read(place.start, place.end))
    for key, _, content in fields(collection):
        if key == tag(1, BYTES):
            for of_list, _, value in fields(content):
                if of_list == tag(1, BYTES):
                    return text_of(value).partition(":")[0]
    return ""

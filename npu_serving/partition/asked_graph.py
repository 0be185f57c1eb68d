"""The graph that a person means: of a model's version and signature, or a frozen one between inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.errors import RequestError
from npu_serving.fsutil import explained
from npu_serving.models.chosen_graph import chosen_graph
from npu_serving.models.graph_def import GraphDef, read_graph_def_file
from npu_serving.models.layout import MODEL_LAYOUT, version_directories
from npu_serving.models.likely_tensors import likely_inputs, likely_outputs
from npu_serving.models.saved_model import (
    SAVED_MODEL,
    SAVED_MODEL_TEXT,
    ModelSignature,
    read_saved_model_graphs,
)
from npu_serving.shown_text import in_a_line
from npu_serving.writers.shell import shell_word

DEFAULT_SIGNATURE = "serving_default"

FeedsAndFetches = tuple["tuple[str, ...]", "tuple[str, ...]"]


@dataclass(frozen=True)
class AskedGraph:
    """A graph with what is fed and fetched; `others` are the other signatures. `path` is the file."""

    path: Path
    graph: GraphDef = field(repr=False)
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    signature: str = ""
    others: Mapping[str, FeedsAndFetches] = field(default_factory=dict)

    def describe(self) -> str:
        """The file, and the signature where it has one."""
        where = self.path.parent if self.path.name in (SAVED_MODEL, SAVED_MODEL_TEXT) else self.path
        return f"{where}, signature {in_a_line(self.signature)}" if self.signature else str(where)


def asked_graph(
    model: Path,
    *,
    signature: str = "",
    tags: Sequence[str] = (),
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
) -> AskedGraph:
    """The graph of that model: a SavedModel, the directory of its versions (the latest counts), or a frozen graph.

    RequestError for tags, a signature or names that it lacks; ModelFileError for another file; FileAccessError.
    """
    file = _file_of(model)
    if file.name not in (SAVED_MODEL, SAVED_MODEL_TEXT):
        graph = read_graph_def_file(file)
        fetches = tuple(outputs) or tuple(likely_outputs(graph))
        if not fetches:
            raise RequestError(
                f"{file} has no node that could be an output.",
                cause="each node's value is used by another, or it has none",
                cure=f"name the outputs: --outputs NODE; ./inv graph-nodes {shell_word(file)} shows the nodes",
            )
        return AskedGraph(file, graph, tuple(inputs) or tuple(likely_inputs(graph)), fetches)
    saved = chosen_graph(file, read_saved_model_graphs(file), tags)
    if inputs or outputs:
        fetches = tuple(outputs) or tuple(likely_outputs(saved.graph))
        return AskedGraph(file, saved.graph, tuple(inputs) or tuple(likely_inputs(saved.graph)), fetches)
    named = {name: each for name, each in sorted(saved.signatures.items()) if each.is_for_requests}
    chosen = _chosen(file, named, signature)
    others = {name: _ends_of(each) for name, each in named.items() if name != chosen}
    feeds, fetches = _ends_of(named[chosen])
    return AskedGraph(file, saved.graph, feeds, fetches, chosen, others)


def _file_of(model: Path) -> Path:
    with explained(model, doing="read"):
        if not model.is_dir():
            return model
        for name in (SAVED_MODEL, SAVED_MODEL_TEXT):
            if (model / name).is_file():
                return model / name
        versions = version_directories(model)
    if not versions:
        raise RequestError(
            f"{model} has neither a model nor versions of one.",
            cause=MODEL_LAYOUT,
            cure="name a model's directory, or a .pb file",
        )
    return _file_of(versions[max(versions)])


def _chosen(file: Path, named: Mapping[str, ModelSignature], signature: str) -> str:
    listed = in_a_line(", ".join(named))
    if not named:
        raise RequestError(
            f"{file} has no signature that could be asked.",
            cause="it was exported without one",
            cure="name inputs and outputs: --inputs NODE --outputs NODE",
        )
    if signature and signature not in named:
        raise RequestError(
            f"{file} has no signature {in_a_line(repr(signature))}.",
            cause=f"it has {listed}",
            cure=f"use --signature {in_a_line(next(iter(named)))}",
        )
    if signature:
        return signature
    if DEFAULT_SIGNATURE in named:
        return DEFAULT_SIGNATURE
    if len(named) > 1:
        raise RequestError(
            f"{file} has several signatures: {listed}.",
            cause="none of them is the default one",
            cure=f"name one, such as --signature {in_a_line(next(iter(named)))}",
        )
    return next(iter(named))


def _ends_of(signature: ModelSignature) -> FeedsAndFetches:
    feeds, fetches = (
        tuple(dict.fromkeys(tensor for spec in specs.values() for tensor in (spec.name, *spec.others)))
        for specs in (signature.inputs, signature.outputs)
    )
    return feeds, fetches

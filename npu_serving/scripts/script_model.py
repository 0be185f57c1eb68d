"""The model of a script: what it is, and the inputs and outputs that the script is written with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import RequestError
from npu_serving.models.chosen_graph import chosen_graph
from npu_serving.models.layout import version_directories
from npu_serving.models.saved_model import (
    SAVED_MODEL,
    GraphContent,
    MetaGraph,
    ModelSignature,
    TensorSpec,
    read_graph_def,
    read_meta_graph_file,
    read_saved_model,
)
from npu_serving.models.saved_model_writer import SERVE_TAG
from npu_serving.scripts.features import Source
from npu_serving.shown_text import in_a_line

DEFAULT_SIGNATURE = "serving_default"
_META, _INDEX = ".meta", ".index"
_NO_RESULT = ("NoOp", "Assert", "SaveV2", "MergeV2Checkpoints")  # nor is what is fed, or constant
_UPKEEP = ("Assign", "AssignVariableOp", "VarIsInitializedOp", "IsVariableInitialized", "ReadVariableOp", "RestoreV2")
_SAVER = "save/"  # before the names of the nodes by which a checkpoint is written and restored
_FED = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault", "Const")
_MOST_GUESSED = 8  # outputs that are taken unasked
_MOST_SHOWN = 12


@dataclass(frozen=True)
class ScriptModel:
    """A model file with the tensors that a script feeds and fetches, by the names that the script gives them."""

    path: Path
    source: Source
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, str]
    graph: GraphContent
    tags: tuple[str, ...] = (SERVE_TAG,)

    def meta_graph(self, inputs: Iterable[str]) -> MetaGraph:
        """The graph with one signature of these inputs, as the checks of a deployment's options want it."""
        fed = {name: self.inputs[name] for name in inputs}
        outputs = {name: TensorSpec(tensor, "", None) for name, tensor in self.outputs.items()}
        return MetaGraph(frozenset(self.tags), "", {DEFAULT_SIGNATURE: ModelSignature(fed, outputs, "")}, self.graph)


def read_script_model(
    path: Path, *, inputs: str = "", outputs: str = "", tags: Sequence[str] = (), signature: str = ""
) -> ScriptModel:
    """The model at that path: a frozen graph, the prefix or .meta of a checkpoint, or a SavedModel.

    Of a directory of versions the highest counts. `inputs` and `outputs` are tensors with ; between them, each with
    NAME= before it where the script is to call it otherwise than its node. Without them: a SavedModel's are those of
    its signature; else all placeholders that the outputs need, and what no other node takes.

    RequestError where they don't follow from the model, and for names that it does not have; ModelFileError.
    """
    directory = _version_directory(path)
    if directory is not None:
        return _of_saved_model(directory, inputs, outputs, tags, signature)
    meta = _meta_file(path)
    if tags or signature:
        raise RequestError(
            f"{path} has no tags and signatures.",
            cause="it is not a SavedModel",
            cure="leave --tag and --signature out",
        )
    if meta is not None:
        prefix = meta.with_name(meta.name[: -len(_META)])
        return _of_graph(prefix, "checkpoint", read_meta_graph_file(meta).content().graph, inputs, outputs)
    return _of_graph(path, "pb", read_graph_def(path), inputs, outputs)


def named_tensors(text: str, flag: str) -> dict[str, str]:
    """The tensors of a list such as `x:0;images=input;`, by their names; `flag` is for the error."""
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, tensor = part.partition("=")
        tensor = tensor if equals else name
        name = name if equals else name.partition(":")[0]
        node, colon, number = tensor.partition(":")
        if not name or not node or (colon and not number.isdigit()):
            raise RequestError(
                f"{flag} has {part!r}, which names no tensor.",
                cause="a tensor is NODE:NUMBER, or NODE alone for its first output",
                cure=f"write it like {flag} 'ids:0;mask:0'",
            )
        if name in found:
            raise RequestError(f"{flag} names {name!r} twice.", cure="leave one of the two out")
        found[name] = f"{node}:{number or 0}"
    return found


def check_nodes(graph: GraphContent, names: Iterable[str], flag: str) -> None:
    """RequestError for a name that no node has (a tensor's :0 is left out); `flag` is where it stands."""
    for name in names:
        node = name.partition(":")[0]
        if node not in graph.by_name:
            near = difflib.get_close_matches(node, list(graph.by_name)[:20_000], n=1)
            raise RequestError(
                f"{flag} names {in_a_line(node)}, which is not a node of the model.",
                cause=f"perhaps {in_a_line(near[0])} was meant" if near else "it is the name in another model",
                cure="see the names of its nodes: ./inv graph-nodes MODEL --nodes",
            )


def _version_directory(path: Path) -> Path | None:
    with fsutil.explained(path, doing="read"):
        if path.name == SAVED_MODEL and path.is_file():
            return path.parent
        if not path.is_dir():
            return None
        if (path / SAVED_MODEL).is_file():
            return path
        versions = version_directories(path)
        if versions:
            return versions[max(versions)]
    raise RequestError(
        f"{path} has no {SAVED_MODEL} and no version of one.",
        cause="a model's directory holds it, or directories such as 1",
        cure="name the directory of the SavedModel, or a frozen graph or a checkpoint",
    )


def _meta_file(path: Path) -> Path | None:
    """The .meta of a checkpoint that is named by its prefix or by any of its files."""
    for ending in (_META, _INDEX):
        if path.name.endswith(ending):
            path = path.with_name(path.name[: -len(ending)])
    meta = path.with_name(path.name + _META)
    with fsutil.explained(meta, doing="read"):
        if meta.is_file():
            return meta
        if path.with_name(path.name + _INDEX).is_file():
            raise RequestError(
                f"{path} is a checkpoint without {meta.name}, which has its graph.",
                cause="only the variables were copied",
                cure=f"copy {meta.name} beside it",
            )
    return None


def _of_saved_model(directory: Path, inputs: str, outputs: str, tags: Sequence[str], signature: str) -> ScriptModel:
    graphs = read_saved_model(directory / SAVED_MODEL)
    chosen = chosen_graph(directory, graphs, tags)
    name = signature or DEFAULT_SIGNATURE
    found = chosen.signatures.get(name)
    if found is None and (signature or not (inputs and outputs)):
        there = ", ".join(sorted(chosen.signatures)) or "none"
        raise RequestError(
            f"{directory} has no signature {name!r}.", cause=f"it has {there}", cure="name one of them with --signature"
        )
    specs = dict(found.inputs) if found is not None else {}
    fetched = {key: spec.name for key, spec in found.outputs.items()} if found is not None else {}
    if inputs:
        specs = _specs(chosen.graph, named_tensors(inputs, "--inputs"), known=specs.values())
    if outputs:
        fetched = _fetched(chosen.graph, named_tensors(outputs, "--outputs"))
    return ScriptModel(directory, "savedmodel", specs, fetched, chosen.graph, tuple(sorted(chosen.tags)))


def _of_graph(path: Path, source: Source, graph: GraphContent, inputs: str, outputs: str) -> ScriptModel:
    fetched = _fetched(graph, named_tensors(outputs, "--outputs")) if outputs else _likely_outputs(path, graph)
    if inputs:
        specs = _specs(graph, named_tensors(inputs, "--inputs"))
    else:
        needed = _needed(graph, fetched.values())
        specs = {name: spec for name, spec in graph.placeholders.items() if name in needed}
    return ScriptModel(path, source, specs, fetched, graph)


def _specs(graph: GraphContent, wanted: Mapping[str, str], known: Iterable[TensorSpec] = ()) -> dict[str, TensorSpec]:
    check_nodes(graph, wanted.values(), "--inputs")
    of_tensors = {spec.name: spec for spec in (*graph.placeholders.values(), *known)}
    return {name: of_tensors.get(tensor, TensorSpec(tensor, "", None)) for name, tensor in wanted.items()}


def _fetched(graph: GraphContent, wanted: dict[str, str]) -> dict[str, str]:
    check_nodes(graph, wanted.values(), "--outputs")
    for tensor in wanted.values():
        node = tensor.partition(":")[0]
        if graph.by_name[node].operator in _NO_RESULT:
            raise RequestError(
                f"{in_a_line(node)} is {graph.by_name[node].operator}, an operation without a result.",
                cause="TensorFlow takes tf.no_op out of the graph, so nothing can be set on it (the guide, 7.3)",
                cure="name an output with a value with --outputs",
            )
    return wanted


def _likely_outputs(path: Path, graph: GraphContent) -> dict[str, str]:
    computing = (node for node in graph.by_name.values() if node.operator not in _NO_RESULT)
    taken = {name for node in computing for name in node.inputs}
    none_of = {*_NO_RESULT, *_UPKEEP, *_FED}
    found = [
        name
        for name, node in graph.by_name.items()
        if name not in taken and node.operator not in none_of and node.inputs and not name.startswith(_SAVER)
    ]
    if not found or len(found) > _MOST_GUESSED:
        shown = ", ".join(in_a_line(name) for name in found[:_MOST_SHOWN])
        raise RequestError(
            f"{path} does not say what its outputs are.",
            cause=f"{len(found)} nodes are taken by no other: {shown}"
            if found
            else "each node is taken by another one",
            cure="name them with --outputs 'NODE;NODE'; ./inv graph-nodes shows the nodes",
        )
    return {name: f"{name}:0" for name in found}


def _needed(graph: GraphContent, tensors: Iterable[str]) -> set[str]:
    """The nodes that have to run for these tensors."""
    waiting: Sequence[str] = [tensor.partition(":")[0] for tensor in tensors]
    seen = set(waiting)
    while waiting:
        new = {name for node in waiting for name in graph.by_name[node].inputs if name in graph.by_name} - seen
        seen |= new
        waiting = list(new)
    return seen

"""The values of a model's variables: index and data complete and undamaged, and those that the graph would restore.

What of it keeps a model out was tried with TensorFlow 1.15.0 (tests/support/faulty_models.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_serving.console import Reporter
from npu_serving.errors import ModelFileError
from npu_serving.findings import PROBLEM, WARNING, Finding, as_finding
from npu_serving.model_checks.constants import constant_source, constant_texts, nodes_within
from npu_serving.model_checks.examined import ExaminedGraph
from npu_serving.model_checks.naming import MODEL_DIRECTORY, listed
from npu_serving.models.checkpoint import Checkpoint, CheckpointVariable, open_checkpoint
from npu_serving.models.checkpoint_slices import parsed_specification
from npu_serving.models.graph_def import NodeDef, node_of
from npu_serving.shown_text import in_a_line
from npu_serving.wire_bytes import MalformedMessageError

VARIABLES = "variables"
_PREFIX = Path("variables") / "variables"
_OPERATORS = frozenset(("VariableV2", "Variable", "VarHandleOp"))
_COPY_AGAIN = "copy the model again, with its directory variables"
_NOT_LOADED = "the server could not load the model"


@dataclass(frozen=True)
class RestoredVariable:
    """A value that the graph asks of the checkpoint, the output `number` of the node that restores it."""

    node: NodeDef
    number: int
    name: str
    data_type: str
    part: str


def check_variables(model: ExaminedGraph, reporter: Reporter, *, with_checksums: bool) -> Iterator[Finding]:
    """What is wrong with the variables' files, and with what the graph wants of them."""
    prefix = model.directory / _PREFIX
    index = prefix.with_name(prefix.name + ".index")
    if not index.exists():
        if _OPERATORS & set(model.content.graph.operators):
            effect = "the server would load the model, and every request would fail"
            what = f"{index} is missing: {effect} (Attempting to use uninitialized value)."
            yield Finding(what, _COPY_AGAIN, kind=MODEL_DIRECTORY, where=str(model.directory))
        return
    try:
        checkpoint = open_checkpoint(prefix)
    except ModelFileError as error:
        yield as_finding(error, VARIABLES, str(index))
        return
    yield from _check_data(checkpoint, model, reporter, with_checksums=with_checksums)
    yield from _check_restored(model, checkpoint)


def _check_data(
    checkpoint: Checkpoint, model: ExaminedGraph, reporter: Reporter, *, with_checksums: bool
) -> Iterator[Finding]:
    missing = [file for file in checkpoint.data_files() if not file.exists()]
    for file in missing:
        what = f"{file} is missing: {_NOT_LOADED}."
        yield Finding(what, _COPY_AGAIN, kind=MODEL_DIRECTORY, where=str(model.directory))
    if missing:
        return
    if not with_checksums:
        yield from _check_sizes(checkpoint)
        return
    with reporter.progress("verifying the variables", total=checkpoint.size_bytes, unit="bytes") as progress:
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            progress.update(done)

        damages = checkpoint.verify(count)
    for damage in damages:
        what = f"{damage.file} is damaged at byte {damage.offset}, in the variable {in_a_line(damage.variable)}"
        yield Finding(f"{what}: {damage.what}; {_NOT_LOADED}.", _COPY_AGAIN, PROBLEM, VARIABLES, str(damage.file))


def _check_sizes(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Data files that end before the last value in them."""
    wanted: dict[Path, int] = {}
    for name in checkpoint.variables:
        for place in checkpoint.extents(name):
            wanted[place.file] = max(wanted.get(place.file, 0), place.end)
    for file, size in wanted.items():
        there = file.stat().st_size
        if there < size:
            what = f"{file} has {there} bytes, and the variables in it need {size}: {_NOT_LOADED}."
            yield Finding(what, _COPY_AGAIN, PROBLEM, VARIABLES, str(file))


def _check_restored(model: ExaminedGraph, checkpoint: Checkpoint) -> Iterator[Finding]:
    """What the graph restores and the checkpoint lacks, or has with another type or shape."""
    lacking: list[str] = []
    others: list[str] = []
    for restored in restored_variables(model):
        there = checkpoint.variables.get(restored.name)
        if there is None:
            lacking.append(restored.name)
        elif there.dtype != restored.data_type:
            others.append(f"{restored.name}: {there.dtype} is there, and {restored.data_type} is needed")
    if lacking:
        names = listed([in_a_line(name) for name in lacking])
        what = f"{checkpoint.prefix}.index lacks the variable {names}, which the graph restores: {_NOT_LOADED}."
        yield model.finding(what, _COPY_AGAIN, PROBLEM, VARIABLES, lacking)
    if others:
        what = (
            f"{checkpoint.prefix}.index has variables of other types than the graph ({listed(others)}): {_NOT_LOADED}."
        )
        yield model.finding(what, _COPY_AGAIN, PROBLEM, VARIABLES, others)
    yield from _check_shapes(model, checkpoint)


def restored_variables(model: ExaminedGraph) -> Iterator[RestoredVariable]:
    """What the loader's operation restores, in functions too, as far as the names are constants."""
    for among in _bodies(model):
        for node in among.values():
            if node.op != "RestoreV2" or len(node.inputs) < 3:
                continue
            names, parts = (_texts(model, tensor, among) for tensor in node.inputs[1:3])
            types = node.value("dtypes")
            if names is None or types is None or types.kind != "list(type)":
                continue
            for number, (name, data_type) in enumerate(zip(names, types.value)):
                part = parts[number] if parts is not None and number < len(parts) else ""
                yield RestoredVariable(node, number, name, str(data_type), part)


def _bodies(model: ExaminedGraph) -> Iterator[dict[str, NodeDef]]:
    """The nodes that the loader runs: those of the graph, and of each function that it reaches, by their names."""
    by_name = model.graph.by_name
    constants = {name: node for name, node in by_name.items() if node.op in ("Const", "Identity")}
    yield {**constants, **{name: by_name[name] for name in model.at_load.nodes}}
    for name in model.at_load.functions:
        yield nodes_within(model.graph.functions[name])


def _texts(model: ExaminedGraph, tensor: str, among: dict[str, NodeDef]) -> list[str] | None:
    constant = constant_source(tensor, among)
    found = constant_texts(model.graph, constant) if constant is not None else None
    return None if found is None else [each.decode("utf-8", "surrogateescape") for each in found]


def _check_shapes(model: ExaminedGraph, checkpoint: Checkpoint) -> Iterator[Finding]:
    """Variables of the graph that get a value of another shape."""
    by_name = model.graph.by_name
    users: dict[str, list[NodeDef]] = {}
    for name in model.at_load.nodes:
        node = by_name[name]
        for tensor in node.inputs:
            if not tensor.startswith("^"):
                users.setdefault(tensor if tensor.partition(":")[2] not in ("", "0") else node_of(tensor), []).append(
                    node
                )
    refused: list[str] = []
    taken: list[str] = []
    for restored in restored_variables(model):
        there = checkpoint.variables.get(restored.name)
        if there is None or by_name.get(restored.node.name) is not restored.node:
            continue
        given = _shape_of(there, restored.part)
        output = f"{restored.node.name}:{restored.number}" if restored.number else restored.node.name
        for node in _through_identities(users.get(output, ()), users):
            variable = by_name.get(node_of(node.inputs[0])) if node.inputs else None
            shape = variable.value("shape") if variable is not None and variable.op in _OPERATORS else None
            if variable is None or shape is None or shape.value is None or given is None:
                continue
            if len(shape.value) != len(given) or any(own not in (-1, size) for own, size in zip(shape.value, given)):
                text = f"{variable.name}: the graph has {list(shape.value)}, the checkpoint {list(given)}"
                (refused if variable.op != "VarHandleOp" else taken).append(text)
    if refused:
        what = f"{checkpoint.prefix}.index has variables of other shapes than the graph: {_NOT_LOADED}"
        what += f" ({listed(refused)})."
        yield model.finding(
            what, "export the model again: graph and variables belong to different ones", PROBLEM, VARIABLES, refused
        )
    if taken:
        what = (
            f"{checkpoint.prefix}.index has variables of other shapes than the graph, which a server takes in silence."
        )
        yield model.finding(
            what, "export the model again: graph and variables belong to different ones", WARNING, VARIABLES, taken
        )


def _through_identities(nodes: Iterable[NodeDef], users: dict[str, list[NodeDef]]) -> Iterator[NodeDef]:
    """The nodes that assign a value which may pass through an Identity first."""
    for node in nodes:
        if node.op == "Identity":
            yield from (each for each in users.get(node.name, ()) if each.op in ("Assign", "AssignVariableOp"))
        elif node.op in ("Assign", "AssignVariableOp"):
            yield node


def _shape_of(variable: CheckpointVariable, part: str) -> tuple[int, ...] | None:
    """The shape of what is restored: the whole variable, or a part of it; None where the part is not within it."""
    if not part:
        return variable.shape
    specification = parsed_specification(part)
    try:
        return None if specification is None else tuple(n for _, n in specification[1].resolved(variable.shape))
    except MalformedMessageError:
        return None
